"""How often each constraint is violated, by whom, where: the onset table.

An *onset* is an event that opens. For every policy, hazard list, its benign twin and level the
table gives onsets per 100 episodes of each constraint, mean cost and success, with 95 % intervals.
Episodes are kept as JSON Lines in blocks beside the numbers, so that a call that was stopped, or
one that asks for more episodes, runs only what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from safevla.display import Display
from safevla.evaluate.arms import Arm
from safevla.evaluate.records import EpisodeRecord
from safevla.evaluate.runner import run_jobs
from safevla.evaluate.worker import Job
from safevla_envs.proprioception import sensors_of
from safevla_envs.resources import assets_dir
from safevla_envs.scenes.scenario import Scenario, list_hash, load_list
from safevla_envs.tasks import DEFAULT_TASK, make_task

__all__ = ["SUITES", "Cell", "Listed", "cell_jobs", "run_table", "scenario_list"]

SUITES = ("hazard", "benign")
BLOCK = 20
"""Episodes per file of records."""
TITLES = {"hazard": "hazard", "benign": "twin"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Listed:
    """The hazard list of a level, or its twin, from a frozen list or from seeds: its source."""

    level: float
    suite: str
    scenarios: tuple[Scenario, ...]
    source: str

    @property
    def title(self) -> str:
        """Name in tables."""
        return f"level {self.level:g} {TITLES[self.suite]}"

    @property
    def hash(self) -> str:
        """Hash of the scenarios used."""
        return list_hash(self.scenarios)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One policy on one list, with its episodes."""

    arm: str
    listed: Listed
    records: tuple[EpisodeRecord, ...]

    @property
    def valid(self) -> list[EpisodeRecord]:
        """Episodes whose simulation held."""
        return [record for record in self.records if record.valid]


def env_kwargs(arm: Arm, *, side_steps: bool = False) -> dict[str, Any]:
    """Keyword arguments of the environment for an arm: the default, with all constraints.

    A checkpoint says itself which cameras, image size, sensors and actions it was made for; who
    looks at no image is given none.
    """
    if arm.checkpoint is None:
        return {"cameras": [], "side_steps": side_steps}
    config = json.loads((Path(arm.checkpoint) / "config.json").read_text())
    seen = {name: config[name] for name in ("cameras", "image_size")}
    seen["sensors"] = sensors_of(config["state_dim"])
    if config.get("action_head") != "categorical":
        return seen | {"action_mode": "continuous"}
    return seen | {"side_steps": "move_left" in config["action_names"]}


def scenario_list(
    level: float, suite: str, episodes: int, seed: int, task: str = DEFAULT_TASK
) -> Listed:
    """Takes the first scenarios of a level's frozen list, or generates them from `seed` on.

    Raises:
        ValueError: if the frozen list is shorter than `episodes`.
    """
    name = f"{task.lower()}_val200_level{level:g}_{suite}"
    path = assets_dir() / "scenarios" / f"{name}.jsonl.gz"
    if path.is_file():
        found = load_list(path)
        if len(found) < episodes:
            raise ValueError(f"--episodes {episodes}: the list {name} holds {len(found)}")
        return Listed(level=level, suite=suite, scenarios=tuple(found[:episodes]), source=name)
    generate = make_task(task).generate
    made = [generate(seed + i, split="val", level=level) for i in range(episodes)]
    if suite == "benign":
        made = [scenario.benign_twin() for scenario in made]
    source = f"generated, val seeds {seed} to {seed + episodes - 1}"
    return Listed(level=level, suite=suite, scenarios=tuple(made), source=source)


def cell_jobs(
    arm: Arm, listed: Listed, *, seed: int, folder: Path, side_steps: bool = False
) -> Iterator[tuple[Job, Path | None]]:
    """Yields the jobs of one policy, actions sampled, on one list, each with its file in `folder`.

    `side_steps` are for arms without a checkpoint.
    """
    kwargs = env_kwargs(arm, side_steps=side_steps)
    kwargs["id"] = f"safevla_envs:SafeVLA/{listed.scenarios[0].task}-v0"
    for first in range(0, len(listed.scenarios), BLOCK):
        job = Job(
            make_agent=arm,
            scenarios=listed.scenarios[first : first + BLOCK],
            env_kwargs=kwargs,
            policy_seed=seed + first,
            deterministic=False,
            arm=arm.name,
            suite=f"level{listed.level:g}-{listed.suite}",
        )
        # the name carries the block's content: another list or length starts a file of its own
        name = f"{arm.name}.{job.suite}.{first:04d}.{job.list_hash}.jsonl"
        yield job, folder / name


def run_table(
    arms: Sequence[Arm],
    lists: Sequence[Listed],
    *,
    seed: int,
    folder: Path,
    workers: int,
    side_steps: bool,
    display: Display,
) -> list[Cell]:
    """Runs what is missing of every policy on every list, and shows how far it is.

    Raises:
        ValueError: without policies, or if two have the same name.
        KeyboardInterrupt: after Ctrl-C; finished episodes are on disk.
    """
    names = [arm.name for arm in arms]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"policies {names}: there must be some, and their names must differ")
    todo = [
        (arm, listed, job, out)
        for arm, listed in product(arms, lists)
        for job, out in cell_jobs(arm, listed, seed=seed, folder=folder, side_steps=side_steps)
    ]
    records: dict[tuple[str, Listed], list[EpisodeRecord]] = {}
    with display.live():
        found = run_jobs([(job, out) for *_, job, out in todo], "onsets", workers, display)
    for (arm, listed, *_), block in zip(todo, found):
        records.setdefault((arm.name, listed), []).extend(block)
    return [
        Cell(arm=name, listed=listed, records=tuple(block))
        for (name, listed), block in records.items()
    ]
