"""Runs episodes of an arm on a list of scenarios, in worker processes, and records them.

The result does not depend on the number of workers, nor on the order in which episodes happen to
run: every episode draws from generators seeded by (policy seed, position in the list), and the
batch a policy sees always has :data:`SLOTS` rows, because a row's floating-point result depends on
the shape of its batch but not on the other rows.

Finished episodes are appended to a file as they come. After Ctrl-C or a crash the same call goes on
with the missing ones.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import connection, resource_tracker
from pathlib import Path
from typing import Any

from safevla.evaluate.arms import Agent
from safevla.evaluate.records import EpisodeRecord, read_jsonl, to_line, write_jsonl
from safevla.evaluate.worker import DEFAULT_ENV, SLOTS, Job, Worker, Wrapper, serve
from safevla_envs.scenes.scenario import save_list

__all__ = ["DEFAULT_ENV", "SLOTS", "EpisodePool", "Job", "eval_path", "run_episodes"]

_DIED = "an episode worker died; run again to go on from the finished episodes"


class EpisodePool:
    """Worker processes that stay alive between jobs: starting one costs seconds.

    Use it as a context manager:

        with EpisodePool(workers=2) as pool:
            records = pool.run(job)

    Args:
        workers: processes; 0 runs everything in this one.
    """

    def __init__(self, workers: int = 2) -> None:
        if workers < 0:
            raise ValueError(f"workers={workers}: must be 0 or more")
        self.workers = workers
        self._processes: list[tuple[Any, connection.Connection]] = []
        self._local: Worker | None = None

    def __enter__(self) -> EpisodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self,
        job: Job,
        *,
        out: str | os.PathLike[str] | None = None,
        on_record: Callable[[EpisodeRecord], None] | None = None,
    ) -> list[EpisodeRecord]:
        """Runs what is missing of a job.

        Args:
            job: the episodes.
            out: JSON Lines file to append to and to go on from. The scenarios are kept beside it,
                in `lists/<list hash>.jsonl.gz`.
            on_record: called for every episode, those found in `out` first.

        Returns:
            One record per scenario, in the order of the list.

        Raises:
            ValueError: bad input met by a worker before its first episode (say, a checkpoint that
                fails its golden check), or `out` holds episodes of another setup.
            RuntimeError: a worker failed; carries its traceback.
        """
        setup = job.setup
        done, others = _finished(job, setup, out)
        report = on_record or (lambda record: None)
        for record in done.values():
            report(record)
        if out is not None:
            _save_list(job, Path(out).parent / "lists")
        missing = [index for index in range(len(job.scenarios)) if index not in done]
        if missing:
            with _appending(out) as append:
                for record in self._records(job, missing):
                    stamped = replace(record, setup=setup)
                    done[record.scenario_index] = stamped
                    append(stamped)
                    report(stamped)
        ordered = [done[index] for index in sorted(done)]
        semantics = {record.cost_semantics for record in ordered}
        if len(semantics) > 1:
            raise ValueError(
                f"{out or 'episodes'}: cost semantics {sorted(semantics)} are mixed; "
                "delete the file and run again"
            )
        if out is not None:
            write_jsonl(out, [*others, *ordered])
        return ordered

    def _records(self, job: Job, indices: list[int]) -> Iterator[EpisodeRecord]:
        if self.workers == 0:
            self._local = self._local or Worker()
            yield from self._local.run(job, indices, *self._local.prepare(job, len(indices)))
            return
        self._start()
        busy: dict[Any, connection.Connection] = {}
        try:
            for rank, (process, pipe) in enumerate(self._processes):
                share = indices[rank :: self.workers]
                if share:
                    pipe.send((job, share))
                    busy[process] = pipe
            while busy:
                ready = connection.wait([*busy.values(), *(p.sentinel for p in busy)])
                for process, pipe in list(busy.items()):
                    if pipe in ready:
                        kind, content = pipe.recv()
                        if kind == "record":
                            yield EpisodeRecord.from_dict(content)
                        elif kind == "done":
                            del busy[process]
                        else:
                            raise content
                    elif process.sentinel in ready and not pipe.poll():
                        raise RuntimeError(_DIED)
        except (EOFError, ConnectionError):
            self.close()
            raise RuntimeError(_DIED) from None
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes = [pair for pair in self._processes if pair[0].is_alive()]
        with _worker_environment():
            while len(self._processes) < self.workers:
                here, there = context.Pipe()
                process = context.Process(target=serve, args=(there,), daemon=True)
                process.start()
                there.close()
                self._processes.append((process, here))

    def close(self) -> None:
        """Ends the workers and closes their environments."""
        for process, pipe in self._processes:
            pipe.close()
            process.terminate()
        for process, _ in self._processes:
            process.join(timeout=10)
        self._processes = []
        if self._local is not None:
            self._local.close()
            self._local = None


def run_episodes(
    make_agent: Callable[[bool], Agent],
    scenarios: Sequence[Any],
    env_kwargs: Mapping[str, Any],
    *,
    policy_seed: int,
    deterministic: bool,
    workers: int = 2,
    wrappers: Sequence[Wrapper] = (),
    arm: str = "",
    suite: str = "",
    train_seed: int | None = None,
    out: str | os.PathLike[str] | None = None,
    pool: EpisodePool | None = None,
    progress: bool = False,
) -> list[EpisodeRecord]:
    """Runs one arm on one list of scenarios; see :class:`Job` and :class:`EpisodePool`.

    Args:
        make_agent: an :class:`safevla.evaluate.arms.Arm`, or a picklable callable alike.
        scenarios: the list.
        env_kwargs: keyword arguments of `gymnasium.make`; `id` defaults to ObjNav.
        policy_seed: seed of everything random in acting and perturbing.
        deterministic: argmax instead of sampling.
        workers: processes, 0 for none; ignored with a `pool`.
        wrappers: picklable callables applied to the environment.
        arm: name in the records; the agent's own if empty.
        suite: name in the records.
        train_seed: training seed in the records.
        out: JSON Lines file to append to and to go on from.
        pool: running workers to use.
        progress: show a progress bar on a terminal.

    Returns:
        One record per scenario, in the order of the list.
    """
    job = Job(
        make_agent=make_agent,
        scenarios=tuple(scenarios),
        env_kwargs=env_kwargs,
        policy_seed=policy_seed,
        deterministic=deterministic,
        wrappers=tuple(wrappers),
        arm=arm,
        suite=suite,
        train_seed=train_seed,
    )
    if pool is None:
        with EpisodePool(workers) as own:
            return _run_shown(own, job, out, progress)
    return _run_shown(pool, job, out, progress)


def eval_path(run_dir: str | os.PathLike[str], arm: str, suite: str, mode: str) -> Path:
    """`eval/<arm>.<suite>.<mode>.jsonl` of a run folder."""
    return Path(run_dir) / "eval" / f"{arm}.{suite}.{mode}.jsonl"


def _run_shown(
    pool: EpisodePool, job: Job, out: str | os.PathLike[str] | None, progress: bool
) -> list[EpisodeRecord]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("success {task.fields[success]:.0%}  cost {task.fields[cost]:.2f}"),
        TimeRemainingColumn(),
    )
    shown = progress and console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        blank = job.blank(0) if job.scenarios else {"arm": job.arm, "mode": ""}
        title = " · ".join(part for part in (blank["arm"], job.suite, blank["mode"]) if part)
        task = bar.add_task(title, total=len(job.scenarios), success=0.0, cost=0.0)
        seen: list[EpisodeRecord] = []

        def update(record: EpisodeRecord) -> None:
            seen.append(record)
            bar.update(
                task,
                advance=1,
                success=sum(r.success for r in seen) / len(seen),
                cost=sum(r.cost for r in seen) / len(seen),
            )

        return pool.run(job, out=out, on_record=update)


def _finished(
    job: Job, setup: str, out: str | os.PathLike[str] | None
) -> tuple[dict[int, EpisodeRecord], list[EpisodeRecord]]:
    """Records of this job found in `out`, by position, and those of other seeds."""
    if out is None or not Path(out).exists():
        return {}, []
    done: dict[int, EpisodeRecord] = {}
    others = []
    for record in read_jsonl(out):
        same = {"arm", "suite", "mode", "list_hash", "level"}
        if record.setup != setup or any(
            getattr(record, name) != value for name, value in job.blank(0).items() if name in same
        ):
            raise ValueError(
                f"{out}: holds episodes of another policy, scenario list or environment; "
                "delete it or choose another run folder"
            )
        if (record.train_seed, record.policy_seed) == (job.train_seed, job.policy_seed):
            done[record.scenario_index] = record
        else:
            others.append(record)
    return done, others


def _save_list(job: Job, folder: Path) -> None:
    path = folder / f"{job.list_hash}.jsonl.gz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".tmp")
        save_list(scratch, job.scenarios)
        os.replace(scratch, path)


@contextmanager
def _appending(
    out: str | os.PathLike[str] | None,
) -> Iterator[Callable[[EpisodeRecord], None]]:
    if out is None:
        yield lambda record: None
        return
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():  # drops a last line cut short, so that appending starts on a line of its own
        write_jsonl(path, read_jsonl(path))
    with path.open("a", encoding="utf-8") as file:

        def append(record: EpisodeRecord) -> None:
            file.write(to_line(record))
            file.flush()

        yield append


@contextmanager
def _worker_environment() -> Iterator[None]:
    """Children start with one thread each and leave Ctrl-C to the parent."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    resource_tracker.ensure_running()  # would unblock Ctrl-C when it starts with the first worker
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
