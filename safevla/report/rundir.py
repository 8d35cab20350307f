"""Reads a run folder: what was configured, trained and evaluated. Every part may be missing."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safevla.evaluate.arms import LEARNED, MODES, PPO_ARMS
from safevla.evaluate.claims import SEVERE_BOUND, Claim, claim
from safevla.evaluate.records import EpisodeRecord, load_records
from safevla.files import read_json, read_jsonl
from safevla.report.criteria import Verdict, judge
from safevla.report.tables import (
    Difference,
    Row,
    constraint_names,
    differences,
    results_rows,
    select,
)

if TYPE_CHECKING:
    from safevla.elicit import Found

__all__ = ["RunFolder", "results", "severe_claims"]

SCHEMA = 2
"""Of `results.json`; described in `results.schema.json`."""


@dataclass(frozen=True)
class RunFolder:
    """The content of one run folder, read when it is asked for.

    Layout: `config.yaml`, `stages/<stage>.json`, `policies/<arm>/`, `train/<arm>/progress.jsonl`
    and `run.json`, `eval/<arm>.<suite>.<mode>.jsonl`, `eval/lists/<hash>.jsonl.gz`,
    `elicit/found.jsonl.gz`, `videos/`, `strips/`.
    """

    folder: Path

    @cached_property
    def config_text(self) -> str:
        """`config.yaml`; empty if there is none."""
        path = self.folder / "config.yaml"
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    @cached_property
    def config(self) -> dict[str, Any]:
        """`config.yaml` as plain values."""
        import yaml

        content = yaml.safe_load(self.config_text) if self.config_text else {}
        if not isinstance(content, dict):
            raise ValueError(f"{self.folder}/config.yaml: must hold a mapping of keys to values")
        return content

    @cached_property
    def stages(self) -> dict[str, dict[str, Any]]:
        """Manifests by stage, in the order in which the stages finished."""
        found = {p.stem: read_json(p) for p in (self.folder / "stages").glob("*.json")}
        return dict(sorted(found.items(), key=lambda item: (item[1].get("finished") or "~", item)))

    @cached_property
    def versions(self) -> dict[str, str]:
        """Package versions noted by the stages; two values where stages differ."""
        merged: dict[str, dict[str, None]] = {}
        for manifest in self.stages.values():
            for name, version in manifest.get("versions", {}).items():
                merged.setdefault(name, {})[version] = None
        return {name: ", ".join(found) for name, found in sorted(merged.items())}

    @cached_property
    def records(self) -> list[EpisodeRecord]:
        """All evaluated episodes."""
        return load_records(self.folder)

    @cached_property
    def rows(self) -> list[Row]:
        """Results by arm, suite and mode."""
        return results_rows(self.records)

    @cached_property
    def differences(self) -> list[Difference]:
        """Lagrangian minus task-only, on every suite and mode."""
        return differences(self.records)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """The criteria, for sampled and for argmax actions."""
        steps = {arm: [history[-1]["steps"]] for arm, history in self.histories.items() if history}
        return [judge(self.records, mode, steps) for mode in MODES]

    @cached_property
    def histories(self) -> dict[str, list[dict[str, Any]]]:
        """Lines of `progress.jsonl` by PPO arm; a torn last line is left out."""
        paths = {arm: self.folder / "train" / arm / "progress.jsonl" for arm in PPO_ARMS}
        return {arm: read_jsonl(path) for arm, path in paths.items() if path.is_file()}

    @cached_property
    def selections(self) -> dict[str, dict[str, Any]]:
        """How each PPO arm's policy was chosen among its candidates, where there were several."""
        found = {arm: read_json(self.folder / "train" / arm / "selection.json") for arm in PPO_ARMS}
        return {arm: selection for arm, selection in found.items() if selection}

    @cached_property
    def budgets(self) -> dict[str, float]:
        """Budget per constraint of the Lagrangian arm, in charges per episode."""
        described = read_json(self.folder / "train" / "lagrangian" / "run.json") or {}
        return described.get("budgets", {})

    @cached_property
    def constraints(self) -> tuple[str, ...]:
        """Names of the constraints, in their order."""
        return constraint_names(self.records) or tuple(self.budgets)

    @cached_property
    def policy_sizes(self) -> dict[str, int]:
        """Number of parameters by policy."""
        found = sorted((self.folder / "policies").glob("*/model.safetensors"))
        return {path.parent.name: _parameters(path) for path in found}

    @cached_property
    def elicited(self) -> list[Found]:
        """Elicited scenarios, costliest first."""
        path = self.folder / "elicit" / "found.jsonl.gz"
        if not path.is_file():
            return []
        from safevla.elicit import load_found

        return load_found(path)

    def scenario(self, record: EpisodeRecord) -> Any | None:
        """The scenario of a record, from the list kept beside the episodes; None if it is not."""
        path = self.folder / "eval" / "lists" / f"{record.list_hash}.jsonl.gz"
        if not path.is_file():
            return None
        from safevla_envs.scenes.scenario import load_list

        return load_list(path)[record.scenario_index]

    def env_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of `gymnasium.make` that the evaluation used, cameras aside."""
        return {**self.config.get("env", {}), "split": "val", "layouts": None}

    def action_names(self, arm: str) -> tuple[str, ...]:
        """Names of the discrete actions, as an arm's policy knows them; empty if it is not kept."""
        path = self.folder / "policies" / arm / "config.json"
        return tuple(read_json(path).get("action_names", ())) if path.is_file() else ()

    def worst_pairs(self, count: int, suite: str = "hazard") -> list[tuple[EpisodeRecord, ...]]:
        """Episodes on the same scenario and seed: task-only first, then Lagrangian.

        The `count` costliest task-only episodes, and the costliest Lagrangian one where it is not
        among them. Sampled actions; ties go to the earlier scenario.
        """
        wanted = {"suite": suite, "mode": "sampled", "valid": True}
        base, ours = (
            {record.cell: record for record in select(self.records, arm=arm, **wanted)}
            for arm in ("task_only", "lagrangian")
        )
        common = [cell for cell in base if cell in ours]

        def costliest(records: Mapping[Any, EpisodeRecord]) -> list[Any]:
            found = [records[cell] for cell in common]
            found.sort(key=lambda record: (-record.cost, record.scenario_index))
            return [record.cell for record in found]

        chosen = costliest(base)[:count]
        chosen += [cell for cell in costliest(ours)[:1] if count and cell not in chosen]
        return [(base[cell], ours[cell]) for cell in chosen]


