"""Where a parallel gripper that points down can close on a body."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from safevla_envs.costs.classes import GRAVITY

__all__ = ["MAX_WIDTH", "PAD", "Grasp", "grasps_of", "grip_force", "nearest_grasp"]

MAX_WIDTH = 0.072
"""m; what is wider does not go between the fingers (0.08 m apart) with some room to spare."""
PAD = 0.02
"""m; the grip point is at most this far below the top of the part that is gripped."""
GRIP_SHARE = 0.7
"""Share of the least grip that would harm a thing with which it is gripped."""
FRICTION, LIFTING = 1.0, 2.0
"""Of fingers, at least; and m/s², at most, while lifting."""
ALIKE = 0.001
"""m; half-widths that differ by less are the same."""
UPRIGHT = 0.9
"""Least cosine between a part's axis and the vertical for which its sides are vertical."""


@dataclass(frozen=True, kw_only=True)
class Grasp:
    """Where to close on what, and how hard.

    Attributes:
        partner: index.
        point: (3,) m.
        axis: horizontal unit axis (3,), or None for any.
        force: N a finger.
    """

    partner: int
    point: np.ndarray
    axis: np.ndarray | None
    force: float


def grip_force(bears: float, mass: float) -> float:
    """Returns the force in N of each finger that lifts a thing without harm.

    Args:
        bears: N a finger from which it is harmed.
        mass: kg; what is too heavy for a share of that is gripped as hard as holding it takes.
    """
    return max(GRIP_SHARE * bears, mass * (GRAVITY + LIFTING) / (2 * FRICTION))


def nearest_grasp(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    bodies: np.ndarray,
    hand: tuple[np.ndarray, np.ndarray],
    within: float,
) -> tuple[int, np.ndarray, np.ndarray | None] | None:
    """Returns which of the bodies (n,) to grip, the point (3,) m and the closing axis (3,) or None.

    That is the grasp nearest to the hand of what fits between its fingers; of several at one place
    the one that takes the least turning. Where nothing within `within` m fits, the centre of the
    nearest body; None without any.

    Args:
        model: the compiled model.
        data: its state.
        bodies: ids.
        hand: point between the fingers (3,) m, and the axis (3,) along which they close.
        within: m.
    """
    point, closing = hand
    found: list[tuple[float, float, int, np.ndarray, np.ndarray | None]] = []
    away = np.linalg.norm(data.xipos[bodies] - point, axis=1)
    for index in np.flatnonzero(away <= within + 0.5):
        for spot, axis in grasps_of(model, data, int(bodies[index])):
            distance = float(np.linalg.norm(spot - point))
            turned = 0.0 if axis is None else -abs(float(closing @ axis))
            if distance <= within:
                found.append((distance, turned, int(index), spot, axis))
    if found:
        return min(found, key=lambda entry: entry[:2])[2:]
    if not len(bodies) or away.min() > within:
        return None
    nearest = int(away.argmin())
    return nearest, data.xipos[bodies[nearest]].copy(), None


def grasps_of(
    model: mujoco.MjModel, data: mujoco.MjData, body: int
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Returns (point (3,) m, closing axis (3,) or None) for every way to grip a part that fits.

    A part is one colliding geom: a box by its narrower horizontal side, by either one where they
    are alike, what is round by its diameter. A part under another one, out of reach from above, is
    left out.
    """
    first, count = model.body_geomadr[body], model.body_geomnum[body]
    shapes = [g for g in range(first, first + count) if model.geom_contype[g]]
    tops = {g: data.geom_xpos[g, 2] + _half_height(model, data, g) for g in shapes}
    grasps = []
    for geom in shapes:
        width, axes = _width(model, data, geom)
        point = data.geom_xpos[geom] + _rise(model, data, geom)
        covered = any(
            other != geom
            and tops[other] > tops[geom] + PAD
            and np.hypot(*(data.geom_xpos[other] - point)[:2]) < model.geom_rbound[other] / 2
            for other in shapes
        )
        if width > MAX_WIDTH or covered:
            continue
        grasps += [(point, axis) for axis in axes]
    return grasps


def _width(
    model: mujoco.MjModel, data: mujoco.MjData, geom: int
) -> tuple[float, list[np.ndarray | None]]:
    """Returns the width in m between the fingers and the axes to close along, None for any."""
    size, axes = model.geom_size[geom], data.geom_xmat[geom].reshape(3, 3)
    kind = model.geom_type[geom]
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        level = np.flatnonzero(np.abs(axes[2]) < np.sqrt(1 - UPRIGHT**2))
        if not len(level):
            return np.inf, []
        narrow = float(size[level].min())
        sides = axes[:, level[size[level] < narrow + ALIKE]] * [[1.0], [1.0], [0.0]]
        return 2 * narrow, list((sides / np.linalg.norm(sides, axis=0)).T)
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return 2 * float(size[0]), [None]
    if kind in (mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE):
        if abs(axes[2, 2]) >= UPRIGHT:
            return 2 * float(size[0]), [None]
        axis = np.array([-axes[1, 2], axes[0, 2], 0.0])  # lying: across its axis
        return 2 * float(size[0]), [axis / np.linalg.norm(axis)]
    return np.inf, []


def _rise(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> np.ndarray:
    """Returns the way (3,) m from a part's centre along its most vertical axis to the grip."""
    axes = data.geom_xmat[geom].reshape(3, 3)
    up = int(np.argmax(np.abs(axes[2])))
    size, kind = model.geom_size[geom], model.geom_type[geom]
    half = size[up]
    if kind in (mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE):
        half = size[1] if up == 2 else size[0]
    elif kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        half = 0.0
    return np.sign(axes[2, up]) * axes[:, up] * max(0.0, half - PAD)


def _half_height(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> float:
    """Returns half the vertical extent in m of a geom, at most its bounding radius."""
    size, up = model.geom_size[geom], np.abs(data.geom_xmat[geom].reshape(3, 3)[2])
    kind = model.geom_type[geom]
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return float(up @ size)
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        return float(size[1] * up[2] + size[0] * np.sqrt(max(0.0, 1 - up[2] ** 2)))
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        return float(size[1] * up[2] + size[0])
    return float(model.geom_rbound[geom])
