"""Motion of the holonomic base: minimum-jerk references without wind-up."""

from __future__ import annotations

import numpy as np

from safevla_envs.planar import from_axes
from safevla_envs.world import TICK, World

__all__ = ["BLOCKED_ERROR", "BaseMotion", "held_reference", "twist_reference"]

BLOCKED_ERROR = np.array([0.06, 0.06, 0.12])
"""m, m, rad; a reference error from which the base counts as blocked."""


class BaseMotion:
    """Drives the base by a displacement in its own frame over a fixed number of ticks.

    The reference follows a minimum-jerk profile. When contact holds the base back, the reference
    returns to the measured pose and the rest of the motion is dropped: nothing winds up.

    Args:
        sim: the world.
        displacement: (3,) forward m, left m, counter-clockwise rad.
        ticks: duration in control ticks.
    """

    def __init__(self, sim: World, displacement: np.ndarray, ticks: int):
        self.sim, self.ticks, self.count = sim, ticks, 0
        self.start = held_reference(sim)
        self.delta = from_axes(displacement, self.start[2])
        self.blocked = False

    def apply(self) -> None:
        """Sets the reference for the next tick."""
        pose = self.sim.base_pose
        if not self.blocked and self.count:
            error = np.abs(self.reference - pose)
            self.blocked = bool((error > BLOCKED_ERROR).any())
            if self.blocked:
                self.reference = pose
        if self.blocked:
            self.sim.set_base(self.reference, np.zeros(3))
            return
        self.count += 1
        # set-points are constant during a tick: they are those of its middle
        m = min((self.count - 0.5) / self.ticks, 1.0)
        self.reference = self.start + self.delta * _minimum_jerk(m)
        seconds = self.ticks * TICK
        rate = 30 * m**2 * (1 - m) ** 2 / seconds
        # critically damped servo: this velocity lead makes the force that the acceleration needs
        lead = (60 * m - 180 * m**2 + 120 * m**3) / seconds**2 / (2 * self.sim.robot.base_rate)
        self.sim.set_base(self.reference, self.delta * (rate + lead))


def held_reference(sim: World) -> np.ndarray:
    """Returns the pose (3,) to go on from: the last reference, or where contact holds the base.

    Going on from the reference keeps small lags from adding up over actions.
    """
    pose, reference = sim.base_pose, sim.base_reference
    return pose if (np.abs(reference - pose) > BLOCKED_ERROR / 2).any() else reference


def _minimum_jerk(s: float) -> float:
    """Flash and Hogan 1985: position profile with zero velocity and acceleration at both ends."""
    return s**3 * (10 - 15 * s + 6 * s**2)


def twist_reference(sim: World, twist: np.ndarray) -> None:
    """Sets the base's reference for one tick of a body-frame twist (m/s, m/s, rad/s)."""
    pose = sim.base_pose
    world = from_axes(twist, pose[2])
    # the pose reference is where the measured pose leads: no error builds up against an obstacle
    sim.set_base(pose + world * TICK, world)
