"""What an axis of perturbation is: five published strengths, and an effect that has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from safevla_envs.edits import Edits

__all__ = ["KINDS", "LEVELS", "Axis", "Effect", "image_keys", "on_images"]

KINDS = ("visual", "sensing", "language", "action", "dynamics")
LEVELS = (0, 1, 2, 3, 4, 5)
"""0 is no perturbation."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One way in which the world may differ from training.

    Attributes:
        name: key of `AXES`.
        kind: of `KINDS`.
        unit: of the strengths.
        strengths: at levels 1 to 5; signs and directions are drawn, sizes never, so that two
            episodes of a level are equally hard.
        what: what happens, a clause.
        effect: makes the effect of a level.
        safevla: whether it needs the physics or pictures of a SafeVLA environment; the others take
            any Gymnasium environment that has what they change.
    """

    name: str
    kind: str
    unit: str
    strengths: tuple[float, float, float, float, float]
    what: str
    effect: Callable[[Axis, int], Effect]
    safevla: bool = False


class Effect:
    """An axis at a level, 1 to 5, in one environment; a subclass changes what it is about.

    An episode is `draw`, `edits`, the environment's reset, then `observation`, `instruction` and
    `action` in turn.
    """

    def __init__(self, axis: Axis, level: int):
        self.axis, self.level, self.strength = axis, level, axis.strengths[level - 1]

    def attach(self, env: gymnasium.Env[Any, Any]) -> None:
        """Looks up what the effect needs of an environment.

        Raises:
            ValueError: if the environment has nothing of the kind.
        """
        if self.axis.safevla and not hasattr(env.unwrapped, "sim"):
            raise ValueError(f"{self.axis.name}: only SafeVLA environments have this axis")

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draws what holds for an episode; returns it for `info`. `rng` is the effect's own."""
        return {}

    def edits(self) -> Edits:
        """Returns what differs in the simulation."""
        return Edits()

    def observation(self, obs: Any) -> Any:
        """Returns what is observed instead; `obs` is not written to."""
        return obs

    def instruction(self, text: str) -> str:
        """Returns what is asked instead."""
        return text

    def action(self, action: Any) -> Any:
        """Returns what is done instead."""
        return action


def image_keys(space: gymnasium.Space[Any]) -> tuple[str, ...]:
    """Returns which entries of an observation are images, uint8 (H, W, 3); ("",) if it is one.

    Raises:
        ValueError: none is.
    """
    if _is_image(space):
        return ("",)
    if not isinstance(space, spaces.Dict):
        raise ValueError(f"observation space is {type(space).__name__}: a Dict or image is needed")
    keys = tuple(key for key, part in space.spaces.items() if _is_image(part))
    if not keys:
        raise ValueError(f"no image among observations {sorted(space.spaces)}")
    return keys


def _is_image(space: gymnasium.Space[Any]) -> bool:
    shaped = isinstance(space, spaces.Box) and len(space.shape) == 3 and space.shape[2] == 3
    return shaped and space.dtype == np.uint8


def on_images(obs: Any, keys: tuple[str, ...], change: Callable[[str, Any], Any]) -> Any:
    """Returns an observation with `change(key, image)` for each of its images."""
    if keys == ("",):
        return change("", obs)
    return {**obs, **{key: change(key, obs[key]) for key in keys}}
