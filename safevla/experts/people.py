"""What moves by itself: where it will be, and whether an action of the robot comes too near.

The separation rule charges only a robot that closes on a person, so standing still is always free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from safevla.experts.lattice import Move
from safevla.experts.space import CORNERS, HEADINGS
from safevla_envs.control.patrol import MoverPath
from safevla_envs.planar import from_axes
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.scenario import Mover
from safevla_envs.scenes.walkers import TIME_CONSTANT
from safevla_envs.world import TICK

__all__ = ["Crowd", "MoverClock"]

PERSON_RADIUS = 0.33
"""m; circle around a walking person, arms and feet included."""
KEEPOUT = 0.1
"""m; what keep-out volumes reach beyond the body of moving equipment."""
HORIZON = 320
"""Ticks that a forecast covers at least."""
FAR = 6.0
"""m; from here neither robot nor mover gets near the other within a plan's next actions."""
NEAR = 3.0
"""m; beyond this distance no action breaks the rule, at speeds up to 1.6 m/s."""
HIT = 0.1
"""m; a robot that stands still is to be passed by at least this far."""
BIN_TICKS = 10
"""Ticks that count as the same time in a plan: a long wait."""
FOLLOWED = 1.0 - np.exp(-TICK / TIME_CONSTANT)
"""Share of a change of velocity that a mover's servos make in a tick."""
REACTION, BRAKING = 0.1, 2.0
"""s and m/s2; T_r and a of the protective distance (ISO/TS 15066, 5.5.4.2.3)."""
CLOSING = 0.03
"""m/s; below this the robot does not count as closing (the rule charges above 0.05)."""
RESERVE, SLACK = 1.15, 0.08
"""Factor on the protective distance and m added to it: people are predicted, not known."""


class Crowd:
    """The movers of the episode in place, in an unwrapped environment."""

    def __init__(self, env: Any):
        self.env = env
        self.movers: tuple[Mover, ...] = env.scenario.movers
        self.paths = [MoverPath(m) for m in self.movers]
        self.radius = np.array([_radius(m) for m in self.movers])
        self._made, self._places = -1.0, np.empty((0, len(self.paths), 2))

    def __bool__(self) -> bool:
        return bool(self.movers)

    def forecast(self, ticks: int) -> np.ndarray:
        """Places (ticks + 1, M, 2) in m where the movers will be, now included."""
        now = self.env.sim.time
        if now != self._made or len(self._places) <= ticks:
            self._made, self._places = now, self._forecast(max(ticks, HORIZON))
        return self._places[: ticks + 1]

    def _forecast(self, ticks: int) -> np.ndarray:
        poses = self.env.sim.mover_poses
        rates = self.env.sim.mover_velocities
        places = np.empty((ticks + 1, len(self.paths), 2))
        for m, path in enumerate(self.paths):
            pose = poses[m].copy()
            path.progress = _progress(path, pose)
            velocity = rates[m].copy()
            for tick in range(ticks + 1):
                places[tick, m] = pose[:2]
                # its servos follow what is asked of them with a lag
                velocity += (path.drive(pose, velocity) - velocity) * FOLLOWED
                pose += velocity * TICK
        return places

    def distance(self, point: np.ndarray) -> float:
        """Distance in m from a point (2,) to the nearest mover's outline, now."""
        return float((np.linalg.norm(self.forecast(0)[0] - point, axis=-1) - self.radius).min())

    def far(self, pose: np.ndarray) -> bool:
        """Says whether nothing can come near soon to a robot at a pose (3,)."""
        return bool(self.off_path(pose[None, :2])[0] > FAR)

    def off_path(self, points: np.ndarray) -> np.ndarray:
        """Distances (n,) m of points (n, 2) from the nearest mover's line, less its radius."""
        gaps = [
            _distance_to_line(points, path.corners) - radius
            for path, radius in zip(self.paths, self.radius)
        ]
        return np.min(gaps, axis=0)

    def free_actions(self, pose: np.ndarray, primitives: Sequence[Any]) -> int:
        """How many actions in a row from a pose (3,) m, m, rad keep the protective distance.

        By prediction; actions that do not move the base count as standing still.
        """
        tick = 0
        for number, primitive in enumerate(primitives):
            legs = _leg(pose, primitive.amount if primitive.kind == "base" else (), primitive.ticks)
            people = self.forecast(tick + primitive.ticks)[tick:]
            if _too_near(legs, people, self.radius):
                return number
            pose, tick = legs[-1], tick + primitive.ticks
        return len(primitives)

    def clock(self, way: np.ndarray, rest: Move) -> MoverClock:
        """What a plan that starts now must reckon with; see `MoverClock`."""
        return MoverClock(self.forecast(HORIZON), self.radius, way, rest)


