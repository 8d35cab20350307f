"""Runs episodes of an arm on a list of scenarios, in worker processes, and records them.

The result does not depend on the number of workers, nor on the order in which episodes happen to
run: every episode draws from generators seeded by (policy seed, position in the list), and the
batch a policy sees always has :data:`SLOTS` rows, because a row's floating-point result depends on
the shape of its batch but not on the other rows.

Finished episodes are appended to a file as they come. After Ctrl-C or a crash the same call goes on
with the missing ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
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
        """Runs what is missing of one job; see `run_all`."""
        return self.run_all([(job, out)], on_record=on_record)[0]

    def run_all(
        self,
        todo: Sequence[tuple[Job, Path | None]],
        *,
        on_record: Callable[[EpisodeRecord], None] | None = None,
    ) -> list[list[EpisodeRecord]]:
        """Runs what is missing of some jobs; who is done with one goes on with the next.

        Args:
            todo: jobs, each with the JSON Lines file to append to and to go on from. Its scenarios
                are kept beside it, in `lists/<list hash>.jsonl.gz`.
            on_record: called for every episode, those found in files first.

        Returns:
            For each job one record per scenario, in the order of the list.

        Raises:
            ValueError: bad input met by a worker before its first episode (say, a checkpoint that
                fails its golden check), or a file holds episodes of another setup.
            RuntimeError: a worker failed; carries its traceback.
        """
        report = on_record or (lambda record: None)
        books = [_Book(job, out) for job, out in todo]
        for book in books:
            for record in book.done.values():
                report(record)
        shares = [(book, share) for book in books for share in self._shares(book.missing)]
        try:
            for number, record in self._records((book.job, share) for book, share in shares):
                report(shares[number][0].add(record))
        except BaseException:
            self.close()
            raise
        finally:
            for book in books:
                book.close()
        return [book.finished() for book in books]

    def _shares(self, indices: list[int]) -> list[list[int]]:
        count = max(self.workers, 1)
        return [share for rank in range(count) if (share := indices[rank::count])]

    def _records(
        self, messages: Iterable[tuple[Job, list[int]]]
    ) -> Iterator[tuple[int, EpisodeRecord]]:
        """Yields (number of the message, record), as they come."""
        if self.workers == 0:
            self._local = self._local or EpisodeWorker()
            for number, message in enumerate(messages):
                for record in self._local(message):
                    yield number, record
            return
        self._processes = self._processes or Workers(self.workers, EpisodeWorker)
        yield from self._processes.run(messages)

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

        return pool.run_all(todo, on_record=on_record)


def eval_path(run_dir: Path, arm: str, suite: str, mode: str) -> Path:
    """`eval/<arm>.<suite>.<mode>.jsonl` of a run folder."""
    return run_dir / "eval" / f"{arm}.{suite}.{mode}.jsonl"


class _Book:
    """The episodes of one job: those found in its file and those that come, which go there."""

    def __init__(self, job: Job, out: Path | None) -> None:
        self.job, self.out, self._setup = job, out, job.setup
        self.done: dict[int, EpisodeRecord] = {}
        self._others: list[EpisodeRecord] = []
        self._file = ExitStack()
        self._append: Callable[[str], None] | None = None
        if out is not None:
            self._read(out)
            kept = out.parent / "lists" / f"{job.list_hash}.jsonl.gz"
            if not kept.exists():
                with replaced_file(kept) as scratch:
                    save_list(scratch, job.scenarios)

    def _read(self, out: Path) -> None:
        """Takes this job's episodes by position, and keeps those of other seeds.

        A list that has grown since holds their scenarios where it held them before.
        """
        job, blank = self.job, self.job.blank(0)
        ids, same = [s.scenario_id for s in job.scenarios], ("arm", "suite", "mode", "level")
        for record in read_records(out):
            if record.scenario_id in ids[record.scenario_index :][:1]:
                record = replace(record, list_hash=job.list_hash)
            if (record.setup, record.list_hash) != (self._setup, job.list_hash) or any(
                getattr(record, name) != blank[name] for name in same
            ):
                raise ValueError(
                    f"{out}: holds episodes of another policy, scenario list or environment; "
                    "delete it or choose another run folder"
                )
            if (record.train_seed, record.policy_seed) == (job.train_seed, job.policy_seed):
                self._note(record)
            else:
                self._others.append(record)

    def _note(self, record: EpisodeRecord) -> None:
        known = next(iter(self.done.values()), record)
        semantics = {known.cost_semantics, record.cost_semantics}
        if len(semantics) > 1:
            raise ValueError(
                f"{self.out or 'episodes'}: cost semantics {sorted(semantics)} are mixed; "
                "delete the file and run again"
            )
        self.done[record.scenario_index] = record

    @property
    def missing(self) -> list[int]:
        """Positions of the episodes that are still to be played."""
        return [index for index in range(len(self.job.scenarios)) if index not in self.done]

    def add(self, record: EpisodeRecord) -> EpisodeRecord:
        """Notes an episode, on disk when this returns; returns it with its setup."""
        record = replace(record, setup=self._setup)
        self._note(record)
        if self.out is not None:
            if self._append is None:
                lines = map(to_line, read_records(self.out))
                self._append = self._file.enter_context(appending(self.out, lines))
            self._append(to_line(record))
            if len(self.done) == len(self.job.scenarios):
                self.close()
        return record

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        self._append = None

    def finished(self) -> list[EpisodeRecord]:
        """Returns all episodes in the order of the list; so they are in the file from now on."""
        ordered = [self.done[index] for index in sorted(self.done)]
        if self.out is not None:
            write_records(self.out, [*self._others, *ordered])
        return ordered
