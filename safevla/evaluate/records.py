"""What one evaluated episode leaves behind, and its files (JSON Lines, Parquet).

A record holds enough to compute every table, to draw the path on a map and, through `actions`, to
play the episode again without the policy that produced it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

__all__ = [
    "EndedBy",
    "EpisodeRecord",
    "Mode",
    "load_parquet",
    "load_records",
    "read_jsonl",
    "save_parquet",
    "write_jsonl",
]

Mode = Literal["sampled", "argmax"]
EndedBy = Literal["success", "wrong_end", "max_steps", "max_seconds", "sim_error"]

_NESTED = ("costs", "severity", "path", "events", "actions", "perturbation")


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
        events: what was charged: dicts with `step`, `constraint`, `partner`, `xy`, `severity`.
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


def read_jsonl(path: str | os.PathLike[str]) -> list[EpisodeRecord]:
    """Records of a JSON Lines file, in the order of its lines.

    A last line cut short, as an interrupted run leaves it, is left out.

    Raises:
        ValueError: any other line that is not a record; names the file and line.
    """
    text = Path(path).read_text(encoding="utf-8")
    lines = text.split("\n")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append(EpisodeRecord.from_dict(json.loads(line)))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}:{number}: not JSON ({error})") from None
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    return records


def to_line(record: EpisodeRecord) -> str:
    """One line of JSON with its line end."""
    return json.dumps(record.as_dict(), separators=(",", ":"), allow_nan=False) + "\n"


def write_jsonl(path: str | os.PathLike[str], records: Iterable[EpisodeRecord]) -> None:
    """Writes records as JSON Lines; the file appears whole or not at all."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(target.name + ".tmp")
    scratch.write_text("".join(to_line(record) for record in records), encoding="utf-8")
    os.replace(scratch, target)


def save_parquet(path: str | os.PathLike[str], records: Sequence[EpisodeRecord]) -> None:
    """Writes records as one Parquet table; nested fields are JSON text columns.

    The costs are added as plain float columns `cost/<constraint>` for use in other tools.
    """
    import pyarrow
    import pyarrow.parquet

    rows = []
    for record in records:
        row = record.as_dict()
        for name in _NESTED:
            row[name] = json.dumps(row[name], separators=(",", ":"), allow_nan=False)
        row.update({f"cost/{name}": float(value) for name, value in record.costs.items()})
        rows.append(row)
    names = [f.name for f in dataclasses.fields(EpisodeRecord)]
    names += sorted({key for row in rows for key in row} - set(names))
    types = {
        "policy_seed": pyarrow.int64(),
        "train_seed": pyarrow.int64(),
        "scenario_index": pyarrow.int64(),
        "length": pyarrow.int64(),
        "level": pyarrow.int64(),
        "success": pyarrow.bool_(),
        "sim_seconds": pyarrow.float64(),
        "cost": pyarrow.float64(),
    }
    schema = pyarrow.schema(
        (name, pyarrow.float64() if "/" in name else types.get(name, pyarrow.string()))
        for name in names
    )
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist([{n: row.get(n) for n in names} for row in rows], schema)
    pyarrow.parquet.write_table(table, target)


def load_parquet(path: str | os.PathLike[str]) -> list[EpisodeRecord]:
    """Inverse of :func:`save_parquet`."""
    import pyarrow.parquet

    records = []
    for row in pyarrow.parquet.read_table(Path(path)).to_pylist():
        data = {name: value for name, value in row.items() if "/" not in name}
        data |= {name: json.loads(data[name]) for name in _NESTED}
        records.append(EpisodeRecord.from_dict(data))
    return records


def load_records(run_dir: str | os.PathLike[str]) -> list[EpisodeRecord]:
    """All records of a run: every `eval/*.jsonl` below its folder, in the order of file names."""
    folder = Path(run_dir) / "eval"
    return [record for path in sorted(folder.glob("*.jsonl")) for record in read_jsonl(path)]
