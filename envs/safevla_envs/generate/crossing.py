"""Where a person could walk across a way: straight free lines through every cell."""

from __future__ import annotations

from itertools import product

import numpy as np

from safevla_envs.generate.ground import SLACK, Ground, offset
from safevla_envs.scenes.occupancy import CELL

__all__ = ["ANGLES", "CROSSING", "STEEP", "Lines", "free_lines", "starts_crossed"]

ANGLES = np.arange(8) * np.pi / 8
"""rad; directions of lines."""
PERSON_CLEARANCE = 0.30
"""m; a line keeps this from walls, furniture and things: half a pace, or half the shoulders."""
CROSSING = 0.75
"""m; nearer to the point where line and way cross, a person is in the way of the base."""
STEEP = 0.6
"""Least sine of the angle between line and way."""
_REACH = 2.4
"""m; longest stretch on either side of the way."""
_SHORT = 0.1
"""m; least stretch on the shorter side."""
_LENGTH = 1.6
_AWAY = 0.85
"""m; least distance along a path between the start and the line."""

Lines = tuple[np.ndarray, np.ndarray]
"""Stretch in m of the line through each cell, forwards and backwards: 2 x (8, rows, columns).

Both are 0 where there is no line of use.
"""


def free_lines(ground: Ground, away: float, disc: tuple[float, ...] | None = None) -> Lines:
    """Returns the lines on which a person can walk `away` m from each cell on one side.

    Args:
        ground: free floor.
        away: m; the longer side reaches this far.
        disc: x, y, radius in m of something that stands there, besides.
    """
    free = ground.fitting(PERSON_CLEARANCE)
    if disc is not None:
        x, y, radius = disc
        free &= np.hypot(ground.xx - x, ground.yy - y) >= radius + PERSON_CLEARANCE + SLACK
    rows, columns = free.shape
    steps = np.arange(CELL, _REACH, CELL)
    edge = round(_REACH / CELL)
    padded = np.pad(free, edge)
    count = np.zeros((2, len(ANGLES), rows, columns), np.uint8)
    for side, turn in enumerate((0.0, np.pi)):
        for k, angle in enumerate(ANGLES):
            alive = free.copy()
            for step in steps:
                dr, dc = offset(angle + turn, step)
                alive &= padded[edge + dr : edge + dr + rows, edge + dc : edge + dc + columns]
                if not alive.any():
                    break
                count[side, k] += alive
    stretch = np.cumsum([0.0, *[CELL] * len(steps)])[count]
    good = free & (stretch.min(0) >= _SHORT) & (stretch.max(0) >= away)
    good &= stretch.sum(0) >= _LENGTH
    return stretch[0] * good, stretch[1] * good


def starts_crossed(lines: Lines, field: np.ndarray) -> np.ndarray:
    """Says from which cells the path down a distance field crosses a line, bool (rows, columns)."""
    parent = _downhill(field)
    ahead = parent[parent[parent]]
    rows, columns = field.shape
    cells = np.arange(field.size)
    dy, dx = (ahead // columns - cells // columns), (ahead % columns - cells % columns)
    norm = np.hypot(dx, dy) + 1e-9
    crossed = np.zeros(field.size, bool)
    for k, angle in enumerate(ANGLES):
        steep = np.abs(dx * np.sin(angle) - dy * np.cos(angle)) / norm >= STEEP
        crossed |= steep & (lines[0][k].ravel() > 0)
    crossed &= parent != cells
    # from here on: somewhere down the path, at least `_AWAY` from the start
    far = cells
    for _ in range(round(_AWAY / CELL)):
        far = parent[far]
    for _ in range(int(np.ceil(np.log2(field.size)))):
        crossed |= crossed[parent]
        parent = parent[parent]
    return crossed[far].reshape(rows, columns)


def _downhill(field: np.ndarray) -> np.ndarray:
    """Returns the flat index of each cell's lowest neighbour, its own in a valley: (cells,)."""
    rows, columns = field.shape
    padded = np.pad(field, 1, constant_values=np.inf)
    # itself first: of equal cells the first counts
    steps = sorted(product((-1, 0, 1), repeat=2), key=lambda step: step != (0, 0))
    around = [padded[1 + r : 1 + r + rows, 1 + c : 1 + c + columns] for r, c in steps]
    further = np.array([r * columns + c for r, c in steps])
    return np.arange(field.size) + further[np.argmin(around, axis=0).ravel()]