def results(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """The content of `results.json`, for one run or several seeds of it; `files.plain` reads it.

    Every row carries its episodes, seeds, intervals, cost semantics and scenario-list hashes.

    Raises:
        ValueError: the runs differ in cost rules, perturbations or scenario lists.
    """
    records = [record for run in runs for record in run.records]
    _check_comparable(records)
    steps = {
        arm: [run.histories[arm][-1]["steps"] for run in runs if run.histories.get(arm)]
        for arm in PPO_ARMS
    }
    one = runs[0] if len(runs) == 1 else None
    return {
        "schema": SCHEMA,
        "runs": [run.folder.resolve().name for run in runs],
        "cost_semantics": sorted({record.cost_semantics for record in records}),
        "perturbation_versions": sorted(_perturbation_versions(records)),
        "list_hashes": {
            suite: sorted({r.list_hash for r in records if r.suite == suite})
            for suite in dict.fromkeys(record.suite for record in records)
        },
        "train_seeds": sorted({r.train_seed for r in records if r.train_seed is not None}),
        "policy_seeds": sorted({record.policy_seed for record in records}),
        "steps": steps,
        "budgets": runs[0].budgets if runs else {},
        "versions": runs[0].versions if runs else {},
        "verdicts": [judge(records, mode, steps) for mode in MODES],
        "claims": severe_claims(records),
        "rows": one.rows if one else results_rows(records),
        "differences": one.differences if one else differences(records),
    }


def _perturbation_versions(records: Sequence[EpisodeRecord]) -> set[str]:
    return {str(r.perturbation["version"]) for r in records if "version" in r.perturbation}


def _check_comparable(records: Sequence[EpisodeRecord]) -> None:
    """Raises a ValueError where one table would hold what was measured differently."""
    versions = {
        "cost semantics": {record.cost_semantics for record in records},
        "perturbations": _perturbation_versions(records),
    }
    for record in records:
        if record.suite != "elicited":  # each run elicits its own
            name = f"scenario lists of {record.arm} on {record.suite}"
            versions.setdefault(name, set()).add(record.list_hash)
    for name, found in versions.items():
        if len(found) > 1:
            raise ValueError(
                f"{name} {', '.join(sorted(found))}: results of different ones are not compared"
            )


def severe_claims(records: Sequence[EpisodeRecord]) -> dict[str, Claim]:
    """What the hazard list shows of severe violations, by learned arm; sampled actions."""
    found = {arm: select(records, arm=arm, suite="hazard", mode="sampled") for arm in LEARNED}
    return {arm: claim(played, "severe", SEVERE_BOUND) for arm, played in found.items() if played}


def _parameters(path: Path) -> int:
    """Parameters in a safetensors file, from its header alone."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
