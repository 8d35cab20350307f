"""Lower bounds on how far bodies are from the robot, from bounding circles: quick, never too large.

Seen from above, because everything stands on one floor. True distances (`separation`) take ten
times as long and are needed only near.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from safevla_envs.build.robot import ROBOT
from safevla_envs.build.sensors import body_id

__all__ = ["Reach"]


class Reach:
    """Bounds the horizontal distance between the robot and upright bodies.

    Attributes:
        levers: (7,) m, how far anything beyond each joint of the arm can be from its axis.

    Args:
        model: The compiled model.
        data: With kinematics computed.
        bodies: N bodies that only move in the plane and turn about their own vertical axis, each
            with its subtree.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, bodies: Sequence[str]):
        inside = _subtree(model, body_id(model, ROBOT.root))
        collides = (model.geom_contype | model.geom_conaffinity) != 0
        self._robot = np.flatnonzero(inside[model.geom_bodyid] & collides)
        self._bound = model.geom_rbound[self._robot]
        self._axis = model.joint(ROBOT.base_joints[-1]).id
        self.levers = _levers(model)
        self._bodies = np.array([body_id(model, name) for name in bodies], dtype=int)
        self._spread = np.array([_spread(model, data, body) for body in self._bodies])

    def __call__(self, data: mujoco.MjData) -> tuple[np.ndarray, float]:
        """Returns N distances in m, at most the true ones, and the robot's radius in m.

        As of the last kinematics. The radius is that of all its shapes about the axis on which the
        base turns.
        """
        axis = data.xanchor[self._axis, :2]
        away, gap = data.geom_xpos[self._robot, :2] - axis, data.xpos[self._bodies, :2] - axis
        radius = float((np.sqrt(np.einsum("ij,ij->i", away, away)) + self._bound).max())
        return np.sqrt(np.einsum("ij,ij->i", gap, gap)) - (radius + self._spread), radius


def _subtree(model: mujoco.MjModel, root: int) -> np.ndarray:
    """Returns which bodies are in a subtree, bool (nbody,)."""
    inside = np.zeros(model.nbody, dtype=bool)
    inside[root] = True
    for body in range(root + 1, model.nbody):
        inside[body] |= inside[model.body_parentid[body]]
    return inside


def _levers(model: mujoco.MjModel) -> np.ndarray:
    """Returns (7,) m: the longest chain of offsets from each arm joint to the end of any shape."""
    extent = np.zeros(model.nbody)
    at = np.linalg.norm(model.geom_pos, axis=1) + model.geom_rbound
    np.maximum.at(extent, model.geom_bodyid, at)
    for body in range(model.nbody - 1, 0, -1):
        # a slide moves its body away from where it hangs
        slide = sum(
            float(np.abs(model.jnt_range[j]).max())
            for j in range(
                model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body]
            )
            if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_SLIDE
        )
        beyond = np.linalg.norm(model.body_pos[body]) + slide + extent[body]
        parent = model.body_parentid[body]
        extent[parent] = max(extent[parent], beyond)
    joints = [model.joint(name).id for name in ROBOT.arm_joints]
    offset = np.linalg.norm(model.jnt_pos[joints], axis=1)
    return extent[model.jnt_bodyid[joints]] + offset


def _spread(model: mujoco.MjModel, data: mujoco.MjData, body: int) -> float:
    """Returns how far a subtree's shapes extend from its root's vertical axis, in m."""
    geoms = np.flatnonzero(_subtree(model, body)[model.geom_bodyid])
    turn = data.geom_xmat[geoms].reshape(-1, 3, 3)
    middle, half = model.geom_aabb[geoms, :3], model.geom_aabb[geoms, 3:]
    offset = data.geom_xpos[geoms] - data.xpos[body] + np.einsum("gij,gj->gi", turn, middle)
    extent = np.einsum("gij,gj->gi", np.abs(turn), half)
    return float((np.hypot(*offset[:, :2].T) + np.hypot(*extent[:, :2].T)).max(initial=0.0))
