"""Runs of one preset that differ in some settings, each on several seeds, and one table of them.

A sweep is a YAML file, in `configs/sweeps` or anywhere:

    preset: quick
    seeds: [0, 1, 2]
    overrides: ["arms=[lagrangian]", "eval.learned=[lagrangian]"]  # of every run
    variants:
      fixed 1: [train.multipliers.rule=fixed, train.multipliers.initial=1.0]
      relative: []

Runs of one seed share every stage that they have in common, and the same scenarios and policy
seeds in evaluation, so that variants are compared in pairs.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safevla.config import load_config, read_mapping, run_name
from safevla.display import Display
from safevla.evaluate.records import EpisodeRecord, load_records
from safevla.files import write_json, write_text
from safevla.pipeline.child import ChildProcess
from safevla_envs.resources import configs_dir

if TYPE_CHECKING:
    from safevla.report.tables import Difference, Row

__all__ = ["Sweep", "SweepRun", "load_sweep", "run_sweep", "sweep_records", "write_tables"]

POLL = 0.5
"""s between looks at the processes."""


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """One run: a variant on a seed."""

    variant: str
    seed: int
    overrides: tuple[str, ...]

    @property
    def folder_name(self) -> str:
        """Name of the run's folder, such as `fixed-1-seed0`."""
        return re.sub(r"[^\w.-]+", "-", self.variant).replace(".", "_") + f"-seed{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Variants of a preset: the name of each, and its overrides beside those of all."""

    name: str
    preset: str
    seeds: tuple[int, ...]
    overrides: tuple[str, ...]
    variants: dict[str, tuple[str, ...]]

    def runs(self) -> list[SweepRun]:
        """Every variant on every seed, variant by variant: what is cut short can be compared."""
        return [
            SweepRun(
                variant=name,
                seed=seed,
                overrides=(f"seed={seed}", "workers=1", *self.overrides, *overrides),
            )
            for name, overrides in self.variants.items()
            for seed in self.seeds
        ]


def load_sweep(name: str) -> Sweep:
    """Reads a sweep: a name in `configs/sweeps`, or a YAML file; checks every run's settings.

    Raises:
        ValueError: for a file that is missing or no sweep, or a setting that a run refuses; in one
            line.
    """
    folder = configs_dir() / "sweeps"
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ValueError(f"sweep {name!r}: allowed are {known}, or a .yaml file")
    content = read_mapping(path)
    keys = {"preset": str, "seeds": list, "overrides": list, "variants": dict}
    if set(content) != set(keys):
        raise ValueError(f"{path}: must hold exactly {', '.join(keys)}")
    for key, kind in keys.items():
        if not isinstance(content[key], kind) or (not content[key] and key != "overrides"):
            raise ValueError(f"{path}: {key} is {content[key]!r}; it must be a {kind.__name__}")
    if not all(isinstance(seed, int) and seed >= 0 for seed in content["seeds"]):
        raise ValueError(f"{path}: seeds is {content['seeds']!r}; it must be whole numbers from 0")
    sweep = Sweep(
        name=path.stem,
        preset=content["preset"],
        seeds=tuple(content["seeds"]),
        overrides=tuple(map(str, content["overrides"])),
        variants={str(k): tuple(map(str, v or ())) for k, v in content["variants"].items()},
    )
    for folder_name, times in Counter(run.folder_name for run in sweep.runs()).items():
        if times > 1:
            raise ValueError(f"{path}: {times} runs would share the folder {folder_name}")
    for run in sweep.runs():
        try:
            load_config(sweep.preset, run.overrides)
        except ValueError as error:
            raise ValueError(f"{path}: variant {run.variant!r}: {error}") from None
    return sweep


def run_sweep(sweep: Sweep, runs: Path, processes: int, display: Display) -> Path:
    """Makes every run that is not done, in `runs/<sweep>`, and returns that folder.

    What the preset's own run of a seed has in `runs` is copied from there, else the seed's first
    variant is run before the others, which copy from it. Interrupted, it goes on where it was.

    Raises:
        ValueError: a run refuses what it finds, such as results of other settings.
        RuntimeError: a run failed.
    """
    folder = runs / sweep.name
    rounds: tuple[list[tuple[SweepRun, Path | None]], ...] = ([], [])
    firsts: dict[int, Path] = {}
    for run in sweep.runs():
        preset = runs / run_name(sweep.preset, run.seed)
        done = preset if (preset / "stages").is_dir() else None
        source = done or firsts.get(run.seed)
        firsts.setdefault(run.seed, folder / run.folder_name)
        waits = done is None and source is not None
        rounds[waits].append((run, source))
    with display.live(), display.bar("runs", len(sweep.runs())) as update:
        finished = 0
        update(finished, "")
        for todo in rounds:
            for name in _run_all(sweep.preset, todo, folder, processes):
                finished += 1
                update(finished, f"({name})")
    return folder


