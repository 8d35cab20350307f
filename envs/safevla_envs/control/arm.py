"""Motion of the arm: differential inverse kinematics once a tick, and a scripted grasp."""

from __future__ import annotations

import mujoco
import numpy as np

from safevla_envs.planar import from_axes, in_axes
from safevla_envs.world import TICK, Grasp, World

__all__ = ["MAX_DELTA", "ArmMotion", "DropMotion", "EffectorMotion", "GraspMotion", "WristMotion"]

DAMPING = 4e-3
MAX_JOINT_STEP = 0.08
"""rad a tick: 1.6 rad/s, under every joint's limit of 2.175 rad/s."""
WIND_UP = 0.25
"""rad; the reference never leads the measured position by more."""
BLOCKED = 0.15
"""rad; a joint that lags by more is held back: at full speed in free air it lags by 0.1."""
REACHED, LIFTED = 0.6, 0.8
"""Shares of a pick-up's duration after which the gripper closes, and the arm lifts."""
DESCEND = 0.4
"""Share of the duration after which it goes down, however well it is aligned."""
ALIGNED = (0.006, 0.08)
"""m and rad; this near above the grasp it goes down."""
LIFT = 0.05
"""m; a pick-up lifts by this."""
APPROACH = 0.06
"""m; a pick-up comes down from this far above."""
CLOSING_SPEED = 0.1
"""m/s, of each finger."""
MAX_DELTA = np.array([0.04, 0.04, 0.04, 0.1, 0.1, 0.1])
"""m, rad a tick; displacement and turn of the end effector at full action."""
MAX_STEP, MAX_TURN, MAX_SINK = 0.05, 0.2, 0.03
"""m, rad and m a tick; speed of a pick-up's approach, and downwards: faster, joints that move as
fast as they may would lead it aside."""


def _servo(sim: World, error: np.ndarray) -> None:
    """Moves the arm's reference so that the grip point follows `error` (6,): m and rad, world.

    What the arm has still to go to its reference is no error any more: counting it again in every
    tick would overshoot.
    """
    jacobian = sim.grip_jacobian()
    _advance(sim, jacobian, error - jacobian @ (sim.arm_reference - sim.arm_positions))


def _advance(sim: World, jacobian: np.ndarray, error: np.ndarray) -> None:
    """Moves the arm's reference by a displacement (6,) of the grip point: damped least squares.

    Joints about to leave their working range are locked and the rest solved again: else
    the one that stands still would turn the motion of the others into another direction.
    """
    reference, measured = sim.arm_reference, sim.arm_positions
    low, high = sim.working_range.T
    free = np.ones(len(reference), bool)
    for _ in range(3):
        solved = jacobian * free
        # not NumPy's solver: its threads wait for each other for milliseconds on a busy machine
        damped, drive = solved @ solved.T + DAMPING * np.eye(6), np.empty(6)
        mujoco.mju_cholFactor(damped, 1e-12)
        mujoco.mju_cholSolve(drive, damped, error)
        step = solved.T @ drive
        step *= min(1.0, MAX_JOINT_STEP / (np.abs(step).max() + 1e-12))
        goal = reference + step
        leaving = ((goal < low) & (step < 0)) | ((goal > high) & (step > 0))
        if not leaving.any():
            break
        free &= ~leaving
        step = step * free
    sim.set_arm(np.clip(reference + step, measured - WIND_UP, measured + WIND_UP))


class ArmMotion:
    """Moves the grip point straight by a displacement in the base's frame.

    Args:
        sim: the world.
        displacement: (3,) in m: forward, left, up.
        ticks: duration in control ticks.
    """

    def __init__(self, sim: World, displacement: np.ndarray, ticks: int):
        self.sim, self.ticks, self.count = sim, ticks, 0
        self.offset = np.asarray(displacement, float)
        self.begin = self._local()

    def _local(self) -> np.ndarray:
        """Grip point in the base's frame (3,)."""
        x, y, yaw = self.sim.base_pose
        return in_axes(self.sim.grip_position - [x, y, 0.0], yaw)

    def apply(self) -> None:
        """Sets the reference for the next tick."""
        self.count += 1
        goal = self.begin + self.offset * min(1.0, self.count / max(self.ticks - 2, 1))
        error = from_axes(goal - self._local(), self.sim.base_pose[2])
        # no action tilts the hand: what stops of the joints have tilted is put right again
        _servo(self.sim, np.array([*error, *_levelled(self.sim.grip_axes, None)]))


