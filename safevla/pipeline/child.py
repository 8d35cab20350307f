"""A command in a process of its own: its output in a log, Ctrl-C passed on, errors told."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from safevla.workers import ONE_THREAD, end_with_parent

__all__ = ["ChildProcess"]

GRACE = 60.0
"""s that an interrupted process has to leave a whole checkpoint."""


class ChildProcess:
    """`python -m <arguments>`, running with one thread; its output is added to the file `log`.

    It ends with its parent, however that ends.
    """

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | ONE_THREAD,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which passes it on once
            )

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """Asks it to stop, waits for its checkpoint, ends it if that takes too long."""
        if not self.ended:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def check(self) -> None:
        """Raises what went wrong in it: ValueError for exit code 2, else RuntimeError."""
        code = self.process.returncode
        if code:
            lines = [line for line in self.log.read_text().splitlines() if line.strip()]
            last = lines[-1] if lines else "no message"
            if code == 2:
                raise ValueError(last.removeprefix("safevla: "))
            raise RuntimeError(f"{self.name} failed ({last}); all of it: {self.log}")


if __name__ == "__main__":
    end_with_parent()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
