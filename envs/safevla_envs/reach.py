"""Lower bounds on how far bodies are from the robot: quick, never too large.

Seen from above, because everything stands on one floor: the base is a rectangle, every shape of the
arm a circle, a person a circle. True distances (`separation`) take several times as long and are
needed only near.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from safevla_envs.build.robot import ROBOT
from safevla_envs.build.sensors import body_id, subtree

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
        collides = (model.geom_contype | model.geom_conaffinity) != 0
        arm = subtree(model, body_id(model, ROBOT.arm_links[0]))[model.geom_bodyid]
        robot = subtree(model, body_id(model, ROBOT.root))[model.geom_bodyid]
        self._base = body_id(model, ROBOT.base_body)
        self._arm = np.flatnonzero(arm & collides)
        self._bound = model.geom_rbound[self._arm]
        low, high = _rectangle(model, data, self._base, np.flatnonzero(robot & ~arm & collides))
        self._middle, self._half = 0.5 * (low + high), 0.5 * (high - low)
        self._axis = model.joint(ROBOT.base_joints[-1]).id
        axis = _turned(data, self._base, data.xanchor[[self._axis], :2])[0]
        self._corner = float(np.hypot(*np.maximum(np.abs(low - axis), np.abs(high - axis))))
        self.levers = _levers(model)
        self._bodies = np.array([body_id(model, name) for name in bodies], dtype=int)
        self._spread = np.array([_spread(model, data, body) for body in self._bodies])

    def __call__(self, data: mujoco.MjData) -> tuple[np.ndarray, float]:
        """Returns N distances in m, at most the true ones, and the robot's radius in m.

        As of the last kinematics. The radius is that of all its shapes about the axis on which the
        base turns.
        """
        points, links = data.xpos[self._bodies, :2], data.geom_xpos[self._arm, :2]
        outside = np.abs(_turned(data, self._base, points) - self._middle) - self._half
        gap = np.hypot(*np.maximum(outside, 0.0).T)
        away = points - links[:, None]
        beside = np.sqrt(np.einsum("ijk,ijk->ij", away, away)) - self._bound[:, None]
        gap = np.minimum(gap, beside.min(0, initial=np.inf)) - self._spread
        links = links - data.xanchor[self._axis, :2]
        radius = (np.sqrt(np.einsum("ij,ij->i", links, links)) + self._bound).max()
        return gap, max(float(radius), self._corner)


def _turned(data: mujoco.MjData, body: int, points: np.ndarray) -> np.ndarray:
    """Returns points (n, 2) m in the horizontal frame of an upright body."""
    return (points - data.xpos[body, :2]) @ data.xmat[body].reshape(3, 3)[:2, :2]


def _rectangle(
    model: mujoco.MjModel, data: mujoco.MjData, body: int, geoms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lower and upper corner (2,) m of what contains geoms, in a body's frame."""
    turn = data.geom_xmat[geoms].reshape(-1, 3, 3)
    centre = data.geom_xpos[geoms] + np.einsum("gij,gj->gi", turn, model.geom_aabb[geoms, :3])
    local = np.einsum("ji,gjk->gik", data.xmat[body].reshape(3, 3), turn)
    extent = np.einsum("gij,gj->gi", np.abs(local), model.geom_aabb[geoms, 3:])[:, :2]
    centre = _turned(data, body, centre[:, :2])
    return (centre - extent).min(0), (centre + extent).max(0)


def _levers(model: mujoco.MjModel) -> np.ndarray:
    """Returns (7,) m: the longest chain of offsets from each arm joint to the end of any shape."""
    extent = np.zeros(model.nbody)
    at = np.linalg.norm(model.geom_pos, axis=1) + model.geom_rbound
    np.maximum.at(extent, model.geom_bodyid, at)
    for body in range(model.nbody - 1, 0, -1):
        # a slide moves its body away from where it hangs
        slides = (model.jnt_bodyid == body) & (model.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE)
        slide = float(np.abs(model.jnt_range[slides]).max(1, initial=0.0).sum())
        beyond = np.linalg.norm(model.body_pos[body]) + slide + extent[body]
        parent = model.body_parentid[body]
        extent[parent] = max(extent[parent], beyond)
    joints = [model.joint(name).id for name in ROBOT.arm_joints]
    offset = np.linalg.norm(model.jnt_pos[joints], axis=1)
    return extent[model.jnt_bodyid[joints]] + offset


def _spread(model: mujoco.MjModel, data: mujoco.MjData, body: int) -> float:
    """Returns how far a subtree's shapes extend from its root's vertical axis, in m."""
    geoms = np.flatnonzero(subtree(model, body)[model.geom_bodyid])
    turn = data.geom_xmat[geoms].reshape(-1, 3, 3)
    middle, half = model.geom_aabb[geoms, :3], model.geom_aabb[geoms, 3:]
    offset = data.geom_xpos[geoms] - data.xpos[body] + np.einsum("gij,gj->gi", turn, middle)
    extent = np.einsum("gij,gj->gi", np.abs(turn), half)
    return float((np.hypot(*offset[:, :2].T) + np.hypot(*extent[:, :2].T)).max(initial=0.0))
