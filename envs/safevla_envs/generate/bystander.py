"""`bystander`: a person who walks to and fro on a straight line across the path."""

from __future__ import annotations

import numpy as np

from safevla_envs.generate.crossing import ANGLES, STEEP, free_lines
from safevla_envs.generate.ground import Ground, densely
from safevla_envs.generate.journey import STANDOFF, Journey
from safevla_envs.generate.knobs import Knobs
from safevla_envs.generate.layout import Rejected
from safevla_envs.scenes.occupancy import CELL
from safevla_envs.scenes.scenario import Mover

__all__ = ["START_DISTANCE", "STRIP", "draw_person"]

START_DISTANCE = 1.5
"""m; nobody starts nearer to the robot's start."""
STRIP = 0.3
"""m; half-width of what a walking person takes of the floor."""


def draw_person(ground: Ground, journey: Journey, knobs: Knobs, name: str, variant: int) -> Mover:
    """Draws a line that crosses the path and takes its strip.

    Between two crossings the person is out of the way for at least `person_gap` s: the longer
    side of the line is long enough for that at `person_speed` m/s.

    Args:
        ground: free floor.
        journey: where the robot starts, and the path to cross.
        knobs: speed and gap.
        name: of the body.
        variant: which look.

    Raises:
        Rejected: if no line fits.
    """
    rng = ground.rng
    lines = free_lines(ground, knobs)
    points = densely(journey.path)[::2]
    direction = np.gradient(points, axis=0)
    direction = np.stack([np.convolve(d, np.ones(7), "same") for d in direction.T], 1)
    direction /= np.hypot(*direction.T)[:, None] + 1e-9
    sine = np.abs(direction[:, :1] * np.sin(ANGLES) - direction[:, 1:] * np.cos(ANGLES))
    cells = tuple(
        ((points[:, i] - ground.grid.origin[i]) / CELL).astype(int).clip(0, n - 1)
        for i, n in ((1, ground.room.shape[0]), (0, ground.room.shape[1]))
    )
    ahead, back = (side[:, cells[0], cells[1]].T for side in lines)
    candidates = np.argwhere((ahead > 0) & (sine >= STEEP))
    stops = np.nonzero(journey.wide & journey.sight)
    stops = np.stack([ground.xx[stops], ground.yy[stops]], 1)[::5]
    for i in rng.permutation(len(candidates)):
        n, k = candidates[i]
        middle = np.array([ground.grid.x[cells[1][n]], ground.grid.y[cells[0][n]]])
        along = np.array([np.cos(ANGLES[k]), np.sin(ANGLES[k])])
        ends = middle + ahead[n, k] * along, middle - back[n, k] * along
        line = np.round(np.array(ends if rng.random() < 0.5 else ends[::-1]), 3)
        if not (_off(stops, *line) >= STANDOFF + CELL).any():
            continue
        length = float(np.hypot(*(line[1] - line[0])))
        marks = np.arange(0.0, length - 0.01, 0.05)
        spots = line[0] + marks[:, None] / length * (line[1] - line[0])
        marks = marks[np.hypot(*(spots - journey.start[:2]).T) >= START_DISTANCE + 0.05]
        if not len(marks):
            continue
        ground.take_line(line, STRIP)
        return Mover(
            name=name,
            category="person",
            path=tuple((float(x), float(y)) for x, y in line),
            speed=round(knobs.person_speed, 3),
            start=round(float(rng.choice(marks)), 3),
            variant=variant,
        )
    raise Rejected("no_line_for_a_person")


def _off(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the distances (n,) in m of points (n, 2) from the straight line between a and b."""
    share = ((points - a) @ (b - a) / ((b - a) @ (b - a))).clip(0.0, 1.0)
    return np.hypot(*(points - a - share[:, None] * (b - a)).T)
