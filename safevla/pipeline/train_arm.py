"""One PPO arm in a process of its own: `python -m safevla.pipeline.train_arm RUN_FOLDER ARM`.

The two arms train at the same time, one core each. Each process takes its settings from the run
folder's `config.yaml`, starts from `policies/clone`, mixes in the training half of the elicited
scenarios, and leaves its policy in `policies/<arm>`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
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
from safevla.pipeline.child import ChildProcess

__all__ = ["ArmProcess", "arm_config", "train_arm", "wait_for"]

POLL = 0.5
"""s between looks at the training processes."""


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
    from safevla.pipeline.selection import select_policy
    from safevla.train.run import train_ppo

    config = load_config(str(folder / "config.yaml"))
    env = config.env.kwargs(reward_shaping=True)
    if config.env.pool:
        env |= {"scenario": ScenarioPool(folder / "pool.jsonl.gz"), "layouts": None, "pool": None}
    settings = arm_config(config, arm)
    extra = [item.scenario for item in load_found(folder / "elicit/found.jsonl.gz", "train")]
    train_ppo(
        settings,
        folder / "train" / arm,
        folder / "policies/clone",
        env_id=env.pop("id"),
        env_kwargs=env,
        extra_scenarios=extra or None,
        demonstrations=folder / "demos" if config.train.ppo.cloning_coef else None,
    )
    policy = folder / "train" / arm / "policy"
    if settings.candidates > 1:
        policy = select_policy(config, folder, arm, settings)
    with replaced_folder(folder / "policies" / arm) as scratch:
        shutil.copytree(policy, scratch, dirs_exist_ok=True)


class ArmProcess(ChildProcess):
    """A running arm of a run folder, which will take `steps` actions."""

    def __init__(self, folder: Path, arm: str, steps: int) -> None:
        self.arm = arm
        self.steps = steps
        self.progress_file = folder / "train" / arm / "progress.jsonl"
        arguments = ["safevla.pipeline.train_arm", str(folder), arm]
        super().__init__(f"training {arm!r}", arguments, folder / "train" / arm / "log.txt")

    def latest(self) -> dict[str, Any]:
        """Returns the newest whole line of the arm's progress, {} if there is none."""
        lines = whole_lines(self.progress_file)
        return json.loads(lines[-1]) if lines else {}


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
                    arm_done = arm.ended
                    _show(shown[arm.arm], arm.latest(), arm.steps)
                    if arm_done:
                        arm.check()
                        on_done(arm.arm)
                        running.remove(arm)
                if running:
                    time.sleep(POLL)
    finally:
        for arm in running:
            arm.stop()


def _show(update: Update, latest: dict[str, Any], steps: int) -> None:
    if latest:
        success, cost = latest.get("success"), latest.get("cost")
        known = success is not None and cost is not None
        text = f"success {success:.0%}, cost {cost:.2f}" if known else ""
        update(float(latest["steps"]), "finishing" if latest["steps"] >= steps else text)


if __name__ == "__main__":
    try:
        explained(lambda: train_arm(Path(sys.argv[1]), sys.argv[2]))
    except KeyboardInterrupt:
        sys.exit(130)
