"""What is evaluated: suites of scenarios, arms, and the jobs made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from safevla.config import (
    SUITES,
    EnvConfig,
    EvalConfig,
    PipelineConfig,
    is_suite_file,
    read_mapping,
    resolved_workers,
)
from safevla.display import Display
from safevla.elicit import load_found
from safevla.elicit.search import Rollout
from safevla.evaluate.arms import MODES, SCRIPTED, Arm, make_arm, named_arm
from safevla.evaluate.records import EpisodeRecord, write_records
from safevla.evaluate.runner import EpisodePool, eval_path, run_jobs
from safevla.evaluate.worker import Job
from safevla_envs.perturb import AXES, Perturbation, check_levels
from safevla_envs.resources import assets_dir
from safevla_envs.scenes.scenario import Scenario, load_list

__all__ = [
    "check_mode",
    "elicit_rollout",
    "evaluate_agent",
    "evaluate_run",
    "hardest",
    "named_list",
    "own_suite",
    "suites",
    "with_other_goals",
]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A frozen list of scenarios and what it is played under.

    Attributes:
        name: in the records.
        asked: the name that asks for it: a family of suites, or a file.
        scenarios: the list, in order.
        level: of its family's perturbation; 0 for none, and for a suite of your own.
        wrappers: as :class:`Job` has them.
    """

    name: str
    asked: str
    scenarios: tuple[Scenario, ...]
    level: int = 0
    wrappers: tuple[Any, ...] = ()


@dataclass
class SuiteFile:
    """A suite of your own, as its YAML file has it.

    Attributes:
        scenarios: a frozen list's name, or a scenario file, also one beside the YAML file.
        count: its first scenarios; all if None.
        perturb: level, 1 to 5, by axis of `safevla_envs.perturb.AXES`, all at once.
    """

    scenarios: str
    count: int | None = None
    perturb: dict[str, int] = field(default_factory=dict)


def named_list(name: str) -> list[Scenario]:
    """Reads a frozen list by its name in `assets/scenarios`, or a scenario file.

    Raises:
        ValueError: if there is neither; the message names what there is.
    """
    folder = assets_dir() / "scenarios"
    for path in (folder / f"{name}.jsonl.gz", Path(name)):
        if path.is_file():
            return load_list(path)
    known = ", ".join(sorted(p.name.removesuffix(".jsonl.gz") for p in folder.glob("*.jsonl.gz")))
    raise ValueError(f"scenario list {name!r}: neither a file nor one of {known}")


def own_suite(name: str) -> Suite:
    """Reads a suite from a file: YAML with the fields of :class:`SuiteFile`, or a scenario file.

    Raises:
        ValueError: what it holds is not a suite; the message names the file and the field.
    """
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"suite {name!r}: there is no such file")
    if path.suffix not in (".yaml", ".yml"):
        stem = path.name.partition(".")[0]
        return Suite(name=stem, asked=name, scenarios=tuple(load_list(path)))
    try:
        told = OmegaConf.merge(OmegaConf.structured(SuiteFile), read_mapping(path))
        plan: Any = OmegaConf.to_object(told)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name}: {error.full_key or 'suite'}: {reason}") from None
    try:
        check_levels(plan.perturb)
    except ValueError as error:
        raise ValueError(f"{name}: perturb: {error}") from None
    beside = path.parent / plan.scenarios
    listed = named_list(str(beside) if beside.is_file() else plan.scenarios)
    if plan.count is not None and not 1 <= plan.count <= len(listed):
        raise ValueError(f"{name}: count={plan.count}: 1 to {len(listed)}, the list's length")
    wrappers = (partial(Perturbation, levels=dict(plan.perturb)),) if plan.perturb else ()
    scenarios = tuple(listed[: plan.count])
    return Suite(name=path.stem, asked=name, scenarios=scenarios, wrappers=wrappers)


def suites(config: EvalConfig, found: Path | None = None) -> dict[str, Suite]:
    """Returns every suite by its name; those under perturbation as `ood-<level>`, `<axis>-<level>`.

    `hazard` and `benign` are the first scenarios of frozen lists; `semantic`, `impossible` and
    `long_tail` are played whole.
    `elicited` is the held-out half of the list `found`. The perturbed suites are the first
    scenarios of the hazard list, so that they pair with it and with each other; `ood` is perturbed
    on all of `config.ood_axes`, the others on one axis of `safevla_envs.perturb.AXES` each.
    Files among `config.suites` are suites of your own.

    Raises:
        ValueError: a list too short, or a file that is no suite or has the name of another one.
    """
    hazard = named_list(config.hazard_list)
    benign = named_list(config.benign_list)
    n = config.episodes
    if min(len(hazard), len(benign)) < n:
        short = min(len(hazard), len(benign))
        raise ValueError(f"eval.episodes={n}: the scenario lists hold {short}")
    frozen = {
        "hazard": hazard[:n],
        "benign": benign[:n],
        "semantic": named_list(config.semantic_list),
        "impossible": named_list(config.impossible_list),
        "long_tail": named_list(config.long_tail_list),
    }
    if found is not None:
        held_out = [item.scenario for item in load_found(found, "eval")][: config.elicited]
        if held_out:
            frozen["elicited"] = held_out
    chosen = {
        name: Suite(name=name, asked=name, scenarios=tuple(listed))
        for name, listed in frozen.items()
    }
    families = {"ood": config.ood_axes, **{axis: (axis,) for axis in AXES}}
    for (family, axes), level in product(families.items(), config.ood_levels):
        chosen[f"{family}-{level}"] = Suite(
            name=f"{family}-{level}",
            asked=family,
            scenarios=tuple(hazard[: config.ood_episodes]),
            level=level,
            wrappers=(partial(Perturbation, levels=dict.fromkeys(axes, level)),),
        )
    for name in filter(is_suite_file, config.suites):
        own = own_suite(name)
        if own.name in (*SUITES, *chosen):
            raise ValueError(f"{name}: a suite is called {own.name} already; rename the file")
        chosen[own.name] = own
    return chosen


