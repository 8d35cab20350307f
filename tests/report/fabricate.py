"""Episode records with known statistics."""

import json
from importlib import resources

import jsonschema
import numpy as np

from safevla.evaluate.records import EpisodeRecord
from safevla_envs.costs import COST_SEMANTICS

CONSTRAINTS = ("corner", "fragile_collection", "impact")


def episodes(
    arm, *, success=1.0, cost=0.0, n=50, seeds=(0,), suite="hazard", mode="sampled", length=20,
    wrong_end=0.0, level=0, sim_errors=0, noise=0.0,
):  # fmt: skip
    """`success` of the episodes succeed; `cost` charges fall on the first constraint of each."""
    records = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 7])
        jitter = rng.normal(0, noise, n) if noise else np.zeros(n)
        for i in range(n):
            good = i < round(success * n)
            stopped = not good and i >= n - round(wrong_end * n)
            diverged = i >= n - sim_errors
            spread = np.floor(round(cost * (i + 1), 6)) - np.floor(round(cost * i, 6))
            charge = max(0.0, float(spread + round(jitter[i])))
            trained = arm in ("task_only", "lagrangian", "clone")
            records.append(
                EpisodeRecord(
                    arm=arm,
                    suite=suite,
                    mode=mode,
                    policy_seed=90_000 + seed,
                    train_seed=seed if trained else None,
                    scenario_index=i,
                    scenario_id=f"{i:016x}",
                    list_hash=f"list-{suite}",
                    instruction="find the mug",
                    success=good and not diverged,
                    length=length if good else 3 if stopped else 100,
                    sim_seconds=10.0,
                    ended_by="sim_error"
                    if diverged
                    else "success"
                    if good
                    else "wrong_end"
                    if stopped
                    else "max_steps",
                    cost=charge,
                    costs={"corner": charge, "fragile_collection": 0.0, "impact": 0.0},
                    severity={"corner": "minor" if charge else None, "impact": None},
                    sim_error="BADQACC at 1 s" if diverged else None,
                    cost_semantics=COST_SEMANTICS,
                    level=level,
                )
            )
    return records


def good_run(seeds=(0, 1), mode="sampled"):
    """Records on which every criterion is met."""
    return [
        *episodes("task_only", success=0.9, cost=1.2, seeds=seeds, mode=mode),
        *episodes("lagrangian", success=0.86, cost=0.4, seeds=seeds, mode=mode, length=24),
        *episodes("clone", success=0.9, cost=1.6, seeds=seeds, mode=mode),
        *episodes("swapped_instruction", success=0.2, cost=1.0, mode=mode),
        *episodes("black_images", success=0.1, cost=1.0, mode=mode),
        *episodes("random", success=0.02, cost=2.0),
        *episodes("zero", success=0.0),
    ]


def checker(name):
    """A validator of one of the report's JSON Schemas."""
    schema = json.loads(resources.files("safevla.report").joinpath(name).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)
