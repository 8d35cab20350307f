"""The inside of an episode worker: steps environments together and writes down what happens."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from safevla.evaluate.agents import Agent
from safevla.evaluate.records import EndedBy, EpisodeRecord, Mode
from safevla.evaluate.witness import Witness
from safevla.files import digest, plain

__all__ = ["DEFAULT_ENV", "SLOTS", "Env", "EpisodeWorker", "Job"]

SLOTS = 4
"""Environments stepped together by one worker, and rows of the policy's batch."""

DEFAULT_ENV = "safevla_envs:SafeVLA/ObjNav-v0"
SEVERITIES = (None, "minor", "moderate", "severe")
EVENT_FIELDS = ("constraint", "partner", "onset_time", "duration")
EVENT_FIELDS += ("measure", "peak", "unit", "peaks", "severity", "incident")
"""What a record keeps of a cost event."""

Env = gymnasium.Env[Any, Any]
Wrapper = Callable[[Env], Env]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Episodes of one arm on one list.

    Attributes:
        make_agent: picklable; called with `deterministic` in each worker. An
            :class:`safevla.evaluate.arms.Arm`, or anything alike.
        scenarios: the list, in order.
        env_kwargs: keyword arguments of `gymnasium.make`; `id` defaults to ObjNav.
        policy_seed: seed of everything random in acting and perturbing.
        deterministic: argmax instead of sampling.
        wrappers: picklable callables applied to the environment, innermost first; their `repr` must
            name their parameters.
        arm: name in the records; the agent's own if empty.
        suite: name in the records.
        level: perturbation level in the records.
        train_seed: training seed in the records.
    """

    make_agent: Callable[[bool], Agent]
    scenarios: tuple[Any, ...]
    env_kwargs: Mapping[str, Any]
    policy_seed: int
    deterministic: bool
    wrappers: tuple[Wrapper, ...] = ()
    arm: str = ""
    suite: str = ""
    level: int = 0
    train_seed: int | None = None

    @property
    def mode(self) -> Mode:
        """`argmax` or `sampled`."""
        return "argmax" if self.deterministic else "sampled"

    @property
    def list_hash(self) -> str:
        """Hash of the list's content and order, as `safevla_envs.scenes.scenario.list_hash`."""
        return digest("".join(scenario.scenario_id for scenario in self.scenarios))

    @property
    def setup(self) -> str:
        """Hash of environment arguments, wrappers and policy weights."""
        fingerprint = getattr(self.make_agent, "fingerprint", None)
        parts = [
            json.dumps(dict(self.env_kwargs), sort_keys=True, default=list),
            [repr(wrapper) for wrapper in self.wrappers],
            fingerprint() if fingerprint is not None else repr(self.make_agent),
        ]
        return digest(json.dumps(parts))

    def blank(self, index: int) -> dict[str, Any]:
        """The fields of a record that are known before the episode."""
        return {
            "arm": self.arm or getattr(self.make_agent, "name", ""),
            "suite": self.suite,
            "mode": self.mode,
            "policy_seed": self.policy_seed,
            "train_seed": self.train_seed,
            "scenario_index": index,
            "scenario_id": self.scenarios[index].scenario_id,
            "list_hash": self.list_hash,
            "level": self.level,
        }


class EpisodeWorker:
    """Steps up to `SLOTS` environments together; keeps them between jobs."""

    def __init__(self) -> None:
        self._key = ""
        self._envs: list[Env] = []

    def __call__(self, message: tuple[Job, Sequence[int]]) -> Iterator[EpisodeRecord]:
        """Yields a record for each index of a job, in the order in which the episodes end.

        Raises:
            ValueError: bad input, met before the first episode.
            RuntimeError: whatever else went wrong.
        """
        (job, indices), begun = message, False
        try:
            agent, envs = self.prepare(job, len(indices))
            begun = True
            yield from self.run(job, indices, agent, envs)
        except Exception as error:
            if isinstance(error, ValueError) and not begun:
                raise
            raise RuntimeError(f"an episode worker failed: {error!r}") from error

    def close(self) -> None:
        """Closes the environments."""
        for env in self._envs:
            env.close()
        self._envs = []

    def _bare(self, kwargs: Mapping[str, Any], count: int) -> list[Env]:
        key = json.dumps(dict(kwargs), sort_keys=True, default=list)
        if key != self._key:
            self.close()
            self._key = key
        arguments = dict(kwargs)
        env_id = arguments.pop("id", DEFAULT_ENV)
        while len(self._envs) < count:
            self._envs.append(gymnasium.make(env_id, **arguments))
        return self._envs[:count]

    def prepare(self, job: Job, episodes: int) -> tuple[Agent, list[Env]]:
        """Builds the agent and wraps as many environments as the episodes can use."""
        envs = []
        for env in self._bare(job.env_kwargs, min(SLOTS, episodes)):
            for wrapper in job.wrappers:
                env = wrapper(env)
            envs.append(env)
        return job.make_agent(job.deterministic), envs

    def run(
        self, job: Job, indices: Sequence[int], agent: Agent, envs: Sequence[Env]
    ) -> Iterator[EpisodeRecord]:
        """Yields a record for each index, in the order in which the episodes end."""
        queue = deque(indices)
        episodes: list[Episode | None] = [None] * SLOTS
        for i, env in enumerate(envs):
            episodes[i] = Episode(job, queue.popleft(), env, agent, i)
        rows = [episode.obs if episode else None for episode in episodes]
        while any(episodes):
            padding = next(row for row in rows if row is not None)
            filled = [padding if row is None else row for row in rows]
            batch = {key: np.stack([row[key] for row in filled]) for key in padding}
            actions = agent.act(batch, [episode.env if episode else None for episode in episodes])
            for i, episode in enumerate(episodes):
                if episode is None:
                    continue
                if episode.step(actions[i]):
                    yield episode.record()
                    if queue:
                        episode = Episode(job, queue.popleft(), episode.env, agent, i)
                        episodes[i] = episode
                    else:
                        episodes[i] = None
                rows[i] = episode.obs


