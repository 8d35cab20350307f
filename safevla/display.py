"""What a long run shows: bars on a terminal, sparse lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

__all__ = ["Display", "clock", "make_console", "progress_bar", "table"]

LINE_EVERY = 30.0
"""s between progress lines where there is no terminal."""

WIDTH = 120
"""Columns of tables where there is no terminal to ask."""

Update = Callable[[float, str], None]
"""(completed, text) -> None."""


def make_console() -> Console:
    """Returns a console on standard output, wide enough for tables where there is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Returns a table of numbers: the first column names them."""
    made = Table(title=title)
    for number, head in enumerate(heads):
        made.add_column(head, justify="right" if number else "left")
    for row in rows:
        made.add_row(*row)
    return made


def clock(seconds: float) -> str:
    """Formats a duration: `8 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Display:
    """Bars and lines of one run, on standard output by default."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or make_console()
        self.progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def line(self, text: str) -> None:
        """Prints a line above the bars."""
        self.console.print(text)

    @contextmanager
    def live(self) -> Iterator[Progress]:
        """Shows the bars; tasks added by others inside vanish at the end."""
        with self.progress:
            try:
                yield self.progress
            finally:
                for task in list(self.progress.task_ids):
                    self.progress.remove_task(task)

    @contextmanager
    def bar(self, title: str, total: float) -> Iterator[Update]:
        """Shows one bar; yields `update(completed, text)`."""
        task = self.progress.add_task(title, total=total)
        last = time.monotonic()

        def update(completed: float, text: str) -> None:
            nonlocal last
            self.progress.update(task, completed=completed, description=f"{title} {text}".rstrip())
            now = time.monotonic()
            if self.progress.disable and now - last >= LINE_EVERY:
                last = now
                self.console.print(f"  {title}: {completed:g} of {total:g} {text}".rstrip())

        try:
            yield update
        finally:
            self.progress.remove_task(task)


@contextmanager
def progress_bar(
    shown: bool | Progress, description: str, total: int, done: int = 0
) -> Iterator[Callable[..., None]]:
    """Draw a progress bar; yields `update(advance=1, text="")`.

    `shown` True draws an own bar, False none; a `Progress` gets one more task.
    """
    if not isinstance(shown, Progress):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with (
            Progress(*columns, disable=not shown) as own,
            progress_bar(own, description, total, done) as update,
        ):
            yield update
        return
    task = shown.add_task(description, total=total, completed=done)

    def update(advance: int = 1, text: str = "") -> None:
        shown.update(task, advance=advance, description=f"{description} {text}".rstrip())

    yield update
