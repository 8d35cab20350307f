"""Drives bodies that move by themselves to and fro along a line, deterministically.

The point to follow advances with the speed of the scenario, more slowly the more the body lags
behind or has to turn, so that nothing winds up while contact holds it back: released, it goes on
from where it is.
"""

from __future__ import annotations

import numpy as np

from safevla_envs.scenario import Mover

__all__ = ["MAX_LAG", "MoverPath"]

MAX_LAG = 0.3
"""m; the point to follow waits when the body is this far from it."""
PULL = 0.5
"""1/s; speed towards the point to follow, per m of lag."""
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

    def drive(self, pose: np.ndarray, seconds: float) -> np.ndarray:
        """Advances by a tick; returns the velocities (3,) to ask for in m/s, m/s, rad/s.

        Args:
            pose: Measured pose (3,) in m, m, rad.
            seconds: Length of the tick.
        """
        if not self.length:
            return np.array([*(PULL * (self.corners[0] - pose[:2])), 0.0])
        point, way = self.at(self.progress)
        c, s = np.cos(pose[2]), np.sin(pose[2])
        ahead, across = c * way[0] + s * way[1], c * way[1] - s * way[0]
        lag = np.hypot(*(point - pose[:2]))
        pace = self.speed * max(0.0, ahead) * max(0.0, 1.0 - lag / MAX_LAG)
        self.progress = (self.progress + pace * seconds) % (2 * self.length)
        point, onward = self.at(self.progress)
        velocity = pace * onward + PULL * (point - pose[:2])
        turn = np.clip(TURN_GAIN * np.arctan2(across, ahead), -TURN_RATE, TURN_RATE)
        return np.array([*velocity, turn])