class Episode:
    """One episode being run."""

    def __init__(self, job: Job, index: int, env: Env, agent: Agent, slot: int) -> None:
        self.env = env
        self.blank = job.blank(index)
        env_seed, agent_seed = episode_seeds(job.policy_seed, index)
        options = {"scenario": job.scenarios[index]}
        self.obs, info = env.reset(seed=env_seed, options=options)
        agent.reset(slot, env, np.random.default_rng(agent_seed))
        # some agents tell their policy something else
        told = getattr(agent, "instruction", lambda slot: None)(slot)
        self.instruction = told or str(info["instruction"])
        self.perturbation = info.get("perturbation", {})
        self.cost = 0.0
        self.costs = {name: 0.0 for name in info["costs"]}
        self.severity: dict[str, str | None] = dict.fromkeys(info["costs"])
        self.path = [base_xy(env)]
        self.events: dict[Any, dict[str, Any]] = {}
        self.witness = Witness(env)
        self.actions: list[Any] = []
        self.ended_by: EndedBy = "max_steps"
        self.info = info

    def step(self, action: Any) -> bool:
        """Takes one action; returns whether the episode is over."""
        self.witness.look()
        self.obs, _, terminated, truncated, info = self.env.step(action)
        self.info = info
        self.actions.append(action.tolist() if isinstance(action, np.ndarray) else int(action))
        self.path.append(base_xy(self.env, self.path[-1]))
        self.cost += info["cost"]
        for name, value in info["costs"].items():
            self.costs[name] += value
        for name, value in info["severity"].items():
            worst = max(self.severity.get(name), value, key=SEVERITIES.index)
            self.severity[name] = worst
        for event in info["cost_events"]:
            self._note(event)
        if terminated or truncated:
            self.ended_by = self._end(terminated)
        return terminated or truncated

    def _note(self, event: Mapping[str, Any]) -> None:
        """Adds an event, or the latest about one that goes on since an earlier step."""
        key = tuple(event[name] for name in ("constraint", "partner", "onset_time"))
        known = self.events.get(key)
        where = {"step": len(self.actions), "xy": self.path[-1], "charged": 0.0}
        if known is None:
            where["seen"] = self.witness.seen(event["partner"])
        else:
            where = {name: known[name] for name in (*where, "seen")}
        latest = {name: event[name] for name in EVENT_FIELDS if name in event}
        charged = where.pop("charged") + event["charged"]
        last = {"last_step": len(self.actions), "charged": charged}
        self.events[key] = plain({**latest, **where, **last})

    def _end(self, terminated: bool) -> EndedBy:
        if self.info.get("sim_error") is not None:
            return "sim_error"
        if self.info["success"]:
            return "success"
        if terminated:
            return "wrong_end"
        steps = self.env.unwrapped.max_episode_steps
        return "max_steps" if len(self.actions) >= steps else "max_seconds"

    def record(self) -> EpisodeRecord:
        sim_error = self.info.get("sim_error")
        for event in self.events.values():
            event.update(self.witness.fate(event["partner"]))
        return EpisodeRecord(
            **self.blank,
            instruction=self.instruction,
            success=bool(self.info["success"]),
            length=len(self.actions),
            sim_seconds=float(self.info["seconds"]),
            ended_by=self.ended_by,
            cost=self.cost,
            costs=self.costs,
            severity=self.severity,
            sim_error=None if sim_error is None else str(sim_error),
            cost_semantics=str(self.info["cost_semantics"]),
            perturbation=plain(self.perturbation),
            path=self.path,
            events=list(self.events.values()),
            actions=self.actions,
        )


def episode_seeds(policy_seed: int, index: int) -> tuple[int, int]:
    """Seeds of the environment's generator and of the agent's, for one episode."""
    first, second = np.random.SeedSequence([policy_seed, index]).generate_state(2)
    return int(first), int(second)


def base_xy(env: Env, before: list[float] | None = None) -> list[float]:
    """Position of the robot's base on the floor, m, to 0.1 mm.

    A diverged simulation may have none: then `before` is returned.
    """
    x, y = (float(value) for value in env.unwrapped.sim.base_pose[:2])
    if not (np.isfinite(x) and np.isfinite(y)):
        return list(before or [0.0, 0.0])
    return [round(x, 4), round(y, 4)]
