"""What proves a distance between two convex shapes: a pair of parallel planes between them."""

import mujoco
import numpy as np

GEOM = mujoco.mjtGeom


def extent(model: mujoco.MjModel, data: mujoco.MjData, geom: int, way: np.ndarray) -> float:
    """m, how far a geom reaches along a unit vector (3,) from the world's origin."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    own = data.geom_xmat[geom].reshape(3, 3).T @ way
    if kind == GEOM.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        reach = (model.mesh_vert[start : start + count] @ own).max()
    elif kind == GEOM.mjGEOM_BOX:
        reach = np.abs(own) @ size
    elif kind == GEOM.mjGEOM_CYLINDER:
        reach = size[0] * np.hypot(own[0], own[1]) + size[1] * abs(own[2])
    elif kind == GEOM.mjGEOM_CAPSULE:
        reach = size[0] + size[1] * abs(own[2])
    elif kind == GEOM.mjGEOM_SPHERE:
        reach = size[0]
    elif kind == GEOM.mjGEOM_ELLIPSOID:
        reach = np.linalg.norm(own * size)
    else:
        raise ValueError(f"geom {geom}: no rule for type {kind}")
    return float(data.geom_xpos[geom] @ way + reach)


def proven_gap(model, data, one: int, other: int, way: np.ndarray) -> float:
    """m that surely lie between two geoms along a unit vector from one to the other."""
    return -extent(model, data, other, -way) - extent(model, data, one, way)


def spread(count: int) -> np.ndarray:
    """Unit vectors all over the sphere: (count, 3)."""
    i = np.arange(count) + 0.5
    up, turn = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    flat = np.sqrt(1 - up**2)
    return np.stack((flat * np.cos(turn), flat * np.sin(turn), up), axis=1)


def true_gap(model, data, one: int, other: int, most: float, line: np.ndarray | None = None):
    """m between two geoms: MuJoCo's answer, unless it is 0 or a plane between them proves it wrong;
    then its answer from a hair's breadth aside."""

    def ask() -> tuple[float, bool]:
        found = mujoco.mj_geomDistance(model, data, one, other, most, line)
        if found >= 0.0:
            return found, found > 0.0
        return found, max(proven_gap(model, data, one, other, way) for way in spread(128)) < 1e-6

    place, (found, sure) = data.geom_xpos[one].copy(), ask()
    for way in spread(32):
        if sure:
            break
        data.geom_xpos[one] = place + 1e-7 * way
        found, sure = ask()
    data.geom_xpos[one] = place
    assert sure, "MuJoCo finds no distance"
    return found
