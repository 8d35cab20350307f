"""True distance between robot and movers, and who closes it how fast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.record.contacts import velocity
from safevla_envs.record.distance import distance
from safevla_envs.record.watch import body_id, subtree

__all__ = ["SEPARATION_CUTOFF", "Separation", "SeparationMeter", "glance"]

SEPARATION_CUTOFF = 3.0
"""m; larger distances read as infinite. Beyond every protective distance: 1.6 m/s towards a robot
that closes at 2 m/s needs 2.96 m."""


NEAR = 1.0
"""m; from here on `glance` looks at each shape of the robot: half the time of a look."""


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

    Attributes:
        arguments: What `glance` works on.

    Args:
        model: The compiled model.
        data: The simulation's state.
        robot_root: Body whose subtree is the robot.
        movers: M bodies, each with its subtree.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        robot_root: str,
        movers: Sequence[str],
    ):
        self._model, self._data = model, data
        self._count = len(movers)
        robot = _shapes(model, body_id(model, robot_root))
        theirs = [_shapes(model, body_id(model, name)) for name in movers]
        self._pairs = [(np.repeat(robot, len(one)), np.tile(one, len(robot))) for one in theirs]
        self._spheres = (data.geom_xpos, model.geom_rbound)
        of = (model.geom_bodyid, model.body_rootid)
        starts = np.cumsum([0, len(robot), *map(len, theirs)])
        geoms = np.concatenate((robot, *theirs))
        self.arguments = (*self._spheres, data.cvel, data.subtree_com, *of, geoms, starts)
        self._body_of = model.geom_bodyid.tolist()
        self._line, self._twist = np.zeros(6), np.zeros(6)

    def __call__(self, within: Sequence[float] | np.ndarray | None = None) -> Separation:
        """Measures as of the last kinematics, that is before the tick's last substep.

        Args:
            within: (M,) m, how near a mover must be to be measured; others read as beyond
                `SEPARATION_CUTOFF`, which is what None stands for.
        """
        data = self._data
        gap = np.full(self._count, np.inf)
        robot, mover = np.zeros(self._count), np.zeros(self._count)
        for m in range(self._count):
            ends = self._nearest(
                m, SEPARATION_CUTOFF if within is None else min(within[m], SEPARATION_CUTOFF)
            )
            if ends is None:
                continue
            gap[m], mine, its, line = ends
            start, end = line[:3], line[3:]
            length = math.dist(start, end)
            if length > 1e-9:
                sense = math.copysign(1.0 / length, gap[m])
                way = [sense * (b - a) for a, b in zip(start, end)]
            else:  # touching: from shape to shape
                apart = data.geom_xpos[its] - data.geom_xpos[mine]
                way = (apart / max(float(np.linalg.norm(apart)), 1e-9)).tolist()
            robot[m] = max(0.0, self._speed(mine, start, way))
            mover[m] = max(0.0, -self._speed(its, end, way))
        return Separation(distance=gap, closing_robot=robot, closing_mover=mover)

    def _nearest(self, m: int, best: float) -> tuple[float, int, int, list[float]] | None:
        """Returns distance, the two geoms and the ends (6,) of the shortest line, or None."""
        data, fromto, found = self._data, self._line, None
        simulation = self._model, data
        order = _candidates(*self._spheres, *self._pairs[m], best)
        if not len(order[0]):
            return None
        for least, a, b in zip(*(part.tolist() for part in order)):
            if least >= best:
                break
            d = distance(simulation, data.geom_xpos, a, b, best, fromto)
            if d < best:
                best, found = d, (d, a, b, fromto.tolist())
        return found

    def _speed(self, geom: int, point: list[float], way: list[float]) -> float:
        """Returns the velocity in m/s, along a unit vector, of a point fixed to a geom's body."""
        data, body, twist = self._data, self._body_of[geom], self._twist
        mujoco.mj_objectVelocity(self._model, data, _XBODY, body, twist, 0)
        wx, wy, wz, vx, vy, vz = twist.tolist()
        x, y, z = (p - o for p, o in zip(point, data.xpos[body].tolist()))
        a, b, c = way
        # the linear part is that of the body's origin
        return a * (vx + wy * z - wz * y) + b * (vy + wz * x - wx * z) + c * (vz + wx * y - wy * x)


_XBODY = mujoco.mjtObj.mjOBJ_XBODY


@compiled
def glance(geom_xpos, radii, cvel, subtree_com, body_of, root_of, geoms, starts):
    """Returns bounds on speeds and distances that take one look.

    Args:
        geom_xpos: MuJoCo's, as the next five.
        radii: see there.
        cvel: see there.
        subtree_com: see there.
        body_of: body of each geom.
        root_of: root of each body.
        geoms: of the robot, then of each mover.
        starts: int (M + 2,), where theirs begin and end in `geoms`.

    Returns:
        (1 + M,) m/s, the most at which any point of the robot, then of each mover, moves; and (M,)
        m, at most the least distance between bounding spheres of the robot and each mover.
    """
    speeds, gaps = np.zeros(len(starts) - 1), np.full(len(starts) - 2, np.inf)
    middle, reach = geom_xpos[geoms[0]], 0.0
    for owner in range(len(speeds)):
        for geom in geoms[starts[owner] : starts[owner + 1]]:
            place, twist = geom_xpos[geom], cvel[body_of[geom]]
            vx, vy, vz = velocity(geom, place, body_of, cvel, subtree_com, root_of)
            spin = np.sqrt(twist[0] * twist[0] + twist[1] * twist[1] + twist[2] * twist[2])
            speed = np.sqrt(vx * vx + vy * vy + vz * vz) + spin * radii[geom]
            speeds[owner] = max(speeds[owner], speed)
            x, y, z = place - middle
            away = np.sqrt(x * x + y * y + z * z)
            if not owner:
                reach = max(reach, away + radii[geom])
                continue
            gap = away - reach - radii[geom]  # to the sphere around the whole robot
            if gap < NEAR:
                gap = np.inf
                for other in geoms[: starts[1]]:
                    x, y, z = place - geom_xpos[other]
                    gap = min(gap, np.sqrt(x * x + y * y + z * z) - radii[geom] - radii[other])
            gaps[owner - 1] = min(gaps[owner - 1], gap)
    return speeds, gaps


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
