"""True distance between robot and movers, and who closes it how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from safevla_envs.build.sensors import body_id

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
        self._robot = _shapes(model, body_id(model, robot_root))
        self._movers = [_shapes(model, body_id(model, name)) for name in movers]
        mine, radius = self._robot, model.geom_rbound
        self._radii = [radius[mine][:, None] + radius[shapes] for shapes in self._movers]
        self._line, self._twist = np.zeros(6), np.zeros(6)

    def __call__(self, data: mujoco.MjData, near: np.ndarray | None = None) -> Separation:
        """Measures as of the last kinematics, that is before the tick's last substep.

        Args:
            data: The simulation's state.
            near: bool (M,), the movers to measure, the others read as beyond the cut-off; None for
                all.
        """
        distance = np.full(self._count, np.inf)
        speeds = np.zeros((2, self._count))
        for m in range(self._count) if near is None else np.flatnonzero(near).tolist():
            ends = self._nearest(data, m)
            if ends is None:
                continue
            distance[m], mine, its, fromto = ends
            way = fromto[3:] - fromto[:3]
            length = float(np.sqrt(way @ way))
            if length > 1e-9:
                way = np.sign(distance[m]) * way / length
            else:  # touching: from shape to shape
                way = data.geom_xpos[its] - data.geom_xpos[mine]
                way = way / max(float(np.linalg.norm(way)), 1e-9)
            speeds[0, m] = self._speed(data, mine, fromto[:3], way)
            speeds[1, m] = -self._speed(data, its, fromto[3:], way)
        speeds = np.maximum(speeds, 0.0)
        return Separation(distance=distance, closing_robot=speeds[0], closing_mover=speeds[1])

    def _nearest(self, data: mujoco.MjData, m: int) -> tuple[float, int, int, np.ndarray] | None:
        """Returns distance, the two geoms and the ends (6,) of the shortest line, or None."""
        centres, shapes = data.geom_xpos, self._movers[m]
        gap = centres[self._robot][:, None] - centres[shapes]
        bound = np.sqrt(np.einsum("ijk,ijk->ij", gap, gap)) - self._radii[m]
        near = np.flatnonzero(bound < SEPARATION_CUTOFF)
        best, found, fromto = SEPARATION_CUTOFF, None, self._line
        for flat in near[np.argsort(bound.ravel()[near], kind="stable")].tolist():
            i, j = divmod(flat, len(shapes))
            if bound[i, j] >= best:
                break
            mine, its = int(self._robot[i]), int(shapes[j])
            d = mujoco.mj_geomDistance(self._model, data, mine, its, best, fromto)
            if d < best:
                best, found = d, (d, mine, its, fromto.copy())
        return found

    def _speed(self, data: mujoco.MjData, geom: int, point: np.ndarray, way: np.ndarray) -> float:
        """Velocity in m/s, along a unit vector, of a point fixed to a geom's body."""
        body, twist = int(self._model.geom_bodyid[geom]), self._twist
        mujoco.mj_objectVelocity(self._model, data, _XBODY, body, twist, 0)
        (wx, wy, wz, vx, vy, vz), (x, y, z) = twist.tolist(), (point - data.xpos[body]).tolist()
        a, b, c = way.tolist()
        # the linear part is that of the body's origin
        return a * (vx + wy * z - wz * y) + b * (vy + wz * x - wx * z) + c * (vz + wx * y - wy * x)


_XBODY = mujoco.mjtObj.mjOBJ_XBODY


def _shapes(model: mujoco.MjModel, root: int) -> np.ndarray:
    """Returns the colliding geoms of a subtree."""
    inside = np.zeros(model.nbody, dtype=bool)
    inside[root] = True
    for body in range(root + 1, model.nbody):
        inside[body] |= inside[model.body_parentid[body]]
    collides = (model.geom_contype | model.geom_conaffinity) != 0
    return np.flatnonzero(inside[model.geom_bodyid] & collides)
