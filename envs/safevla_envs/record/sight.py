"""What a camera sees, by geometry alone: nothing here depends on the renderer."""

from __future__ import annotations

import mujoco
import numpy as np

__all__ = ["Sight"]

RAYS, NEEDED = 8, 3
"""Points per body, and how many of them must be seen."""
REACH = 20.0
"""m; what is further away is not seen."""
_SEEN_GROUPS = np.array([0, 1, 1, 0, 0, 0], np.uint8)


class Sight:
    """Casts rays from a model's cameras.

    Rays go to 8 points inside each body's geoms, so that they meet its surface; a body is visible
    when at least 3 rays to points inside the square field of view hit it first.

    Args:
        model: The compiled model.
    """

    def __init__(self, model: mujoco.MjModel):
        self._model = model
        self._points: dict[str, np.ndarray] = {}

    def visible(self, data: mujoco.MjData, names: tuple[str, ...], camera: str) -> np.ndarray:
        """Says which bodies (with what is rigidly part of them) a camera sees, bool (n,)."""
        model = self._model
        result = np.zeros(len(names), bool)
        if not names:
            return result
        cam = model.camera(camera).id
        eye, axes = data.cam_xpos[cam], data.cam_xmat[cam].reshape(3, 3)
        ids = np.array([model.body(n).id for n in names])
        points = data.xpos[ids, None] + np.einsum(
            "nij,npj->npi", data.xmat[ids].reshape(-1, 3, 3), self._surface_points(names)
        )
        rays = points - eye
        local = rays @ axes
        edge = np.tan(np.radians(model.cam_fovy[cam]) / 2)
        depth = -local[..., 2]
        inside = (depth > 0.05) & (np.abs(local[..., :2]) <= edge * depth[..., None]).all(-1)
        index = np.argwhere(inside)
        if not len(index):
            return result
        geoms = np.array([self._meets(data, eye, ray) for ray in rays[inside]])
        bodies = np.where(geoms >= 0, model.geom_bodyid[geoms], 0)
        wanted = ids[index[:, 0]]
        # a person is a body whose regions are bodies of their own
        hit = (bodies == wanted) | (model.body_rootid[bodies] == wanted)
        np.add.at(seen := np.zeros(len(names), int), index[:, 0], hit)
        return seen >= NEEDED

    def _meets(self, data: mujoco.MjData, eye: np.ndarray, ray: np.ndarray) -> int:
        """Returns the first geom that a ray meets, -1 for none within reach.

        Not `mj_multiRay`: it misses parts that are seen and not felt, outside those that are felt.
        """
        geom, way = np.array([-1], np.int32), ray / np.linalg.norm(ray)
        distance = mujoco.mj_ray(self._model, data, eye, way, _SEEN_GROUPS, 1, -1, geom)
        return int(geom[0]) if distance <= REACH else -1

    def _surface_points(self, names: tuple[str, ...]) -> np.ndarray:
        """Points (n, 8, 3) in m inside each body's seen geoms, in the body's frame."""
        for name in names:
            if name not in self._points:
                self._points[name] = _points_in_geoms(self._model, self._model.body(name).id)
        return np.array([self._points[name] for name in names])


def _points_in_geoms(model: mujoco.MjModel, body: int) -> np.ndarray:
    """Spreads 8 points (8, 3) over a body's visible geoms: centres first, then along their axes."""
    rigid = (model.geom_bodyid == body) | (model.body_rootid[model.geom_bodyid] == body)
    geoms = [int(g) for g in np.flatnonzero(rigid & (model.geom_group == 1))]
    geoms.sort(key=lambda g: -float(model.geom_rbound[g]))
    points: list[np.ndarray] = []
    for axis, share in ((0, 0.0), (2, 0.7), (2, -0.7), (1, 0.7), (1, -0.7), (0, 0.7), (0, -0.7)):
        for geom in geoms:
            local = np.zeros(3)
            local[axis] = share * _half_extents(model, geom)[axis]
            turned = np.zeros(3)
            mujoco.mju_rotVecQuat(turned, local, model.geom_quat[geom])
            points.append(model.geom_pos[geom] + turned)
        if len(points) >= RAYS:
            break
    # the largest geoms come first; a body of many parts is represented by those
    return np.array((points * RAYS)[:RAYS])


def _half_extents(model: mujoco.MjModel, geom: int) -> np.ndarray:
    size, kind = model.geom_size[geom], model.geom_type[geom]
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return np.full(3, size[0])
    if kind in (mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE):
        return np.array([size[0], size[0], size[1]])
    return np.array(size)
