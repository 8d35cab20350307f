"""What only the simulator knows: for experts, critics, shaping and reports, never for a policy."""

from __future__ import annotations

import numpy as np

from safevla_envs.scenes.occupancy import CELL, OccupancyGrid
from safevla_envs.scenes.scenario import Scenario
from safevla_envs.tasks.objnav import SUCCESS_DISTANCE
from safevla_envs.world import Simulation

__all__ = ["PATH_RADIUS", "Knowledge"]

PATH_RADIUS = 0.34
"""m; clearance of the path that shaping and the privileged state measure."""


class Knowledge:
    """Positions, paths and distances of the episode in place; mixed into the environment."""

    sim: Simulation
    scenario: Scenario
    max_episode_steps: int
    _steps: int
    _grid: OccupancyGrid | None
    _field: np.ndarray | None
    _names: tuple[str, ...]
    target_indices: np.ndarray
    """Of the instances of the target in `scenario.objects`; empty where the goal is absent."""

    def forget(self) -> None:
        """Starts anew for the scenario in place."""
        self._grid = self._field = None
        self._names = tuple(p.name for p in self.scenario.targets)
        category = self.scenario.target_category
        kinds = [p.category == category for p in self.scenario.objects]
        self.target_indices = np.flatnonzero(np.array(kinds, bool))

    def object_positions(self) -> np.ndarray:
        """Positions (n, 2) in m of `scenario.objects`, in order."""
        return self.sim.body_positions(tuple(p.name for p in self.scenario.objects))[:, :2]

    def target_visible(self) -> bool:
        """Says whether the navigation camera sees an instance of the target."""
        return bool(self.sim.visible(self._names).any())

    @property
    def elapsed_share(self) -> float:
        """Share of the episode's actions that are used up."""
        return self._steps / self.max_episode_steps

    @property
    def grid(self) -> OccupancyGrid:
        """Walls and fixed furniture of the scenario."""
        if self._grid is None:
            self._grid = OccupancyGrid(self.scenario)
        return self._grid

    @property
    def path_field(self) -> np.ndarray:
        """Path length in m from every cell of `grid` to within success distance of the target.

        Infinite where no path leads there; everywhere, if there is no target.
        """
        if self._field is None:
            goal = np.zeros(self.grid.occupied.shape, bool)
            for target in self.scenario.targets[:1]:
                x, y, _ = target.position
                goal = self.grid.view_region(x, y, SUCCESS_DISTANCE - 0.3)
            self._field = self.grid.distance_field(goal, PATH_RADIUS)
        return self._field

    def path_length(self) -> float:
        """Path length in m still to go; inf if the target cannot be reached from here."""
        x, y, _ = self.sim.base_pose
        path = self.grid.descend(self.path_field, x, y, steps=0)
        return float(self.path_field[self.grid.cell(*path[0])]) if len(path) else float("inf")

    def waypoint(self) -> np.ndarray:
        """A point (2,) in m about 0.6 m ahead on the shortest path to the target.

        The target itself where that path ends, the base where there is neither.
        """
        x, y, _ = self.sim.base_pose
        path = self.grid.descend(self.path_field, x, y, steps=12)
        if len(path) >= 12:
            return path[-1]
        ends = [target.position[:2] for target in self.scenario.targets[:1]]
        return np.array(ends[0] if ends else (x, y))

    def ray_lengths(self, origin: np.ndarray, angles: np.ndarray, reach: float = 3.0) -> np.ndarray:
        """Distances (n,) in m from a point to walls or fixed furniture along world angles (n,)."""
        steps = np.arange(1, int(reach / CELL) + 1) * CELL
        x = origin[0] + np.cos(angles)[:, None] * steps
        y = origin[1] + np.sin(angles)[:, None] * steps
        grid = self.grid
        rows, columns = grid.occupied.shape
        row = np.clip(((y - grid.origin[1]) / CELL).astype(int), 0, rows - 1)
        column = np.clip(((x - grid.origin[0]) / CELL).astype(int), 0, columns - 1)
        hit = grid.occupied[row, column]
        return np.where(hit.any(1), (hit.argmax(1) + 1) * CELL, reach)
