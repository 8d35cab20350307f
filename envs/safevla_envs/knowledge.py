"""What only the simulator knows: for experts, critics, shaping and reports, never for a policy.

The scene's part is in `scenes.surroundings`, the task's in its own file; here it is handed on under
the names that users of an environment know.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from safevla_envs.scenes.occupancy import OccupancyGrid
from safevla_envs.world import World

__all__ = ["Knowledge"]


class Knowledge:
    """Positions, paths and distances of the episode in place; mixed into the environment.

    What is about a target exists for tasks that have one.
    """

    sim: World
    task: Any
    max_episode_steps: int
    _steps: int

    @property
    def elapsed_share(self) -> float:
        """Share of the episode's actions that are used up."""
        return self._steps / self.max_episode_steps

    @property
    def grid(self) -> OccupancyGrid:
        """Walls and fixed furniture of the scenario."""
        return self.sim.surroundings.grid

    def object_positions(self) -> np.ndarray:
        """Returns the positions (n, 2) in m of `scenario.objects`, in order."""
        return self.sim.surroundings.object_positions()

    def ray_lengths(self, origin: np.ndarray, angles: np.ndarray, reach: float = 3.0) -> np.ndarray:
        """Returns `Surroundings.ray_lengths`: distances (n,) in m to walls or fixed furniture."""
        return self.sim.surroundings.ray_lengths(origin, angles, reach)

    @property
    def target_indices(self) -> np.ndarray:
        """Indices of the instances of the target in `scenario.objects`; may be empty."""
        return self.task.target_indices

    def target_visible(self) -> bool:
        """Says whether the navigation camera sees an instance of the target."""
        return self.task.target_visible(self.sim)

    @property
    def path_field(self) -> np.ndarray:
        """Path length in m from every cell of `grid` to within success distance of the target."""
        return self.task.path_field(self.sim)

    def path_length(self) -> float:
        """Returns the path length in m still to go; inf if no way leads to the target."""
        return self.task.path_length(self.sim)

    def waypoint(self) -> np.ndarray:
        """Returns a point (2,) in m about 0.6 m ahead on the shortest path to the target."""
        return self.task.waypoint(self.sim)
