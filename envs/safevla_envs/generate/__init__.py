"""Seed + knobs -> `Scenario`, by rejection with counted reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from safevla_envs.generate.goals import instruction_for
from safevla_envs.generate.hazards import BUILT_IN
from safevla_envs.generate.inventory import Inventory, draw_inventory
from safevla_envs.generate.knobs import Knobs, knob_ranges, knobs_for, named_knobs
from safevla_envs.generate.layout import Layout, Rejected, make_layout, without_passage
from safevla_envs.generate.passage import passable
from safevla_envs.generate.placement import Placed, place
from safevla_envs.instruction import encode_instruction
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.occupancy import OccupancyGrid
from safevla_envs.scenes.scenario import HAZARDS, IMPOSSIBLE, SPLITS, Scenario

__all__ = ["SPLITS", "Knobs", "Recipe", "check_detour", "generate", "knob_ranges", "knobs_for"]

MAX_DRAWS = 200


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a home is generated for.

    Attributes:
        task: whose scenarios these are.
        stock: draws what a layout holds besides furniture, whatever it is, from a generator, the
            scenario without anything in it, the layout and the knobs.
        fill: puts that and the robot into the layout; takes the same, the stock before the knobs.
        knobs: overrides of a level's knobs, where the caller has none.
    """

    task: str
    stock: Callable[[np.random.Generator, Scenario, Layout, Knobs], Any]
    fill: Callable[[np.random.Generator, Scenario, Layout, Any, Knobs], Scenario]
    knobs: Mapping[str, Any] = field(default_factory=dict)


def generate(
    seed: int,
    *,
    split: str = "train",
    level: float = 1.0,
    hazards: Sequence[str] = HAZARDS,
    knobs: dict[str, Any] | None = None,
    layout_seed: int | None = None,
    impossible: str = "",
    rejections: Counter[str] | None = None,
    recipe: Recipe | None = None,
) -> Scenario:
    """Generates a scenario.

    Args:
        seed: any non-negative integer; the stream is `SeedSequence([seed, split])`, so that no
            training seed reaches a validation scenario.
        split: "train" or "val".
        level: hazard level in [0, 2], see `knobs.LEVELS`.
        hazards: subset of `scenario.HAZARDS` to place.
        knobs: overrides of `Knobs` fields.
        layout_seed: scenarios of equal layout seed, split, level, hazards and knobs share rooms,
            furniture and the set of bodies, so that one compiled model serves them all.
        impossible: "absent": the instruction names something that is not there; "no_passage": the
            target stands in a room that cannot be entered; "": the goal can be reached.
        rejections: counts why draws were discarded, if given.
        recipe: of another task than ObjNav.

    Raises:
        ValueError: on an unknown split, hazard, knob or `impossible`, a level outside [0, 2], or
            knobs that 200 draws cannot satisfy (the message counts the reasons).
    """
    hazards = (hazards,) if isinstance(hazards, str) else hazards
    recipe = recipe or OBJNAV
    values = knobs_for(level, {**recipe.knobs, **(knobs or {})})
    _checked(split, hazards, impossible, values)
    hazards = tuple(h for h in HAZARDS if h in hazards)
    rng = layout_rng = np.random.default_rng([seed, SPLITS[split]])
    if layout_seed is not None:
        layout_rng = np.random.default_rng([layout_seed, SPLITS[split], 7])
    empty = _empty(recipe.task, values, seed, split, level, hazards, impossible)
    drawn, reasons = None, Counter[str]()
    for draw in range(1, MAX_DRAWS + 1):
        try:
            if drawn is None:
                layout = _layout(layout_rng, values, hazards)
                drawn = layout, recipe.stock(layout_rng, empty, layout, values)
            return recipe.fill(rng, empty, *drawn, values)
        except Rejected as reason:
            for counter in (reasons, rejections):
                if counter is not None:
                    counter[str(reason)] += 1
            # a given layout is redrawn only while it is itself impossible
            if layout_seed is None or drawn is None or draw % 25 == 0:
                drawn = None
    raise ValueError(f"no valid scenario in {MAX_DRAWS} draws for knobs {knobs}: {dict(reasons)}")


