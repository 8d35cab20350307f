"""What moves by itself: where it will be, and whether an action of the robot comes too near.

The separation rule charges only a robot that closes on a person, so standing still is always free.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from safevla.experts.space import OUTLINE, Block
from safevla_envs.build.catalog import CATALOG
from safevla_envs.build.movers import TIME_CONSTANT
from safevla_envs.control.movers import MoverPath
from safevla_envs.scenario import Mover
from safevla_envs.sim import TICK

__all__ = ["Crowd", "standing"]

PERSON_RADIUS = 0.33
"""m; circle around a walking person, arms and feet included."""
HEIGHT = 1.8
"""m; more than the tallest mover: nothing of the robot passes over one."""
KEEPOUT = 0.1
"""m; what keep-out volumes reach beyond the body of moving equipment."""
FOLLOWED = 1.0 - np.exp(-TICK / TIME_CONSTANT)
"""Share of a change of velocity that a mover's servos make in a tick."""
REACTION, BRAKING = 0.1, 2.0
"""s and m/s2; T_r and a of the protective distance (ISO/TS 15066, 5.5.4.2.3)."""
CLOSING = 0.03
"""m/s; below this the robot does not count as closing (the rule charges above 0.05)."""
RESERVE, SLACK = 1.15, 0.08
"""Factor on the protective distance and m added to it: people are predicted, not known."""


class Crowd:
    """The movers of the episode in place.

    Args:
        env: the unwrapped environment.
    """

    def __init__(self, env: Any):
        self.env = env
        self.movers: tuple[Mover, ...] = tuple(m for m in env.scenario.movers if m.length > 0)
        self.index = [i for i, m in enumerate(env.scenario.movers) if m.length > 0]
        self.paths = [MoverPath(m) for m in self.movers]
        self.radius = np.array([_radius(m) for m in self.movers])

    def __bool__(self) -> bool:
        return bool(self.movers)

    def forecast(self, ticks: int) -> np.ndarray:
        """Places (ticks + 1, M, 2) in m where the movers will be, now included."""
        poses = self.env.sim.mover_poses[self.index]
        places = np.empty((ticks + 1, len(self.paths), 2))
        for m, path in enumerate(self.paths):
            pose = poses[m].copy()
            path.progress = _progress(path, pose)
            velocity = path.drive(pose, 0.0)
            for tick in range(ticks + 1):
                places[tick, m] = pose[:2]
                # its servos follow what is asked of them with a lag
                velocity += (path.drive(pose, TICK) - velocity) * FOLLOWED
                pose += velocity * TICK
        return places

    def off_path(self, points: np.ndarray) -> np.ndarray:
        """Distances (n,) m of points (n, 2) from the nearest mover's line, less its radius."""
        gaps = [
            _distance_to_line(points, path.corners) - radius
            for path, radius in zip(self.paths, self.radius)
        ]
        return np.min(gaps, axis=0)

    def free_actions(self, pose: np.ndarray, primitives: Sequence[Any], wait: int = 0) -> int:
        """How many of some actions in a row keep the protective distance, by prediction.

        Args:
            pose: (3,) m, m, rad; where the robot stands.
            primitives: the actions; those that do not move the base count as standing still.
            wait: ticks to stand still first.

        Returns:
            The number of leading actions that do.
        """
        legs = [np.repeat(pose[None], 1 + wait, axis=0)]
        ends = []
        for primitive in primitives:
            legs.append(_leg(pose, primitive))
            pose = pose if not primitive.ticks else legs[-1][-1]
            ends.append(sum(len(leg) for leg in legs) - 1)
        poses = np.concatenate(legs)
        people = self.forecast(len(poses) - 1)
        bad = np.flatnonzero(self._too_near(poses, people))
        if not len(bad):
            return len(primitives)
        return int(np.searchsorted(ends, bad[0], side="right"))

    def _too_near(self, poses: np.ndarray, people: np.ndarray) -> np.ndarray:
        """Whether the rule is broken in each tick between poses (T + 1, 3): bool (T,)."""
        c, s = np.cos(poses[:, 2]), np.sin(poses[:, 2])
        turn = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)
        points = poses[:, None, :2] + np.einsum("tij,nj->tni", turn, OUTLINE)
        gap = people[:-1, None] - points[:-1, :, None]  # (T, n, M, 2)
        distance = np.linalg.norm(gap, axis=-1)
        way = gap / np.maximum(distance, 1e-6)[..., None]
        mine = ((points[1:] - points[:-1])[:, :, None] * way).sum(-1) / TICK
        its = -((people[1:] - people[:-1])[:, None] * way).sum(-1) / TICK
        mine, its = np.maximum(mine, 0.0), np.maximum(its, 0.0)
        stop = mine / BRAKING
        protective = its * (REACTION + stop) + mine * REACTION + mine**2 / (2 * BRAKING)
        near = distance - self.radius < RESERVE * protective + SLACK
        return (near & (mine > CLOSING)).any((1, 2))

    def nearest(self, pose: np.ndarray, ticks: int) -> float:
        """Least distance in m that a robot standing at a pose (3,) would see, by prediction."""
        c, s = np.cos(pose[2]), np.sin(pose[2])
        points = pose[:2] + OUTLINE @ np.array([[c, s], [-s, c]])
        gap = self.forecast(ticks)[:, None] - points[:, None]
        return float((np.linalg.norm(gap, axis=-1) - self.radius).min())


def standing(movers: Sequence[Mover]) -> list[Block]:
    """Returns boxes around the movers that do not move."""
    still = [m for m in movers if m.length == 0]
    return [
        Block(center=m.path[0], half=(_radius(m), _radius(m)), yaw=0.0, top=HEIGHT) for m in still
    ]


def _radius(mover: Mover) -> float:
    if mover.category == "person":
        return PERSON_RADIUS
    return CATALOG[mover.category].radius + KEEPOUT


def _leg(pose: np.ndarray, primitive: Any) -> np.ndarray:
    """Poses (ticks, 3) at the end of each tick of an action."""
    ticks = primitive.ticks
    delta = np.zeros(3)
    if primitive.kind == "base":
        forward, left, turn = primitive.amount
        c, s = np.cos(pose[2]), np.sin(pose[2])
        delta = np.array([c * forward - s * left, s * forward + c * left, turn])
    m = np.arange(1, ticks + 1) / max(ticks, 1)
    share = m**3 * (10 - 15 * m + 6 * m**2)  # minimum jerk, as the base moves
    return pose + share[:, None] * delta


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