def _run_all(
    preset: str, todo: Sequence[tuple[SweepRun, Path | None]], folder: Path, processes: int
) -> Iterator[str]:
    """Runs up to `processes` at once; yields names as they finish."""
    waiting, running = list(todo), list[ChildProcess]()
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                run, source = waiting.pop(0)
                running.append(_start(preset, run, source, folder))
            time.sleep(POLL)
            for child in [child for child in running if child.ended]:
                child.check()
                running.remove(child)
                yield child.name
    finally:
        for child in running:
            child.stop()


def _start(preset: str, run: SweepRun, source: Path | None, folder: Path) -> ChildProcess:
    name = run.folder_name
    arguments = ["safevla.cli", "isa", "--preset", preset, "--runs", str(folder), "--name", name]
    arguments += ["--last", "eval", *run.overrides]
    if source is not None:
        arguments += ["--reuse", str(source)]
    return ChildProcess(name, arguments, folder / "logs" / f"{name}.txt")


# ---- what came of it -------------------------------------------------------------------------


def sweep_rows(sweep: Sweep) -> dict[str, dict[str, str]]:
    """What each variant's learned arm is called: as the variant; several also by their names."""
    from safevla.report.style import arm_label

    named: dict[str, dict[str, str]] = {}
    for run in sweep.runs():
        arms = load_config(sweep.preset, run.overrides).eval.learned
        several = {arm: f"{run.variant}, {arm_label(arm)}" for arm in arms}
        named[run.variant] = several if len(arms) > 1 else dict.fromkeys(arms, run.variant)
    return named


def sweep_records(sweep: Sweep, folder: Path) -> list[EpisodeRecord]:
    """The learned arms' episodes of all runs that there are, called as `sweep_rows` says."""
    named = sweep_rows(sweep)
    return [
        replace(record, arm=named[run.variant][record.arm])
        for run in sweep.runs()
        for record in load_records(folder / run.folder_name)
        if record.arm in named[run.variant]
    ]


def write_tables(sweep: Sweep, folder: Path) -> Path:
    """Writes `table.md`, `results.json` and `<suite>.png` of the runs that there are.

    Differences are paired, to the first arm of the first variant. Returns the path of the table.

    Raises:
        ValueError: no run has been evaluated.
    """
    from safevla.report.plots import frontier
    from safevla.report.tables import difference, markdown_table, results_rows

    records = sweep_records(sweep, folder)
    if not records:
        raise ValueError(f"{folder}: no run of the sweep has been evaluated")
    rule = load_config(sweep.preset).train.multipliers
    budget = rule.total_budget if rule.signal == "total" else None
    base, *_ = order = [name for arms in sweep_rows(sweep).values() for name in arms.values()]
    rows = sorted(results_rows(records), key=lambda row: (row.suite, order.index(row.arm)))
    gaps = [difference(records, row.arm, base, row.suite, row.mode) for row in rows]
    for suite in {row.suite: None for row in rows}:
        shown = [row for row in rows if row.suite == suite]
        png = frontier(shown, f"{sweep.name}: success against cost, {suite} suite", budget)
        (folder / f"{suite}.png").write_bytes(png)
    content = [{"row": row, "difference": gap} for row, gap in zip(rows, gaps)]
    write_json(folder / "results.json", content)
    head = ("suite", "variant", "actions", "N", "success %", "cost", "ended by a limit %")
    head += (f"cost minus {base}", "success minus, points", "by seed")
    table = folder / "table.md"
    lines = (_line(row, gap) for row, gap in zip(rows, gaps))
    write_text(table, markdown_table(head, lines, texts=3) + "\n")
    return table


def _line(row: Row, gap: Difference) -> tuple[str, ...]:
    """A variant's line of the table."""
    from safevla.report.tables import format_number, format_rate

    cut = sum(row.ended_by.get(name, 0) for name in ("max_steps", "max_seconds"))
    cost, success = gap.metrics["cost"], gap.metrics["success"]
    by_seed = ", ".join(f"{seed}: {value:+.2f}" for seed, value in gap.by_seed["cost"].items())
    differs = (
        format_number(cost),
        format_rate(success, digits=1),
        by_seed.replace("-", "−"),
    )
    return (
        row.suite,
        row.arm,
        row.mode,
        str(row.episodes - row.sim_errors),
        format_rate(row.metrics["success"]),
        format_number(row.metrics["cost"]),
        f"{100 * cut / row.episodes:.0f}",
        *(("", "", "") if gap.arm == gap.base else differs),
    )
