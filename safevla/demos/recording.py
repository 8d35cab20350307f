"""Recording demonstrations of a scripted expert in several processes."""

from __future__ import annotations

import importlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from rich.progress import Progress

from safevla import __version__
from safevla.demos.dataset import DemoWriter, Episode, encode_png
from safevla.demos.parts import claim, part_path, read_part, refuse_other, write_part
from safevla.display import progress_bar
from safevla.files import plain, read_json, remove, replaced_folder, write_json
from safevla.workers import Workers
from safevla_envs.costs import cost_semantics
from safevla_envs.proprioception import state_vector

DEFAULT_ID = "safevla_envs:SafeVLA/ObjNav-v0"
RECORDING_FILE = "meta/recording.json"
"""In a finished folder: the job it is the result of, and the summary."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What a worker needs to record any of the episodes."""

    env_id: str
    env_kwargs: Mapping[str, Any]
    expert: str
    wander: float
    seed: int
    noise: float


class _Recorder:
    """Records episodes by number, in an environment that lives as long as its process."""

    def __init__(self, job: _Job, parts: Path) -> None:
        self.job, self.parts = job, parts
        self.env = gymnasium.make(job.env_id, **job.env_kwargs)
        self.about = _describe(self.env)

    def __call__(self, number: int) -> Iterator[int]:
        """Keeps the episode as a part; yields its length."""
        episode = record_episode(self.env, self.job, number)
        write_part(part_path(self.parts, number), episode, self.about)
        yield len(episode)


def _describe(env: gymnasium.Env) -> dict[str, Any]:
    """What the writer must know about the environment."""
    base = env.unwrapped
    fps = env.metadata.get("render_fps")
    mode = getattr(base, "cost_mode", None)
    return {
        "action_names": list(base.action_names),
        "end_action": int(base.END),
        "constraint_names": [constraint.name for constraint in base.constraints],
        "fps": max(1, round(fps)) if fps else 2,
        "extra": {} if mode is None else {"cost_semantics": cost_semantics(mode)},
    }


def _make_expert(job: _Job, env: Any, rng: np.random.Generator) -> Any:
    """The expert: a name of `safevla.experts`, or "module:callable"."""
    module, colon, name = job.expert.partition(":")
    if colon:
        make = getattr(importlib.import_module(module), name)
        return make(env, rng=rng, wander=job.wander)
    from safevla.experts import make_expert

    return make_expert(job.expert, env, rng=rng, wander=job.wander)


def _noise_pool(env: Any) -> np.ndarray:
    """Actions that noise may execute: those that move the base, or all but `end`."""
    primitives = getattr(getattr(env, "actions", None), "primitives", None)
    if primitives is not None:
        return np.array([i for i, primitive in enumerate(primitives) if primitive.kind == "base"])
    return np.array([i for i in range(len(env.action_names)) if i != env.END])


def record_episode(env: gymnasium.Env, job: _Job, number: int) -> Episode:
    """Record episode `number`; everything random in it comes from (job.seed, number)."""
    base: Any = env.unwrapped
    reset_seed, expert_seed, noise_seed = np.random.SeedSequence([job.seed, number]).spawn(3)
    seed = int(reset_seed.generate_state(1)[0] >> 1)
    noise = np.random.default_rng(noise_seed)
    obs, info = env.reset(seed=seed)
    expert = _make_expert(job, base, np.random.default_rng(expert_seed))
    expert.reset()
    pool = _noise_pool(base)
    aux = _aux_slice(base)
    suffix = "_image"
    cameras = [key.removesuffix(suffix) for key in obs if key.endswith(suffix)]
    constraints = [constraint.name for constraint in base.constraints]
    images: dict[str, list[bytes]] = {camera: [] for camera in cameras}
    rows: dict[str, list[Any]] = {
        k: [] for k in ("state", "action", "executed", "reward", "cost", "aux")
    }
    finished = False
    while not finished:
        label = int(expert.act())
        disturbed = noise.random() < job.noise
        action = int(noise.choice(pool)) if disturbed else label
        for camera in cameras:
            images[camera].append(encode_png(obs[camera + suffix]))
        rows["state"].append(state_vector(obs))
        rows["aux"].append(base.privileged_state()[aux])
        rows["action"].append(label)
        rows["executed"].append(action)
        obs, reward, terminated, truncated, info = env.step(action)
        rows["reward"].append(reward)
        rows["cost"].append([info["costs"][name] for name in constraints])
        finished = terminated or truncated
    integers = ("action", "executed")
    arrays = {k: np.array(v, np.int64 if k in integers else np.float32) for k, v in rows.items()}
    return Episode(
        images=images,
        success=bool(info["success"]),
        instruction=info["instruction"],
        scenario_id=info["scenario_id"],
        seed=seed,
        sim_error=info.get("sim_error"),
        **arrays,
    )


def _aux_slice(base: Any) -> slice:
    """Where the auxiliary targets are in the environment's privileged state."""
    slices = getattr(base, "privileged_slices", None)
    if slices is None:
        from safevla_envs.privileged import PRIVILEGED_SLICES as slices
    return slices["aux"]


