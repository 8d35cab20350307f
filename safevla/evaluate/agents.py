"""Agents: what acts in the environments of one process.

Every agent draws its randomness from the generator it is given at the start of an episode, so an
episode does not depend on which process or slot runs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces

from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.scenario import Scenario

__all__ = ["Agent", "ExpertAgent", "PolicyArmAgent", "RandomAgent", "ReplayAgent", "ZeroAgent"]

Env = gymnasium.Env[Any, Any]


class Agent(Protocol):
    """Acts in a fixed number of slots, one environment each."""

    def reset(self, i: int, env: Env, rng: np.random.Generator) -> None:
        """A new episode begins in slot `i`; `rng` is all the randomness it may use."""
        ...

    def act(self, obs: Mapping[str, np.ndarray], envs: Sequence[Env | None]) -> list[Any]:
        """Returns the next B actions.

        Args:
            obs: stacked observations (B, ...), row i from slot i.
            envs: the B environments; None marks a padding row, whose action is ignored.
        """
        ...


class _SlotAgent:
    """Acts in each slot by itself, with the slot's own randomness."""

    def __init__(self) -> None:
        self._rng: dict[int, np.random.Generator] = {}

    def reset(self, i: int, env: Env, rng: np.random.Generator) -> None:
        self._rng[i] = rng

    def act(self, obs: Mapping[str, np.ndarray], envs: Sequence[Env | None]) -> list[Any]:
        return [None if env is None else self._choose(i, env) for i, env in enumerate(envs)]

    def _choose(self, i: int, env: Env) -> Any:
        raise NotImplementedError


class ZeroAgent(_SlotAgent):
    """Does nothing: `sub-task done` among discrete actions, zeros among continuous ones."""

    def _choose(self, i: int, env: Env) -> Any:
        if isinstance(env.action_space, spaces.Discrete):
            return int(env.unwrapped.SUB_DONE)
        assert isinstance(env.action_space, spaces.Box)
        return np.zeros(env.action_space.shape, env.action_space.dtype)


class RandomAgent(_SlotAgent):
    """Draws uniformly over all actions except `end`."""

    def _choose(self, i: int, env: Env) -> Any:
        space = env.action_space
        if isinstance(space, spaces.Discrete):
            allowed = [a for a in range(int(space.n)) if a != env.unwrapped.END]
            return allowed[int(self._rng[i].integers(len(allowed)))]
        assert isinstance(space, spaces.Box)
        return self._rng[i].uniform(space.low, space.high).astype(space.dtype)


class ExpertAgent(_SlotAgent):
    """A scripted expert with access to the simulator's state.

    Args:
        name: `task` (blind to hazards) or `careful`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._experts: dict[int, Any] = {}

    def reset(self, i: int, env: Env, rng: np.random.Generator) -> None:
        """See :class:`Agent`."""
        from safevla.experts import make_expert

        self._experts[i] = make_expert(self.name, env.unwrapped, wander=0.0, rng=rng)
        self._experts[i].reset()

    def _choose(self, i: int, env: Env) -> Any:
        return int(self._experts[i].act())


class ReplayAgent(_SlotAgent):
    """Repeats the recorded actions of one episode; an IndexError says that they are used up."""

    def __init__(self, actions: Sequence[Any]) -> None:
        self.actions = list(actions)
        self._next = 0

    def reset(self, i: int, env: Env, rng: np.random.Generator) -> None:
        """See :class:`Agent`."""
        self._next = 0

    def _choose(self, i: int, env: Env) -> Any:
        action = self.actions[self._next]
        self._next += 1
        return np.asarray(action, np.float32) if isinstance(action, list) else action


class PolicyArmAgent:
    """A learned policy, as it is or with one input spoilt.

    The policy runs once for all slots; each row is then drawn with its own episode's generator. The
    batch always has the same size (see :mod:`safevla.evaluate.runner`), which makes a row's logits
    independent of the other rows, bit for bit.

    `swap` gives it the instruction of another object in the scene, `black` gives it black images.
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        deterministic: bool,
        swap: bool = False,
        black: bool = False,
        device: str = "cpu",
    ) -> None:
        import torch

        from safevla.policy import load_policy

        self._torch = torch
        self.agent = load_policy(checkpoint, device=device)
        self.deterministic = deterministic
        self.swap = swap
        self.black = black
        self.device = device
        self._generators: dict[int, Any] = {}
        self._swapped: dict[int, str] = {}

    def reset(self, i: int, env: Env, rng: np.random.Generator) -> None:
        """See :class:`Agent`."""
        self.agent.reset(i)
        generator = self._torch.Generator(self.device)
        generator.manual_seed(int(rng.integers(2**62)))
        self._generators[i] = generator
        if self.swap:
            self._swapped[i] = swapped_instruction(env.unwrapped.scenario, rng)

    def act(self, obs: Mapping[str, np.ndarray], envs: Sequence[Env | None]) -> list[Any]:
        """See :class:`Agent`."""
        obs = dict(obs)
        if self.swap:
            from safevla_envs.instruction import encode_instruction

            obs["instruction"] = obs["instruction"].copy()
            for i, swapped in self._swapped.items():
                obs["instruction"][i] = encode_instruction(swapped)
        if self.black:
            images = [key for key in obs if key.endswith("_image")]
            obs |= {key: np.zeros_like(obs[key]) for key in images}
        actions = self.agent.act(obs, deterministic=True)
        if not self.deterministic:
            actions = self._sample(actions, envs)
        return [int(action) for action in actions] if actions.ndim == 1 else list(actions)

    def _sample(self, actions: np.ndarray, envs: Sequence[Env | None]) -> np.ndarray:
        output = self.agent.last_output
        assert output is not None and output.logits is not None
        chosen = self._torch.as_tensor(actions, device=self.device).clone()
        for i, env in enumerate(envs):
            if env is not None:
                chosen[i] = self.agent.policy.action_head.choose(
                    output.logits[i : i + 1], False, self._generators[i]
                )[0]
        self.agent._latest[: len(chosen)] = chosen  # the history holds what was executed
        return chosen.cpu().numpy()

    def instruction(self, i: int) -> str | None:
        """The text given instead of the environment's own in slot `i`, or None."""
        return self._swapped.get(i)


def swapped_instruction(scenario: Scenario, rng: np.random.Generator) -> str:
    """Returns the instruction with another object of a scenario named than its target.

    Where there is none, it names what is not there and could be.

    Raises:
        ValueError: the instruction does not name what it asks for.
    """
    target = scenario.target_category
    others = [c for c in scenario.present_categories if c != target]
    if not others:
        kind = CATALOG[target].kind
        others = [c for c, spec in CATALOG.items() if spec.kind == kind and c != target]
    words = CATALOG[others[int(rng.integers(len(others)))]].words
    return scenario.instruction.replace(scenario.named, words[int(rng.integers(len(words)))])