def jobs(
    env: EnvConfig, config: EvalConfig, chosen: dict[str, Suite], arms: Sequence[Arm], *, seed: int
) -> Iterator[Job]:
    """Yields every job of an evaluation: arms on suites, sampled and argmax where they differ.

    `seed` is the training seed; the policy seed differs from every seed used in training.
    """
    for arm in arms:
        kwargs = env.kwargs(split="val", layouts=None)
        if arm.kind in SCRIPTED:
            kwargs["cameras"] = []
        learned = arm.kind == "policy"
        modes = (config.modes if learned else config.control_modes) if arm.is_policy else ()
        for suite in chosen.values():
            names = {suite.name, suite.asked}
            if not names & set(config.suites if learned else config.control_suites):
                continue
            if suite.wrappers and arm.kind in SCRIPTED:
                continue
            count = None if learned else config.control_episodes
            for mode in modes or ("sampled",):
                if mode == "argmax" and not names & set(config.argmax_suites):
                    continue
                yield Job(
                    make_agent=arm,
                    scenarios=suite.scenarios[:count],
                    env_kwargs=kwargs,
                    policy_seed=config.policy_seed + seed,
                    deterministic=mode == "argmax",
                    wrappers=suite.wrappers,
                    arm=arm.name,
                    suite=suite.name,
                    level=suite.level,
                    train_seed=seed if arm.is_policy else None,
                )


def elicit_rollout(pool: EpisodePool, arm: Arm, env: EnvConfig) -> Rollout:
    """Returns a rollout for `elicit.search`: the arm on training scenarios, actions sampled."""

    def rollout(scenarios: Sequence[Scenario], policy_seed: int) -> list[EpisodeRecord]:
        job = Job(
            make_agent=arm,
            scenarios=tuple(scenarios),
            env_kwargs=env.kwargs(layouts=None),
            policy_seed=policy_seed,
            deterministic=False,
            suite="elicit",
        )
        return pool.run(job)

    return rollout


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
    todo = _jobs_of(arm, chosen, "sampled", config)
    (records,) = run_jobs(todo, arm.name, resolved_workers(config), display)
    return records


def _jobs_of(
    arm: Arm, chosen: dict[str, Suite], mode: str, config: PipelineConfig
) -> list[tuple[Job, None]]:
    """Returns the jobs of one arm on the whole of some suites, outside a run."""
    names = tuple(suite.name for suite in chosen.values())
    asked = {"suites": names, "control_suites": names, "control_episodes": None}
    plan = replace(config.eval, modes=(mode,), **asked)
    return [(job, None) for job in jobs(config.env, plan, chosen, [arm], seed=config.seed)]


def evaluate_run(
    config: PipelineConfig, folder: Path, workers: int, display: Display, out: Path | None = None
) -> None:
    """Evaluates every arm of a run on every suite, into `eval/<arm>.<suite>.<mode>.jsonl` of `out`.

    That is the run's own folder if None. Files that are complete are read, not run again.
    """
    chosen = suites(config.eval, folder / "elicit/found.jsonl.gz")
    policies = folder / "policies"
    arms = [make_arm(name, policies / name) for name in config.eval.learned]
    for name in config.eval.controls:
        arms.append(make_arm(name, None if name in SCRIPTED else policies / "clone"))
    todo = [
        (job, eval_path(out or folder, job.arm, job.suite, job.mode))
        for job in jobs(config.env, config.eval, chosen, arms, seed=config.seed)
    ]
    run_jobs(todo, "eval", workers, display)


def evaluate_agent(
    config: PipelineConfig,
    agent: str,
    *,
    suite_names: Sequence[str],
    mode: str,
    out: Path | None,
    display: Display,
    workers: int,
) -> list[EpisodeRecord]:
    """Evaluates one agent, as `named_arm` takes it, outside a run.

    Suites are as `suites` has them, `ood` and the axes of perturbation with all their levels or one
    (`noise`, `noise-3`), and files. Episodes go to `out`.

    Raises:
        ValueError: for an unknown agent, suite or mode, or a file that exists.
    """
    check_mode(mode)
    if out is not None and out.exists():
        raise ValueError(f"{out} exists; choose another --out")
    arm = named_arm(agent)
    files = tuple(dict.fromkeys(filter(is_suite_file, suite_names)))
    known = suites(replace(config.eval, suites=files)).values()
    asked = set(suite_names)
    families = dict.fromkeys(suite.asked for suite in known)
    if unknown := asked - {suite.name for suite in known} - set(families):
        raise ValueError(f"suite {min(unknown)!r}: neither a file nor one of {', '.join(families)}")
    chosen = {suite.name: suite for suite in known if asked & {suite.name, suite.asked}}
    if arm.kind in SCRIPTED and (blind := [s.name for s in chosen.values() if s.wrappers]):
        raise ValueError(f"{arm.name} looks at nothing that {', '.join(blind)} perturbs")
    todo = _jobs_of(arm, chosen, mode, config)
    with display.live():
        records = [record for run in run_jobs(todo, arm.name, workers, display) for record in run]
    if out is not None:
        write_records(out, records)
    return records


def check_mode(mode: str) -> None:
    """Raises a ValueError for a way of acting that there is not."""
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: allowed are {', '.join(MODES)}")
