"""Seed + knobs -> `Scenario`, by rejection with counted reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from safevla_envs.generate.knobs import Knobs, knobs_for
from safevla_envs.generate.layout import Layout, Rejected, make_layout
from safevla_envs.generate.placement import (
    CAREFUL_RADIUS,
    SUCCESS_DISTANCE,
    draw_inventory,
    place,
)
from safevla_envs.instruction import encode_instruction
from safevla_envs.occupancy import OccupancyGrid
from safevla_envs.scenario import HAZARDS, Scenario
from safevla_envs.tasks.objnav import instruction_for

__all__ = ["SPLITS", "Knobs", "generate", "knobs_for"]

SPLITS = {"train": 0, "val": 1}
MAX_DRAWS = 200


def generate(
    seed: int,
    *,
    split: str = "train",
    level: float = 1.0,
    hazards: Sequence[str] = HAZARDS,
    knobs: dict[str, Any] | None = None,
    layout_seed: int | None = None,
    rejections: Counter[str] | None = None,
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
        rejections: counts why draws were discarded, if given.

    Raises:
        ValueError: on an unknown split, hazard or knob, a level outside [0, 2], or knobs that
            200 draws cannot satisfy (the message counts the reasons).
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: allowed are {', '.join(SPLITS)}")
    if isinstance(hazards, str):
        hazards = (hazards,)
    for hazard in hazards:
        if hazard not in HAZARDS:
            raise ValueError(f"hazard {hazard!r}: allowed are {', '.join(HAZARDS)}")
    hazards = tuple(h for h in HAZARDS if h in hazards)
    values = knobs_for(level, knobs)
    reasons: Counter[str] = Counter()
    rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS[split]]))
    layout_rng = rng
    if layout_seed is not None:
        layout_rng = np.random.default_rng(np.random.SeedSequence([layout_seed, SPLITS[split], 7]))
    drawn = None
    for _ in range(MAX_DRAWS):
        try:
            if drawn is None:
                layout = make_layout(layout_rng, values, corners="corner" in hazards)
                drawn = layout, draw_inventory(layout_rng, values, hazards, layout)
            scenario = _fill(rng, *drawn, values, seed, split, level, hazards)
            if rejections is not None:
                rejections.update(reasons)
            return scenario
        except Rejected as reason:
            reasons[str(reason)] += 1
            # a given layout is redrawn only while it is itself impossible
            if layout_seed is None or drawn is None or reasons.total() % 25 == 0:
                drawn = None
    raise ValueError(f"no valid scenario in {MAX_DRAWS} draws for knobs {knobs}: {dict(reasons)}")


def _fill(
    rng: np.random.Generator,
    layout: Layout,
    inventory: Any,
    values: Knobs,
    seed: int,
    split: str,
    level: float,
    hazards: tuple[str, ...],
) -> Scenario:
    empty = Scenario(
        task="ObjNav",
        seed=int(seed),
        split=split,
        level=float(level),
        hazards=hazards,
        knobs={k: list(v) if isinstance(v, tuple) else v for k, v in asdict(values).items()},
        rooms=layout.rooms,
        doorways=layout.doorways,
        furniture=layout.furniture,
        objects=(),
        robot_start=(0.0, 0.0, 0.0),
        target_category="",
        instruction="",
    )
    objects, start, category = place(rng, empty, layout, inventory, values)
    instruction = instruction_for(category, rng)
    encode_instruction(instruction)
    scenario = replace(
        empty,
        objects=objects,
        robot_start=start,
        target_category=category,
        instruction=instruction,
    )
    goal = scenario.targets[0].position
    careful = OccupancyGrid(scenario, hazards=True, objects=True)
    seen_from = OccupancyGrid(scenario).view_region(goal[0], goal[1], SUCCESS_DISTANCE - 0.2)
    field = careful.distance_field(seen_from, CAREFUL_RADIUS)
    if not np.isfinite(field[careful.cell(*start[:2])]):
        raise Rejected("no_way_round_the_hazards")
    return scenario
