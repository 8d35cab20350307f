"""Motion of the torso: up and down at an even speed, stopped by what holds it or the arm back."""

from __future__ import annotations

import numpy as np

from safevla_envs.control.arm import BLOCKED
from safevla_envs.world import World

__all__ = ["TorsoMotion", "lift"]

BLOCKED_TORSO = 0.006
"""m, some 360 N; at full speed in free air the torso lags by 0.0024."""
ARRIVE = 4
"""Ticks that a motion leaves for the torso to arrive in."""


def lift(sim: World, way: float) -> bool:
    """Moves the torso's reference up by `way` m in a tick; says whether nothing was in its way.

    Where contact holds back the torso, or the arm that it carries, the reference returns to where
    the torso is.
    """
    late = abs(sim.torso_reference - sim.torso_height) > BLOCKED_TORSO
    if late or np.abs(sim.arm_reference - sim.arm_positions).max() > BLOCKED:
        sim.set_torso(sim.torso_height)
        return False
    sim.set_torso(sim.torso_reference + way)
    return True


class TorsoMotion:
    """Moves the torso by a height in m over a number of ticks; what is blocked stays there."""

    def __init__(self, sim: World, height: float, ticks: int):
        self.sim, self.left = sim, max(ticks - ARRIVE, 1)
        self.step = height / self.left

    def apply(self) -> None:
        """Sets the reference for the next tick."""
        if self.left > 0:
            self.left = self.left - 1 if lift(self.sim, self.step) else 0
