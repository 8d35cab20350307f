"""Torque that contact exerts on the arm's joints: J^T f, without building J."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from safevla_envs.build.bodies import body_id

__all__ = ["ContactTorque"]


class ContactTorque:
    """Sums the moments of a robot's contacts about some of its hinges.

    Args:
        model: The compiled model.
        robot_root: Body whose subtree is the robot; contacts within it do not count.
        joints: J hinges.

    Raises:
        ValueError: If the model lacks the body, or a joint is no hinge.
    """

    def __init__(self, model: mujoco.MjModel, robot_root: str, joints: Sequence[str]):
        self._model = model
        self._joints = np.array([model.joint(name).id for name in joints], dtype=int)
        if (model.jnt_type[self._joints] != mujoco.mjtJoint.mjJNT_HINGE).any():
            raise ValueError(f"joints={list(joints)}: must be hinges")
        owner = model.jnt_bodyid[self._joints]
        carries = np.zeros((model.nbody, len(joints)), dtype=bool)
        robot = np.zeros(model.nbody, dtype=bool)
        robot[body_id(model, robot_root)] = True
        for body in range(1, model.nbody):
            parent = model.body_parentid[body]
            robot[body] |= robot[parent]
            carries[body] = carries[parent] | (owner == body)
        self._robot = robot[model.geom_bodyid]
        self._carries = carries[model.geom_bodyid]

    def __call__(self, data: mujoco.MjData) -> np.ndarray:
        """Return the torques (J,) in N·m, positive along the joints' axes."""
        torque = np.zeros(len(self._joints))
        if not data.ncon:
            return torque
        contact = data.contact
        geoms = contact.geom
        mine = self._robot[geoms]
        wrench = np.zeros(6)
        # only contacts of the arm: a base at a wall does not load it
        arm = (mine[:, 0] != mine[:, 1]) & self._carries[geoms].any((1, 2)) & (contact.exclude == 0)
        for i in np.flatnonzero(arm):
            mujoco.mj_contactForce(self._model, data, i, wrench)
            frame = contact.frame[i].reshape(3, 3)
            side = int(mine[i, 1])
            # the contact's normal points from the first geom to the second
            sign = 1.0 if side else -1.0
            force, moment = sign * wrench[:3] @ frame, sign * wrench[3:] @ frame
            arm_of_force = contact.pos[i] - data.xanchor[self._joints]
            turning = np.cross(arm_of_force, force) + moment
            torque += self._carries[geoms[i, side]] * (data.xaxis[self._joints] * turning).sum(1)
        return torque
