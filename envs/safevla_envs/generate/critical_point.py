"""`critical_point`: a light stand near a way, with something fragile on the edge of its top."""

from __future__ import annotations

import numpy as np

from safevla_envs.generate.ground import Ground, densely
from safevla_envs.scenes.catalog import CATALOG

__all__ = ["draw_stand"]


def draw_stand(
    ground: Ground, way: np.ndarray, stand: str, thing: str, *, lateral: float, margin: float
) -> tuple[tuple[float, float], tuple[float, float, float], float]:
    """Draws a place for a stand beside a way and takes it.

    The stand turns a side to the way; on that side the thing stands with its centre `margin` m
    inside the top's edge.

    Returns:
        Position of the stand in m, position of the thing in m, yaw of both in rad.

    Raises:
        Rejected: if nothing beside the way has room.
    """
    height, half, _ = CATALOG[stand].supports[0]
    out = half - margin
    radius = max(CATALOG[stand].radius, out + CATALOG[thing].radius)
    x, y = ground.draw(radius, "no_place_for_stand", ground.beside(way, lateral))
    points = densely(way)
    toward = points[np.argmin(np.hypot(*(points - (x, y)).T))] - (x, y)
    yaw = round(float(np.arctan2(toward[1], toward[0])), 4)
    ground.take(x, y, radius)
    x, y = round(x, 3), round(y, 3)
    spot = x + out * np.cos(yaw), y + out * np.sin(yaw)
    return (x, y), (float(spot[0]), float(spot[1]), height), yaw
