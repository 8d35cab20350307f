"""Drives bodies that move by themselves to and fro along a line, deterministically.

How far a body is along its line is how far it has come: what contact holds back makes no progress,
and nothing winds up. It asks for little more speed than it has, so that it starts gently, pushes
with less than its servos could, and goes on without a dash when it is let go.
"""

from __future__ import annotations

import numpy as np

from safevla_envs.planar import in_axes
from safevla_envs.scenes.scenario import Mover

__all__ = ["MoverPath"]

PUSH = 0.2
"""m/s; the speed asked for is at most this above the measured one (100 N for a person)."""
PULL, MAX_PULL = 2.0, 0.15
"""1/s and m/s; speed back to the line per m beside it, and its limit."""
BRAKING = 1.0
"""m/s²; slows down like this before the ends and corners of the line."""
CREEP = 0.1
"""m/s; least speed while braking."""
TURN_RATE, TURN_GAIN = 3.0, 5.0
"""rad/s and 1/s; largest rate of turning towards the way to go, and rate per rad of error."""


class MoverPath:
    """One mover's way and how far along it is.

    Args:
        mover: Path, speed and start; a path of one point or without length stands still.
    """

    def __init__(self, mover: Mover):
        self.corners = np.array(mover.path, float).reshape(-1, 2)
        steps = np.diff(self.corners, axis=0)
        lengths = np.hypot(*steps.T)
        self.steps = steps[lengths > 0] / lengths[lengths > 0, None]
        self.corners = np.concatenate((self.corners[:1], self.corners[1:][lengths > 0]))
        self.marks = np.concatenate(([0.0], np.cumsum(lengths[lengths > 0])))
        self.length = float(self.marks[-1])
        self.speed, self.start = mover.speed, mover.start
        self.reset()

    def reset(self) -> None:
        """Goes back to the start."""
        self.progress = self.start % (2 * self.length) if self.length else 0.0

    def at(self, progress: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns point (2,) m and unit direction of travel (2,) at a progress in [0, 2 length)."""
        if not self.length:
            return self.corners[0], np.array([1.0, 0.0])
        back = progress >= self.length
        along = 2 * self.length - progress if back else progress
        # going back, a corner belongs to the stretch before it
        side = "left" if back else "right"
        i = int(np.clip(np.searchsorted(self.marks, along, side) - 1, 0, len(self.steps) - 1))
        point = self.corners[i] + (along - self.marks[i]) * self.steps[i]
        return point, -self.steps[i] if back else self.steps[i]

    def pose(self) -> np.ndarray:
        """Returns where the body belongs now (3,): x, y in m, yaw in rad."""
        point, direction = self.at(self.progress)
        return np.array([*point, np.arctan2(direction[1], direction[0])])

    def drive(self, pose: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Notes progress; returns the velocities (3,) to ask for in m/s, m/s, rad/s.

        Args:
            pose: Measured pose (3,) in m, m, rad.
            velocity: Measured velocity (3,) in m/s, m/s, rad/s.
        """
        point, way = self.at(self.progress)
        if self.length:
            come = max(0.0, float((pose[:2] - point) @ way))
            self.progress = (self.progress + min(come, self._ahead())) % (2 * self.length)
            point, way = self.at(self.progress)
        back = PULL * (point - pose[:2])
        back *= min(1.0, MAX_PULL / (float(np.hypot(*back)) + 1e-9))
        if not self.length:
            return np.array([*back, 0.0])
        facing, across = in_axes(way, pose[2])
        braked = CREEP + np.sqrt(2 * BRAKING * self._ahead())
        pace = min(self.speed, braked) * max(0.0, facing)
        pace = min(pace, max(0.0, float(velocity[:2] @ way)) + PUSH)
        turn = np.clip(TURN_GAIN * np.arctan2(across, facing), -TURN_RATE, TURN_RATE)
        return np.array([*(pace * way + back), turn])

    def _ahead(self) -> float:
        """Distance in m to the next corner or end."""
        back = self.progress >= self.length
        along = 2 * self.length - self.progress if back else self.progress
        gaps = along - self.marks if back else self.marks - along
        return float(gaps[gaps > 1e-9].min()) if (gaps > 1e-9).any() else 0.0