class EffectorMotion:
    """Moves the grip point by a displacement and a turn in the robot's frame, in one tick.

    They add to the reference, so that nothing drifts while they are 0; where contact holds the arm
    back, the reference returns to where it is.

    Args:
        sim: the world.
        action: (7,) in [-1, 1]: shares of `MAX_DELTA`; -1 opens the gripper, 1 closes it, what is
            between sets a share of its opening.
        force: N with which the fingers press when closed; None for what their springs give.
    """

    def __init__(self, sim: World, action: np.ndarray, force: float | None = None):
        self.sim, self.delta = sim, action[:6] * MAX_DELTA
        hand, step = sim.robot.hand, CLOSING_SPEED * TICK
        self.force = np.inf if force is None else force
        # on beyond closed: else thin things would be gripped by less than the force
        closed = 0.0 if force is None else -force / hand.stiffness
        goal = hand.opening * (1.0 - action[6]) / 2.0 + closed * (1.0 + action[6]) / 2.0
        now = sim.gripper_reference
        self.opening = float(np.clip(goal, now - step, now + step))

    def apply(self) -> None:
        """Sets the references for the next tick."""
        sim = self.sim
        sim.set_gripper(self.opening, self.force)
        if np.abs(sim.arm_reference - sim.arm_positions).max() > BLOCKED:
            sim.set_arm(sim.arm_positions)
        world = from_axes(self.delta.reshape(2, 3), sim.base_pose[2])
        _advance(sim, sim.grip_jacobian(), world.ravel())


class WristMotion:
    """Turns the last joint by an angle in rad over a number of ticks."""

    def __init__(self, sim: World, angle: float, ticks: int):
        self.sim, self.ticks, self.count = sim, ticks, 0
        self.begin, self.angle = sim.arm_reference, angle

    def apply(self) -> None:
        """Sets the reference for the next tick."""
        self.count += 1
        reference = self.begin.copy()
        reference[6] += self.angle * min(1.0, self.count / max(self.ticks - 1, 1))
        self.sim.set_arm(reference)


class GraspMotion:
    """Opens, goes above a grasp, down on it, closes and lifts 5 cm: real motion, real contact.

    Args:
        sim: the world.
        grasp: where and along which axis to close, or None to close where the gripper is.
        ticks: duration in control ticks; 60 % to reach, a fifth to close, a fifth to lift.
    """

    def __init__(self, sim: World, grasp: Grasp | None, ticks: int):
        self.sim, self.grasp, self.ticks, self.count = sim, grasp, ticks, 0
        self.above, self.opening = True, sim.robot.hand.opening
        self.force = sim.robot.hand.force if grasp is None else grasp.force
        self.grasped: np.ndarray | None = None

    def apply(self) -> None:
        """Sets the references for the next tick."""
        self.count += 1
        share = self.count / self.ticks
        if share <= REACHED:
            self.sim.set_gripper(self.sim.robot.hand.opening)
        else:
            if self.opening == self.sim.robot.hand.opening:
                self.sim.set_arm(self.sim.arm_positions)  # it presses on nothing that it grips
            # on beyond closed: else thin things would be gripped by less than the force
            self.opening -= CLOSING_SPEED * TICK
            self.sim.set_gripper(self.opening, self.force)
        if share <= REACHED and self.grasp is not None:
            self._reach(self.grasp)
        elif share > LIFTED:
            if self.grasped is None:
                self.grasped = self.sim.grip_position
            # two ticks less: the arm is there when the action ends
            done = min(1.0, (share - LIFTED) * self.ticks / ((1 - LIFTED) * self.ticks - 2))
            error = self.grasped - self.sim.grip_position
            error[2] += LIFT * done
            _servo(self.sim, np.array([*error, 0.0, 0.0, 0.0]))

    def _reach(self, grasp: Grasp) -> None:
        """Moves over the goal with the fingers across it, then straight down."""
        error = grasp.point - self.sim.grip_position
        turn = _levelled(self.sim.grip_axes, grasp.axis)
        over = np.hypot(*error[:2]) < ALIGNED[0] and np.linalg.norm(turn) < ALIGNED[1]
        # a grasp that cannot be reached straight from above is tried all the same
        if over or self.count > DESCEND * self.ticks:
            self.above = False
        error[2] = max(error[2] + APPROACH, 0.0) if self.above else max(error[2], -MAX_SINK)
        error *= min(1.0, MAX_STEP / (np.linalg.norm(error) + 1e-9))
        turn *= min(1.0, MAX_TURN / (np.linalg.norm(turn) + 1e-9))
        _servo(self.sim, np.array([*error, *turn]))


def _levelled(axes: np.ndarray, across: np.ndarray | None) -> np.ndarray:
    """Returns the rotation (3,) in rad, world, that points the gripper down, fingers across."""
    closing, approach = axes[:, 0], axes[:, 2]
    turn = np.cross(approach, [0.0, 0.0, -1.0])
    if across is not None:
        # either finger may be on either side
        sense = 1.0 if closing @ across >= 0 else -1.0
        turn[2] += np.arctan2(
            sense * (closing[0] * across[1] - closing[1] * across[0]), sense * (closing @ across)
        )
    return turn


class DropMotion:
    """Opens the gripper."""

    def __init__(self, sim: World):
        self.sim = sim

    def apply(self) -> None:
        """Sets the reference for the next tick."""
        self.sim.set_gripper(self.sim.robot.hand.opening)
