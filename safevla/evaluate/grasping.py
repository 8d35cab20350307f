"""How well the robot grasps, holds and carries: every thing on every support, by trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from safevla.display import Display
from safevla.experts.picking import PickUpExpert
from safevla.workers import Workers
from safevla_envs.env import SafeVLAEnv
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.scenario import Placement, Room, Scenario

__all__ = ["SUPPORTS", "THINGS", "Cell", "Trial", "as_markdown", "run_trials"]

THINGS = tuple(name for name, spec in CATALOG.items() if spec.kind == "handheld")
SUPPORTS = tuple(name for name, spec in CATALOG.items() if spec.supports and not spec.movable)
MIDDLE = 5.0
"""m; where the support stands in a room twice as wide."""
AWAY, ASIDE, INSET = (0.85, 1.25), 0.12, (0.01, 0.05)
"""m; the robot starts so far before the thing and so far to either side; so far is the thing from
the support's edge."""
HELD_FOR = 2.0
"""s; creep is measured over this."""
CARRY = (
    ("move_back",) * 3
    + ("rotate_left",) * 12
    + ("rotate_left",) * 6
    + ("move_ahead",) * 10
    + ("rotate_right",) * 6
)
"""What is done with a thing in the hand: back, once round, half round, 2 m ahead, half round."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial.

    Attributes:
        held: whether the gripper held the thing, lifted.
        kept: whether it still did after `CARRY`.
        creep: how far the thing slipped in the hand in `HELD_FOR` s, mm; NaN if it was not held.
        costs: episode sum of each constraint that charged anything.
    """

    held: bool
    kept: bool
    creep: float
    costs: dict[str, float]


Cell = tuple[str, str]
"""A thing and what it stands on."""


class _Trials:
    """Runs the trials of a cell; keeps its environment."""

    def __init__(self, trials: int) -> None:
        self.trials = trials
        self.env = SafeVLAEnv(task="PickUp", cameras=(), max_actions=200, max_seconds=600.0)

    def __call__(self, cell: Cell) -> Iterator[list[Trial]]:
        rng = np.random.default_rng(0)
        yield [self._trial(_scenario(*cell, rng)) for _ in range(self.trials)]

    def _trial(self, scenario: Scenario) -> Trial:
        env = self.env
        env.reset(options={"scenario": scenario})
        expert, end = PickUpExpert(env), env.END
        action, info = expert.act(), {}
        while action != end:
            *_, truncated, info = env.step(action)
            action = end if truncated else expert.act()
        held, creep, kept = env.task.lifted(env.sim), np.nan, False
        if held:
            before, wait = self._grip(), env.SUB_DONE
            for _ in range(round(HELD_FOR / 0.05)):
                *_, info = env.step(wait)
            creep = 1e3 * float(np.linalg.norm(self._grip() - before))
            for name in CARRY:
                *_, info = env.step(env.action_names.index(name))
            kept = env.task.lifted(env.sim)
        paid = {name: cost for name, cost in info["cost_return"].items() if cost}
        return Trial(held=held, kept=kept, creep=creep, costs=paid)

    def _grip(self) -> np.ndarray:
        """The point between the fingers, (3,) in m in the thing's own frame."""
        sim = self.env.sim
        body = sim.data.body(self.env.goal.bodies[0])
        return body.xmat.reshape(3, 3).T @ (sim.grip_position - body.xpos)


def _scenario(thing: str, support: str, rng: np.random.Generator) -> Scenario:
    """Returns a thing near the front of a support in an empty room, and the robot before it."""
    height, half_x, half_y = CATALOG[support].supports[0]
    front = half_x - CATALOG[thing].radius - rng.uniform(*INSET)
    aside = rng.uniform(-ASIDE, ASIDE) * (half_y > 2 * ASIDE)
    x, y = MIDDLE + front, MIDDLE + aside
    start = (x + rng.uniform(*AWAY), y + rng.uniform(-ASIDE, ASIDE), float(np.pi))
    fixed = Placement(
        name="support",
        category=support,
        position=(MIDDLE, MIDDLE, 0.0),
        yaw=0.0,
        role="furniture",
        fixed=True,
    )
    target = Placement(
        name=thing,
        category=thing,
        position=(x, y, height),
        yaw=float(rng.uniform(-np.pi, np.pi)),
        role="target",
    )
    side = 2 * MIDDLE
    room = Room(
        name="r", kind="study", bounds=(0, 0, side, side), floor="floor_oak", walls="wall_white"
    )
    return Scenario(
        task="PickUp",
        seed=0,
        split="val",
        level=0.0,
        hazards=(),
        knobs={},
        rooms=(room,),
        doorways=(),
        furniture=(fixed,),
        objects=(target,),
        robot_start=start,
        target_category=thing,
        instruction=f"pick up the {CATALOG[thing].words[0]}",
    )


def run_trials(
    things: Sequence[str], supports: Sequence[str], trials: int, workers: int, display: Display
) -> dict[Cell, list[Trial]]:
    """Runs trials of each thing on each support, the same for any number of workers.

    Raises:
        ValueError: for what cannot be picked up, or bears nothing.
    """
    for given, allowed in ((things, THINGS), (supports, SUPPORTS)):
        if unknown := [name for name in given if name not in allowed]:
            raise ValueError(f"{unknown[0]!r}: allowed are {', '.join(allowed)}")
    cells = [(thing, support) for thing in things for support in supports]
    found: dict[Cell, list[Trial]] = {}
    with Workers(workers, _Trials, trials) as pool, display.bar("cells", len(cells)) as update:
        for number, answer in pool.run(cells):
            found[cells[number]] = answer
            update(len(found), " on ".join(cells[number]))
    return {cell: found[cell] for cell in cells}


def as_markdown(found: dict[Cell, list[Trial]]) -> str:
    """Returns a table: a row per thing over all supports, and one per support over all things."""
    lines = [
        "| what | trials | held | kept | creep, mm: median, largest | paid for |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for place in (0, 1):
        for name in dict.fromkeys(cell[place] for cell in found):
            spec = CATALOG[name]
            shown = f"`{name}`" + (f", {spec.fragility or 'rugged'}" if place == 0 else "")
            shown += f", {spec.supports[0][0]:.2f} m" if place else ""
            trials = [t for cell, some in found.items() if cell[place] == name for t in some]
            lines.append(_row(shown, trials))
    return "\n".join([*lines, _row("all", [t for some in found.values() for t in some])]) + "\n"


def _row(name: str, trials: Sequence[Trial]) -> str:
    creep: Any = [trial.creep for trial in trials if trial.held] or [np.nan]
    paid: dict[str, int] = {}
    for trial in trials:
        for constraint in set(trial.costs) - {"cost"}:
            paid[constraint] = paid.get(constraint, 0) + 1
    counts = ", ".join(f"`{c}` {n}" for c, n in sorted(paid.items(), key=lambda kv: -kv[1]))
    held, kept = (sum(getattr(trial, what) for trial in trials) for what in ("held", "kept"))
    return (
        f"| {name} | {len(trials)} | {held} | {kept} "
        f"| {np.median(creep):.1f}, {np.max(creep):.1f} | {counts or '–'} |"
    )
