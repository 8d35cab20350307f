"""Perturbations of what is done: late and wrong actions."""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from safevla_envs.edits import Edits
from safevla_envs.perturb.effect import Axis, Effect
from safevla_envs.world import TICK

__all__ = ["ACTION_AXES"]

SAID = ("sub_task_done", "end")
"""Actions that move nothing: no motor errs in them."""


class Latency(Effect):
    """Actions begin late.

    Where an action is held for one step of fixed length, the actions queue, zeros (for a `Discrete`
    space the first action) before them. A SafeVLA robot with discrete actions stands still before
    each, while the world goes on.
    """

    def attach(self, env: gymnasium.Env[Any, Any]) -> None:
        core: Any = env.unwrapped
        self._waits = hasattr(core, "sim") and isinstance(env.action_space, spaces.Discrete)
        tick = TICK if hasattr(core, "sim") else float(getattr(core, "dt", TICK))
        self._steps, self._space = max(1, round(self.strength / 1000.0 / tick)), env.action_space

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        self._queue: deque[Any] = deque(maxlen=self._steps + 1)
        return {"ticks" if self._waits else "steps": self._steps}

    def edits(self) -> Edits:
        return Edits(latency=self._steps if self._waits else 0)

    def action(self, action: Any) -> Any:
        if self._waits:
            return action
        if not self._queue:
            first = action
            if isinstance(self._space, spaces.Box):
                still = np.zeros(self._space.shape, self._space.dtype)
                first = np.clip(still, self._space.low, self._space.high)
            self._queue.extend([first] * self._steps)
        self._queue.append(action)
        return self._queue[0]


class ActionNoise(Effect):
    """Numbers with Gaussian noise, as a share of half their range; choices that become others."""

    def attach(self, env: gymnasium.Env[Any, Any]) -> None:
        self._space = env.action_space
        if isinstance(self._space, spaces.Discrete):
            names = getattr(env.unwrapped, "action_names", ())
            every = range(int(self._space.n))
            self._moves = [i for i in every if not names or names[i] not in SAID]
        elif not (isinstance(self._space, spaces.Box) and self._space.is_bounded()):
            kind = type(self._space).__name__
            raise ValueError(
                f"{self.axis.name}: action space {kind}: Discrete or bounded is needed"
            )

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        self._rng = rng
        return {}

    def action(self, action: Any) -> Any:
        share = self.strength / 100.0
        if isinstance(self._space, spaces.Discrete):
            flipped = self._rng.random() < share
            others = [i for i in self._moves if i != int(action)]
            other = others[self._rng.integers(len(others))]
            return other if flipped and int(action) in self._moves else action
        assert isinstance(self._space, spaces.Box)
        half = (self._space.high - self._space.low) / 2
        noisy = np.asarray(action) + share * half * self._rng.standard_normal(self._space.shape)
        return np.clip(noisy, self._space.low, self._space.high).astype(self._space.dtype)


ACTION_AXES = (
    Axis(
        name="action_latency",
        kind="action",
        unit="ms",
        strengths=(50.0, 100.0, 150.0, 250.0, 400.0),
        what="actions begin late",
        effect=Latency,
    ),
    Axis(
        name="action_noise",
        kind="action",
        unit="% of half the range (sigma), or of the choices",
        strengths=(1.0, 3.0, 6.0, 10.0, 15.0),
        what="actions are noisy, choices become others",
        effect=ActionNoise,
    ),
)
