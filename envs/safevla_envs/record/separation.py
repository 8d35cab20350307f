"""True distance between robot and movers, and who closes it how fast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.record.bodies import body_id, subtree

__all__ = ["SEPARATION_CUTOFF", "Separation", "SeparationMeter"]

SEPARATION_CUTOFF = 3.0
"""m; larger distances read as infinite. Beyond every protective distance: 1.6 m/s towards a robot
that closes at 2 m/s needs 2.96 m."""


@dataclass(frozen=True, kw_only=True)
class Separation:
    """Of M movers.

    Attributes:
        distance: (M,) m between colliding shapes, negative in contact, +inf beyond the cut-off.
        closing_robot: (M,) m/s, speed of the robot's nearest point towards the mover, >= 0.
        closing_mover: (M,) m/s, speed of the mover's nearest point towards the robot, >= 0.
    """

    distance: np.ndarray
    closing_robot: np.ndarray
    closing_mover: np.ndarray


class SeparationMeter:
    """Measures robot against movers, nearest bounding spheres first.

    Args:
        model: The compiled model.
        robot_root: Body whose subtree is the robot.
        movers: M bodies, each with its subtree.
    """

    def __init__(self, model: mujoco.MjModel, robot_root: str, movers: Sequence[str]):
        self._model = model
        self._count = len(movers)
        robot = _shapes(model, body_id(model, robot_root))
        self._pairs = [
            (np.repeat(robot, len(shapes)), np.tile(shapes, len(robot)))
            for shapes in (_shapes(model, body_id(model, name)) for name in movers)
        ]
        self._body_of = model.geom_bodyid.tolist()
        self._line, self._twist = np.zeros(6), np.zeros(6)

    def __call__(self, data: mujoco.MjData, near: np.ndarray | None = None) -> Separation:
        """Measures as of the last kinematics, that is before the tick's last substep.

        Args:
            data: The simulation's state.
            near: bool (M,), the movers to measure, the others read as beyond the cut-off; None for
                all.
        """
        distance = np.full(self._count, np.inf)
        robot, mover = np.zeros(self._count), np.zeros(self._count)
        for m in range(self._count) if near is None else np.flatnonzero(near).tolist():
            ends = self._nearest(data, m)
            if ends is None:
                continue
            distance[m], mine, its, line = ends
            start, end = line[:3], line[3:]
            length = math.dist(start, end)
            if length > 1e-9:
                sense = math.copysign(1.0 / length, distance[m])
                way = [sense * (b - a) for a, b in zip(start, end)]
            else:  # touching: from shape to shape
                apart = data.geom_xpos[its] - data.geom_xpos[mine]
                way = (apart / max(float(np.linalg.norm(apart)), 1e-9)).tolist()
            robot[m] = max(0.0, self._speed(data, mine, start, way))
            mover[m] = max(0.0, -self._speed(data, its, end, way))
        return Separation(distance=distance, closing_robot=robot, closing_mover=mover)

    def _nearest(self, data: mujoco.MjData, m: int) -> tuple[float, int, int, list[float]] | None:
        """Returns distance, the two geoms and the ends (6,) of the shortest line, or None."""
        model, fromto = self._model, self._line
        best, found = SEPARATION_CUTOFF, None
        order = _candidates(data.geom_xpos, model.geom_rbound, *self._pairs[m], best)
        for least, a, b in zip(*(part.tolist() for part in order)):
            if least >= best:
                break
            d = mujoco.mj_geomDistance(model, data, a, b, best, fromto)
            if d < best:
                best, found = d, (d, a, b, fromto.tolist())
        return found

    def _speed(self, data: mujoco.MjData, geom: int, point: list[float], way: list[float]) -> float:
        """Velocity in m/s, along a unit vector, of a point fixed to a geom's body."""
        body, twist = self._body_of[geom], self._twist
        mujoco.mj_objectVelocity(self._model, data, _XBODY, body, twist, 0)
        wx, wy, wz, vx, vy, vz = twist.tolist()
        x, y, z = (p - o for p, o in zip(point, data.xpos[body].tolist()))
        a, b, c = way
        # the linear part is that of the body's origin
        return a * (vx + wy * z - wz * y) + b * (vy + wz * x - wx * z) + c * (vz + wx * y - wy * x)


_XBODY = mujoco.mjtObj.mjOBJ_XBODY


@compiled
def _candidates(centres, radii, first, second, cutoff):
    """Returns the pairs of geoms that may be nearer than `cutoff` m, nearest spheres first.

    Distances in m between bounding spheres, and the geoms of each pair.
    """
    bounds = np.empty(len(first))
    for i in range(len(first)):
        a, b = first[i], second[i]
        x, y = centres[a, 0] - centres[b, 0], centres[a, 1] - centres[b, 1]
        z = centres[a, 2] - centres[b, 2]
        bounds[i] = np.sqrt(x * x + y * y + z * z) - (radii[a] + radii[b])
    near = np.flatnonzero(bounds < cutoff)
    near = near[np.argsort(bounds[near], kind="mergesort")]
    return bounds[near], first[near], second[near]


def _shapes(model: mujoco.MjModel, root: int) -> np.ndarray:
    """Returns the colliding geoms of a subtree."""
    collides = (model.geom_contype | model.geom_conaffinity) != 0
    return np.flatnonzero(subtree(model, root)[model.geom_bodyid] & collides)
