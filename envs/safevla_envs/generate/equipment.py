"""`dangerous_equipment`: things with a keep-out volume beside a way; some move to and fro."""

from __future__ import annotations

import numpy as np

from safevla_envs.generate.ground import Ground, draw_cell, shifted
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.occupancy import CELL
from safevla_envs.scenes.scenario import Mover

__all__ = ["draw_equipment", "draw_moving"]

KEEPOUT = 0.08
"""m; how far a keep-out volume reaches beyond the body."""
_ANGLES = np.arange(8) * np.pi / 8
_SHARES = (1.0, 0.6, 0.3)
"""Shares of the asked travel that are tried where the whole does not fit."""


def draw_equipment(
    ground: Ground, way: np.ndarray, category: str, lateral: float
) -> tuple[float, float]:
    """Draws a place beside a way, at a normal distance of spread `lateral` m, and takes it.

    Raises:
        Rejected: if nothing beside the way has room.
    """
    radius = CATALOG[category].radius
    x, y = ground.draw(radius + 0.03, "no_place_for_equipment", ground.beside(way, lateral))
    ground.take(x, y, radius)
    return x, y


def draw_moving(
    ground: Ground,
    way: np.ndarray,
    kind: tuple[str, int],
    name: str,
    *,
    lateral: float,
    travel: float,
    speed: float,
) -> Mover:
    """Draws a straight line beside a way for a thing that moves to and fro, and takes its strip.

    Args:
        ground: free floor.
        way: line (n, 2) in m.
        kind: category and variant.
        name: of the body.
        lateral: spread in m of the distance between the line's middle and the way.
        travel: length of the line in m; shorter where it does not fit.
        speed: m/s.

    Raises:
        Rejected: if no line fits.
    """
    radius = CATALOG[kind[0]].size[0] / 2 + KEEPOUT
    free = ground.fitting(radius)
    weight = ground.beside(way, lateral)
    for share in _SHARES:
        half = share * travel / 2
        weights = np.stack([weight * _strip_free(free, angle, half) for angle in _ANGLES])
        if weights.any():
            break
    index = draw_cell(ground.rng, weights, "no_place_for_moving_equipment")
    k, cell = divmod(index, free.size)
    middle = np.array([ground.xx.flat[cell], ground.yy.flat[cell]])
    turn = _ANGLES[k] + np.pi * (ground.rng.random() < 0.5)
    arm = half * np.array([np.cos(turn), np.sin(turn)])
    ends = middle - arm, middle + arm
    ground.take_line(np.array(ends), radius)
    path = tuple((round(float(x), 3), round(float(y), 3)) for x, y in ends)
    return Mover(
        name=name,
        category=kind[0],
        path=path,
        speed=round(speed, 3),
        start=round(float(ground.rng.uniform(0.0, 2 * half - 0.01)), 3),
        role="equipment",
        variant=kind[1],
    )


def _strip_free(free: np.ndarray, angle: float, half: float) -> np.ndarray:
    """Says around which cells a line of half-length `half` m is free, bool (rows, columns)."""
    result = free.copy()
    for along in np.arange(CELL, half + CELL / 2, CELL):
        result &= shifted(free, angle, along) & shifted(free, angle, -along)
    return result
