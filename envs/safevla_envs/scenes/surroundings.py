"""What is around the robot in a scene, whatever the task: walls, furniture, things."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from safevla_envs.scenes.occupancy import CELL, OccupancyGrid
from safevla_envs.scenes.scenario import Placement, Scenario

if TYPE_CHECKING:
    from safevla_envs.world import World

__all__ = ["Surroundings"]


class Surroundings:
    """The scene of one episode.

    Args:
        world: with the scenario in place.
        scenario: what stands where at the start.
    """

    def __init__(self, world: World, scenario: Scenario):
        self._world, self._scenario = world, scenario

    @cached_property
    def grid(self) -> OccupancyGrid:
        """Walls and fixed furniture."""
        return OccupancyGrid(self._scenario)

    @property
    def furniture(self) -> tuple[Placement, ...]:
        """What stands fixed."""
        return self._scenario.furniture

    def object_positions(self) -> np.ndarray:
        """Returns the positions (n, 2) in m of `scenario.objects` now, in order."""
        names = tuple(p.name for p in self._scenario.objects)
        return self._world.body_positions(names)[:, :2]

    def ray_lengths(self, origin: np.ndarray, angles: np.ndarray, reach: float = 3.0) -> np.ndarray:
        """Returns distances (n,) in m from a point to the grid along world angles (n,) in rad.

        Args:
            origin: (2,) m.
            angles: (n,) rad.
            reach: m; the distance where nothing is hit.
        """
        steps = np.arange(1, int(reach / CELL) + 1) * CELL
        x = origin[0] + np.cos(angles)[:, None] * steps
        y = origin[1] + np.sin(angles)[:, None] * steps
        grid = self.grid
        rows, columns = grid.occupied.shape
        row = np.clip(((y - grid.origin[1]) / CELL).astype(int), 0, rows - 1)
        column = np.clip(((x - grid.origin[0]) / CELL).astype(int), 0, columns - 1)
        hit = grid.occupied[row, column]
        return np.where(hit.any(1), (hit.argmax(1) + 1) * CELL, reach)
