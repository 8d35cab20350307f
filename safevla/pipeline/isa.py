"""The Integrated Safety Approach as resumable stages of one run folder.

    demos -> clone -> elicit -> pool -> train (task-only and Lagrangian PPO, side by side) -> eval
    -> report

Every stage reads and writes files of the run folder only, so that an interrupted run goes on where
it stopped and a single stage can be looked at alone.
"""

from __future__ import annotations

import fcntl
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from safevla.config import PipelineConfig, resolved_workers
from safevla.display import Display, clock
from safevla.files import plain
from safevla.pipeline.stages import Stage, StageConflict, StageRunner
from safevla.pipeline.train_arm import ArmProcess, arm_config, wait_for

__all__ = ["STAGES", "Pipeline", "preflight", "rebuild_report"]

STAGES = ("demos", "clone", "elicit", "pool", "train", "eval", "report")
REPORT_FILES = ("report.html", "results.json", "videos", "strips")


class Pipeline:
    """One run in its folder.

    `force` throws away results made with other settings. `reuse` is the folder of another run, of
    which the stages that this one would repeat are copied.
    """

    def __init__(
        self,
        config: PipelineConfig,
        folder: Path,
        *,
        force: bool = False,
        reuse: Path | None = None,
        display: Display | None = None,
    ) -> None:
        if reuse is not None and not (reuse / "stages").is_dir():
            raise ValueError(f"--reuse {reuse}: there is no run in this folder")
        self.config = config
        self.folder = folder
        self.display = display or Display()
        self.runner = StageRunner(folder, force=force)
        self.other = None if reuse is None else StageRunner(reuse)
        self.workers = resolved_workers(config)
        self.wall = 0.0

    # ---- stages -----------------------------------------------------------------------------

    def stages(self) -> dict[str, list[Stage]]:
        """Returns the stages by name; `train` has one for each arm."""
        config, seed = self.config, {"seed": self.config.seed}
        found, train = "elicit/found.jsonl.gz", [f"train/{arm}" for arm in config.arms]
        policies = [f"policies/{name}" for name in ("clone", *config.arms)]
        frozen = (config.eval.hazard_list, config.eval.benign_list, config.eval.impossible_list)
        lists = _list_hashes(*frozen)
        evaluated = {"eval": plain(config.eval), "lists": lists}
        home = seed | {"env": plain(config.env)}
        # name: settings, inputs, outputs, work
        table: dict[str, tuple[dict[str, Any], Sequence[str], Sequence[str], Callable]] = {
            "demos": (
                home | {"demos": plain(config.demos)},
                (),
                ["demos", "demos.part"],  # the second is there until the first is finished
                self._demos,
            ),
            "clone": (seed | {"clone": plain(config.clone)}, ["demos"], policies[:1], self._clone),
            "elicit": (
                home | {"elicit": plain(config.elicit)},
                policies[:1],
                ["elicit"],
                self._elicit,
            ),
        }
        pool = ["pool.jsonl.gz"] if config.env.pool else []
        if pool:
            table["pool"] = home, (), pool, self._pool
        cloned = ["demos"] if config.train.ppo.cloning_coef else []
        for arm in config.arms:
            settings = home | {"train": plain(arm_config(config, arm))} | self._selection()
            outputs = [f"policies/{arm}", f"train/{arm}"]
            run = partial(self._train, arm)
            table[f"train.{arm}"] = settings, [policies[0], found, *pool, *cloned], outputs, run
        table["eval"] = home | evaluated, [*policies, found], ["eval"], self._evaluate
        settings = {"report": plain(config.report)}
        table["report"] = settings, ["eval", found, *train], REPORT_FILES, self._report
        groups: dict[str, list[Stage]] = {}
        for name, (settings, inputs, outputs, run) in table.items():
            io = {"inputs": tuple(inputs), "outputs": tuple(outputs)}
            made = Stage(name=name, config=settings, run=run, **io)
            groups.setdefault(name.partition(".")[0], []).append(made)
        return groups

    def run(self, until: str = "report") -> None:
        """Runs every stage up to `until` that is not done.

        Raises:
            StageConflict: before anything runs, if results of other settings would be overwritten.
            KeyboardInterrupt: after Ctrl-C; the run folder is left in a state to go on from.
        """
        preflight(self.config)
        names = STAGES[: STAGES.index(until) + 1]
        stages = {name: group for name, group in self.stages().items() if name in names}
        self.runner.check(stage for group in stages.values() for stage in group)
        self.folder.mkdir(parents=True, exist_ok=True)
        with _only_process(self.folder):
            OmegaConf.save(OmegaConf.create(plain(self.config)), self.folder / "config.yaml")
            self.display.line(f"run folder: {self.folder}")
            try:
                for number, (name, group) in enumerate(stages.items(), 1):
                    self._run_group(f"[{number}/{len(stages)}] {name}", group)
            except KeyboardInterrupt:
                self.display.line("interrupted; run the same command again to go on from here")
                raise
        if until == "report":
            self._print_results()

    def _run_group(self, title: str, group: list[Stage]) -> None:
        if self.other is not None:
            for stage in group:
                if self.runner.adopt(stage, self.other):
                    self.display.line(f"{title}: {stage.name} copied from {self.other.folder}")
        pending = [stage for stage in group if not self.runner.is_done(stage)]
        if not pending:
            for stage in group:
                self.runner.run(stage)
            self.display.line(f"{title}: done before ({clock(self._spent(group))})")
            return
        self.display.line(f"{title}: running")
        with self.display.live():
            if len(pending) > 1 and self.workers >= 2:
                self._train_together(pending)
            else:
                for stage in pending:
                    self.runner.run(stage)
        self.display.line(f"{title}: done in {clock(self._spent(group))}")

    def _spent(self, group: list[Stage]) -> float:
        """Wall time of a group in s: its longest stage where they run side by side."""
        seconds = [self.runner.seconds.get(stage.name, 0.0) for stage in group]
        spent = max(seconds) if self.workers >= 2 else sum(seconds)
        self.wall += spent
        return spent

    # ---- what the stages do -----------------------------------------------------------------

    def _demos(self) -> None:
        from safevla.demos import collect

        demos = self.config.demos
        summary = collect(
            env_kwargs=self.config.env.kwargs(layouts=None, pool=None),
            episodes=demos.episodes,
            seed=self.config.stage_seed(1),
            out_dir=self.folder / "demos",
            wander=demos.wander,
            noise=demos.noise,
            workers=self.workers,
            progress=self.display.progress,
        )
        self.display.line(
            f"  {summary['kept']} episodes, {summary['frames']} frames, expert success "
            f"{summary['success_rate']:.0%}, {summary['steps_per_second']:.0f} actions/s"
        )

    def _clone(self) -> None:
        from safevla.train.cloning import clone

        config = replace(self.config.clone, seed=self.config.stage_seed(2))
        clone(
            self.folder / "demos",
            self.folder / "policies/clone",
            config,
            progress=self.display.progress,
        )

    def _elicit(self) -> None:
        from safevla.elicit import draw_scenarios, search
        from safevla.evaluate.arms import make_arm
        from safevla.evaluate.evaluation import elicit_rollout
        from safevla.evaluate.runner import EpisodePool
        from safevla_envs.tasks import task_of

        config, env = self.config.elicit, self.config.env
        drawn = draw_scenarios(
            seed=self.config.seed,
            names=config.knobs,
            fixed=env.knobs,
            level=env.level,
            hazards=env.hazards,
            task=task_of(env.id),
        )
        arm = make_arm("clone", self.folder / "policies/clone")
        with (
            EpisodePool(self.workers) as pool,
            self.display.bar("elicit", config.scenarios) as update,
        ):
            found = search(
                elicit_rollout(pool, arm, env),
                drawn,
                scenarios=config.scenarios,
                rollouts=config.rollouts,
                keep=config.keep,
                folder=self.folder / "elicit",
                policy_seed=self.config.stage_seed(5_000),
                progress=lambda done, total: update(done, "scenarios"),
            )
        held_out = sum(item.half == "eval" for item in found)
        worst = f", the costliest {found[0].cost:.1f} per episode" if found else ""
        self.display.line(
            f"  {len(found)} scenarios with cost found, {held_out} of them held out{worst}"
        )

    def _pool(self) -> None:
        from safevla.pipeline.pool import generate_pool

        env = self.config.env.kwargs()
        generate_pool(env, self.folder / "pool.jsonl.gz", self.workers, self.display)

    def _train(self, arm: str) -> None:
        wait_for([ArmProcess(self.folder, arm, self.config.train.total_steps)], self.display)

    def _train_together(self, stages: list[Stage]) -> None:
        """Trains the arms at the same time, each in its own process on its own core."""
        for stage in stages:
            self.runner.begin(stage)
        try:
            by_arm = {stage.name.removeprefix("train."): stage for stage in stages}
            steps = self.config.train.total_steps
            processes = [ArmProcess(self.folder, arm, steps) for arm in by_arm]
            wait_for(processes, self.display, on_done=lambda a: self.runner.finish(by_arm[a]))
        except BaseException:
            for stage in stages:
                self.runner.pause(stage)
            raise

    def _evaluate(self) -> None:
        from safevla.evaluate.evaluation import evaluate_run

        evaluate_run(self.config, self.folder, self.workers, self.display)

    def _report(self) -> None:
        from safevla.report.page import build_report

        build_report(self.folder, on_film=lambda name: self.display.line(f"  filming {name}"))

    def _print_results(self) -> None:
        from safevla.report.page import results_table, verdict_line

        self.display.console.print(results_table(self.folder))
        self.display.line(verdict_line(self.folder))
        self.display.line(f"wall time of the stages: {clock(self.wall)}")
        self.display.line(f"report: {(self.folder / 'report.html').resolve()}")

    def _selection(self) -> dict[str, Any]:
        """What the choice among an arm's candidates depends on, if there is one."""
        from safevla.evaluate.suites import named_list

        selection = self.config.selection
        if self.config.train.candidates == 1:
            return {}
        scenarios = len(named_list(selection.list))
        if scenarios < selection.episodes:
            raise ValueError(
                f"selection.episodes={selection.episodes}: {selection.list} holds {scenarios}"
            )
        return {"selection": plain(selection), "lists": _list_hashes(selection.list)}


