"""How the world of one episode differs from what its scenario says: physics, looks, latency.

Handed over with `reset(options={"edits": Edits(...)})`, for that episode alone: an edited model is
a copy, frames are edited as they are drawn, and nothing that episodes share is ever written to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import mujoco

from safevla_envs.robots.robot import Robot

if TYPE_CHECKING:
    from safevla_envs.world import World

__all__ = ["Edits", "FrameEdit", "ModelEdit"]

ModelEdit = Callable[[mujoco.MjModel, Robot], None]
"""Changes a private copy of the compiled model; the robot says what its parts are called."""


class FrameEdit(Protocol):
    """Changes what is drawn, and nothing else."""

    def begin(self, world: World) -> None:
        """Starts an episode, once the scenario is in place."""
        ...

    def __call__(self, scene: mujoco.MjvScene, camera: str) -> None:
        """Edits a scene that is about to be drawn as `camera` sees it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Edits:
    """The edits of one episode; `+` applies both sides'.

    Attributes:
        model: of the physics, in order.
        frame: of the pictures, in order.
        latency: control ticks for which the robot stands still before it begins an action that
            lasts several; with actions of one tick, delay the actions instead.
    """

    model: tuple[ModelEdit, ...] = ()
    frame: tuple[FrameEdit, ...] = ()
    latency: int = 0

    def __add__(self, other: Edits) -> Edits:
        return Edits(
            model=self.model + other.model,
            frame=self.frame + other.frame,
            latency=self.latency + other.latency,
        )
