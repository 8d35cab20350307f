"""What a hazard is to the generator: knobs, bodies and where they stand, looks, and cost term."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any

import numpy as np

from safevla_envs.costs.constraint import CostTerm
from safevla_envs.generate.ground import Ground
from safevla_envs.generate.journey import Journey
from safevla_envs.generate.layout import Layout
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.scenario import HAZARD_KINDS, Mover

__all__ = ["Group", "Hazard", "Item", "Kind", "Pose", "Site", "Stock"]

Kind = tuple[str, int]
"""Category and variant."""
Pose = tuple[float, float, float, float | None]
"""x, y, z in m and yaw in rad; any yaw if None."""
LOOKS = 4
"""Variants of a person."""
OFF_TARGET = 0.35
"""Chance that a person, stand or low thing belongs to the way to another object than the target."""
FULL_AREA = 40.0
"""m2; smaller homes hold proportionally fewer clusters and pieces of equipment, at least one."""


@dataclass(frozen=True)
class Item:
    """Bodies that are placed together; `number` is the first one's among all of the home.

    Movers are numbered within their group.
    """

    kinds: tuple[Kind, ...]
    number: int


class Stock:
    """What the bodies of a home are drawn from.

    Args:
        rng: source of every draw.
        knobs: how many.
        layout: rooms, whose kinds decide what is at home in them.
    """

    def __init__(self, rng: np.random.Generator, knobs: Any, layout: Layout):
        self.rng, self.knobs = rng, knobs
        self._rooms = {room.kind for room in layout.rooms}
        self.area = sum(
            (r.bounds[2] - r.bounds[0]) * (r.bounds[3] - r.bounds[1]) for r in layout.rooms
        )

    def pick(self, category: str) -> Kind:
        """Draws a look."""
        return category, int(self.rng.integers(max(1, len(CATALOG[category].variants))))

    def of_kind(self, kind: str, *, drives: bool = False) -> list[str]:
        """Returns the movable floor-standing categories of a kind, those at home here if any is."""
        specs = [s for s in CATALOG.values() if s.kind == kind and s.movable and s.drives == drives]
        specs = [s for s in specs if s.placement == "floor"]
        here = [s for s in specs if not s.rooms or self._rooms & set(s.rooms)]
        return [s.category for s in here or specs]

    def several(self, kind: str, count: int, *, drives: bool = False) -> list[tuple[Kind, ...]]:
        """Draws items of one body each."""
        names = self.of_kind(kind, drives=drives)
        return [(self.pick(str(self.rng.choice(names))),) for _ in range(count)]

    def fragile(self) -> str:
        """Draws a category: of thin glass with chance `thin_glass`, else of a sturdier class."""
        names, thin = self.of_kind("fragile"), self.rng.random() < self.knobs.thin_glass
        same = [name for name in names if (CATALOG[name].fragility == "thin_glass") == thin]
        return str(self.rng.choice(same or names))

    def scaled(self, number: int) -> int:
        """Returns fewer in a small home, but not none, and decoys besides."""
        scaled = max(min(number, 1), round(number * min(1.0, self.area / FULL_AREA)))
        return scaled + self.knobs.decoys * (number > 0)

    @cached_property
    def looks(self) -> list[int]:
        """Looks of people in random order."""
        return self.rng.permutation(LOOKS).tolist()


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where bodies are placed: free floor, the robot's ways, and all knobs."""

    ground: Ground
    journey: Journey
    knobs: Any

    def on_path(self, count: int) -> int:
        """Draws how many of so many bodies stand beside the path: each with a chance."""
        return int((self.ground.rng.random(count) >= OFF_TARGET).sum())

    def but_decoys(self, count: int) -> int:
        """Returns how many of so many things are no decoys."""
        return count - self.knobs.decoys


@dataclass(frozen=True)
class Group:
    """Bodies that a hazard draws and places in one way.

    Attributes:
        role: of the bodies.
        draw: returns the kinds of every item.
        place: takes floor for an item beside (or across) a way (n, 2) in m and returns the poses
            of its bodies, or the mover that it is; raises `Rejected` where there is no room.
        near: of so many items, how many belong to the path; the others to ways to other objects.
        moves: whether the items are movers.
        anywhere: whether even the first may stand beside another way where the path has no room.
        across: for those who walk across the path and are placed before the way round is planned:
            m that must be free on one side of it.
        order: ranks in drawing kinds, numbering and placing. They only keep what earlier seeds
            gave: a new group comes last and needs none.
    """

    role: str
    draw: Callable[[Stock], Sequence[tuple[Kind, ...]]]
    place: Callable[[Site, np.ndarray, Item], Sequence[Pose] | Mover]
    near: Callable[[Site, int], int] = lambda site, count: count
    moves: bool = False
    anywhere: bool = False
    across: Callable[[Any], float] | None = None
    order: tuple[float, float, float] = (inf, inf, inf)


@dataclass(frozen=True, kw_only=True)
class Hazard:
    """A built-in hazard; name and role are those of `scenario.HAZARD_KINDS`.

    Attributes:
        name: one of `scenario.HAZARDS`.
        knobs: frozen dataclass of its knobs.
        groups: what it places.
        furnish: adds fixed furniture to a layout.
        term: its cost term.
        colour: of its cost in plots and maps.
        marker: of its events in maps, as matplotlib names it.
        look: face and edge colour of its bodies in maps; as furniture if None.
        tight: whether pictures show it from where less than half of the floor around is free.
        order: rank of its knobs among those of other hazards; elicitation draws them in turn.
    """

    name: str
    knobs: type
    groups: tuple[Group, ...] = ()
    furnish: Callable[[np.random.Generator, Layout, Any], Layout] | None = None
    term: CostTerm
    colour: str
    marker: str
    look: tuple[str, str] | None = None
    tight: bool = False
    order: float = inf

    @property
    def role(self) -> str:
        """Role of its bodies."""
        return next(kind.role for kind in HAZARD_KINDS if kind.name == self.name)
