"""Torque that contact exerts on the arm's joints: J^T f, without building J."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.record.watch import body_id, subtree

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
        for body in range(1, model.nbody):
            carries[body] = carries[model.body_parentid[body]] | (owner == body)
        self._robot = subtree(model, body_id(model, robot_root))[model.geom_bodyid]
        self._carries = carries[model.geom_bodyid]
        self._loads = self._carries.any(1)

    def __call__(self, data: mujoco.MjData) -> np.ndarray:
        """Return the torques (J,) in N·m, positive along the joints' axes."""
        torque = np.zeros(len(self._joints))
        if not data.ncon:
            return torque
        contact = data.contact
        geoms, exclude = contact.geom, contact.exclude
        mine = self._robot[geoms]
        # only contacts of the arm: a base at a wall does not load it
        arm = (mine[:, 0] != mine[:, 1]) & self._loads[geoms].any(1) & (exclude == 0)
        wrench = np.zeros(6)
        for i in arm.nonzero()[0].tolist():
            mujoco.mj_contactForce(self._model, data, i, wrench)
            side = int(mine[i, 1])
            # the contact's normal points from the first geom to the second
            sign, carried = (1.0 if side else -1.0), self._carries[geoms[i, side]]
            place = (contact.frame[i], contact.pos[i], data.xanchor, data.xaxis)
            _add_moments(wrench, sign, *place, self._joints, carried, torque)
        return torque


@compiled
def _add_moments(wrench, sign, frame, point, anchors, axes, joints, carried, torque):
    """Adds the moments of a contact's force and torque, given in its frame, about hinges."""
    force, moment = np.zeros(3), np.zeros(3)
    for i in range(3):
        for k in range(3):
            force[i] += sign * wrench[k] * frame[3 * k + i]
            moment[i] += sign * wrench[3 + k] * frame[3 * k + i]
    for j in range(len(joints)):
        if carried[j]:
            anchor, axis = anchors[joints[j]], axes[joints[j]]
            x, y, z = point[0] - anchor[0], point[1] - anchor[1], point[2] - anchor[2]
            torque[j] += (
                axis[0] * (y * force[2] - z * force[1] + moment[0])
                + axis[1] * (z * force[0] - x * force[2] + moment[1])
                + axis[2] * (x * force[1] - y * force[0] + moment[2])
            )
