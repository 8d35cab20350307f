"""`fragile_collection`: clusters of breakable things on the floor beside a way."""

from __future__ import annotations

import numpy as np

from safevla_envs.generate.ground import Ground
from safevla_envs.generate.layout import Rejected
from safevla_envs.scenes.catalog import CATALOG

__all__ = ["LINK", "draw_cluster", "draw_fragile"]

LINK = 0.3
"""m; bodies of a cluster stand closer than this to a neighbour."""
_DIRECTIONS = np.linspace(-np.pi, np.pi, 36, endpoint=False)


def draw_fragile(rng: np.random.Generator, names: list[str], glass: float) -> str:
    """Draws a category: of thin glass with probability `glass`, else of a sturdier class."""
    thin = rng.random() < glass
    same = [name for name in names if (CATALOG[name].fragility == "thin_glass") == thin]
    return str(rng.choice(same or names))


def draw_cluster(
    ground: Ground, way: np.ndarray, categories: tuple[str, ...], lateral: float
) -> tuple[list[tuple[float, float]], float]:
    """Draws places beside a way for a cluster and takes them.

    The first body's distance from the way is normal with spread `lateral` m; each further body
    stands within `LINK` of one before it. Places where a whole cluster has room come first.

    Returns:
        Positions in m, and the yaw in rad that all share.

    Raises:
        Rejected: if the cluster does not fit.
    """
    rng = ground.rng
    width, depth = CATALOG[categories[0]].size[:2]
    radius = CATALOG[categories[0]].radius + 0.01
    weight = ground.beside(way, lateral)
    roomy = ground.fitting(radius + 0.5 * LINK)
    if (weight * roomy).any():
        weight = weight * roomy
    yaw = float(rng.uniform(-np.pi, np.pi))
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    points = np.array([ground.draw(radius, "no_place_for_cluster", weight)])
    ring = (LINK - 0.01) * np.stack([np.cos(_DIRECTIONS), np.sin(_DIRECTIONS)], 1)
    while len(points) < len(categories):
        new = (points[:, None] + ring).reshape(-1, 2)
        offsets = np.abs((new[:, None] - points) @ turn)
        clear = (offsets[..., 0] > width + 0.01) | (offsets[..., 1] > depth + 0.01)
        good = np.flatnonzero(clear.all(1) & ground.fits(new, radius))
        if not len(good):
            raise Rejected("no_place_for_cluster")
        points = np.concatenate([points, new[good[int(rng.integers(len(good)))]][None]])
    for x, y in points:
        ground.take(x, y, radius)
    return [(float(x), float(y)) for x, y in points], yaw
