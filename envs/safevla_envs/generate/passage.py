"""Does the robot fit through? Its true outline, turning and driving along a given way.

The base is 0.70 x 0.50 m and the tucked arm reaches 0.13 m before it, so where it fits depends on
how it stands. The search is over cells and 16 headings. The outline is covered by discs that stick
out of it by 2 cm at the sides and 5 cm at the ends: what passes here fits in the simulation.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from safevla_envs.scenes.occupancy import CELL, overlap

__all__ = ["HEADINGS", "OUTLINE", "outline_fits", "passable"]

OUTLINE = (-0.35, 0.48, 0.25)
"""m; back and front (arm included) of the outline along the heading, and its half-width."""
HEADINGS = 16
"""Headings in a full turn; between neighbours a corner swings by less than the discs stick out."""
_DISCS = (8, 3)
"""Discs along and across the outline."""
_BAND = 0.15
"""m; how far from the given way the robot may drive."""
_TURNED = np.radians(30.0)
"""rad; the target is in the picture when it lies within this of the heading."""
_EIGHT = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""(row, column) steps at headings 0, 45, 90 ... degrees."""


def outline_fits(clearance: np.ndarray) -> np.ndarray:
    """Says where the robot can stand how: bool (HEADINGS, rows, columns).

    Args:
        clearance: free distance in m around each cell, float (rows, columns).
    """
    back, front, half = OUTLINE
    length, width = (front - back) / _DISCS[0], 2 * half / _DISCS[1]
    radius = np.hypot(length, width) / 2
    centers = [
        (back + (i + 0.5) * length, -half + (j + 0.5) * width)
        for i in range(_DISCS[0])
        for j in range(_DISCS[1])
    ]
    free = np.empty((HEADINGS, *clearance.shape), bool)
    wide = clearance >= radius
    pad = int(np.ceil(max(abs(back), front) / CELL)) + 1
    padded = np.pad(wide, pad)
    rows, columns = wide.shape
    for k, angle in enumerate(np.arange(HEADINGS) * 2 * np.pi / HEADINGS):
        free[k] = wide
        c, s = np.cos(angle) / CELL, np.sin(angle) / CELL
        for x, y in centers:
            dr, dc = pad + round(x * s + y * c), pad + round(x * c - y * s)
            free[k] &= padded[dr : dr + rows, dc : dc + columns]
    return free


def passable(
    clearance: np.ndarray,
    way: np.ndarray,
    start: tuple[int, int, float],
    goal: np.ndarray,
    bearing: np.ndarray,
) -> bool:
    """Says whether the robot can drive along a way and then face what it looks for.

    Args:
        clearance: free distance in m around each cell, float (rows, columns).
        way: cells on the way, bool (rows, columns); it may leave them by 0.15 m.
        start: row, column and heading in rad.
        goal: cells from which the target can be seen, bool (rows, columns).
        bearing: direction of the target from each cell in rad, float (rows, columns).
    """
    near = np.asarray(ndimage.distance_transform_edt(~way)) * CELL <= _BAND
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    margin = int(np.ceil(OUTLINE[1] / CELL)) + 2
    r0, c0 = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    window = (slice(r0, rows[-1] + margin + 1), slice(c0, columns[-1] + margin + 1))
    free = outline_fits(clearance[window]) & near[window]
    index = np.full(free.shape, -1)
    index[free] = np.arange(free.sum())
    edges = [(index, np.roll(index, -1, axis=0))]
    for k in range(HEADINGS):
        for step in {k // 2, (k + 1) // 2}:
            dr, dc = _EIGHT[step % 8]
            here, there = overlap(index[k].shape, dr, dc)
            edges.append((index[k][here], index[k][there]))
    pairs = np.concatenate([np.stack([a.ravel(), b.ravel()], 1) for a, b in edges])
    pairs = pairs[(pairs >= 0).all(1)]
    count = int(free.sum())
    here = index[round(start[2] / (2 * np.pi) * HEADINGS) % HEADINGS, start[0] - r0, start[1] - c0]
    if not count or here < 0:
        return False
    graph = sparse.coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count,) * 2)
    labels = connected_components(graph, directed=False)[1]
    headings = np.arange(HEADINGS)[:, None, None] * 2 * np.pi / HEADINGS
    off = np.abs((bearing[window] - headings + np.pi) % (2 * np.pi) - np.pi)
    arrived = free & goal[window] & (off <= _TURNED)
    return bool((labels[index[arrived]] == labels[here]).any())
