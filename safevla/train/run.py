"""One training run in a folder: progress, logs, checkpoints, interruption and resumption.

out_dir/run.json               what is trained; a folder is only ever resumed with the same
out_dir/progress.jsonl         one line per iteration
out_dir/tensorboard/           the same as curves
out_dir/checkpoints/last/      the learner, saved every `checkpoint_every` iterations
out_dir/candidates/<steps>/    policies of the second half, where `candidates` asks for several
out_dir/policy/                the trained policy, once finished
out_dir/summary.json           the last iterations in short, once finished
"""

from __future__ import annotations

import hashlib
import json
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from safevla.files import appending, plain, read_json, read_jsonl, survivor, write_json
from safevla.policy import read_policy, save_policy
from safevla.policy.threads import torch_threads
from safevla.train.envs import make_vec_env
from safevla.train.settings import TrainConfig
from safevla.train.vla_ppo import VLAPPOLagrangian

__all__ = ["candidate_steps", "train_ppo"]

DEFAULT_ENV = "safevla_envs:SafeVLA/ObjNav-v0"
FORMAT = 1
_MAY_CHANGE = ("total_steps", "threads", "workers", "device")
_TAIL = 5  # iterations that the summary averages


def train_ppo(
    config: TrainConfig,
    out_dir: str | Path,
    init_checkpoint: str | Path,
    *,
    env_id: str = DEFAULT_ENV,
    env_kwargs: Mapping[str, Any] | None = None,
    extra_scenarios: Sequence[Any] | None = None,
    demonstrations: str | Path | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train a policy with PPO-Lagrangian, or go on with a run that was interrupted.

    Ctrl-C saves the last whole iteration and raises `KeyboardInterrupt`; a second one stops at
    once. The same call again goes on: from a periodic checkpoint (after a kill) bit for bit as if
    never interrupted, from one that Ctrl-C wrote with new episodes.

    Args:
        config: The run; `multipliers.rule="zero"` is task-only PPO.
        out_dir: Folder of the run.
        init_checkpoint: Folder of the policy to start from.
        env_id: Environment to train in.
        env_kwargs: Its keyword arguments.
        extra_scenarios: Scenarios from which a share `config.extra_probability` of the episodes
            start.
        demonstrations: Folder of those that `config.ppo.cloning_coef` needs.
        progress: Called after each iteration with its line of `progress.jsonl`.

    Returns:
        The content of `summary.json`.

    Raises:
        ValueError: `out_dir` holds a run that differs, or something does not fit together.
        KeyboardInterrupt: Stopped by Ctrl-C; the run can be resumed.
    """
    out = Path(out_dir)
    checkpoint = out / "checkpoints" / "last"
    description = _describe(config, init_checkpoint, env_id, env_kwargs or {}, extra_scenarios)
    _check_same_run(out, description)
    finished = read_json(out / "summary.json")
    if finished and finished["steps"] >= config.total_steps and (out / "policy").is_dir():
        return finished
    env = make_vec_env(
        env_id,
        env_kwargs,
        config.n_envs,
        config.workers,
        privileged=config.critic.kind == "privileged",
        extra_scenarios=extra_scenarios,
        extra_probability=config.extra_probability,
    )
    with closing(env), torch_threads(config.threads):
        model = _learner(config, checkpoint, init_checkpoint, env, demonstrations)
        budgets = dict(zip(model.multipliers.names, model.multipliers.budgets.tolist()))
        write_json(out / "run.json", description | {"budgets": budgets})
        _iterate(model, config, out, checkpoint, progress)
    save_policy(model.trained_policy(), model.processor, out / "policy")
    summary = _summarise(out, model)
    write_json(out / "summary.json", summary)
    return summary


def candidate_steps(config: TrainConfig) -> list[int]:
    """After how many actions a run keeps a candidate; [] if it is to keep the last policy only."""
    rollout, count = config.n_steps * config.n_envs, config.candidates
    if count < 2:
        return []
    last = -(-config.total_steps // rollout)
    marks = {round(last * (1 + k / (count - 1)) / 2) for k in range(count)}
    return [mark * rollout for mark in sorted(marks) if mark]


def _learner(
    config: TrainConfig,
    checkpoint: Path,
    init_checkpoint: str | Path,
    env: Any,
    demonstrations: str | Path | None,
) -> VLAPPOLagrangian:
    kwargs: dict[str, Any] = {
        "config": config,
        "demonstrations": demonstrations,
        "restart_every": config.checkpoint_every,
    }
    found = survivor(checkpoint)
    if found is not None:
        return VLAPPOLagrangian.load(found, env, **kwargs)
    policy, processor = read_policy(init_checkpoint)
    return VLAPPOLagrangian(policy, env, processor=processor, **kwargs)


def _iterate(
    model: VLAPPOLagrangian,
    config: TrainConfig,
    out: Path,
    checkpoint: Path,
    progress: Callable[[dict[str, Any]], None] | None,
) -> None:
    """Train to the end, or until Ctrl-C."""
    model.set_logger(configure(str(out / "tensorboard"), ["tensorboard"]))
    path = out / "progress.jsonl"
    rows = [row for row in read_jsonl(path) if row["iteration"] <= model.iteration]
    seconds = rows[-1]["seconds"] if rows else 0.0
    rollout, marks = model.n_steps * model.n_envs, candidate_steps(config)
    with _interruptible() as stop, appending(path, map(json.dumps, rows)) as append:
        while model.num_timesteps < config.total_steps:
            before = model.iteration
            model.learn(rollout, callback=_StopAtOnce(stop), reset_num_timesteps=False)
            if model.iteration > before:
                seconds += rollout / model.last_iteration["steps_per_second"]
                row = plain({**model.last_iteration, "seconds": seconds})
                append(json.dumps(row))
                if progress is not None:
                    progress(row)
                if model.num_timesteps in marks:
                    candidate = out / "candidates" / str(model.num_timesteps)
                    save_policy(model.trained_policy(), model.processor, candidate)
                if model.iteration % config.checkpoint_every == 0:
                    model.save(checkpoint)
            if stop.is_set():
                model.save(checkpoint)
                raise KeyboardInterrupt
    model.save(checkpoint)


class _StopAtOnce(BaseCallback):
    """Stops a rollout once the event is set."""

    def __init__(self, stop: threading.Event):
        super().__init__()
        self.stop = stop

    def _on_step(self) -> bool:
        return not self.stop.is_set()


@contextmanager
def _interruptible():
    """Sets an event at the first Ctrl-C; a second one interrupts as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may take signals
        return
    usual = signal.getsignal(signal.SIGINT)

    def note(*_: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, usual)


def _describe(
    config: TrainConfig,
    init_checkpoint: str | Path,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    extra_scenarios: Sequence[Any] | None,
) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors", "processor_config.json"):
        path = Path(init_checkpoint) / name
        if not path.is_file():
            raise ValueError(f"{init_checkpoint} is no policy checkpoint: {name} is missing")
        digest.update(path.read_bytes())
    return {
        "format": FORMAT,
        "env_id": env_id,
        "env_kwargs": _named(env_kwargs),
        "init_checkpoint": digest.hexdigest(),
        "extra_scenarios": _named(extra_scenarios or ()),
        "config": plain(config),
    }


def _named(value: Any) -> Any:
    """JSON for keyword arguments: scenarios by their hash, other objects by their text."""
    if isinstance(value, Mapping):
        return {str(key): _named(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return plain(value)
    return str(getattr(value, "scenario_id", value))


def _check_same_run(out: Path, description: Mapping[str, Any]) -> None:
    earlier = read_json(out / "run.json")
    if earlier is None:
        return
    changed = [
        key for key in description if key != "config" and earlier.get(key) != description[key]
    ]
    old, new = earlier.get("config", {}), description["config"]
    changed += [
        f"config.{key}" for key in new if key not in _MAY_CHANGE and old.get(key) != new[key]
    ]
    if changed:
        raise ValueError(
            f"{out} holds a run with another {', '.join(changed)};"
            " choose another folder or remove this one"
        )


def _summarise(out: Path, model: VLAPPOLagrangian) -> dict[str, Any]:
    rows = read_jsonl(out / "progress.jsonl")
    tail = [row for row in rows[-_TAIL:] if row["episodes"]]

    def mean(values: Sequence[float]) -> float | None:
        return float(np.mean(values)) if values else None

    return {
        "steps": model.num_timesteps,
        "iterations": model.iteration,
        "seconds": rows[-1]["seconds"],
        "sim_errors": sum(row["sim_errors"] for row in rows),
        "last_iterations": len(tail),
        **{key: mean([row[key] for row in tail]) for key in ("success", "length", "cost")},
        "costs": {name: mean([row["costs"][name] for row in tail]) for name in model.constraints},
        "lambda": model.multipliers.as_dict(),
        "policy": "policy",
    }
