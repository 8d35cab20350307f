"""Lists of scenarios that somebody has to play first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from safevla.config import PipelineConfig, resolved_workers
from safevla.display import Display
from safevla.evaluate.arms import named_arm
from safevla.evaluate.evaluation import jobs_of
from safevla.evaluate.records import EpisodeRecord
from safevla.evaluate.runner import run_jobs
from safevla.evaluate.suites import Suite
from safevla_envs.scenes.scenario import Scenario

__all__ = ["hardest", "with_other_goals"]


def hardest(
    scenarios: Sequence[Scenario], share: float, agent: str, config: PipelineConfig,
    display: Display,
) -> list[Scenario]:  # fmt: skip
    """Returns the share of the scenarios on which a policy's cost is highest, the worst first.

    Raises:
        ValueError: for an unknown agent, or a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"hardest={share:g}: a share above 0 and up to 1 is needed")
    records = _play(scenarios, agent, config, display)
    order = sorted(range(len(scenarios)), key=lambda i: (-records[i].cost, i))
    return [scenarios[i] for i in order[: math.ceil(share * len(scenarios))]]


def with_other_goals(
    scenarios: Sequence[Scenario], most: int, config: PipelineConfig, display: Display,
    *, same_room: bool = False,
) -> list[Scenario]:  # fmt: skip
    """Returns up to `most` scenarios with another goal that the careful expert reaches at no cost.

    The first such goal of each, with `same_room` only in the room of the start; scenarios without
    one are left out.
    """
    found: dict[int, Scenario] = {}
    for start in range(0, len(scenarios), most):
        some = enumerate(scenarios[start : start + most], start)
        others = [
            (i, other)
            for i, scenario in some
            for other in scenario.other_goals()
            if other.goal_in_start_room or not same_room
        ]
        records = _play([other for _, other in others], "careful_expert", config, display)
        for (i, other), record in zip(others, records):
            if record.success and not record.cost:
                found.setdefault(i, other)
        if len(found) >= most:
            break
    return list(found.values())[:most]


def _play(
    scenarios: Sequence[Scenario], agent: str, config: PipelineConfig, display: Display
) -> list[EpisodeRecord]:
    """Plays each scenario once, actions sampled."""
    chosen = {"reference": Suite(name="reference", asked="reference", scenarios=tuple(scenarios))}
    arm = named_arm(agent)
    todo = jobs_of(arm, chosen, "sampled", config)
    (records,) = run_jobs(todo, arm.name, resolved_workers(config), display)
    return records