def _record(job: _Job, parts: Path, missing: Sequence[int], workers: int) -> Iterator[int]:
    """Records parts in `workers` processes (1: this one); yields their lengths as they come."""
    if not missing:
        return
    if workers > 1:
        with Workers(workers, _Recorder, job, parts) as pool:
            for _, length in pool.run(missing):
                yield length
        return
    recorder = _Recorder(job, parts)
    with closing(recorder.env):
        for number in missing:
            yield from recorder(number)


def collect(
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    episodes: int,
    seed: int,
    out_dir: str | Path,
    env_id: str = DEFAULT_ID,
    expert: str = "task",
    wander: float = 0.0,
    noise: float = 0.1,
    workers: int = 2,
    progress: bool | Progress = False,
) -> dict[str, Any]:
    """Record an expert's episodes into a new folder; those that fail are left out.

    The result depends on `seed` and the arguments that name what is recorded, not on `workers`.
    Until all are there, finished episodes are kept in `<out_dir>.part`: after an interruption the
    same call goes on, to the same result. What the same call has finished before is left as it is.

    Args:
        env_kwargs: keyword arguments of `gymnasium.make`; an `id` among them replaces `env_id`. The
            same call is known by their JSON values, and by the `repr` of what is none.
        episodes: episodes to play.
        seed: episode e draws its scenario, its expert and its noise from (seed, e).
        out_dir: folder to make; it appears only once everything is recorded.
        env_id: Gymnasium id.
        expert: name for `safevla.experts.make_expert`, or "module:callable"; called as
            `(env.unwrapped, wander=..., rng=...)`, it gives an object with `reset()` and
            `act() -> int`.
        wander: handed to the expert.
        noise: share of steps that execute a random action; the label stays the expert's.
        workers: processes; 1 records in this one.
        progress: draw a progress bar (or one more task in a given `Progress`).

    Returns:
        Summary: episodes played and kept, frames, success rate, mean length, mean cost per
        constraint, share of each action, diverged simulations; seconds that this call took, and
        steps per second that it recorded.

    Raises:
        ValueError: a bad argument, `out_dir` or `<out_dir>.part` holds something else, or no
            episode was kept.
    """
    kwargs = dict(env_kwargs or {})
    env_id = kwargs.pop("id", env_id)
    out = Path(out_dir)
    if episodes < 1:
        raise ValueError(f"episodes={episodes}: must be at least 1")
    if not 0 <= noise <= 1:
        raise ValueError(f"noise={noise}: must be in [0, 1]")
    job = _Job(
        env_id=env_id, env_kwargs=kwargs, expert=expert, wander=wander, seed=seed, noise=noise
    )
    started = time.perf_counter()
    summary, steps = _go_on(job, episodes, out, workers, progress)
    seconds = time.perf_counter() - started
    return summary | {"seconds": seconds, "steps_per_second": steps / seconds}


def _go_on(
    job: _Job, count: int, out: Path, workers: int, progress: bool | Progress
) -> tuple[dict[str, Any], int]:
    """Does what is left to do; returns the summary of all, and how many steps were recorded."""
    named = {"safevla": __version__, "episodes": count, **plain(job)}
    named = json.loads(json.dumps(named, default=repr))
    parts = out.with_name(out.name + ".part")
    steps = 0
    if out.exists() and any(out.iterdir()):
        found = read_json(out / RECORDING_FILE) or {}
        refuse_other(out, found.get("job"), named)
        summary = found["summary"]
    else:
        claim(parts, named)
        missing = [n for n in range(count) if not part_path(parts, n).exists()]
        with progress_bar(progress, "demonstrations", count, count - len(missing)) as update:
            for length in _record(job, parts, missing, workers):
                steps += length
                update(text=f"({steps} steps)")
        with replaced_folder(out) as folder:
            summary = _write(job, (read_part(part_path(parts, n)) for n in range(count)), folder)
            write_json(folder / RECORDING_FILE, {"job": named, "summary": summary})
    remove(parts)
    return summary, steps


def _write(
    job: _Job, recorded: Iterator[tuple[Episode, dict[str, Any]]], folder: Path
) -> dict[str, Any]:
    """Writes the episodes that succeed; returns the summary of all that were played."""
    writer: DemoWriter | None = None
    lengths: list[int] = []
    costs: list[np.ndarray] = []
    kept = successes = diverged = frames = 0
    actions: Counter[int] = Counter()
    for episode, about in recorded:
        lengths.append(len(episode))
        costs.append(episode.cost.sum(0, dtype=np.float64))
        successes += episode.success
        diverged += episode.sim_error is not None
        if episode.success and episode.sim_error is None:
            kept += 1
            frames += len(episode)
            actions.update(episode.action.tolist())
            extra = {"seed": job.seed, "noise": job.noise, "wander": job.wander, **about["extra"]}
            writer = writer or DemoWriter(folder, **{**about, "extra": extra})
            writer.add(episode)
    played = len(lengths)
    if writer is None:
        raise ValueError(
            f"no episode of {played} was kept: {successes} succeeded, {diverged} diverged"
        )
    writer.close()
    return {
        "episodes": played,
        "kept": kept,
        "frames": frames,
        "success_rate": successes / played,
        "mean_length": sum(lengths) / played,
        "mean_cost": dict(zip(writer.constraint_names, (sum(costs) / played).tolist())),
        "action_share": {writer.action_names[i]: n / frames for i, n in sorted(actions.items())},
        "sim_errors": diverged,
    }
