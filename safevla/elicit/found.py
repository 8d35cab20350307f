"""Scenarios found by elicitation, and their file (`found.jsonl.gz`)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from safevla.files import replaced_file
from safevla_envs.scenes.scenario import Scenario

__all__ = ["Found", "Half", "half_of", "load_found", "save_found"]

Half = Literal["train", "eval"]


def half_of(scenario_id: str) -> Half:
    """Returns the half a scenario belongs to: even hashes train, odd ones are held out.

    Example:
        >>> half_of("00000000000000a4"), half_of("00000000000000a5")
        ('train', 'eval')
    """
    return "eval" if int(scenario_id, 16) % 2 else "train"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A scenario, the knobs it was drawn from, and how the searched policy fared in it.

    Means over `rollouts` episodes: `cost` (one charge per incident), `costs` per constraint and
    `success`.
    """

    scenario: Scenario
    knobs: dict[str, Any]
    cost: float
    costs: dict[str, float]
    success: float
    rollouts: int

    @property
    def half(self) -> Half:
        """`train` or `eval`, by scenario hash."""
        return half_of(self.scenario.scenario_id)

    def to_json(self) -> str:
        """Returns one line of JSON; the scenario keeps the form of `Scenario.to_json`."""
        record = asdict(self) | {
            "scenario": json.loads(self.scenario.to_json()),
            "scenario_id": self.scenario.scenario_id,
            "half": self.half,
        }
        return json.dumps(record, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Found:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: for anything else, or a scenario of another schema version.
        """
        record = json.loads(text)
        if not isinstance(record, dict) or "scenario" not in record:
            raise ValueError("not an elicited scenario: the JSON object has no 'scenario'")
        scenario = Scenario.from_json(json.dumps(record.pop("scenario")))
        values = {name: record[name] for name in record if name not in ("scenario_id", "half")}
        try:
            return cls(scenario=scenario, **values)
        except TypeError as error:
            raise ValueError(f"elicited scenario is incomplete: {error}") from None


def save_found(path: Path, found: Iterable[Found]) -> None:
    """Writes scenarios in the given order; the file appears whole or not at all."""
    text = "".join(item.to_json() + "\n" for item in found)
    with replaced_file(path) as scratch:
        scratch.write_bytes(gzip.compress(text.encode(), mtime=0))


def load_found(path: Path, half: Half | None = None) -> list[Found]:
    """Reads a file of `save_found`, costliest first; only one half if named.

    Raises:
        ValueError: if the file does not exist or holds something else; names file and line.
    """
    if not path.is_file():
        raise ValueError(f"elicited list {str(path)!r} does not exist")
    found = []
    for number, line in enumerate(gzip.decompress(path.read_bytes()).decode().splitlines(), 1):
        try:
            found.append(Found.from_json(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return [item for item in found if half is None or item.half == half]