def _list_hashes(*names: str) -> dict[str, str]:
    from safevla.evaluate.suites import named_list
    from safevla_envs.scenes.scenario import list_hash

    return {name: list_hash(named_list(name)) for name in names}


def rebuild_report(folder: Path, display: Display, *, embed_videos: bool = False) -> Path:
    """Builds a run's report again, from the run folder alone.

    Raises:
        ValueError: if the folder does not exist or a file in it is damaged.
    """
    from safevla.report.page import build_report

    page = build_report(
        folder,
        on_film=lambda name: display.line(f"filming {name}"),
        embed_videos=embed_videos,
    )
    StageRunner(folder).rehash("report", REPORT_FILES)
    return page


@contextmanager
def _only_process(folder: Path) -> Iterator[None]:
    """Holds the run folder's lock, which the system frees however the process ends."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StageConflict(
                f"{folder} is in use by another safevla process; wait, or choose another --name"
            ) from None
        yield


def preflight(config: PipelineConfig) -> None:
    """Finds, in a second, mistakes that a stage would meet after minutes.

    Raises:
        ValueError: for values that the environment or the search refuses.
        ModuleNotFoundError: if the training packages are not installed.
    """
    import gymnasium

    from safevla.elicit import check_names
    from safevla_envs.tasks import task_of

    for name in ("torch", "transformers", "stable_baselines3"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    check_names(config.elicit.knobs, task_of(config.env.id).knob_ranges())
    gymnasium.make(**config.env.kwargs()).close()
