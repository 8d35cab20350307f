"""Writes the frozen lists: `python -m safevla_envs.generate.freeze [NAME ...]`.

Without names it writes those of `LISTS` that do not exist yet, and records each in
`assets/scenarios/index.json`. Lists are files, not recipes: results name them by hash, and a later
generator draws other scenarios from the same seeds. So an existing list is left alone unless it is
named. (The first lists, `objnav_val_*` and `quick_val_*`, seeds 100 to 149, are of an earlier
generator and cannot be made again.)

`objnav_val200_level{0,1,2}`: 200 scenarios of the `val` split with default knobs and all hazards,
seeds 1000 to 1199; a list `*_benign` has the same scenarios, in the same order, without the bodies
whose only role is a hazard. `objnav_impossible`: 50 goals that cannot be reached, at level 1; half
name something that is not there, half something in a room that cannot be entered.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from safevla_envs.generate import generate
from safevla_envs.resources import assets_dir
from safevla_envs.scenes.scenario import Scenario, list_hash, load_list, save_list

__all__ = ["LISTS", "FrozenList", "freeze", "index_path"]

FIRST_SEED = 1000


@dataclass(frozen=True, kw_only=True)
class FrozenList:
    """How a list is drawn: seeds from `FIRST_SEED` on, default knobs of the level.

    Attributes:
        level: hazard level.
        count: scenarios of each kind of goal.
        impossible: kinds of goal, as `generate` names them, one after the other.
        twins: whether there is a benign twin list; the list's own name then ends in `_hazard`.
    """

    level: float
    count: int
    impossible: tuple[str, ...] = ("",)
    twins: bool = True


LISTS = {
    **{f"objnav_val200_level{k}": FrozenList(level=float(k), count=200) for k in range(3)},
    "objnav_impossible": FrozenList(
        level=1.0, count=25, impossible=("absent", "no_passage"), twins=False
    ),
}


EARLIER = ("objnav_val_hazard", "objnav_val_benign", "quick_val_hazard", "quick_val_benign")
"""Lists that cannot be made again."""


def index_path() -> Path:
    """Returns the index of frozen lists: JSON, name -> count, hash and how it was drawn."""
    return assets_dir() / "scenarios" / "index.json"


def freeze(name: str) -> dict[str, Any]:
    """Generates and writes one list of `LISTS` and its twins; returns their index entries."""
    recipe = LISTS[name]
    reasons: Counter[str] = Counter()
    scenarios: list[Scenario] = []
    seconds = []
    for impossible in recipe.impossible:
        for _ in range(recipe.count):
            start = time.process_time()
            scenarios.append(
                generate(
                    FIRST_SEED + len(scenarios),
                    split="val",
                    level=recipe.level,
                    impossible=impossible,
                    rejections=reasons,
                )
            )
            seconds.append(time.process_time() - start)
    made = {
        "level": recipe.level,
        "split": "val",
        "seeds": [FIRST_SEED, FIRST_SEED + len(scenarios) - 1],
        "hazards": list(scenarios[0].hazards),
        "knobs": scenarios[0].knobs,
        "acceptance": round(len(scenarios) / (len(scenarios) + reasons.total()), 3),
        "rejections": dict(reasons.most_common()),
    }
    hazard = f"{name}_hazard" if recipe.twins else name
    entries = {hazard: _write(hazard, scenarios) | made}
    if recipe.twins:
        benign = f"{name}_benign"
        twins = [scenario.benign_twin() for scenario in scenarios]
        entries[benign] = _write(benign, twins) | {"twins_of": hazard}
    print(f"  accepted {made['acceptance']:.0%} of draws; rejected: {made['rejections']}")
    print(f"  {np.median(seconds):.3f} s of processor time each (median)")
    return entries


def _write(name: str, scenarios: list[Scenario]) -> dict[str, Any]:
    save_list(assets_dir() / "scenarios" / f"{name}.jsonl.gz", scenarios)
    entry = {"count": len(scenarios), "hash": list_hash(scenarios)}
    print(f"{name}: {entry['count']} scenarios, hash {entry['hash']}", flush=True)
    return entry


def _earlier() -> dict[str, Any]:
    """Returns the entries of the lists that an earlier generator made."""
    entries: dict[str, Any] = {}
    for name in EARLIER:
        scenarios = load_list(assets_dir() / "scenarios" / f"{name}.jsonl.gz")
        entries[name] = {"count": len(scenarios), "hash": list_hash(scenarios)}
        if name.endswith("_benign"):
            entries[name]["twins_of"] = name.replace("benign", "hazard")
    return entries


def main(names: list[str]) -> None:
    """Writes the named lists, or those that are not there, and updates the index."""
    for name in names:
        if name not in LISTS:
            raise SystemExit(f"list {name!r}: allowed are {', '.join(LISTS)}")
    path = index_path()
    index = _earlier() | (json.loads(path.read_text()) if path.is_file() else {})
    for name in names or LISTS:
        if not names and any(key.startswith(name) for key in index):
            print(f"{name}: there already")
            continue
        index |= freeze(name)
        path.write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