@dataclass(eq=False)
class MoverClock:
    """Bars moves that would break the protective distance, or get the robot run into.

    Args:
        people: places (ticks + 1, M, 2) in m of the movers; later they stay.
        radius: (M,) m, of the movers.
        way: where a robot would be in a mover's way, bool (rows, columns).
        rest: the wait.
    """

    people: np.ndarray
    radius: np.ndarray
    way: np.ndarray
    rest: Move
    longest: int = 12

    def bin(self, row: int, column: int, tick: int) -> int:
        """See `Clock`."""
        return 1 + tick // BIN_TICKS if self.way[row, column] else 0

    def barred(self, x: float, y: float, yaw: float, move: Move, tick: int) -> bool:
        """See `Clock`."""
        last = len(self.people) - 1
        people = self.people[np.minimum(np.arange(tick, tick + move.ticks + 1), last)]
        if (np.hypot(*(people[0] - [x, y]).T) - self.radius).min() > NEAR:
            return False
        amount = (move.forward, move.left, move.turn * 2.0 * np.pi / HEADINGS)
        legs = _leg(np.array([x, y, yaw]), amount, move.ticks)
        return _too_near(legs, people, self.radius, HIT)


def _radius(mover: Mover) -> float:
    if mover.category == "person":
        return PERSON_RADIUS
    return CATALOG[mover.category].radius + KEEPOUT


def _leg(pose: np.ndarray, amount: Sequence[float], ticks: int) -> np.ndarray:
    """Poses (ticks + 1, 3) before and after each tick of an action from a pose (3,)."""
    delta = np.zeros(3)
    if len(amount):
        delta = from_axes(amount, pose[2])
    m = np.linspace(0.0, 1.0, ticks + 1)
    share = m**3 * (10 - 15 * m + 6 * m**2)  # minimum jerk, as the base moves
    return pose + share[:, None] * delta


def _too_near(
    poses: np.ndarray, people: np.ndarray, radius: np.ndarray, hit: float = -np.inf
) -> bool:
    """Says whether the separation rule is broken between poses (T + 1, 3), people (T + 1, M, 2).

    With `hit` also whether something gets nearer than that many m, unless the robot is already.
    """
    c, s = np.cos(poses[:, 2]), np.sin(poses[:, 2])
    turn = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)
    points = poses[:, None, :2] + np.einsum("tij,nj->tni", turn, CORNERS)
    gap = people[:, None] - points[:, :, None]  # (T + 1, n, M, 2)
    distance = np.sqrt((gap**2).sum(-1))
    way = gap[:-1] / np.maximum(distance[:-1], 1e-6)[..., None]
    mine = ((points[1:] - points[:-1])[:, :, None] * way).sum(-1) / TICK
    its = -((people[1:] - people[:-1])[:, None] * way).sum(-1) / TICK
    mine, its = np.maximum(mine, 0.0), np.maximum(its, 0.0)
    protective = its * (REACTION + mine / BRAKING) + mine * REACTION + mine**2 / (2 * BRAKING)
    near = distance[:-1] - radius < RESERVE * protective + SLACK
    if (near & (mine > CLOSING)).any():
        return True
    reach = distance.min(1) - radius
    return bool(((reach[1:].min(0) < hit) & (reach[-1] < reach[0] - 0.01)).any())


def _progress(path: MoverPath, pose: np.ndarray) -> float:
    """How far along its to and fro a mover is: the nearest place that it looks along."""
    facing = np.array([np.cos(pose[2]), np.sin(pose[2])])
    best, found = np.inf, 0.0
    for i, step in enumerate(path.steps):
        long = path.marks[i + 1] - path.marks[i]
        along = float(np.clip((pose[:2] - path.corners[i]) @ step, 0.0, long))
        off = float(np.hypot(*(path.corners[i] + along * step - pose[:2])))
        for sign, progress in ((1, path.marks[i] + along), (-1, -path.marks[i] - along)):
            score = off + 0.3 * (1.0 - sign * float(facing @ step))
            if score < best:
                best, found = score, progress % (2 * path.length)
    return found


def _distance_to_line(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Distances (n,) in m of points (n, 2) from a line through corners (k, 2)."""
    result = np.full(len(points), np.inf)
    for a, b in pairwise(corners):
        step = b - a
        share = np.clip(((points - a) @ step) / max(float(step @ step), 1e-12), 0.0, 1.0)
        gap = points - (a + share[:, None] * step)
        result = np.minimum(result, np.linalg.norm(gap, axis=-1))
    return result
