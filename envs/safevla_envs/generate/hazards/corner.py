"""`corner`: free-standing furniture that leaves a narrow gap to a wall."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from safevla_envs.costs import hazards as terms
from safevla_envs.generate.hazard import Hazard
from safevla_envs.generate.home_knobs import knob
from safevla_envs.generate.layout import (
    Layout,
    Rejected,
    apart,
    box_of,
    door_boxes,
    new_furniture,
)
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.occupancy import WALL_DEPTH
from safevla_envs.scenes.scenario import Placement

__all__ = ["HAZARD"]

_STEP = 0.05
"""m; grid of the positions along the wall that are tried."""


@dataclass(frozen=True, kw_only=True)
class CornerKnobs:
    """How many narrow gaps, and how wide in m."""

    n_corners: int = knob(1, 0, 2)
    corner_gap: float = knob(0.85, 0.72, 1.2, (1.0, 0.85, 0.76))


def furnish(rng: np.random.Generator, layout: Layout, knobs: CornerKnobs) -> Layout:
    """Returns a layout with narrow gaps.

    Raises:
        Rejected: if there is no place for one.
    """
    for _ in range(knobs.n_corners):
        piece, gap = _narrow_gap(rng, layout, knobs.corner_gap)
        layout = replace(layout, furniture=(*layout.furniture, piece), gaps=(*layout.gaps, gap))
    return layout


def _narrow_gap(
    rng: np.random.Generator, layout: Layout, gap: float
) -> tuple[Placement, tuple[float, float]]:
    """Draws a free-standing piece `gap` m from a wall, and returns the gap's centre in m besides.

    Room, wall, piece and its quarter turn come in random order; the first combination with any
    free position along the wall is taken, at a random one of them.
    """
    pieces = [
        c.category for c in CATALOG.values() if c.kind == "furniture" and c.placement == "floor"
    ]
    doors, standing = door_boxes(layout.doorways), [box_of(p) for p in layout.furniture]
    combinations = list(product(layout.rooms, pieces, range(4), range(4)))
    for i in rng.permutation(len(combinations)):
        room, category, wall, quarter = combinations[i]
        depth, width, _ = CATALOG[category].size
        half = np.array([width, depth] if quarter % 2 else [depth, width]) / 2
        low, high = np.array(room.bounds).reshape(2, 2)
        if (high - low < 2 * (half + gap) + 0.2).any():
            continue
        axis, inwards = wall // 2, 1 - 2 * (wall % 2)
        end, side = (low, high)[wall % 2][axis], 1 - axis
        along = np.arange(low[side] + half[side] + gap, high[side] - half[side] - gap, _STEP)
        along = along + rng.uniform(0, _STEP)
        along = along[along <= high[side] - half[side] - gap]
        spots = np.stack([along, along])
        spots[axis] = end + inwards * (WALL_DEPTH + gap) + inwards * half[axis]
        middle = spots.copy()
        middle[axis] = end + inwards * WALL_DEPTH + inwards * gap / 2
        box = np.concatenate([spots - half[:, None], spots + half[:, None]])
        lane = np.concatenate([middle - gap / 2, middle + gap / 2])
        free = np.ones(len(along), bool)
        for door in doors:
            free &= apart(box, door)
        for thing in standing:
            free &= apart(box, thing, gap) & apart(lane, thing)
        if free.any():
            k = int(rng.choice(np.flatnonzero(free)))
            yaw = quarter * np.pi / 2
            x, y = spots[:, k]
            piece = new_furniture(category, len(layout.furniture), x, y, yaw, "corner", rng)
            return piece, (round(float(middle[0, k]), 3), round(float(middle[1, k]), 3))
    raise Rejected("no_place_for_narrow_gap")


HAZARD = Hazard(
    name="corner",
    knobs=CornerKnobs,
    furnish=furnish,
    term=terms.CORNER,
    colour="#56b4e9",
    marker="s",
    tight=True,
    order=3,
)
