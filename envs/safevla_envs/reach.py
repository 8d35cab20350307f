"""Bounds on how near movers are and how fast they close in: quick, and never too favourable.

Seen from above, because everything stands on one floor: the base is a rectangle, every other shape
of the robot a circle, a mover a circle about its axis. True distances (`separation`) take twenty
times as long and are needed only where these bounds do not settle it.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from safevla_envs.build.bodies import body_id, subtree
from safevla_envs.build.robot import ROBOT
from safevla_envs.compiled import compiled

__all__ = ["Reach"]


class Reach:
    """Bounds distances and closing speeds between the robot's shapes and upright movers.

    The last of the G shapes is the base's rectangle.

    Attributes:
        gap: (M, G) m, at most the distance between shape and mover.
        robot: (M, G) m/s, at least the speed at which any point of the shape moves towards the
            mover.
        mover: (M, G) m/s, at least the speed at which any point of the mover moves towards the
            shape.

    Args:
        model: The compiled model.
        data: With kinematics computed.
        movers: M bodies that only move in the plane and turn about their own vertical axis, each
            with its subtree.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, movers: Sequence[str]):
        collides = (model.geom_contype | model.geom_conaffinity) != 0
        robot = subtree(model, body_id(model, ROBOT.root))[model.geom_bodyid] & collides
        base = body_id(model, ROBOT.base_body)
        chassis = model.geom_bodyid == base
        shapes = np.flatnonzero(robot & ~chassis)
        low, high = _rectangle(model, data, base, np.flatnonzero(robot & chassis))
        bodies = np.array([body_id(model, name) for name in movers], dtype=int)
        size = (len(bodies), len(shapes) + 1)
        self.gap, self.robot, self.mover = (np.zeros(size) for _ in range(3))
        corner = float(np.hypot(*np.maximum(np.abs(low), np.abs(high))))
        radius = np.append(model.geom_rbound[shapes], corner)
        # live views: kinematics and velocities, both as of the start of the last substep
        state = (data.xpos, data.xmat, data.geom_xpos, data.cvel, data.subtree_com)
        self._arguments = (
            *state,
            shapes,
            model.geom_bodyid[shapes],
            radius,
            base,
            (low + high) / 2,
            (high - low) / 2,
            bodies,
            np.array([_spread(model, data, body) for body in bodies]),
            model.body_rootid.astype(np.int64),
            self.gap,
            self.robot,
            self.mover,
        )

    def update(self) -> None:
        """Works the bounds out anew, as of the last kinematics."""
        _bounds(*self._arguments)


@compiled
def _bounds(
    xpos, xmat, geom_xpos, cvel, subtree_com, shapes, shape_bodies, radius, base, middle, half,
    bodies, spread, root, gap, robot, mover,
):  # fmt: skip
    """Fills gap, robot and mover (see `Reach`)."""
    last = len(shapes)
    for m in range(len(bodies)):
        body = bodies[m]
        # of the mover's axis, which passes through its origin
        drift, turning = _velocity(xpos[body], cvel[body], subtree_com[root[body]])
        for g in range(last + 1):
            owner = base if g == last else shape_bodies[g]
            centre = xpos[base] if g == last else geom_xpos[shapes[g]]
            away_x, away_y = xpos[body, 0] - centre[0], xpos[body, 1] - centre[1]
            apart = np.hypot(away_x, away_y)
            if g == last:
                ahead = away_x * xmat[base, 0] + away_y * xmat[base, 3] - middle[0]
                aside = away_x * xmat[base, 1] + away_y * xmat[base, 4] - middle[1]
                gap[m, g] = np.hypot(
                    max(abs(ahead) - half[0], 0.0), max(abs(aside) - half[1], 0.0)
                )
            else:
                gap[m, g] = apart - radius[g]
            gap[m, g] -= spread[m]
            velocity, spin = _velocity(centre, cvel[owner], subtree_com[root[owner]])
            # the line between the nearest points leaves that between the centres by this angle
            sine = min((radius[g] + spread[m]) / max(apart, 1e-9), 1.0)
            level = _along(velocity[0], velocity[1], away_x, away_y, apart, sine)
            robot[m, g] = np.hypot(level, velocity[2]) + spin * radius[g]
            level = _along(-drift[0], -drift[1], away_x, away_y, apart, sine)
            mover[m, g] = level + turning * spread[m]


@compiled
def _velocity(point, twist, centre):
    """Returns the velocity in m/s at a point, and the angular speed in rad/s, of a `cvel`."""
    x, y, z = point[0] - centre[0], point[1] - centre[1], point[2] - centre[2]
    wx, wy, wz = twist[0], twist[1], twist[2]
    velocity = (
        twist[3] + wy * z - wz * y,
        twist[4] + wz * x - wx * z,
        twist[5] + wx * y - wy * x,
    )
    return velocity, np.sqrt(wx * wx + wy * wy + wz * wz)


@compiled
def _along(vx, vy, x, y, length, sine):
    """Returns the largest part, >= 0, of a velocity along directions near (x, y) / length.

    Near: at an angle whose sine is at most `sine`, any direction if that is 1.
    """
    speed = np.hypot(vx, vy)
    if sine >= 1.0 or speed == 0.0:
        return speed
    cosine = np.sqrt(1.0 - sine * sine)
    ahead = (vx * x + vy * y) / length
    if ahead >= speed * cosine:  # the velocity itself is such a direction
        return speed
    aside = abs(vx * y - vy * x) / length
    return max(ahead * cosine + aside * sine, 0.0)


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


def _spread(model: mujoco.MjModel, data: mujoco.MjData, body: int) -> float:
    """Returns how far a subtree's shapes extend from its root's vertical axis, in m."""
    geoms = np.flatnonzero(subtree(model, body)[model.geom_bodyid])
    turn = data.geom_xmat[geoms].reshape(-1, 3, 3)
    middle, half = model.geom_aabb[geoms, :3], model.geom_aabb[geoms, 3:]
    offset = data.geom_xpos[geoms] - data.xpos[body] + np.einsum("gij,gj->gi", turn, middle)
    extent = np.einsum("gij,gj->gi", np.abs(turn), half)
    return float((np.hypot(*offset[:, :2].T) + np.hypot(*extent[:, :2].T)).max(initial=0.0))
