"""Random search over scenario knobs for scenarios in which a policy causes cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from safevla.elicit.found import Found, save_found
from safevla.files import appending, whole_lines
from safevla_envs.generate import Knobs
from safevla_envs.scenes.scenario import Scenario
from safevla_envs.tasks import DEFAULT_TASK, make_task
from safevla_envs.tasks.task import Task

if TYPE_CHECKING:
    from safevla.evaluate.records import EpisodeRecord

__all__ = ["Rollout", "check_names", "draw_scenarios", "sample_knobs", "search"]

_ORDERED = (("room_side_min", "room_side_max"), ("target_distance_min", "target_distance_max"))
BATCH = 16
"""Scenarios per call of the rollout: the grain of progress and of resuming."""


Rollout = Callable[[Sequence[Scenario], int], "Sequence[EpisodeRecord]"]
"""(scenarios, policy seed) -> one record per scenario in the same order, actions sampled."""


def check_names(names: Sequence[str], ranges: Mapping[str, tuple[float, float]]) -> None:
    """Checks names of knobs to search.

    Raises:
        ValueError: for a name that is no knob with a range.
    """
    for name in names:
        if name not in ranges:
            allowed = ", ".join(ranges) or "none: the task has no knobs"
            raise ValueError(f"elicit.knobs: {name!r} is unknown; allowed are {allowed}")


def sample_knobs(
    rng: np.random.Generator,
    names: Sequence[str],
    fixed: dict[str, Any],
    ranges: Mapping[str, tuple[float, float]],
) -> dict[str, Any]:
    """Draws the named knobs uniformly within their ranges, the others as in `fixed`.

    A pair of a smallest and a largest length that comes out in the wrong order is exchanged where
    both were drawn, else drawn again.

    Raises:
        ValueError: for a name that is no knob with a range.
    """
    check_names(names, ranges)
    defaults = {f.name: f.default for f in fields(Knobs)}
    while True:
        values = dict(fixed)
        for name in names:
            low, high = ranges[name]
            if isinstance(defaults[name], int):
                values[name] = int(rng.integers(int(low), int(high) + 1))
            else:
                values[name] = round(float(rng.uniform(low, high)), 4)
        for low_name, high_name in _ORDERED:
            low, high = (values.get(n, defaults[n]) for n in (low_name, high_name))
            if low > high and low_name in names and high_name in names:
                values[low_name], values[high_name] = high, low
        in_order = (values.get(a, defaults[a]) <= values.get(b, defaults[b]) for a, b in _ORDERED)
        if all(in_order):
            return values


def draw_scenarios(
    *,
    seed: int,
    names: Sequence[str],
    fixed: dict[str, Any],
    level: float,
    hazards: Sequence[str],
    task: Task | None = None,
) -> Iterator[tuple[Scenario, dict[str, Any]]]:
    """Yields scenarios with the knobs they were made from, for ever, the same for a seed.

    They are of `task`, ObjNav if None. A task without knobs gives its scenarios one after the
    other. Knobs that no scenario satisfies are skipped. Scenarios belong to the training split: no
    validation scenario can be among them.
    """
    task = task or make_task(DEFAULT_TASK)
    ranges = task.knob_ranges()
    names = tuple(names) or tuple(ranges)
    index = 0
    failures = 0
    while True:
        rng = np.random.default_rng(np.random.SeedSequence([seed, index, 0xE11C17]))
        values = sample_knobs(rng, names, fixed, ranges)
        scenario_seed = int(rng.integers(2**31))
        index += 1
        try:
            scenario = task.generate(
                scenario_seed, split="train", level=level, hazards=hazards, knobs=values
            )
        except ValueError as error:
            failures += 1
            if failures > 50:
                raise ValueError(
                    f"elicit: no knobs drawn can be satisfied; last: {error}"
                ) from None
            continue
        failures = 0
        yield scenario, {name: values[name] for name in names}


def search(
    rollout: Rollout,
    drawn: Iterator[tuple[Scenario, dict[str, Any]]],
    *,
    scenarios: int,
    rollouts: int,
    keep: int,
    folder: Path,
    policy_seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Found]:
    """Tries scenarios and keeps the costliest.

    Writes `found.jsonl.gz` (kept, costliest first) and, while it runs, `tried.jsonl` (all, in the
    order of drawing); an interrupted search goes on after the last scenario in the latter.

    Of the scenarios `drawn` by `draw_scenarios` at most `keep` are kept, none without cost. Rollout
    r acts with `policy_seed + r`. Returns what was kept; ties are in the order of drawing.
    """
    journal = folder / "tried.jsonl"
    tried = _read_journal(journal)[:scenarios]
    for _ in tried:
        next(drawn)
    progress(len(tried), scenarios)
    with appending(journal, [item.to_json() for item in tried]) as append:
        while len(tried) < scenarios:
            batch = [next(drawn) for _ in range(min(BATCH, scenarios - len(tried)))]
            worlds = [scenario for scenario, _ in batch]
            outcomes = [rollout(worlds, policy_seed + r) for r in range(rollouts)]
            for i, (scenario, knobs) in enumerate(batch):
                tried.append(_score(scenario, knobs, [episodes[i] for episodes in outcomes]))
                append(tried[-1].to_json())
            progress(len(tried), scenarios)
    found = sorted((item for item in tried if item.cost > 0), key=lambda item: -item.cost)[:keep]
    save_found(folder / "found.jsonl.gz", found)
    return found


def _score(scenario: Scenario, knobs: dict[str, Any], episodes: Sequence[EpisodeRecord]) -> Found:
    for episode in episodes:
        if episode.scenario_id != scenario.scenario_id:
            raise RuntimeError(
                f"rollout returned {episode.scenario_id} for scenario {scenario.scenario_id}"
            )
    valid = [episode for episode in episodes if episode.sim_error is None]
    n = max(len(valid), 1)
    names = sorted({name for episode in valid for name in episode.costs})
    return Found(
        scenario=scenario,
        knobs=knobs,
        cost=sum(e.cost for e in valid) / n,
        costs={name: sum(e.costs[name] for e in valid) / n for name in names},
        success=sum(e.success for e in valid) / n,
        rollouts=len(valid),
    )


def _read_journal(path: Path) -> list[Found]:
    try:
        return [Found.from_json(line) for line in whole_lines(path)]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to search anew") from None
