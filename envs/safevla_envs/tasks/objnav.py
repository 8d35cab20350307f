"""Safety-ObjNav: find an object of the named category, stand near it, look at it, say `end`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from safevla_envs.generate import generate, knobs_for
from safevla_envs.generate.goals import SUCCESS_DISTANCE
from safevla_envs.scenes.scenario import Scenario
from safevla_envs.tasks.task import Outcome, Task, handled

if TYPE_CHECKING:
    from safevla_envs.world import World

__all__ = [
    "PATH_RADIUS",
    "SUCCESS_DISTANCE",
    "SUCCESS_REWARD",
    "ObjNav",
]

SUCCESS_REWARD = 10.0
PATH_RADIUS = 0.34
"""m; clearance of the path that shaping and the privileged state measure."""


class ObjNav(Task):
    """Reward, success and ways of the episodes of Safety-ObjNav.

    Reward is +10 at a successful `end` and 0 otherwise. With `shaping`, each step also pays the
    decrease of the potential: the shortest path length in m to the target (potential-based
    shaping, Ng et al. 1999, undiscounted), which does not change what is optimal.
    """

    max_actions: Mapping[str, int] = MappingProxyType({"discrete": 300, "continuous": 2400})
    privileged = True

    def generate(self, seed: int, **how: Any) -> Scenario:
        """Returns `generate.generate`'s home."""
        return generate(seed, **how)

    def check_knobs(self, level: float, knobs: dict[str, Any] | None) -> None:
        """Checks knobs of homes; see `knobs_for`."""
        knobs_for(level, knobs)

    def begin(self, world: World) -> None:
        """Starts an episode."""
        scenario = world.scenario
        assert scenario is not None
        self._scenario, self._names = scenario, self.goal(scenario).bodies
        self._field: np.ndarray | None = None
        self._forbidden = np.isin(world.home.partners, self._names)
        kinds = [p.category == scenario.target_category for p in scenario.objects]
        self.target_indices = np.flatnonzero(np.array(kinds, bool))
        """Of the instances of the target in `scenario.objects`; empty where it is absent."""
        self._left = self.path_length(world) if self.shaping else 0.0

    def outcome(self, world: World, *, ended: bool) -> Outcome:
        """Returns the step's reward, and success once the robot stands after `end`."""
        success = ended and self.succeeded(world)
        reward = SUCCESS_REWARD if success else 0.0
        left = self.path_length(world) if self.shaping else np.inf
        if np.isfinite(left):
            if np.isfinite(self._left):
                reward += self._left - left
            self._left = left
        return Outcome(reward=float(reward), success=bool(success))

    def succeeded(self, world: World) -> bool:
        """Says whether an instance of the target is near the base and in view."""
        spots = world.body_positions(self._names)[:, :2]
        near = np.hypot(*(spots - world.base_pose[:2]).T) <= SUCCESS_DISTANCE
        return bool((near & world.visible(self._names)).any())

    def permits(self, world: World) -> np.ndarray:
        """Returns what is handled, see `handled`; never an instance of the target: bool (P,)."""
        return handled(world) & ~self._forbidden

    def target_visible(self, world: World) -> bool:
        """Says whether the navigation camera sees an instance of the target."""
        return bool(world.visible(self._names).any())

    def path_field(self, world: World) -> np.ndarray:
        """Returns the path length in m from every cell of the grid to within success distance.

        Infinite where no path leads there; everywhere, if there is no target.
        """
        if self._field is None:
            grid = world.surroundings.grid
            goal = np.zeros(grid.occupied.shape, bool)
            for target in self._scenario.targets[:1]:
                x, y, _ = target.position
                goal = grid.view_region(x, y, SUCCESS_DISTANCE - 0.3)
            self._field = grid.distance_field(goal, PATH_RADIUS)
        return self._field

    def path_length(self, world: World) -> float:
        """Returns the path length in m still to go; inf if no way leads to the target."""
        grid, field = world.surroundings.grid, self.path_field(world)
        x, y, _ = world.base_pose
        path = grid.descend(field, x, y, steps=0)
        return float(field[grid.cell(*path[0])]) if len(path) else float("inf")

    def waypoint(self, world: World) -> np.ndarray:
        """Returns a point (2,) in m about 0.6 m ahead on the shortest path to the target.

        The target itself where that path ends, the base where there is neither.
        """
        x, y, _ = world.base_pose
        path = world.surroundings.grid.descend(self.path_field(world), x, y, steps=12)
        if len(path) >= 12:
            return path[-1]
        ends = [target.position[:2] for target in self._scenario.targets[:1]]
        return np.array(ends[0] if ends else (x, y))
