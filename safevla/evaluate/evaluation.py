"""Evaluation of a run and of an agent: the jobs that arms and suites make, played and written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from safevla.config import EnvConfig, EvalConfig, PipelineConfig, is_suite_file
from safevla.display import Display
from safevla.elicit.search import Rollout
from safevla.evaluate.arms import MODES, SCRIPTED, Arm, make_arm, named_arm
from safevla.evaluate.records import EpisodeRecord, write_records
from safevla.evaluate.runner import EpisodePool, eval_path, run_jobs
from safevla.evaluate.suites import Suite, suites
from safevla.evaluate.worker import Job
from safevla_envs.scenes.scenario import Scenario

__all__ = ["check_mode", "elicit_rollout", "evaluate_agent", "evaluate_run", "jobs", "jobs_of"]


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


def jobs_of(
    arm: Arm, chosen: dict[str, Suite], mode: str, config: PipelineConfig
) -> list[tuple[Job, None]]:
    """Returns the jobs of one arm on the whole of some suites, outside a run."""
    names = tuple(suite.name for suite in chosen.values())
    asked = {"suites": names, "control_suites": names, "control_episodes": None}
    plan = replace(config.eval, modes=(mode,), **asked)
    return [(job, None) for job in jobs(config.env, plan, chosen, [arm], seed=config.seed)]


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
    todo = jobs_of(arm, chosen, mode, config)
    with display.live():
        records = [record for run in run_jobs(todo, arm.name, workers, display) for record in run]
    if out is not None:
        write_records(out, records)
    return records


def check_mode(mode: str) -> None:
    """Raises a ValueError for a way of acting that there is not."""
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: allowed are {', '.join(MODES)}")
