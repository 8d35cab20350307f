"""What a task is: a goal, what comes of an episode, and what it lets the robot touch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safevla_envs.robots import DEFAULT_ROBOT
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


class Task(ABC):
    """A task, from one episode to the next; one file and an entry of `TASKS`.

    Args:
        shaping: whether a step also pays for progress.

    Attributes:
        robot: who does it, of `ROBOTS`.
        max_actions: action mode -> actions an episode by default; the first mode is the usual one.
        constraints: names of what is charged by default; all if None.
        torso: whether discrete actions move the torso.
        firm: whether things are carried: what is gripped then does not creep.
        stands: s for which the robot must stand at the end, if longer than usual.
        told: number of values of `tell`.
        privileged: whether `SafeVLAEnv.privileged_state` describes it.
    """

    robot: str = DEFAULT_ROBOT
    max_actions: Mapping[str, int]
    constraints: tuple[str, ...] | None = None
    torso: bool = False
    firm: bool = False
    stands: float = 0.0
    told: int = 0
    privileged: bool = False

    def __init__(self, *, shaping: bool = False):
        self.shaping = shaping

    @abstractmethod
    def generate(self, seed: int, **how: Any) -> Scenario:
        """Returns the scenario of a seed.

        Args:
            seed: any non-negative integer.
            **how: split, level, hazards, knobs, layout_seed, as `generate.generate`.

        Raises:
            ValueError: naming what of these is outside what is allowed.
        """

    def check_knobs(self, level: float, knobs: dict[str, Any] | None) -> None:
        """Checks overrides of the generator's knobs.

        Raises:
            ValueError: naming what is outside what is allowed; there are none by default.
        """
        if knobs:
            raise ValueError(f"knobs={knobs!r}: {type(self).__name__} has none")

    def knob_ranges(self) -> dict[str, tuple[float, float]]:
        """Returns the knobs that can be searched, with their ranges; there are none by default."""
        return {}

    def goal(self, scenario: Scenario) -> Goal:
        """Returns what a scenario asks for: its instruction and the instances of its target.

        It draws nothing, a scenario is complete.
        """
        names = tuple(p.name for p in scenario.targets)
        return Goal(instruction=scenario.instruction, bodies=names)

    @abstractmethod
    def begin(self, world: World) -> None:
        """Starts an episode in a world in which its scenario was just put in place."""

    @abstractmethod
    def outcome(self, world: World, *, ended: bool) -> Outcome:
        """Returns what a step came to, once a step.

        Args:
            world: after the step; the robot stands in it if the episode is over.
            ended: whether the robot, or `done`, said that it is over.
        """

    def done(self, world: World) -> bool:
        """Says that the goal is reached and the episode over, without the robot saying so."""
        return False

    def permits(self, world: World) -> np.ndarray:
        """Returns which bodies may be touched now as hard as it takes, bool (P,). Do not write."""
        return handled(world)

    def tell(self, world: World) -> np.ndarray:
        """Returns what a policy without cameras is told of the scene, (told,) of order 1."""
        return np.zeros(0)


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
