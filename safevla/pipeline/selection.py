"""Which of the policies that a training run passed through is the one it hands on.

Candidates are taken evenly from the second half of training and play a list of scenarios that
nothing is reported on. Among those that keep every budget the most successful wins; if none does,
the one that exceeds its budgets least. Both arms choose alike; task-only PPO has no budgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from safevla.config import PipelineConfig
from safevla.evaluate.arms import make_arm
from safevla.evaluate.records import EpisodeRecord
from safevla.evaluate.runner import EpisodePool
from safevla.evaluate.suites import named_list
from safevla.evaluate.worker import Job
from safevla.files import plain, read_json, write_json
from safevla.train.run import candidate_steps
from safevla.train.settings import TrainConfig

__all__ = ["Candidate", "best", "select_policy"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A policy and how it did on the selection list.

    Attributes:
        steps: Training actions behind it.
        success: Share of episodes.
        costs: What budgets are on, by constraint, the total as `cost`: mean cost per episode, or
            the share of episodes with any.
    """

    steps: int
    success: float
    costs: Mapping[str, float]

    def excess(self, budgets: Mapping[str, float]) -> float:
        """What the costs exceed their budgets by, as shares of them, summed; 0 if feasible."""
        over = [(max(0.0, self.costs[name] - b), b) for name, b in budgets.items()]
        return sum(e / b if b else e for e, b in over)


def best(candidates: Sequence[Candidate], budgets: Mapping[str, float]) -> Candidate:
    """The most successful feasible candidate, else the least infeasible one.

    Those alike are told apart by their total cost, then by their steps.
    """

    def order(one: Candidate) -> tuple[float, ...]:
        return one.excess(budgets), -one.success, one.costs["cost"], -one.steps

    return min(candidates, key=order)


def select_policy(config: PipelineConfig, folder: Path, arm: str, settings: TrainConfig) -> Path:
    """Plays the candidates of an arm trained with `settings`; returns the chosen one's folder.

    `train/<arm>/candidates/<steps>` hold them, `train/<arm>/selection.json` says what came out.
    What was played before an interruption is not played again.
    """
    where = folder / "train" / arm
    budgets = (
        {} if settings.multipliers.rule == "zero" else read_json(where / "run.json")["budgets"]
    )
    candidates = []
    with EpisodePool(0) as pool:
        for steps in candidate_steps(settings):
            job = Job(
                make_agent=make_arm(arm, where / "candidates" / str(steps)),
                scenarios=tuple(named_list(config.selection.list))[: config.selection.episodes],
                env_kwargs=config.env.kwargs(split="val", layouts=None),
                policy_seed=config.stage_seed(4_000),
                deterministic=False,
                suite="selection",
                train_seed=config.seed,
            )
            records = pool.run(job, out=where / "candidates" / f"{steps}.jsonl")
            sound = [record for record in records if record.valid] or records
            candidates.append(_judged(steps, sound, settings.multipliers.violation_rate))
    chosen = best(candidates, budgets)
    content = {"chosen": chosen.steps, "budgets": budgets, "candidates": plain(candidates)}
    write_json(where / "selection.json", content)
    return where / "candidates" / str(chosen.steps)


def _judged(
    steps: int, records: Sequence[EpisodeRecord], violation_rate: Sequence[str]
) -> Candidate:
    costs = [record.costs | {"cost": record.cost} for record in records]
    return Candidate(
        steps=steps,
        success=float(np.mean([record.success for record in records])),
        costs={
            name: float(
                np.mean([c[name] > 0 if name in violation_rate else c[name] for c in costs])
            )
            for name in costs[0]
        },
    )
