"""Runs episodes of an arm on a list of scenarios, in worker processes, and records them.

The result does not depend on the number of workers, nor on the order in which episodes happen to
run: every episode draws from generators seeded by (policy seed, position in the list), and the
batch a policy sees always has :data:`SLOTS` rows, because a row's floating-point result depends on
the shape of its batch but not on the other rows.

Finished episodes are appended to a file as they come. After Ctrl-C or a crash the same call goes on
with the missing ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from safevla.display import Display
from safevla.evaluate.records import EpisodeRecord, read_records, to_line, write_records
from safevla.evaluate.worker import EpisodeWorker, Job
from safevla.files import appending, replaced_file
from safevla.workers import Workers
from safevla_envs.scenes.scenario import save_list

__all__ = ["EpisodePool", "eval_path", "run_jobs"]


class EpisodePool:
    """Worker processes that stay alive between jobs, since starting one costs seconds.

    It is a context manager. With 0 workers everything runs in this process.
    """

    def __init__(self, workers: int = 2) -> None:
        if workers < 0:
            raise ValueError(f"workers={workers}: must be 0 or more")
        self.workers = workers
        self._processes: Workers | None = None
        self._local: EpisodeWorker | None = None

    def __enter__(self) -> EpisodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self,
        job: Job,
        *,
        out: Path | None = None,
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
            kept = out.parent / "lists" / f"{job.list_hash}.jsonl.gz"
            if not kept.exists():
                with replaced_file(kept) as scratch:
                    save_list(scratch, job.scenarios)
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
            write_records(out, [*others, *ordered])
        return ordered

    def _records(self, job: Job, indices: list[int]) -> Iterator[EpisodeRecord]:
        if self.workers == 0:
            self._local = self._local or EpisodeWorker()
            yield from self._local((job, indices))
            return
        self._processes = self._processes or Workers(self.workers, EpisodeWorker)
        shares = [indices[rank :: self.workers] for rank in range(self.workers)]
        try:
            for _, record in self._processes.run((job, share) for share in shares if share):
                yield record
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the workers and closes their environments."""
        for part in (self._processes, self._local):
            if part is not None:
                part.close()
        self._processes = self._local = None


def run_jobs(
    todo: Sequence[tuple[Job, Path | None]], title: str, workers: int, display: Display
) -> list[list[EpisodeRecord]]:
    """Runs jobs, each with its file, behind one bar; returns their records in order."""
    finished = 0
    total = sum(len(job.scenarios) for job, _ in todo)
    with EpisodePool(workers) as pool, display.bar(title, total) as update:

        def on_record(record: EpisodeRecord) -> None:
            nonlocal finished
            finished += 1
            update(finished, f"{record.arm} {record.suite} {record.mode}")

        return [pool.run(job, out=out, on_record=on_record) for job, out in todo]


def eval_path(run_dir: Path, arm: str, suite: str, mode: str) -> Path:
    """`eval/<arm>.<suite>.<mode>.jsonl` of a run folder."""
    return run_dir / "eval" / f"{arm}.{suite}.{mode}.jsonl"


def _finished(
    job: Job, setup: str, out: Path | None
) -> tuple[dict[int, EpisodeRecord], list[EpisodeRecord]]:
    """Records of this job found in `out`, by position, and those of other seeds.

    A list that has grown since holds their scenarios where it held them before.
    """
    if out is None:
        return {}, []
    done: dict[int, EpisodeRecord] = {}
    others = []
    ids, same = [s.scenario_id for s in job.scenarios], ("arm", "suite", "mode", "level")
    for record in read_records(out):
        if record.scenario_id in ids[record.scenario_index :][:1]:
            record = replace(record, list_hash=job.list_hash)
        if (record.setup, record.list_hash) != (setup, job.list_hash) or any(
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


@contextmanager
def _appending(out: Path | None) -> Iterator[Callable[[EpisodeRecord], None]]:
    if out is None:
        yield lambda record: None
        return
    with appending(out, map(to_line, read_records(out))) as append:
        yield lambda record: append(to_line(record))
