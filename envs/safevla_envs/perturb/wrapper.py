"""The front: any environment, perturbed on any axes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from safevla_envs.edits import Edits
from safevla_envs.perturb.acting import ACTION_AXES
from safevla_envs.perturb.dynamics import DYNAMICS_AXES
from safevla_envs.perturb.effect import LEVELS, Axis
from safevla_envs.perturb.pixels import PIXEL_AXES
from safevla_envs.perturb.sensing import SENSING_AXES
from safevla_envs.perturb.views import VIEW_AXES
from safevla_envs.perturb.wording import LANGUAGE_AXES

__all__ = ["AXES", "VERSION", "Perturbation", "check_levels", "perturb"]

VERSION = "1"
"""Of the axes and their strengths; results of different versions do not compare."""
AXES: dict[str, Axis] = {
    axis.name: axis
    for axis in (
        *VIEW_AXES,
        *PIXEL_AXES,
        *SENSING_AXES,
        *LANGUAGE_AXES,
        *ACTION_AXES,
        *DYNAMICS_AXES,
    )
}
"""Every axis by name, in the order in which observations go through them: scene, lens, sensor."""


def check_levels(levels: Mapping[str, Any]) -> None:
    """Raises a ValueError for an axis, or a level, that does not exist."""
    for name, level in levels.items():
        if name not in AXES:
            raise ValueError(f"axis {name!r}: allowed are {', '.join(AXES)}")
        if isinstance(level, bool) or level not in LEVELS:
            raise ValueError(f"{name}={level!r}: a level of {', '.join(map(str, LEVELS))}")


class Perturbation(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Perturbs an environment; level 0 on an axis is the environment itself, bit for bit.

    What is drawn, once an episode, is in `info["perturbation"]`: the version, and for each axis its
    level, the seed of its stream and its draw. The stream is the wrapper's own: the same seed here
    and in `reset(seed=...)` gives the same perturbation whatever else is perturbed, later unseeded
    resets give new ones, and the environment's own random numbers are untouched.

    Args:
        env: the environment; wraps may be nested.
        levels: level, 0 to 5, by axis of `AXES`.
        seed: of the stream.

    Raises:
        ValueError: an axis or level that does not exist, or an environment without what an axis
            perturbs.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], levels: Mapping[str, int], seed: int = 0):
        RecordConstructorArgs.__init__(self, levels=dict(levels), seed=seed)
        super().__init__(env)
        check_levels(levels)
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"seed={seed!r}: a whole number from 0 is needed")
        self.levels, self.seed = {name: int(level) for name, level in levels.items()}, int(seed)
        self.effects = [
            axis.effect(axis, self.levels[name])
            for name, axis in AXES.items()
            if self.levels.get(name)
        ]
        for effect in self.effects:
            effect.attach(env)
        self._stream = np.random.default_rng(self.seed)
        self._drawn: dict[str, Any] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Draws the perturbation of a new episode and resets the environment."""
        if seed is not None:
            self._stream = np.random.default_rng([self.seed, seed])
        episode = int(self._stream.integers(2**63))
        self._drawn = {
            name: {"level": level, "stream": episode} for name, level in self.levels.items()
        }
        edits = Edits()
        for effect in self.effects:
            name = effect.axis.name
            rng = np.random.default_rng([episode, zlib.crc32(name.encode())])
            self._drawn[name] |= effect.draw(rng)
            edits += effect.edits()
        options = dict(options or {})
        if edits != Edits():
            options["edits"] = options.get("edits", Edits()) + edits
        obs, info = self.env.reset(seed=seed, options=options or None)
        return self._observation(obs), self._info(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps the environment with what becomes of the action."""
        for effect in self.effects:
            action = effect.action(action)
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._observation(obs), reward, terminated, truncated, self._info(info)

    def _observation(self, obs: Any) -> Any:
        for effect in self.effects:
            obs = effect.observation(obs)
        return obs

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        said = info.get("instruction")
        if isinstance(said, str):
            for effect in self.effects:
                said = effect.instruction(said)
            info = {**info, "instruction": said}
        drawn = {**info.get("perturbation", {}), **deepcopy(self._drawn), "version": VERSION}
        return {**info, "perturbation": drawn}


def perturb(env: gymnasium.Env[Any, Any], *, seed: int = 0, **levels: int) -> Perturbation:
    """Wraps `env`: `perturb(env, camera_yaw=3, action_latency=2, seed=0)`; see `Perturbation`."""
    return Perturbation(env, levels, seed)
