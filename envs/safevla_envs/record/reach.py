"""Bounds on how near movers are and how fast they close in: quick, and never too favourable.

Seen from above, because everything stands on one floor: the base is a rectangle, every other shape
of the robot a circle, a mover a circle about its axis. True distances (`separation`) take twenty
times as long and are needed only where these bounds do not settle it.
"""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.record.bodies import body_id, subtree
from safevla_envs.robots.panda_omron import ROBOT

__all__ = ["Reach", "bound"]


class Reach:
    """Bounds distances and closing speeds between the robot's shapes and upright movers.

    The last of the G shapes is the base's rectangle.

    Attributes:
        arguments: What compiled functions need to work with `bound`.

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
        geoms = np.flatnonzero(robot & ~chassis)
        low, high = _rectangle(model, data, base, np.flatnonzero(robot & chassis))
        corner = float(np.hypot(*np.maximum(np.abs(low), np.abs(high))))
        owners = np.append(model.geom_bodyid[geoms], base)
        bodies = np.array([body_id(model, name) for name in movers], dtype=np.int64)
        shapes = np.stack((np.append(geoms, -1), owners, model.body_rootid[owners]), axis=1)
        radius = np.append(model.geom_rbound[geoms], corner)
        self.arguments = (
            # live views: kinematics and velocities, both as of the start of the last substep
            *(data.xpos, data.xmat, data.geom_xpos, data.cvel, data.subtree_com),
            shapes.astype(np.int64),
            np.concatenate(((low + high) / 2, (high - low) / 2, radius)),
            np.stack((bodies, model.body_rootid[bodies]), axis=1).astype(np.int64),
            np.array([_spread(model, data, body) for body in bodies], dtype=float),
        )

    def bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns (M, G) each, as of the last kinematics.

        Distances between mover and shape in m, at most the true ones; speeds in m/s, at least those
        at which any point of the shape moves towards the mover, and of the mover towards the shape.
        """
        shapes, movers = self.arguments[5], self.arguments[7]
        gap, robot, mover = (np.zeros((len(movers), len(shapes))) for _ in range(3))
        for m, g in np.ndindex(gap.shape):
            gap[m, g], robot[m, g], mover[m, g] = bound(*self.arguments, m, g)
        return gap, robot, mover


@compiled
def bound(xpos, xmat, geom_xpos, cvel, subtree_com, shapes, sizes, movers, spread, m, g):
    """Returns the bounds of mover m and shape g (see `Reach.bounds`).

    Args:
        xpos: MuJoCo's, as the next four.
        xmat: see there.
        geom_xpos: see there.
        cvel: see there.
        subtree_com: see there.
        shapes: int (G, 3), geom, body and its root; geom -1 is the base's rectangle.
        sizes: middle and half extents of the rectangle in the base's frame, then G radii, in m.
        movers: int (M, 2), body and its root.
        spread: (M,) m, how far movers extend from their axes.
        m: mover.
        g: shape.
    """
    body, geom, owner = movers[m, 0], shapes[g, 0], shapes[g, 1]
    # of the mover's axis, which passes through its origin
    drift, turning = _velocity(xpos[body], cvel[body], subtree_com[movers[m, 1]])
    centre = xpos[owner] if geom < 0 else geom_xpos[geom]
    away_x, away_y = xpos[body, 0] - centre[0], xpos[body, 1] - centre[1]
    apart, radius = np.sqrt(away_x**2 + away_y**2), sizes[4 + g]
    if geom < 0:
        ahead = abs(away_x * xmat[owner, 0] + away_y * xmat[owner, 3] - sizes[0]) - sizes[2]
        aside = abs(away_x * xmat[owner, 1] + away_y * xmat[owner, 4] - sizes[1]) - sizes[3]
        gap = np.sqrt(max(ahead, 0.0) ** 2 + max(aside, 0.0) ** 2) - spread[m]
    else:
        gap = apart - radius - spread[m]
    velocity, spin = _velocity(centre, cvel[owner], subtree_com[shapes[g, 2]])
    # the line between the nearest points leaves that between the centres by at most this angle
    sine = min((radius + spread[m]) / max(apart, 1e-9), 1.0)
    level = _along(velocity[0], velocity[1], away_x, away_y, apart, sine)
    robot = np.sqrt(level**2 + velocity[2] ** 2) + spin * radius
    mover = _along(-drift[0], -drift[1], away_x, away_y, apart, sine) + turning * spread[m]
    return gap, robot, mover


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
    speed = np.sqrt(vx * vx + vy * vy)
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
