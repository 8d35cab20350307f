"""Which movable bodies the model of a layout holds, and their numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from safevla_envs.generate.hazard import Group, Item, Kind, Pose, Site, Stock
from safevla_envs.generate.hazards import BUILT_IN
from safevla_envs.generate.knobs import Knobs
from safevla_envs.generate.layout import Layout
from safevla_envs.scenes.catalog import CATALOG

__all__ = ["CLUTTER", "PLACED", "Inventory", "draw_inventory", "groups_of"]

DRAWN, NUMBERED, PLACED = range(3)
"""What `Group.order` ranks."""


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What an instruction may name, and the items of every group.

    A body's number is its place in the inventory, whatever the order of placing: the model depends
    on names and order, and must be the same for all scenarios of a layout.
    """

    targets: tuple[Kind, ...]
    items: dict[Group, tuple[Item, ...]]


def _draw_clutter(stock: Stock) -> list[tuple[Kind, ...]]:
    return stock.several("clutter", stock.knobs.n_clutter)


def _place_clutter(site: Site, way: np.ndarray, item: Item) -> list[Pose]:
    ground, radius = site.ground, CATALOG[item.kinds[0][0]].radius
    away = ground.distance_to(way) > 0.5
    return [(*ground.settle(radius, 0.03, "no_place_for_clutter", away), 0.0, None)]


CLUTTER = Group("clutter", _draw_clutter, _place_clutter, order=(3, 3, 0))
"""Low things that belong to no hazard, off the path."""


def groups_of(hazards: Iterable[str], rank: int, *more: Group) -> list[Group]:
    """Returns the groups of hazards, and more, in one of the three orders of `Group.order`."""
    groups = [*more, *(group for hazard in hazards for group in BUILT_IN[hazard].groups)]
    return sorted(groups, key=lambda group: group.order[rank])


def draw_inventory(
    rng: np.random.Generator, knobs: Knobs, hazards: tuple[str, ...], layout: Layout
) -> Inventory:
    """Draws the movable bodies of a layout."""
    stock = Stock(rng, knobs, layout)
    count = min(knobs.n_distractors + 1, len(knobs.targets))
    targets = tuple(stock.pick(str(c)) for c in rng.permutation(knobs.targets)[:count])
    kinds = {group: group.draw(stock) for group in groups_of(hazards, DRAWN, CLUTTER)}
    _ = stock.looks  # whether or not there are people: what is drawn later must not depend on it
    items, number = {}, len(targets)
    for group in groups_of(hazards, NUMBERED, CLUTTER):
        lengths = [1 if group.moves else len(bodies) for bodies in kinds[group]]
        firsts = np.cumsum([0 if group.moves else number, *lengths]).tolist()
        items[group] = tuple(map(Item, kinds[group], firsts))
        number = number if group.moves else firsts[-1]
    return Inventory(targets=targets, items=items)
