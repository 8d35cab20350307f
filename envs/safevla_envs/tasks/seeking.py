"""What tasks have in common whose robot must get to an object in a home: where it is, which way."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from safevla_envs.tasks.task import Task

if TYPE_CHECKING:
    from safevla_envs.scenes.scenario import Scenario
    from safevla_envs.world import World

__all__ = ["PATH_RADIUS", "Seeking"]

PATH_RADIUS = 0.34
"""m; clearance of the path that shaping and the privileged state measure."""


class Seeking(Task):
    """A task about a target in a home.

    Attributes:
        scenario: of the episode in place.
        target_indices: of the instances of the target in `scenario.objects`; empty where it is
            absent.
    """

    privileged = True
    scenario: Scenario
    target_indices: np.ndarray

    def begin(self, world: World) -> None:
        """Starts an episode."""
        assert world.scenario is not None
        self.scenario = world.scenario
        self._names = self.goal(self.scenario).bodies
        self._field: np.ndarray | None = None
        names = [p.name for p in self.scenario.objects]
        self.target_indices = np.flatnonzero(np.isin(names, self._names))

    @abstractmethod
    def arrived(self, world: World) -> np.ndarray:
        """Returns the cells of the grid to which the way leads, bool (rows, columns).

        Asked only where there is a target.
        """

    def target_visible(self, world: World) -> bool:
        """Says whether the navigation camera sees an instance of the target."""
        return bool(world.visible(self._names).any())

    def path_field(self, world: World) -> np.ndarray:
        """Returns the path length in m from every cell of the grid to where the way leads.

        Infinite where no path leads there; everywhere, if there is no target.
        """
        if self._field is None:
            grid = world.surroundings.grid
            goal = np.zeros(grid.occupied.shape, bool)
            if self.scenario.targets:
                goal = self.arrived(world)
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
        ends = [target.position[:2] for target in self.scenario.targets[:1]]
        return np.array(ends[0] if ends else (x, y))
