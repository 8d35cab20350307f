"""Keeps the books of running episodes: learner's reward, cost channels, and sums per episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from safevla.train.settings import RewardConfig

__all__ = ["TOTAL", "Episode", "EpisodeBooks", "StepOutcome", "sound", "success_rate", "summarise"]

TOTAL = "cost"
"""Name of the total cost (`info["cost"]`, one charge per incident) among cost channels; where an
environment gives none, the sum of `info["costs"]`."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A completed episode; sums are undiscounted and of the environment's own numbers.

    Attributes:
        success: whether the environment called it a success.
        length: actions.
        ret: sum of the environment's reward.
        costs: sum of each constraint's cost, and of the total under "cost".
        truncated: whether it was cut (by the step limit) rather than ended.
        sim_error: message of a diverged simulation, or None. Such episodes move no multiplier.
    """

    success: bool
    length: int
    ret: float
    costs: dict[str, float]
    truncated: bool
    sim_error: str | None


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """What one step of N environments gave the learner.

    Attributes:
        rewards: float32 (N, 1 + K): the learner's reward and the cost channels.
        ends: bool (N,), episode over.
        follows: bool (N, 1 + K), where an episode ended although reward or cost would have
            followed: their value of its last observation counts.
        valid: bool (N,), False where the simulation diverged.
        completed: the episodes that ended with this step.
    """

    rewards: np.ndarray
    ends: np.ndarray
    follows: np.ndarray
    valid: np.ndarray
    completed: list[Episode]


class EpisodeBooks:
    """Turns a vector environment's step results into learner's numbers and completed episodes.

    The learner's reward is the environment's minus `step_penalty`, minus `wrong_end_penalty`
    where an episode terminates without success, and minus `timeout_penalty` where it is cut.

    Args:
        n_envs: number N of environments.
        constraints: names of all constraints, as in `info["costs"]`.
        channels: names of the costs to learn from: the constraints, or `("cost",)`.
        violation_rate: channels that charge 1 at an episode's first violation and 0 after it.
        rewards: what is added to the environment's reward.
    """

    def __init__(
        self,
        n_envs: int,
        constraints: Sequence[str],
        channels: Sequence[str],
        violation_rate: Sequence[str],
        rewards: RewardConfig,
    ):
        self.names = (*constraints, TOTAL)
        self.config = rewards
        self._columns = [self.names.index(name) for name in channels]
        self._rate = np.array([name in violation_rate for name in channels], bool)
        self._sums = np.zeros((n_envs, len(self.names)))
        self._returns = np.zeros(n_envs)
        self._lengths = np.zeros(n_envs, int)

    def clear(self, which: Any = slice(None)) -> None:
        """All environments, or those where the mask (N,) says so, begin new episodes."""
        self._sums[which] = 0.0
        self._returns[which] = 0.0
        self._lengths[which] = 0

    def step(
        self, rewards: np.ndarray, dones: np.ndarray, infos: Sequence[dict[str, Any]]
    ) -> StepOutcome:
        """Account for one step of all environments.

        Args:
            rewards: (N,), from the vector environment.
            dones: bool (N,).
            infos: of the step itself (under autoreset: of the terminal step, not of the reset).

        Raises:
            ValueError: `info` has no `costs` or lacks a constraint.
        """
        valid = np.array(["sim_error" not in info for info in infos])
        costs = np.array([self._costs(info) for info in infos], np.float64)
        costs = np.where(valid[:, None], costs, 0.0)
        rewards = np.where(valid, np.asarray(rewards, np.float64), 0.0)
        truncated = np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos])
        ends = np.asarray(dones, bool) | ~valid
        success = np.array([bool(info.get("is_success", False)) for info in infos])
        cut, wrong = ends & truncated & valid, ends & ~truncated & valid & ~success
        config = self.config
        follows = np.repeat(cut[:, None], 1 + len(self._columns), axis=1)
        follows[:, 0] &= config.after_timeout == "value"
        follows[:, 1:] |= wrong[:, None] & (config.after_wrong_end == "value")

        new = self._sums[:, self._columns] == 0
        learned = costs[:, self._columns]
        learned = np.where(self._rate, new & (learned > 0), learned)
        shaped = rewards - config.step_penalty
        shaped = shaped - config.wrong_end_penalty * wrong - config.timeout_penalty * cut

        self._sums += costs
        self._returns += rewards
        self._lengths += 1
        completed = [
            Episode(
                success=bool(success[i]),
                length=int(self._lengths[i]),
                ret=float(self._returns[i]),
                costs={name: float(v) for name, v in zip(self.names, self._sums[i])},
                truncated=bool(truncated[i]),
                sim_error=str(infos[i]["sim_error"]) if not valid[i] else None,
            )
            for i in np.flatnonzero(ends).tolist()
        ]
        self.clear(ends)
        return StepOutcome(
            rewards=np.column_stack([shaped, learned]).astype(np.float32),
            ends=ends,
            follows=follows,
            valid=valid,
            completed=completed,
        )

    def _costs(self, info: dict[str, Any]) -> list[float]:
        try:
            costs = [float(info["costs"][name]) for name in self.names[:-1]]
            total = info[TOTAL] if TOTAL in info else sum(info["costs"].values())
            return [*costs, float(total)]
        except KeyError as error:
            raise ValueError(
                f"the environment's info has no {error.args[0]!r}; training needs info['cost'] or"
                f" info['costs'] with {', '.join(self.names[:-1]) or 'a number per constraint'}"
            ) from None


def sound(episodes: Sequence[Episode]) -> list[Episode]:
    """Returns the episodes whose simulation did not diverge: only they move multipliers."""
    return [episode for episode in episodes if episode.sim_error is None]


def success_rate(episodes: Sequence[Episode]) -> float:
    """Returns the share of sound episodes that succeeded; 1 where there are none."""
    return float(np.mean([episode.success for episode in sound(episodes)] or [1.0]))


def summarise(episodes: Sequence[Episode], names: Sequence[str]) -> dict[str, Any]:
    """Means over episodes; NaN where there are none. Diverged ones are only counted.

    Args:
        episodes: completed episodes.
        names: cost names as in `Episode.costs`, the total last.

    Returns:
        episodes, sim_errors, success, wrong_end (ended without success), truncated, length, return,
        cost (the total), costs (per constraint), violation_rate (share of episodes with any cost).
    """
    whole = sound(episodes)

    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else float("nan")

    return {
        "episodes": len(whole),
        "sim_errors": len(episodes) - len(whole),
        "success": mean([e.success for e in whole]),
        "wrong_end": mean([not (e.success or e.truncated) for e in whole]),
        "length": mean([e.length for e in whole]),
        "return": mean([e.ret for e in whole]),
        "truncated": mean([e.truncated for e in whole]),
        "cost": mean([e.costs[names[-1]] for e in whole]),
        "violation_rate": mean([any(v > 0 for v in e.costs.values()) for e in whole]),
        "costs": {name: mean([e.costs[name] for e in whole]) for name in names[:-1]},
    }
