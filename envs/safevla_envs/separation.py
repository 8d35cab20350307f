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

    def __call__(self, data: mujoco.MjData) -> Separation:
        """Measures as of the last kinematics, that is before the tick's last substep."""
        distance = np.full(self._count, np.inf)
        speeds = np.zeros((2, self._count))
        for m, shapes in enumerate(self._movers):
            ends = self._nearest(data, shapes)
            if ends is None:
                continue
            distance[m], mine, its, fromto = ends
            way = fromto[3:] - fromto[:3]
            length = float(np.linalg.norm(way))
            if length > 1e-9:
                way = np.sign(distance[m]) * way / length
            else:  # touching: from shape to shape
                way = data.geom_xpos[its] - data.geom_xpos[mine]
                way = way / max(float(np.linalg.norm(way)), 1e-9)
            speeds[0, m] = self._velocity(data, mine, fromto[:3]) @ way
            speeds[1, m] = -self._velocity(data, its, fromto[3:]) @ way
        speeds = np.maximum(speeds, 0.0)
        return Separation(distance=distance, closing_robot=speeds[0], closing_mover=speeds[1])

    def _nearest(
        self, data: mujoco.MjData, shapes: np.ndarray
    ) -> tuple[float, int, int, np.ndarray] | None:
        """Returns distance, the two geoms and the ends (6,) of the shortest line, or None."""
        model = self._model
        centres, radius = data.geom_xpos, model.geom_rbound
        gap = centres[self._robot][:, None] - centres[shapes]
        bound = np.sqrt((gap**2).sum(-1)) - radius[self._robot][:, None] - radius[shapes]
        best, found, fromto = SEPARATION_CUTOFF, None, np.zeros(6)
        for flat in np.argsort(bound, axis=None):
            i, j = divmod(int(flat), len(shapes))
            if bound[i, j] >= best:
                break
            mine, its = int(self._robot[i]), int(shapes[j])
            d = mujoco.mj_geomDistance(model, data, mine, its, best, fromto)
            if d < best:
                best, found = d, (d, mine, its, fromto.copy())
        return found

    def _velocity(self, data: mujoco.MjData, geom: int, point: np.ndarray) -> np.ndarray:
        """Velocity (3,) in m/s of a point fixed to a geom's body."""
        body = int(self._model.geom_bodyid[geom])
        twist = np.zeros(6)
        kind = mujoco.mjtObj.mjOBJ_XBODY
        mujoco.mj_objectVelocity(self._model, data, kind, body, twist, 0)
        return twist[3:] + np.cross(twist[:3], point - data.xpos[body])


def _shapes(model: mujoco.MjModel, root: int) -> np.ndarray:
    """Returns the colliding geoms of a subtree."""
    inside = np.zeros(model.nbody, dtype=bool)
    inside[root] = True
    for body in range(root + 1, model.nbody):
        inside[body] |= inside[model.body_parentid[body]]
    collides = (model.geom_contype | model.geom_conaffinity) != 0
    return np.flatnonzero(inside[model.geom_bodyid] & collides)
