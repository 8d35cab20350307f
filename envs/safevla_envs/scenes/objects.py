"""Puts catalogue objects into a `MjSpec`.

Each part file is parsed and compiled once per process; an instance is then a body whose geoms are
added from the cached, resolved attributes. That is several times quicker than attaching specs and
leaves one copy of each material. Everything is set explicitly, so that neither the defaults nor
the compiler settings of the receiving spec change an object.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from safevla_envs.resources import assets_dir
from safevla_envs.scenes.catalog import (
    CATALOG,
    FLOOR_MATERIALS,
    WALL_MATERIALS,
    ObjectSpec,
    part_path,
)

__all__ = [
    "COLLIDER_GROUP",
    "FLOOR_MATERIALS",
    "KEEPOUT_GROUP",
    "VISUAL_GROUP",
    "WALL_MATERIALS",
    "add_materials",
    "add_object",
]

VISUAL_GROUP = 1
"""Geom group of what is seen (most of it also collides)."""
COLLIDER_GROUP = 3
"""Geom group of what collides without being seen."""
KEEPOUT_GROUP = 4
"""Geom group of keep-out volumes, neither seen nor felt."""

ROLLING_DAMPING = 8.0
"""1/s; damping of a free joint over the least principal moment of inertia.

Without it whatever is round rolls for ever once toppled: contacts have no rolling resistance (the
six-dimensional contacts that have it would cost 2.5 times the constraints). It stops a rolling
cylinder within about a second, and hardly slows a fall or a slide.
"""


@dataclass(frozen=True)
class _Part:
    """A part file, resolved: keyword arguments for `add_geom`, and the body's inertia."""

    geoms: tuple[dict[str, Any], ...]
    inertia: dict[str, Any]


def add_materials(spec: mujoco.MjSpec, names: Iterable[str] | None = None) -> None:
    """Adds shared materials and the textures they need, skipping those already there.

    `add_object` adds what it needs; call this for rooms.

    Args:
        spec: The model to add to.
        names: Materials of `assets/materials/materials.xml`; all of them if None.

    Raises:
        KeyError: If there is no such material.
    """
    library = _library()
    for name in library if names is None else names:
        if name not in library:
            raise KeyError(f"unknown material {name!r}; allowed: {', '.join(library)}")
        if spec.material(name) is not None:
            continue
        material, texture = library[name]
        if texture is not None and spec.texture(texture["name"]) is None:
            spec.add_texture(**texture)
        added = spec.add_material(name=name, **material)
        if texture is not None:
            added.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture["name"]


def add_object(
    spec: mujoco.MjSpec,
    category: str,
    name: str,
    pos: ArrayLike,
    yaw: float,
    *,
    variant: int = 0,
    fixed: bool,
    parent: mujoco.MjsBody | None = None,
) -> None:
    """Adds one object: a body called `name` whose geoms are called `<name>/<part geom>`.

    A movable object has the free joint `<name>/free`; dangerous equipment has the keep-out geom
    `<name>/keepout`.

    Args:
        spec: The model to add to.
        category: Key of `CATALOG`.
        name: Name of the body, unique in `spec`.
        pos: Position (3,) in m of the centre of its underside, in the parent's frame.
        yaw: Rotation about the vertical in rad; at 0 its front points along +x.
        variant: Which look, an index into the category's `variants`.
        fixed: Whether to weld it to the parent. What is not movable must be fixed.
        parent: Body to put it under, the world if None. What is not fixed must be in the world.

    Raises:
        KeyError: If the category is unknown.
        ValueError: If `variant` is out of range, `pos` or `yaw` is not finite, or `fixed` or
            `parent` does not fit the category.
    """
    entry = CATALOG[category]
    pos = np.asarray(pos, dtype=float)
    _check(entry, name, pos, yaw, variant, fixed, parent)
    part = _part(category)
    swaps = entry.variants[variant]
    frame = {"pos": pos, "quat": [math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]}
    if fixed:
        body = (parent or spec.worldbody).add_body(name=name, **frame)
    else:
        body = spec.worldbody.add_body(name=name, **frame, **part.inertia)
        joint = body.add_joint(name=f"{name}/free", type=mujoco.mjtJoint.mjJNT_FREE)
        joint.damping[0] = ROLLING_DAMPING * min(part.inertia["inertia"])
    for geom in part.geoms:
        material = geom.get("material", "")
        material = swaps.get(material, material)
        if material:
            add_materials(spec, (material,))
        body.add_geom(**(geom | {"name": f"{name}/{geom['name']}", "material": material}))


