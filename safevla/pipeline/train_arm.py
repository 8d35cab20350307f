"""One PPO arm in a process of its own: `python -m safevla.pipeline.train_arm RUN_FOLDER ARM`.

The two arms train at the same time, one core each. Each process takes its settings from the run
folder's `config.yaml`, starts from `policies/clone`, mixes in the training half of the elicited
scenarios, and leaves its policy in `policies/<arm>`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safevla.config import PipelineConfig, load_config
from safevla.display import Display, Update
from safevla.errors import explained
from safevla.files import replaced_folder, whole_lines
from safevla.workers import ONE_THREAD, end_with_parent

__all__ = ["ArmProcess", "arm_config", "train_arm", "wait_for"]

POLL = 0.5
"""s between looks at the training processes."""
GRACE = 60.0
"""s that an interrupted arm has to leave a whole checkpoint."""


def arm_config(config: PipelineConfig, arm: str) -> Any:
    """Returns the PPO configuration of an arm: task_only has all multipliers fixed at zero."""
    train = replace(config.train, seed=config.stage_seed(3))
    if arm == "task_only":
        train = replace(train, multipliers=replace(train.multipliers, rule="zero"))
    return train


def train_arm(folder: Path, arm: str) -> None:
    """Trains one arm of a run folder; goes on from its last checkpoint."""
    from safevla.elicit import load_found
    from safevla.pipeline.pool import ScenarioPool
    from safevla.train.run import train_ppo

    config = load_config(str(folder / "config.yaml"))
    env = config.env.kwargs(reward_shaping=True)
    if config.env.pool:
        env |= {"scenario": ScenarioPool(folder / "pool.jsonl.gz"), "layouts": None, "pool": None}
    extra = [item.scenario for item in load_found(folder / "elicit/found.jsonl.gz", "train")]
    train_ppo(
        arm_config(config, arm),
        folder / "train" / arm,
        folder / "policies/clone",
        env_id=env.pop("id"),
        env_kwargs=env,
        extra_scenarios=extra or None,
    )
    with replaced_folder(folder / "policies" / arm) as scratch:
        shutil.copytree(folder / "train" / arm / "policy", scratch, dirs_exist_ok=True)


class ArmProcess:
    """A running arm of a run folder, which will take `steps` actions."""

    def __init__(self, folder: Path, arm: str, steps: int) -> None:
        self.arm = arm
        self.steps = steps
        self.progress_file = folder / "train" / arm / "progress.jsonl"
        log = folder / "train" / arm / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "safevla.pipeline.train_arm", str(folder), arm],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | ONE_THREAD,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which passes it on once
            )

    def latest(self) -> dict[str, Any]:
        """Returns the newest whole line of the arm's progress, {} if there is none."""
        lines = whole_lines(self.progress_file)
        return json.loads(lines[-1]) if lines else {}

    def stop(self) -> None:
        """Asks the arm to stop, waits for its checkpoint, ends it if that takes too long."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def check(self) -> None:
        """Raises what went wrong in the process: ValueError for exit code 2, else RuntimeError."""
        code = self.process.returncode
        if code:
            lines = [line for line in self.log.read_text().splitlines() if line.strip()]
            last = lines[-1] if lines else "no message"
            if code == 2:
                raise ValueError(last.removeprefix("safevla: "))
            raise RuntimeError(f"training {self.arm!r} failed ({last}); all of it: {self.log}")


def wait_for(
    arms: Sequence[ArmProcess], display: Display, on_done: Callable[[str], Any] = lambda arm: None
) -> None:
    """Waits for training processes and shows their progress; all end together on an error.

    `on_done` is called with an arm's name once it has succeeded.
    """
    running = list(arms)
    try:
        with contextlib.ExitStack() as stack:
            bars = [display.bar(f"train {arm.arm}", arm.steps) for arm in arms]
            shown = {arm.arm: stack.enter_context(bar) for arm, bar in zip(arms, bars)}
            while running:
                for arm in list(running):
                    arm_done = arm.process.poll() is not None
                    _show(shown[arm.arm], arm.latest())
                    if arm_done:
                        arm.check()
                        on_done(arm.arm)
                        running.remove(arm)
                if running:
                    time.sleep(POLL)
    finally:
        for arm in running:
            arm.stop()


def _show(update: Update, latest: dict[str, Any]) -> None:
    if latest:
        success, cost = latest.get("success"), latest.get("cost")
        known = success is not None and cost is not None
        text = f"success {success:.0%}, cost {cost:.2f}" if known else ""
        update(float(latest["steps"]), text)


if __name__ == "__main__":
    end_with_parent()
    try:
        explained(lambda: train_arm(Path(sys.argv[1]), sys.argv[2]))
    except KeyboardInterrupt:
        sys.exit(130)
