"""Perturbations of what the sensors say: late and lost images, a robot that misfeels itself."""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from safevla_envs.perturb.effect import Axis, Effect, image_keys, on_images

__all__ = ["SENSING_AXES"]

NOT_FELT = ("scan", "scene")
"""Observed numbers that are not about the robot itself."""


class _Images(Effect):
    """Needs images."""

    def attach(self, env: gymnasium.Env[Any, Any]) -> None:
        self.keys = image_keys(env.observation_space)


class FrameDrop(_Images):
    """Images are lost: the last one that came is seen again. All cameras lose theirs together."""

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        self._rng, self._last = rng, {}
        return {}

    def observation(self, obs: Any) -> Any:
        lost = self._rng.random() < self.strength / 100.0 and bool(self._last)
        if not lost:
            on_images(obs, self.keys, self._last.__setitem__)
        return on_images(obs, self.keys, lambda key, image: self._last[key].copy())


class FrameDelay(_Images):
    """Images come late, the first one until then."""

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        self._queues: dict[str, deque[Any]] = {}
        return {}

    def observation(self, obs: Any) -> Any:
        return on_images(obs, self.keys, self._late)

    def _late(self, key: str, image: Any) -> Any:
        queue = self._queues.setdefault(key, deque(maxlen=int(self.strength) + 1))
        queue.append(image)
        return queue[0].copy()


class Proprioception(Effect):
    """Noise on everything that the robot feels of itself, and half as large a bias."""

    def attach(self, env: gymnasium.Env[Any, Any]) -> None:
        space = env.observation_space
        felt = space.spaces.items() if isinstance(space, spaces.Dict) else ()
        self.parts = {
            key: part
            for key, part in felt
            if isinstance(part, spaces.Box) and len(part.shape) == 1 and key not in NOT_FELT
            if np.issubdtype(part.dtype, np.floating)
        }
        if not self.parts:
            raise ValueError(f"{self.axis.name}: no vector of numbers among the observations")

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        self._rng, half = rng, self.strength / 200.0
        self._bias = {
            key: half * rng.choice((-1.0, 1.0), part.shape) for key, part in self.parts.items()
        }
        return {"bias": {key: bias.tolist() for key, bias in self._bias.items()}}

    def observation(self, obs: Any) -> Any:
        felt = {}
        for key, part in self.parts.items():
            noise = self._rng.normal(0.0, self.strength / 100.0, part.shape)
            wrong = np.clip(obs[key] + self._bias[key] + noise, part.low, part.high)
            felt[key] = wrong.astype(part.dtype)
        return {**obs, **felt}


SENSING_AXES = (
    Axis(
        name="frame_drop",
        kind="sensing",
        unit="% of the images",
        strengths=(2.0, 5.0, 10.0, 20.0, 35.0),
        what="images are lost and the last one is seen again",
        effect=FrameDrop,
    ),
    Axis(
        name="frame_delay",
        kind="sensing",
        unit="observations",
        strengths=(1.0, 2.0, 3.0, 5.0, 8.0),
        what="images come late",
        effect=FrameDelay,
    ),
    Axis(
        name="proprioception",
        kind="sensing",
        unit="% of 1 m, rad, m/s or rad/s (sigma)",
        strengths=(0.5, 1.0, 2.0, 4.0, 8.0),
        what="noise on what the robot feels of itself, and a bias of half of it",
        effect=Proprioception,
    ),
)
