"""What a task is: a goal, what comes of an episode, and what it lets the robot touch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from safevla_envs.scenes.scenario import Scenario

if TYPE_CHECKING:
    from safevla_envs.world import World

__all__ = ["GRASP_ZONE", "Goal", "Outcome", "Task", "handled"]

GRASP_ZONE = 0.10
"""m; what is being grasped, and its support, may be touched this near to the grasp."""
_UNDER = 0.01
"""m; a support's underside is at least this much lower than that of what it bears."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What an episode asks for.

    Attributes:
        instruction: in words.
        bodies: names of the bodies it is about, of which one will do.
    """

    instruction: str
    bodies: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a step.

    Attributes:
        reward: of this step.
        success: whether the episode ended with the goal reached.
    """

    reward: float
    success: bool


class Task(Protocol):
    """A task, from one episode to the next; an implementation is one file and an entry of `TASKS`.

    Attributes:
        shaping: whether a step also pays for progress.
    """

    shaping: bool

    def goal(self, scenario: Scenario) -> Goal:
        """Returns what a scenario asks for; it draws nothing, a scenario is complete."""
        ...

    def begin(self, world: World) -> None:
        """Starts an episode in a world in which its scenario was just put in place."""
        ...

    def outcome(self, world: World, *, ended: bool) -> Outcome:
        """Returns what a step came to, once a step.

        Args:
            world: after the step; the robot stands in it if the episode is over.
            ended: whether the robot said that it is done.
        """
        ...

    def permits(self, world: World) -> np.ndarray:
        """Returns which bodies may be touched now as hard as it takes, bool (P,). Do not write."""
        ...


def handled(world: World) -> np.ndarray:
    """Returns what is held or being grasped, and what bears it, near the grasp: bool (P,).

    Near is within `GRASP_ZONE` of the gripper; what is held is near.
    """
    near = world.held()
    if world.grasp is not None:
        gap = np.linalg.norm(world.grasp.point - world.grip_position)
        near[world.grasp.partner] |= gap < GRASP_ZONE
    if not np.count_nonzero(near):
        return near
    height = world.partner_poses()[0][:, 2]
    touching = world.touching()[near]
    under = height[None] < height[near][:, None] - _UNDER
    return near | (touching & under).any(0)
