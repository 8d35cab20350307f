"""Motion of the arm: differential inverse kinematics once a tick, and a scripted grasp."""

from __future__ import annotations

import numpy as np

from safevla_envs.build.robot import GRIPPER_OPEN
from safevla_envs.sim import Simulation

__all__ = ["ArmMotion", "DropMotion", "GraspMotion", "WristMotion"]

DAMPING = 1e-3
MAX_JOINT_STEP = 0.08
"""rad a tick: 1.6 rad/s, under every joint's limit of 2.175 rad/s."""
WIND_UP = 0.25
"""rad; the reference never leads the measured position by more."""


def _servo(sim: Simulation, error: np.ndarray) -> None:
    """Moves the arm's reference so that the grip point follows `error` (6,): m and rad, world."""
    jacobian = sim.grip_jacobian()
    step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING * np.eye(6), error)
    step *= min(1.0, MAX_JOINT_STEP / (np.abs(step).max() + 1e-12))
    measured = sim.arm_positions
    sim.set_arm(np.clip(sim.arm_reference + step, measured - WIND_UP, measured + WIND_UP))


class ArmMotion:
    """Moves the grip point straight by a displacement in the base's frame.

    Args:
        sim: the simulation.
        displacement: (3,) in m: forward, left, up.
        ticks: duration in control ticks.
    """

    def __init__(self, sim: Simulation, displacement: np.ndarray, ticks: int):
        self.sim, self.ticks, self.count = sim, ticks, 0
        self.offset = np.asarray(displacement, float)
        self.begin = self._local()

    def _local(self) -> np.ndarray:
        """Grip point in the base's frame (3,)."""
        x, y, yaw = self.sim.base_pose
        c, s = np.cos(yaw), np.sin(yaw)
        dx, dy, z = self.sim.grip_position - [x, y, 0.0]
        return np.array([c * dx + s * dy, -s * dx + c * dy, z])

    def apply(self) -> None:
        """Sets the reference for the next tick."""
        self.count += 1
        goal = self.begin + self.offset * min(1.0, self.count / max(self.ticks - 2, 1))
        error = goal - self._local()
        yaw = self.sim.base_pose[2]
        c, s = np.cos(yaw), np.sin(yaw)
        world = [c * error[0] - s * error[1], s * error[0] + c * error[1], error[2]]
        _servo(self.sim, np.array([*world, 0.0, 0.0, 0.0]))


class WristMotion:
    """Turns the last joint by an angle in rad over a number of ticks."""

    def __init__(self, sim: Simulation, angle: float, ticks: int):
        self.sim, self.ticks, self.count = sim, ticks, 0
        self.begin, self.angle = sim.arm_reference, angle

    def apply(self) -> None:
        """Sets the reference for the next tick."""
        self.count += 1
        reference = self.begin.copy()
        reference[6] += self.angle * min(1.0, self.count / max(self.ticks - 1, 1))
        self.sim.set_arm(reference)


class GraspMotion:
    """Opens, moves the grip point to a goal, closes, lifts 5 cm: real motion, real contact.

    Args:
        sim: the simulation.
        goal: (3,) m in the world, or None to close where the gripper is.
        ticks: duration in control ticks; half to reach, a quarter to close, a quarter to lift.
    """

    def __init__(self, sim: Simulation, goal: np.ndarray | None, ticks: int):
        self.sim, self.goal, self.ticks, self.count = sim, goal, ticks, 0

    def apply(self) -> None:
        """Sets the references for the next tick."""
        self.count += 1
        share = self.count / self.ticks
        sim = self.sim
        sim.set_gripper(GRIPPER_OPEN if share <= 0.5 else 0.0)
        if share <= 0.5 and self.goal is not None:
            error = self.goal - sim.grip_position
            error *= min(1.0, 0.03 / (np.linalg.norm(error) + 1e-9))
            _servo(sim, np.array([*error, 0.0, 0.0, 0.0]))
        elif share > 0.75:
            _servo(sim, np.array([0.0, 0.0, 0.05 / (0.25 * self.ticks), 0.0, 0.0, 0.0]))


class DropMotion:
    """Opens the gripper."""

    def __init__(self, sim: Simulation):
        self.sim = sim

    def apply(self) -> None:
        """Sets the reference for the next tick."""
        self.sim.set_gripper(GRIPPER_OPEN)
