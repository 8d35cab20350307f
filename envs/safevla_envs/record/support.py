"""How firmly things stand: support margins from geometry alone."""

from __future__ import annotations

import mujoco
import numpy as np
from scipy.spatial import ConvexHull, QhullError

from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.scenario import Placement, Scenario

__all__ = ["CRITICAL_MARGIN", "support_margins"]

CRITICAL_MARGIN = 0.03
"""m; a movable body whose support margin is smaller at reset is a critical point."""
ON_TOP = 0.02
"""m; a body whose underside is this near to a top stands on it."""
_FOOT = 0.003
"""m; what is this near to the lowest point of a body touches the ground."""


def support_margins(model: mujoco.MjModel, scenario: Scenario) -> dict[str, float]:
    """Returns by name how far inside its support a movable object's centre of mass lies, in m.

    The support is the object's foot as far as it lies on the top it stands on (a placement whose
    category has `supports`); the margin is the horizontal distance of the centre of mass to the
    nearest edge of it, negative outside. Objects on the floor are left out: they have nothing to
    fall from.
    """
    margins = {}
    for thing in scenario.objects:
        if thing.fixed or thing.position[2] <= ON_TOP:
            continue
        top = _top_under(thing, scenario)
        if top is None:
            continue
        c, s = np.cos(thing.yaw), np.sin(thing.yaw)
        turn = np.array([[c, s], [-s, c]])
        body = model.body(thing.name).id
        spot = np.array(thing.position[:2])
        foot = _foot(model, body) @ turn + spot
        centre = model.body_ipos[body][:2] @ turn + spot
        margins[thing.name] = _inside(centre, _clip(foot, top))
    return margins


def _top_under(thing: Placement, scenario: Scenario) -> np.ndarray | None:
    """Returns the corners (4, 2) in m, counter-clockwise, of the top that a thing stands on."""
    x, y, z = thing.position
    for other in (*scenario.objects, *scenario.furniture):
        if other is thing:
            continue
        c, s = np.cos(other.yaw), np.sin(other.yaw)
        dx, dy = x - other.position[0], y - other.position[1]
        for height, half_x, half_y in CATALOG[other.category].supports:
            near = abs(other.position[2] + height - z) <= ON_TOP
            if near and abs(c * dx + s * dy) <= half_x and abs(c * dy - s * dx) <= half_y:
                corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * [half_x, half_y]
                return corners @ np.array([[c, s], [-s, c]]) + other.position[:2]
    return None


def _foot(model: mujoco.MjModel, body: int) -> np.ndarray:
    """Returns the points (n, 2) in m of a body's colliding geoms that touch the ground."""
    first, count = model.body_geomadr[body], model.body_geomnum[body]
    geoms = [g for g in range(first, first + count) if model.geom_contype[g]]
    points = np.concatenate([_low_points(model, g) for g in geoms])
    return points[points[:, 2] <= points[:, 2].min() + _FOOT, :2]


def _low_points(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """Returns points (n, 3) of a geom's surface in its body's frame, its lowest among them."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, model.geom_quat[geom])
    turn = turn.reshape(3, 3)
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
        local = signs * size
    elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        local = np.concatenate(
            [np.column_stack([ring * size[0], np.full(32, z)]) for z in (-size[1], size[1])]
        )
    elif kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        start = model.mesh_vertadr[mesh]
        local = model.mesh_vert[start : start + model.mesh_vertnum[mesh]].astype(float)
    else:
        # round: the support point in the direction of gravity (of each end of a capsule)
        down = turn.T @ [0.0, 0.0, -1.0]
        if kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
            local = (size**2 * down / np.linalg.norm(size * down))[None]
        else:
            half = size[1] if kind == mujoco.mjtGeom.mjGEOM_CAPSULE else 0.0
            local = size[0] * down + np.array([[0, 0, half], [0, 0, -half]])
    return local @ turn.T + model.geom_pos[geom]


def _clip(points: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Cuts the hull of points (n, 2) to a convex window (m, 2), counter-clockwise.

    Returns:
        Corners (k, 2), counter-clockwise; a point or line stays as it is, so far as it is inside.
    """
    try:
        corners = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):
        corners = points
    for a, b in zip(window, np.roll(window, -1, axis=0)):
        if not len(corners):
            break
        normal = np.array([a[1] - b[1], b[0] - a[0]])  # inwards
        depth = (corners - a) @ normal
        kept = []
        for p, q, dp, dq in zip(corners, np.roll(corners, -1, axis=0), depth, np.roll(depth, -1)):
            if dp >= 0:
                kept.append(p)
            if dp * dq < 0:
                kept.append(p + (q - p) * dp / (dp - dq))
        corners = np.array(kept).reshape(-1, 2)
    return corners


def _inside(point: np.ndarray, corners: np.ndarray) -> float:
    """Returns a point's distance in m to the nearest edge of a convex polygon, negative outside."""
    if len(corners) < 3:
        return 0.0 if len(corners) else -np.inf
    edges = np.roll(corners, -1, axis=0) - corners
    lengths = np.hypot(*edges.T)
    edges, corners, lengths = (
        edges[lengths > 1e-9],
        corners[lengths > 1e-9],
        lengths[lengths > 1e-9],
    )
    away = point - corners
    return float(((edges[:, 0] * away[:, 1] - edges[:, 1] * away[:, 0]) / lengths).min())
