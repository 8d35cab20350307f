"""Environments as the learner needs them: a privileged view in `info`, mixed-in scenarios, vectors.

`make_vec_env` builds a stable-baselines3 `VecEnv`: in this process, or as shards of environments in
worker processes (one per core is the fastest, because each process keeps its own renderer).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import CloudpickleWrapper, DummyVecEnv, VecEnv

from safevla.workers import Workers

__all__ = [
    "ExtraScenarios",
    "PrivilegedInfo",
    "ShardedVecEnv",
    "declared_constraints",
    "make_vec_env",
]


class PrivilegedInfo(gymnasium.Wrapper):
    """Puts the simulator state for critics into `info["privileged"]`: float32 (P,).

    It is there at reset and after every step, the last one included, so that a critic can value
    the final state of a truncated episode. Policies never see it.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Reset and add the privileged vector."""
        obs, info = self.env.reset(seed=seed, options=options)
        return obs, {**info, "privileged": self._vector()}

    def step(self, action):
        """Step and add the privileged vector."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, {**info, "privileged": self._vector()}

    def _vector(self) -> np.ndarray:
        return np.array(self.env.get_wrapper_attr("privileged_state")(), np.float32)


class ExtraScenarios(gymnasium.Wrapper):
    """Starts a share of the episodes from a given list of scenarios.

    Args:
        env: An environment whose reset takes `options={"scenario": ...}`.
        scenarios: The scenarios to mix in, drawn uniformly.
        probability: Share of resets that take one of them.

    A reset that names a scenario itself is left alone. The draws are seeded by `reset(seed=...)`
    and do not touch the environment's own generator.
    """

    def __init__(self, env: gymnasium.Env, scenarios: Sequence[Any], probability: float):
        super().__init__(env)
        if not scenarios:
            raise ValueError("extra_scenarios is empty; give at least one scenario or None")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}; it must lie in [0, 1]")
        self.scenarios = list(scenarios)
        self.probability = probability
        self._rng = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Reset, from one of the extra scenarios with the given probability."""
        if seed is not None:
            self._rng = np.random.default_rng([seed, 0xE874])
        draw, index = self._rng.random(), int(self._rng.integers(len(self.scenarios)))
        if draw < self.probability and "scenario" not in (options or {}):
            options = {**(options or {}), "scenario": self.scenarios[index]}
        return self.env.reset(seed=seed, options=options)


def _make_env(
    env_id: str,
    env_kwargs: Mapping[str, Any],
    privileged: bool,
    scenarios: Sequence[Any] | None,
    probability: float,
) -> gymnasium.Env:
    env = gymnasium.make(env_id, disable_env_checker=True, **env_kwargs)
    if scenarios and probability > 0:
        env = ExtraScenarios(env, scenarios, probability)
    return Monitor(PrivilegedInfo(env) if privileged else env)


def make_vec_env(
    env_id: str,
    env_kwargs: Mapping[str, Any] | None = None,
    n_envs: int = 8,
    workers: int = 0,
    *,
    privileged: bool = True,
    extra_scenarios: Sequence[Any] | None = None,
    extra_probability: float = 0.5,
) -> VecEnv:
    """Make a vector of equal environments for training.

    Args:
        env_id: A Gymnasium id, `module:id` to import a module first.
        env_kwargs: Keyword arguments of the environment.
        n_envs: How many environments.
        workers: Processes that share them evenly; 0 steps them in this process.
        privileged: Add `info["privileged"]` (see `PrivilegedInfo`).
        extra_scenarios: Scenarios to mix in (see `ExtraScenarios`).
        extra_probability: Share of episodes that take one of them.

    Raises:
        ValueError: `workers` does not divide `n_envs`.
    """
    extra = (extra_scenarios, extra_probability)
    maker = partial(_make_env, env_id, dict(env_kwargs or {}), privileged, *extra)
    if n_envs < 1 or workers < 0 or (workers and n_envs % workers):
        raise ValueError(f"workers is {workers}; it must be 0 or divide n_envs ({n_envs})")
    return ShardedVecEnv([maker] * n_envs, workers) if workers else DummyVecEnv([maker] * n_envs)


class ShardedVecEnv(VecEnv):
    """Environments in a few worker processes, several in each.

    stable-baselines3's `SubprocVecEnv` starts one process per environment; here `workers` processes
    step `n_envs / workers` environments each, one after the other, which suits environments whose
    process is heavy (a renderer each) on a machine with few cores.

    Args:
        env_fns: One picklable function per environment, all equal.
        workers: Number of processes.
    """

    def __init__(self, env_fns: Sequence[Any], workers: int):
        self._shard = len(env_fns) // workers
        fns = CloudpickleWrapper(list(env_fns[: self._shard]))
        self._workers = Workers(workers, _Shard, fns)
        self._all = range(workers)
        try:
            answers = self._ask("spaces", [()] * workers)
        except BaseException:
            self._workers.close()
            raise
        observation_space, action_space, self.metadata = answers[0]
        super().__init__(len(env_fns), observation_space, action_space)

    def _ask(self, command: str, arguments: Sequence[Any]) -> list[Any]:
        for worker, argument in zip(self._all, arguments):
            self._workers.send(worker, (command, argument))
        return [self._workers.receive(worker) for worker in self._all]

    def _shards(self, values: Any) -> list[Any]:
        return [values[i : i + self._shard] for i in range(0, self.num_envs, self._shard)]

    @staticmethod
    def _join(parts: Sequence[Any]) -> Any:
        if isinstance(parts[0], dict):
            return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        return np.concatenate(parts)

    def reset(self):
        """Reset all environments, with the seeds and options set since the last reset."""
        seeds, options = self._shards(self._seeds), self._shards(self._options)
        answers = self._ask("reset", list(zip(seeds, options)))
        self.reset_infos = [info for answer in answers for info in answer[1]]
        self._reset_seeds()
        self._reset_options()
        return self._join([answer[0] for answer in answers])

    def step_async(self, actions: np.ndarray) -> None:
        """Send each shard its actions."""
        for worker, shard in zip(self._all, self._shards(actions)):
            self._workers.send(worker, ("step", (shard,)))

    def step_wait(self):
        """Observations, rewards, dones and infos of all environments."""
        answers = [self._workers.receive(worker) for worker in self._all]
        obs, rewards, dones, infos, reset_infos = zip(*answers)
        self.reset_infos = [info for part in reset_infos for info in part]
        infos = [info for part in infos for info in part]
        return self._join(obs), np.concatenate(rewards), np.concatenate(dones), infos

    def close(self) -> None:
        """End the processes, and the environments with them."""
        self._workers.close()

    def _on(self, indices: Any, method: str, *args: Any, **kwargs: Any) -> list[Any]:
        """Calls a method of the workers' `DummyVecEnv` for each of these environments."""
        results = []
        for i in self._get_indices(indices):
            worker, index = divmod(i, self._shard)
            self._workers.send(worker, ("call", (method, args, {**kwargs, "indices": [index]})))
            results += self._workers.receive(worker) or ()  # set_attr gives nothing
        return results

    def get_attr(self, attr_name: str, indices=None) -> list[Any]:
        """An attribute of each environment, looked up through its wrappers."""
        return self._on(indices, "get_attr", attr_name)

    def set_attr(self, attr_name: str, value: Any, indices=None) -> None:
        """Set an attribute of each environment's outermost wrapper."""
        self._on(indices, "set_attr", attr_name, value)

    def env_method(
        self, method_name: str, *method_args, indices=None, **method_kwargs
    ) -> list[Any]:
        """Call a method of each environment, looked up through its wrappers."""
        return self._on(indices, "env_method", method_name, *method_args, **method_kwargs)

    def env_is_wrapped(self, wrapper_class, indices=None) -> list[bool]:
        """Whether each environment is wrapped in `wrapper_class`."""
        return self._on(indices, "env_is_wrapped", wrapper_class)

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One rendered frame of each environment."""
        return self.env_method("render")


class _Shard:
    """The inside of a worker process: a few environments and the commands they know."""

    def __init__(self, env_fns: CloudpickleWrapper):
        self.venv = DummyVecEnv(env_fns.var)

    def __call__(self, message: tuple[str, tuple]) -> Iterator[Any]:
        command, arguments = message
        yield getattr(self, command)(*arguments)

    def spaces(self) -> Any:
        return self.venv.observation_space, self.venv.action_space, self.venv.metadata

    def step(self, actions: np.ndarray) -> Any:
        return *self.venv.step(actions), list(self.venv.reset_infos)

    def reset(self, seeds: Sequence[Any], options: Sequence[Any]) -> Any:
        self.venv._seeds, self.venv._options = list(seeds), list(options)
        return self.venv.reset(), list(self.venv.reset_infos)

    def call(self, method: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        return getattr(self.venv, method)(*args, **kwargs)


def declared_constraints(venv: VecEnv) -> dict[str, float]:
    """Names and default budgets of a vector's constraints, from `env.unwrapped.constraints`.

    Raises:
        ValueError: The environment declares none.
    """
    try:
        constraints = venv.get_attr("constraints", 0)[0]
    except AttributeError:
        raise ValueError(
            "the environment has no attribute 'constraints'; give the budgets by name"
        ) from None
    return {constraint.name: float(constraint.budget) for constraint in constraints}
