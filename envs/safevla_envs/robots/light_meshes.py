"""Low-polygon stand-ins for the robot's meshes: software rendering pays for vertices.

`python -m safevla_envs.robots.light_meshes` rebuilds `assets/robot/light_meshes.json` from
robosuite's files. Visual meshes become convex hulls of at most 40 vertices (parts under 6 cm are
dropped), collision meshes the hull MuJoCo would use anyway, thinned to 120 vertices (at most 1 mm
smaller).
"""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path

import mujoco
import numpy as np

from safevla_envs.resources import assets_dir

__all__ = ["ROBOT_FILES", "light_meshes", "robosuite_assets"]

ROBOT_FILES = {
    "base": "bases/omron_mobile_base.xml",
    "arm": "robots/panda/robot.xml",
    "hand": "grippers/panda_gripper.xml",
}
VISUAL_VERTICES, COLLISION_VERTICES, SMALLEST_VISUAL = 40, 120, 0.06


@cache
def robosuite_assets() -> Path:
    """Returns robosuite's folder of MJCF models without importing robosuite (a second's work)."""
    found = importlib.util.find_spec("robosuite")
    if found is None or found.origin is None:
        raise ImportError("robosuite is not installed: its MJCF robot models are needed")
    return Path(found.origin).parent / "models" / "assets"


@cache
def light_meshes() -> dict[str, dict[str, list[float]]]:
    """Returns part -> mesh name -> vertices (flat x, y, z in m); a mesh not in it is dropped."""
    return json.loads((assets_dir() / "robot" / "light_meshes.json").read_text())


def _thin(points: np.ndarray, count: int) -> np.ndarray:
    """Keeps `count` hull points by farthest-point sampling, extremes along the axes first."""
    from scipy.spatial import ConvexHull

    points = points[ConvexHull(points).vertices]
    if len(points) <= count:
        return points
    chosen = list(dict.fromkeys([*points.argmin(0), *points.argmax(0)]))
    gap = np.min([((points - points[i]) ** 2).sum(1) for i in chosen], axis=0)
    while len(chosen) < count:
        chosen.append(int(gap.argmax()))
        gap = np.minimum(gap, ((points - points[chosen[-1]]) ** 2).sum(1))
    return points[sorted(chosen)]


def _rebuild() -> None:
    result: dict[str, dict[str, list[float]]] = {}
    for part, file in ROBOT_FILES.items():
        spec = mujoco.MjSpec.from_file(str(robosuite_assets() / file))
        colliding = {g.meshname for g in spec.geoms if g.meshname and g.group == 0}
        model = spec.compile()
        result[part] = {}
        for i in range(model.nmesh):
            mesh = model.mesh(i)
            start, count = model.mesh_vertadr[i], model.mesh_vertnum[i]
            rotation = np.zeros(9)
            mujoco.mju_quat2Mat(rotation, model.mesh_quat[i])
            # compiled vertices are in the mesh's inertial frame
            points = model.mesh_vert[start : start + count] @ rotation.reshape(3, 3).T
            points = points + model.mesh_pos[i]
            if mesh.name in colliding:
                points = _thin(points, COLLISION_VERTICES)
            elif np.ptp(points, axis=0).max() >= SMALLEST_VISUAL:
                points = _thin(points, VISUAL_VERTICES)
            else:
                continue
            result[part][mesh.name] = [round(float(x), 5) for x in points.ravel()]
    path = assets_dir() / "robot" / "light_meshes.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, separators=(",", ":")) + "\n")
    print(f"{path}: {sum(map(len, result.values()))} meshes, {path.stat().st_size} bytes")


if __name__ == "__main__":
    _rebuild()
