"""The catalogue of things a home can hold: what each one is, without its geometry.

The geometry of category `c` is `assets/objects/c.xml`; `objects.py` instantiates it. This module
imports no simulator, so that scenarios can be generated and read without one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from omegaconf import OmegaConf

from safevla_envs.costs.classes import FRAGILITY_CLASSES, RUGGED, FragilityClass
from safevla_envs.resources import assets_dir

__all__ = [
    "CATALOG",
    "FLOOR_MATERIALS",
    "FRAGILITY",
    "FRAGILITY_CLASSES",
    "ROOMS",
    "RUGGED",
    "WALL_MATERIALS",
    "FragilityClass",
    "ObjectSpec",
    "part_path",
]

Kind = Literal["target", "furniture", "fragile", "equipment", "clutter", "stand", "handheld"]
Placement = Literal["floor", "surface", "wall"]

ROOMS = ("living_room", "kitchen", "bedroom", "study", "bathroom")
"""Kinds of room."""

FLOOR_MATERIALS = (
    "floor_oak", "floor_walnut", "floor_tile", "floor_chess", "floor_carpet", "floor_carpet_blue",
    "floor_concrete",
)  # fmt: skip
"""Materials for floors: patterns in metres on the local x-y plane of a plane or box geom."""
WALL_MATERIALS = (
    "wall_white", "wall_cream", "wall_sage", "wall_sky", "wall_blush", "wall_ash"
)  # fmt: skip
"""Materials for walls: plain colours, right on every face of a box."""


FRAGILITY: dict[str, float] = {name: c.grip[1] for name, c in FRAGILITY_CLASSES.items()}
"""Contact force in N from which a thing of a class counts as damaged: its moderate grip force.

Grip force is the only load with measured anchors; an impact is judged by the same figure.
"""


@dataclass(frozen=True, kw_only=True)
class ObjectSpec:
    """What the generator, the builder and the cost model need to know of a category.

    Attributes:
        category: Key in `CATALOG` and stem of the part file.
        kind: Role. Only `target` is searched for; `fragile` and `equipment` are hazards;
            `handheld` fits between the fingers.
        words: Names used in instructions, the canonical one first.
        size: Full extents (x, y, z) in m at yaw 0, centred on the origin in x and y, from the
            floor up. +x is the front, the side from which the thing is used.
        mass: Mass in kg.
        movable: Whether it may have a free joint. What is not movable is always fixed.
        fragility: Class of `FRAGILITY_CLASSES`, or None.
        keepout: Whether the part has a geom `keepout` that nothing should enter.
        drives: Whether it can move by itself; such a thing is placed as a `Mover` only.
        supports: Flat places for other things, (height, half x, half y) in m around the origin.
        placement: `floor` free-standing, `wall` with the back (-x) to a wall, `surface` on a
            support.
        rooms: Kinds of room where it is at home, of `ROOMS`.
        variants: One mapping of material swaps per look. The first is empty: the part as drawn.
        colours: What each look is called by, where an instruction may tell it from the others.
    """

    category: str
    kind: Kind
    words: tuple[str, ...]
    size: tuple[float, float, float]
    mass: float
    movable: bool
    fragility: str | None = None
    keepout: bool = False
    drives: bool = False
    supports: tuple[tuple[float, float, float], ...] = ()
    placement: Placement = "floor"
    rooms: tuple[str, ...] = ROOMS
    variants: tuple[Mapping[str, str], ...] = ({},)
    colours: tuple[str, ...] = ()

    @property
    def contact_force_limit(self) -> float:
        """Contact force in N from which the thing counts as damaged; inf if it is not fragile."""
        return math.inf if self.fragility is None else FRAGILITY[self.fragility]

    @property
    def bears(self) -> FragilityClass:
        """What it bears: its class's values, or `RUGGED`."""
        return RUGGED if self.fragility is None else FRAGILITY_CLASSES[self.fragility]

    def colour(self, variant: int) -> str:
        """Returns what a look is called by; "" if by nothing."""
        return self.colours[variant] if self.colours else ""

    @property
    def half_length(self) -> float:
        """Half the longer side of its footprint in m: the radius of what is round."""
        return max(self.size[:2]) / 2

    @property
    def radius(self) -> float:
        """Radius in m of the smallest circle around the origin that holds its footprint."""
        return 0.5 * math.hypot(self.size[0], self.size[1])


class _Catalog(dict[str, ObjectSpec]):
    def __missing__(self, category: str) -> ObjectSpec:
        raise KeyError(f"unknown category {category!r}; allowed: {', '.join(sorted(self))}")


def part_path(category: str) -> Path:
    """Returns the MJCF file that holds the geometry of a category."""
    return assets_dir() / "objects" / f"{CATALOG[category].category}.xml"


def _parse(kind: str, category: str, entry: dict[str, Any]) -> ObjectSpec:
    where = f"catalog.yaml: {category}"
    known = {field.name for field in fields(ObjectSpec)} - {"category", "kind"}
    if unknown := set(entry) - known:
        raise ValueError(f"{where}: unknown key {sorted(unknown)}; allowed: {sorted(known)}")
    spec = ObjectSpec(
        category=category,
        kind=kind,  # type: ignore[arg-type]
        words=tuple(entry["words"]),
        size=tuple(float(x) for x in entry["size"]),  # type: ignore[arg-type]
        mass=float(entry["mass"]),
        movable=entry.get("movable", kind != "furniture"),
        fragility=entry.get("fragility"),
        keepout=entry.get("keepout", kind == "equipment"),
        drives=entry.get("drives", False),
        supports=tuple(tuple(map(float, s)) for s in entry.get("supports", ())),  # type: ignore[misc]
        placement=entry["placement"],
        rooms=tuple(entry["rooms"]),
        variants=({}, *entry.get("variants", ())),
        colours=tuple(entry.get("colours", ())),
    )
    if spec.colours and len(spec.colours) != len(spec.variants):
        raise ValueError(f"{where}: colours={spec.colours}; {len(spec.variants)} looks have one")
    for name, value, allowed in (
        ("kind", spec.kind, get_args(Kind)),
        ("placement", spec.placement, get_args(Placement)),
        ("fragility", spec.fragility, (None, *FRAGILITY)),
        *(("rooms", room, ROOMS) for room in spec.rooms),
    ):
        if value not in allowed:
            raise ValueError(f"{where}: {name}={value!r}; allowed: {allowed}")
    return spec


_TREE: Any = OmegaConf.to_container(OmegaConf.load(assets_dir() / "objects" / "catalog.yaml"))
CATALOG = _Catalog(
    (category, _parse(kind, category, entry))
    for kind, group in _TREE.items()
    for category, entry in group.items()
)
"""Every category by name; an unknown one is a `KeyError` that lists what is allowed."""
