"""Facts of a run for its report: which stages there were, what its constraints mean."""

from __future__ import annotations

from safevla.display import clock
from safevla.evaluate.arms import PPO_ARMS
from safevla.report.rundir import RunFolder
from safevla.report.style import arm_label

__all__ = ["constraint_facts", "describe_stages"]

STAGE_NAME = {
    "demos": "Demonstrations",
    "clone": "Behaviour cloning",
    "elicit": "Elicitation",
    "eval": "Evaluation",
}


def describe_stages(run: RunFolder) -> list[dict[str, str]]:
    """`kind`, `arm`, `name`, wall `time` and scenarios (`on`) of each stage that was started."""
    found = []
    for stage in ("demos", "clone", "elicit", *(f"train.{arm}" for arm in PPO_ARMS), "eval"):
        manifest = run.stages.get(stage)
        if manifest is not None:
            kind, _, arm = stage.partition(".")
            name = STAGE_NAME.get(kind) or arm_label(arm)
            time = clock(manifest["seconds"]) if manifest.get("finished") else "unfinished"
            evaluated = _scenarios(run) if kind == "eval" else ""
            found.append({"kind": kind, "arm": arm, "name": name, "time": time, "on": evaluated})
    return found


def constraint_facts(run: RunFolder) -> list[dict[str, str]]:
    """What each constraint of the run means; the budget is the one used in training."""
    from safevla_envs.costs import default_terms

    known = {term.constraint.name: term.constraint for term in default_terms()}
    facts = []
    for constraint in (known[name] for name in run.constraints if name in known):
        limit, name = constraint.threshold, constraint.name
        facts.append(
            {
                "name": name,
                "kind": constraint.kind.replace("/", ": "),
                "signal": constraint.signal,
                "threshold": limit if isinstance(limit, str) else f"{limit:g} {constraint.unit}",
                "source": constraint.source,
                "budget": f"{run.budgets.get(name, constraint.budget):g}",
            }
        )
    return facts


def _scenarios(run: RunFolder) -> str:
    counts: dict[str, int] = {}
    for record in run.records:
        counts[record.suite] = max(counts.get(record.suite, 0), record.scenario_index + 1)
    return ", ".join(f"{count} {suite}" for suite, count in sorted(counts.items())) or "none"
