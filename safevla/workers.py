"""Processes that share work: started once, fed over pipes, one thread each.

A worker makes its handler once and calls it with every message; what the handler yields comes back
as it is made. An error comes back as itself, with the worker's trace as a note, and the worker
lives on. Ctrl-C is left to the parent; workers end with it, however it ends.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from typing import Any

__all__ = ["ONE_THREAD", "Handler", "Workers", "end_with_parent", "usable_cores"]

ONE_THREAD: dict[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Environment variables of a process that shares the machine's cores with its like."""

_DIED = "a worker died; run again to go on from what is finished"

Handler = Callable[[Any], Iterable[Any]]


class Workers:
    """Running worker processes; use it as a context manager, or `close` it.

    `make`, which must be picklable, is called with `arguments` in each and gives its handler. On
    Linux the processes also end with the thread that made them.
    """

    def __init__(self, count: int, make: Callable[..., Handler], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._workers: list[tuple[Any, connection.Connection]] = []
        with _quiet_children():
            for _ in range(count):
                here, there = context.Pipe()
                process = context.Process(target=_serve, args=(there, make, arguments), daemon=True)
                process.start()
                there.close()
                self._workers.append((process, here))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [process.pid for process, _ in self._workers]

    def send(self, worker: int, message: Any) -> None:
        """Gives one worker a message; its one answer is for `receive`."""
        try:
            self._workers[worker][1].send(message)
        except ConnectionError:
            raise RuntimeError(_DIED) from None

    def receive(self, worker: int) -> Any:
        """Returns the answer to the message sent last.

        Raises:
            Exception: what the handler raised; RuntimeError if the process died.
        """
        answer = None
        while True:
            kind, content = self._next(worker)
            if kind == "done":
                return answer
            answer = content

    def run(self, messages: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Shares out messages, the next one to whoever is free; each may have many answers.

        Yields:
            (number of the message, answer), as they come.

        Raises:
            Exception: what a handler raised; RuntimeError if a process died.
        """
        queue, busy = enumerate(messages), {}
        for worker in range(len(self._workers)):
            self._feed(worker, queue, busy)
        while busy:
            pipes = {self._workers[worker][1]: worker for worker in busy}
            for pipe in connection.wait(list(pipes)):
                worker = pipes[pipe]  # pyright: ignore[reportArgumentType]
                kind, content = self._next(worker)
                if kind == "done":
                    self._feed(worker, queue, busy)
                else:
                    yield busy[worker], content

    def _feed(self, worker: int, queue: Iterator[tuple[int, Any]], busy: dict[int, int]) -> None:
        busy.pop(worker, None)
        for number, message in queue:
            self.send(worker, message)
            busy[worker] = number
            return

    def _next(self, worker: int) -> tuple[str, Any]:
        try:
            kind, content = self._workers[worker][1].recv()
        except (EOFError, ConnectionError):
            raise RuntimeError(_DIED) from None
        if kind == "error":
            raise content
        return kind, content

    def close(self) -> None:
        """Ends the processes, whatever they do."""
        for process, pipe in self._workers:
            pipe.close()
            process.terminate()
        for process, _ in self._workers:
            process.join(timeout=10)
        self._workers = []


def usable_cores() -> int:
    """Returns the number of cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1


def end_with_parent() -> None:
    """Lets the kernel end this process when the thread that started it ends (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _serve(pipe: connection.Connection, make: Callable[..., Handler], arguments: tuple) -> None:
    """Body of a worker process: messages in, answers out, until the pipe closes."""
    end_with_parent()
    handler: Handler | None = None
    with suppress(EOFError, BrokenPipeError):
        while True:
            message = pipe.recv()
            try:
                handler = handler or make(*arguments)
                for answer in handler(message):
                    pipe.send(("answer", answer))
                pipe.send(("done", None))
            except Exception as error:
                error.add_note(f"in a worker process:\n{traceback.format_exc()}")
                pipe.send(("error", error))


@contextmanager
def _quiet_children() -> Iterator[None]:
    """Children start with one thread each and leave Ctrl-C to the parent."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
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