def _checked(split: str, hazards: Sequence[str], impossible: str, values: Knobs) -> None:
    """Checks the arguments of `generate`."""
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: allowed are {', '.join(SPLITS)}")
    for hazard in hazards:
        if hazard not in HAZARDS:
            raise ValueError(f"hazard {hazard!r}: allowed are {', '.join(HAZARDS)}")
    if impossible not in IMPOSSIBLE:
        raise ValueError(f"impossible={impossible!r}: allowed are {IMPOSSIBLE}")
    if impossible == "absent" and values.n_distractors + 1 >= len(values.targets):
        raise ValueError(
            f"knob n_distractors={values.n_distractors}: leaves none of targets to be absent"
        )


def _empty(
    task: str,
    values: Knobs,
    seed: int,
    split: str,
    level: float,
    hazards: tuple[str, ...],
    impossible: str,
) -> Scenario:
    """Returns the scenario before anything is drawn."""
    return Scenario(
        task=task,
        seed=int(seed),
        split=split,
        level=float(level),
        hazards=hazards,
        knobs=named_knobs(values),
        rooms=(),
        doorways=(),
        furniture=(),
        objects=(),
        robot_start=(0.0, 0.0, 0.0),
        target_category="",
        instruction="",
        impossible=impossible,
    )


def _layout(rng: np.random.Generator, values: Knobs, hazards: tuple[str, ...]) -> Layout:
    """Draws rooms and furniture, and what hazards add to them."""
    layout = make_layout(rng, values)
    for furnish in filter(None, (BUILT_IN[hazard].furnish for hazard in hazards)):
        layout = furnish(rng, layout, values)
    return layout


def _stock(rng: np.random.Generator, empty: Scenario, layout: Layout, values: Knobs) -> Inventory:
    return draw_inventory(rng, values, empty.hazards, layout)


def _fill(
    rng: np.random.Generator,
    empty: Scenario,
    layout: Layout,
    inventory: Inventory,
    values: Knobs,
) -> Scenario:
    """Puts everything into a layout, and checks that a way round remains."""
    closed = None
    if empty.impossible == "no_passage":
        layout, closed = without_passage(rng, layout)
    home = replace(empty, rooms=layout.rooms, doorways=layout.doorways, furniture=layout.furniture)
    placed = place(rng, home, layout, inventory, values, closed)
    category = placed.category
    if empty.impossible == "absent":
        present = {kind[0] for kind in inventory.targets}
        category = str(rng.choice([c for c in values.targets if c not in present]))
        placed = replace(
            placed,
            objects=tuple(
                replace(p, role="distractor") if p.role == "target" else p for p in placed.objects
            ),
        )
    instruction = instruction_for(category, rng)
    encode_instruction(instruction)
    scenario = replace(
        home,
        objects=placed.objects,
        movers=placed.movers,
        robot_start=placed.journey.start,
        target_category=category,
        instruction=instruction,
    )
    check_detour(scenario, placed)
    return scenario


OBJNAV = Recipe(task="ObjNav", stock=_stock, fill=_fill)


def check_detour(scenario: Scenario, placed: Placed) -> None:
    """Checks on the finished scenario that the robot's outline fits along the detour.

    Raises:
        Rejected: if it does not, or cannot turn to the goal at the detour's end.
    """
    journey = placed.journey
    grid = OccupancyGrid(scenario, hazards=True, objects=True)
    for mover in placed.movers:
        if mover.role == "equipment":
            grid.mark_line(mover.path, CATALOG[mover.category].size[0] / 2)
    x, y, yaw = journey.start
    way = np.zeros(grid.occupied.shape, bool)
    for point in placed.detour:
        way[grid.cell(*point)] = True
    xx, yy = np.meshgrid(grid.x, grid.y)
    bearing = np.arctan2(journey.goal[1] - yy, journey.goal[0] - xx)
    if not passable(grid.clearance, way, (*grid.cell(x, y), yaw), journey.sight, bearing):
        raise Rejected("no_way_round_the_hazards")
