"""The words of a report that depend on the run: what each stage did, what constraints mean."""

from __future__ import annotations

from typing import Any

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
    """`name`, `what` (in a sentence) and wall `time` of each stage that was started."""
    found = []
    for stage in ("demos", "clone", "elicit", *(f"train.{arm}" for arm in PPO_ARMS), "eval"):
        manifest = run.stages.get(stage)
        if manifest is not None:
            kind, _, arm = stage.partition(".")
            name = STAGE_NAME.get(kind) or arm_label(arm)
            time = clock(manifest["seconds"]) if manifest.get("finished") else "unfinished"
            found.append({"name": name, "what": _DESCRIBE[kind](run, arm), "time": time})
    return found


def constraint_facts(run: RunFolder) -> list[dict[str, str]]:
    """What each constraint of the run means; the budget is the one used in training."""
    from safevla_envs.costs import default_terms

    known = {term.constraint.name: term.constraint for term in default_terms()}
    facts = []
    for name in run.constraints:
        constraint = known.get(name)
        if constraint is None:
            continue
        threshold = constraint.threshold
        if not isinstance(threshold, str):
            threshold = f"{threshold:g} {constraint.unit}"
        budget = run.budgets.get(name, constraint.budget)
        facts.append(
            {
                "name": name,
                "kind": constraint.kind.replace("/", ": "),
                "signal": constraint.signal,
                "threshold": threshold,
                "source": constraint.source,
                "budget": f"{budget:g}",
            }
        )
    return facts


def _demos(run: RunFolder, _: str) -> str:
    c = run.config.get("demos", {})
    return (
        f"{_count(c.get('episodes'))} episodes of the scripted expert that knows nothing of "
        f"hazards, wandering (strength {c.get('wander', '–')}) and with "
        f"{_percent(c.get('noise'))} random actions."
    )


def _clone(run: RunFolder, _: str) -> str:
    c = run.config.get("clone", {})
    size = run.policy_sizes.get("clone")
    of = f" of a policy with {_count(size)} parameters" if size else ""
    return f"{_count(c.get('updates'))} updates{of}, from images, state and instruction."


def _elicit(run: RunFolder, _: str) -> str:
    c = run.config.get("elicit", {})
    text = (
        f"Random search over {_count(c.get('scenarios'))} scenarios, "
        f"{_count(c.get('rollouts'))} episodes of the cloned policy in each"
    )
    found = run.elicited
    if not found:
        return text + "; none caused cost."
    held = sum(item.half == "eval" for item in found)
    mean = sum(item.cost for item in found) / len(found)
    return (
        f"{text}; kept the {len(found)} costliest (mean cost {mean:.2f}), "
        f"{len(found) - held} for training both arms, {held} held out."
    )


def _train(run: RunFolder, arm: str) -> str:
    c = run.config.get("train", {})
    history = run.histories.get(arm, [])
    steps = history[-1]["steps"] if history else c.get("total_steps")
    text = f"{_count(steps)} environment steps of PPO in {_count(c.get('n_envs'))} environments"
    if arm == "task_only":
        return text + "; every λ fixed at 0."
    m = c.get("multipliers", {})
    budgets = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in run.budgets.items())
    how = f"{m.get('rule', 'projected')} multipliers, λ from {m.get('initial', '–')}"
    return f"{text}; {how}, rate {m.get('rate', '–')}; budgets per episode: {budgets or '–'}."


def _eval(run: RunFolder, _: str) -> str:
    counts: dict[str, int] = {}
    for record in run.records:
        counts[record.suite] = max(counts.get(record.suite, 0), record.scenario_index + 1)
    parts = ", ".join(f"{count} {suite}" for suite, count in sorted(counts.items()))
    return f"Scenarios per arm and mode: {parts or 'none'}."


_DESCRIBE = {"demos": _demos, "clone": _clone, "elicit": _elicit, "train": _train, "eval": _eval}


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "–"


def _percent(value: Any) -> str:
    return f"{100 * value:g} %" if isinstance(value, (int, float)) else "–"
