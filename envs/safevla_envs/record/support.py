"""How firmly things stand: support margins from geometry alone."""

from __future__ import annotations

import mujoco
import numpy as np
from scipy.spatial import ConvexHull, QhullError

from safevla_envs.planar import from_axes, in_axes
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
    nearest edge of either, negative outside. Objects on the floor are left out: they have nothing
    to fall from.
    """
    margins = {}
    for thing in scenario.objects:
        if thing.fixed or thing.position[2] <= ON_TOP:
            continue
        body = model.body(thing.name).id
        centre = model.body_ipos[body][:2]
        spot = from_axes(centre, thing.yaw) + thing.position[:2]
        top = _inside_top(thing, spot, scenario)
        if top is not None:
            margins[thing.name] = min(top, _inside_hull(centre, _foot(model, body)))
    return margins


def _inside_top(thing: Placement, spot: np.ndarray, scenario: Scenario) -> float | None:
    """Returns how far in m inside the top that a thing stands on a point (2,) lies."""
    for other in (*scenario.objects, *scenario.furniture):
        if other is thing:
            continue
        foot, inside = (
            np.abs(in_axes(p - np.array(other.position[:2]), other.yaw))
            for p in (np.array(thing.position[:2]), spot)
        )
        for height, *half in CATALOG[other.category].supports:
            near = abs(other.position[2] + height - thing.position[2]) <= ON_TOP
            if near and (foot <= half).all():
                return float((half - inside).min())
    return None


def _inside_hull(point: np.ndarray, corners: np.ndarray) -> float:
    """Returns how far in m inside the hull of corners (n, 2) a point lies; 0 if that is a line."""
    try:
        edges = ConvexHull(corners).equations
    except (QhullError, ValueError):
        return 0.0
    return -float((edges[:, :2] @ point + edges[:, 2]).max())


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
