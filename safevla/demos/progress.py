"""One progress bar, drawn alone or as a task of somebody else's `rich` progress display."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(
    shown: bool | Progress, description: str, total: int, done: int = 0
) -> Iterator[Callable[..., None]]:
    """Draw a progress bar; yields `update(advance=1, text="")`.

    Args:
        shown: True draws an own bar, False none; a `Progress` gets one more task.
        description: what is going on.
        total: number of steps.
        done: steps done already.
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
