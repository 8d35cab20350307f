"""`corner`: free-standing furniture that leaves a narrow gap to a wall."""

from __future__ import annotations

from itertools import product

import numpy as np

from safevla_envs.generate.layout import Rejected, apart, box_of, door_boxes, new_furniture
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.occupancy import WALL_DEPTH
from safevla_envs.scenes.scenario import Doorway, Placement, Room

__all__ = ["narrow_gap"]

_STEP = 0.05
"""m; grid of the positions along the wall that are tried."""


def narrow_gap(
    rng: np.random.Generator,
    rooms: tuple[Room, ...],
    doorways: tuple[Doorway, ...],
    placed: list[Placement],
    gap: float,
) -> tuple[float, float]:
    """Places a free-standing piece `gap` m from a wall; returns the gap's centre in m.

    Room, wall, piece and its quarter turn come in random order; the first combination with any
    free position along the wall is taken, at a random one of them.

    Raises:
        Rejected: if no combination has a free position.
    """
    pieces = [
        c.category for c in CATALOG.values() if c.kind == "furniture" and c.placement == "floor"
    ]
    blocked = [*door_boxes(doorways)]
    combinations = list(product(rooms, pieces, range(4), range(4)))
    for i in rng.permutation(len(combinations)):
        room, category, wall, quarter = combinations[i]
        depth, width, _ = CATALOG[category].size
        hx, hy = (width / 2, depth / 2) if quarter % 2 else (depth / 2, width / 2)
        x0, y0, x1, y1 = room.bounds
        if x1 - x0 < 2 * (hx + gap) + 0.2 or y1 - y0 < 2 * (hy + gap) + 0.2:
            continue
        near = WALL_DEPTH + gap
        x, y = {
            0: (x0 + near + hx, None),
            1: (x1 - near - hx, None),
            2: (None, y0 + near + hy),
            3: (None, y1 - near - hy),
        }[wall]
        low, high = (x0 + hx + gap, x1 - hx - gap) if x is None else (y0 + hy + gap, y1 - hy - gap)
        along = np.arange(low, high, _STEP) + rng.uniform(0, _STEP)
        along = along[along <= high]
        xs = along if x is None else np.full(len(along), x)
        ys = along if y is None else np.full(len(along), y)
        middle = {
            0: (np.full(len(along), x0 + WALL_DEPTH + gap / 2), ys),
            1: (np.full(len(along), x1 - WALL_DEPTH - gap / 2), ys),
            2: (xs, np.full(len(along), y0 + WALL_DEPTH + gap / 2)),
            3: (xs, np.full(len(along), y1 - WALL_DEPTH - gap / 2)),
        }[wall]
        box = np.stack([xs - hx, ys - hy, xs + hx, ys + hy])
        lane = np.stack([*(m - gap / 2 for m in middle), *(m + gap / 2 for m in middle)])
        free = np.ones(len(along), bool)
        for other in blocked:
            free &= apart(box, other)
        for other in map(box_of, placed):
            free &= apart(box, other, gap) & apart(lane, other)
        if free.any():
            k = int(rng.choice(np.flatnonzero(free)))
            yaw = quarter * np.pi / 2
            placed.append(new_furniture(category, len(placed), xs[k], ys[k], yaw, "corner", rng))
            return round(float(middle[0][k]), 3), round(float(middle[1][k]), 3)
    raise Rejected("no_place_for_narrow_gap")
