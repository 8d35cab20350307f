"""What one evaluated episode leaves behind, and its files (JSON Lines).

A record holds enough to compute every table, to draw the path on a map and, through `actions`, to
play the episode again without the policy that produced it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from safevla.files import read_jsonl, write_text

STILL_ACTIONS, STILL_RADIUS = 40, 0.3
"""An episode froze if it was cut with its base within this radius, in m, for so many actions."""

__all__ = ["EndedBy", "EpisodeRecord", "Mode", "load_records", "read_records", "write_records"]

Mode = Literal["sampled", "argmax"]
EndedBy = Literal["success", "wrong_end", "max_steps", "max_seconds", "sim_error"]


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """One evaluated episode.

    Attributes:
        arm: who acted (`task_only`, `lagrangian`, `random`, ...).
        suite: list evaluated on (`hazard`, `benign`, `elicited`, `ood-3`, ...).
        mode: `sampled` or `argmax`.
        policy_seed: seed of everything random in acting.
        train_seed: seed of the training run behind the policy; None for an untrained arm.
        scenario_index: position in the suite's list.
        scenario_id: content hash of the scenario.
        list_hash: content hash of the suite's list.
        setup: hash of environment arguments, perturbation and policy weights; episodes of
            different setups are never mixed in one file.
        instruction: the text the agent was given (after any swap).
        success: whether the task's own success condition held.
        length: actions taken.
        sim_seconds: simulated time, s.
        ended_by: what ended it.
        cost: charges of all incidents, episode sum.
        costs: charges per constraint, episode sums.
        severity: worst severity per constraint (`minor`, `moderate`, `severe`) or None.
        sim_error: message of a diverged simulation, or None.
        cost_semantics: version of the cost rules.
        level: perturbation level 1-5; 0 for none.
        perturbation: what the perturbation drew, per axis; empty for none.
        path: base positions [x, y] in m, one at the start and one after every action.
        events: what was charged: dicts with `step`, `constraint`, `partner`, `xy`, `severity`, ...;
            `seen`, whether a camera had it in view before; how far it has `moved`, m, and `tilted`,
            rad, at the end of the episode.
        actions: action indices, or lists of floats for continuous actions.
    """

    arm: str
    suite: str
    mode: Mode
    policy_seed: int
    train_seed: int | None = None
    scenario_index: int
    scenario_id: str
    list_hash: str
    setup: str = ""
    instruction: str
    success: bool
    length: int
    sim_seconds: float
    ended_by: EndedBy
    cost: float
    costs: dict[str, float]
    severity: dict[str, str | None]
    sim_error: str | None = None
    cost_semantics: str
    level: int = 0
    perturbation: dict[str, Any] = field(default_factory=dict)
    path: list[list[float]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, allowed in (("mode", get_args(Mode)), ("ended_by", get_args(EndedBy))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be one of {allowed}")
        if (self.sim_error is not None) != (self.ended_by == "sim_error"):
            raise ValueError(
                f"ended_by={self.ended_by!r} with sim_error={self.sim_error!r}: "
                "an episode ends by sim_error exactly when it has one"
            )

    @property
    def valid(self) -> bool:
        """Whether the simulation held: a diverged episode counts nowhere but in its own column."""
        return self.sim_error is None

    @property
    def froze(self) -> bool:
        """Whether it was cut by a limit while the robot had stood or turned on the spot."""
        last = np.array(self.path[-STILL_ACTIONS - 1 :]).reshape(-1, 2)
        cut = self.ended_by in ("max_steps", "max_seconds") and len(last) > STILL_ACTIONS
        return bool(cut and (np.hypot(*(last - last.mean(0)).T) <= STILL_RADIUS).all())

    @property
    def first_violation(self) -> float | None:
        """When the first charged violation began, in s of simulated time; None without one."""
        return min((e["onset_time"] for e in self.events if e["charged"]), default=None)

    @property
    def seed(self) -> tuple[int | None, int]:
        """(train_seed, policy_seed): the seed level of the bootstrap."""
        return self.train_seed, self.policy_seed

    @property
    def cell(self) -> tuple[tuple[int | None, int], str]:
        """(seed, scenario) of the episode, as the metrics take it.

        The position goes in with the hash: a list may name one scenario twice.
        """
        return self.seed, f"{self.list_hash}:{self.scenario_index}:{self.scenario_id}"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, in the order of the fields."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EpisodeRecord:
        """Inverse of :meth:`as_dict`.

        Raises:
            ValueError: a field unknown, missing or out of range.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ValueError(f"episode record has unknown fields {unknown}; known: {sorted(known)}")
        try:
            return cls(**data)
        except TypeError as error:
            raise ValueError(f"episode record is incomplete: {error}") from None


def read_records(path: Path) -> list[EpisodeRecord]:
    """Records of a JSON Lines file, in the order of its lines; [] without one.

    A last line cut short, as an interrupted run leaves it, is left out.

    Raises:
        ValueError: any other line that is not a record; names the file and line.
    """
    records = []
    for number, data in enumerate(read_jsonl(path), start=1):
        try:
            records.append(EpisodeRecord.from_dict(data))
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    return records


def to_line(record: EpisodeRecord) -> str:
    """One line of JSON, without its line end."""
    return json.dumps(record.as_dict(), separators=(",", ":"), allow_nan=False)


def write_records(path: Path, records: Iterable[EpisodeRecord]) -> None:
    """Writes records as JSON Lines; the file appears whole or not at all."""
    write_text(path, "".join(to_line(record) + "\n" for record in records))


def load_records(run_dir: Path) -> list[EpisodeRecord]:
    """All records of a run: every `eval/*.jsonl` below its folder, in the order of file names."""
    files = sorted((run_dir / "eval").glob("*.jsonl"))
    return [record for path in files for record in read_records(path)]