def _check(
    entry: ObjectSpec,
    name: str,
    pos: np.ndarray,
    yaw: float,
    variant: int,
    fixed: bool,
    parent: mujoco.MjsBody | None,
) -> None:
    if pos.shape != (3,) or not np.isfinite(pos).all() or not math.isfinite(yaw):
        raise ValueError(f"{name}: pos={pos}, yaw={yaw}; allowed: 3 finite numbers, a finite one")
    if not 0 <= variant < len(entry.variants):
        raise ValueError(f"{name}: variant={variant}; allowed: 0 to {len(entry.variants) - 1}")
    if not fixed and not entry.movable:
        raise ValueError(f"{name}: fixed=False; a {entry.category} can only be fixed")
    if not fixed and parent is not None and parent.name != "world":
        raise ValueError(f"{name}: parent={parent.name!r}; a free body must be in the world")


@cache
def _part(category: str) -> _Part:
    spec = mujoco.MjSpec.from_file(str(part_path(category)))
    body = spec.body(category)
    body.add_freejoint()
    model = spec.compile()
    geoms = []
    for geom in body.geoms:
        # the compiled model resolves what the file may write in several ways (fromto, euler)
        row = model.geom(geom.name)
        read = [(geom, key) for key in _GEOM_FIELDS] + [(row, key) for key in _RESOLVED_FIELDS]
        geoms.append({key: _plain(getattr(source, key)) for source, key in read})
    row = model.body(category)
    inertia = {
        "mass": float(row.mass[0]),
        "ipos": row.ipos.copy(),
        "iquat": row.iquat.copy(),
        "inertia": row.inertia.copy(),
        "explicitinertial": True,
    }
    return _Part(geoms=tuple(geoms), inertia=inertia)


@cache
def _library() -> dict[str, tuple[dict[str, Any], dict[str, Any] | None]]:
    """Returns (keywords of `add_material`, keywords of `add_texture`) by material name."""
    spec = mujoco.MjSpec.from_file(str(assets_dir() / "materials" / "materials.xml"))
    textures = {
        t.name: {key: _plain(getattr(t, key)) for key in _TEXTURE_FIELDS} for t in spec.textures
    }
    library: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {}
    for material in spec.materials:
        texture = material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB]
        keywords = {key: _plain(getattr(material, key)) for key in _MATERIAL_FIELDS}
        library[material.name] = (keywords, textures[texture] if texture else None)
    return library


_GEOM_FIELDS = (
    "name", "type", "contype", "conaffinity", "condim", "group", "priority", "solref", "solimp",
    "margin", "gap", "mass", "rgba", "material",
)  # fmt: skip
_RESOLVED_FIELDS = ("size", "pos", "quat", "friction")
_MATERIAL_FIELDS = (
    "rgba", "emission", "specular", "shininess", "reflectance", "texrepeat", "texuniform",
)  # fmt: skip
_TEXTURE_FIELDS = (
    "name", "type", "builtin", "mark", "rgb1", "rgb2", "markrgb", "random", "width", "height",
)  # fmt: skip


def _plain(value: Any) -> Any:
    """Copies arrays: a view would outlive the spec that owns it."""
    return value.copy() if isinstance(value, np.ndarray) else value
