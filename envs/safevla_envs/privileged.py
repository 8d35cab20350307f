"""Simulator state as a vector: for asymmetric critics and auxiliary labels, never for a policy."""

from __future__ import annotations

from typing import Any

import numpy as np

from safevla_envs.costs import CONSTRAINT_NAMES
from safevla_envs.planar import from_axes, in_axes
from safevla_envs.scenes.scenario import HAZARD_ONLY_ROLES

__all__ = ["PRIVILEGED_DIM", "PRIVILEGED_SLICES", "privileged_state"]

SECTORS = np.radians(np.linspace(-39.0, 39.0, 7))
"""rad; bearings from the navigation camera, left positive."""
RAYS = np.linspace(-np.pi, np.pi, 12, endpoint=False)
MAX_HAZARDS = 6
_LAYOUT = (
    ("hazard_sectors", 7),
    ("wall_sectors", 7),
    ("target_view", 3),
    ("target", 8),
    ("waypoint", 3),
    ("hazards", 4 * MAX_HAZARDS),
    ("clearance", len(RAYS)),
    ("body", 5),
    ("costs", len(CONSTRAINT_NAMES)),
)


_ENDS = np.cumsum([length for _, length in _LAYOUT]).tolist()
PRIVILEGED_SLICES = {
    **{name: slice(end - length, end) for (name, length), end in zip(_LAYOUT, _ENDS)},
    "aux": slice(0, 17),
}
"""Where each part stands; `aux` (what the picture shows of hazards, obstacles, target) is first."""
PRIVILEGED_DIM = _ENDS[-1]
"""Length without what the task tells; see `Task.tell`."""
_NOWHERE = (9.0, 0.0)
"""m; where an absent target is said to be: ahead, beyond reach."""
_CAMERA = 0.30
"""m; the navigation camera stands this far before the base's centre."""


def privileged_state(env: Any) -> np.ndarray:
    """Returns the vector of a `SafeVLAEnv`, float32, every entry of order 1.

    It has `PRIVILEGED_DIM` entries, and then those of the task's `tell`. `costs` are the last
    step's charges of all constraints, 0 where one is not active.
    """
    sim, scenario = env.sim, env.scenario
    x, y, yaw = sim.base_pose

    def local(points: np.ndarray) -> np.ndarray:
        return in_axes(points - [x, y], yaw)

    positions = env.object_positions()
    roles = np.array([p.role in HAZARD_ONLY_ROLES for p in scenario.objects], bool)
    names = [p.name for p in scenario.objects if p.role in HAZARD_ONLY_ROLES]
    in_view = sim.visible((*names, *(m.name for m in scenario.movers)))
    hazards = local(np.concatenate((positions[roles], env.sim.mover_poses[:, :2])))
    kinds = np.array([p.role == "equipment" for p in scenario.objects], float)[roles]
    kinds = np.concatenate((kinds, [float(m.role == "equipment") for m in scenario.movers]))
    offset = hazards - [_CAMERA, 0.0]
    distance = np.hypot(*offset.T)
    bearing = np.arctan2(offset[:, 1], offset[:, 0])
    near = in_view * np.exp(-distance / 0.8)
    within = np.abs(bearing[:, None] - SECTORS) < np.radians(9.0)
    hazard_sectors = 3.0 * np.max(within * near[:, None], axis=0, initial=0.0)
    eye = np.array([x, y]) + from_axes([_CAMERA, 0.0], yaw)
    wall_sectors = 3.0 * np.exp(-env.ray_lengths(eye, yaw + SECTORS) / 0.8)

    goal = local(positions[env.target_indices])
    goal = goal[np.argmin(np.hypot(*goal.T))] if len(goal) else np.array(_NOWHERE)
    reach = float(np.hypot(*goal))
    direction = goal / (reach + 1e-9)
    seen = float(env.target_visible())
    path = env.path_length()
    waypoint = env.waypoint()
    heading = local(waypoint[None])[0]
    ahead = heading / (np.hypot(*heading) + 1e-9)
    order = np.argsort(distance)[:MAX_HAZARDS]
    table = np.zeros((MAX_HAZARDS, 4))
    table[: len(order)] = np.column_stack(
        [hazards[order] / 2, np.exp(-(hazards[order] ** 2).sum(1) / 0.5), kinds[order]]
    )
    clearance = np.exp(-env.ray_lengths(np.array([x, y]), yaw + RAYS) / 0.6)
    velocity = in_axes(sim.base_velocity, yaw)
    charged = dict(zip((c.name for c in env.constraints), env.last_costs))
    parts = [
        hazard_sectors,
        wall_sectors,
        [*(direction * seen * 3.0), np.exp(-reach / 2.0) * seen * 3.0],
        [*np.clip(goal / 3, -3, 3), min(reach / 3, 3.0), *direction, seen],
        [reach <= 1.5, reach <= 1.5 and seen],
        [*ahead, min(path / 5, 3.0) if np.isfinite(path) else 3.0],
        table.ravel(),
        clearance,
        [*velocity, env.elapsed_share, sim.gripper_opening * 10],
        [min(charged.get(name, 0.0), 2.0) for name in CONSTRAINT_NAMES],
        env.task.tell(sim),
    ]
    return np.concatenate([np.asarray(p, np.float64).ravel() for p in parts]).astype(np.float32)
