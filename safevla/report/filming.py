"""Filming episodes, of an agent as it acts or again from a record: MP4, film strip and still."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from PIL import Image

from safevla.config import EnvConfig, PipelineConfig
from safevla.evaluate.agents import Agent, ReplayAgent
from safevla.evaluate.arms import named_arm
from safevla.evaluate.evaluation import check_mode
from safevla.evaluate.records import EpisodeRecord
from safevla.evaluate.worker import DEFAULT_ENV, Env, Job
from safevla.report.video import Film, Shot, film_strip
from safevla_envs.scenes.scenario import Scenario, load_list
from safevla_envs.tasks import task_of

__all__ = ["film_agent", "record_episode", "replay_episode"]

FPS = 10
HOLD_FRAMES = 15
ENCODING: dict[str, Any] = {
    "fps": FPS,
    "codec": "libx264",
    "quality": None,
    "macro_block_size": 2,
    "output_params": ["-crf", "27", "-preset", "slow"],
}


def record_episode(
    env: Env,
    agent: Agent,
    path: Path,
    *,
    scenario: Any,
    policy_seed: int = 0,
    index: int = 0,
    arm: str = "",
    width: int = 480,
    height: int = 360,
    strip: Path | None = None,
    poster: Path | None = None,
) -> EpisodeRecord:
    """Plays one episode and writes it as MP4 (H.264); returns its record.

    An older file is replaced. `policy_seed` and `index`, the scenario's position in its list, are
    the seed of everything random, as in the runner; `arm` is shown in the corner. The left picture
    has `width` and `height` pixels, the right one is square. `strip` is a file for eight frames as
    PNG, `poster` for one as JPEG: the first violation, or the end.
    """
    job = Job(
        make_agent=lambda deterministic: agent,
        scenarios=(scenario,) * (index + 1),
        env_kwargs={},
        policy_seed=policy_seed,
        deterministic=False,
        arm=arm,
    )
    for target in (path, strip, poster):
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
    film = Film(env, job, index, agent, width, height)
    shots = list(film.shots())  # all of them first: the strip shows the whole episode
    record = film.episode.record()
    still = _write_video(path, film, shots, record.ended_by)
    if poster is not None:
        Image.fromarray(still).save(poster, quality=80)
    if strip is not None:
        film_strip(shots, record).save(strip, optimize=True)
    return record


def _write_video(path: Path, film: Film, shots: list[Shot], outcome: str) -> np.ndarray:
    """Writes the frames; returns the first with a violation, else the last."""
    import imageio.v2 as imageio

    timeline = film.timeline(shots)
    still: np.ndarray | None = None
    with imageio.get_writer(path, format="FFMPEG", **ENCODING) as writer:  # type: ignore[arg-type]
        for shot in shots:
            frame = film.compose(shot, timeline)
            writer.append_data(frame)
            still = frame if still is None and shot.violated else still
        last = film.compose(shots[-1], timeline, outcome=outcome)
        for _ in range(HOLD_FRAMES):
            writer.append_data(last)
    return last if still is None else still


def replay_episode(
    record: EpisodeRecord,
    scenario: Any,
    env_kwargs: Mapping[str, Any],
    path: Path,
    **options: Any,
) -> EpisodeRecord:
    """Plays a recorded episode again from its actions, without its policy; see `record_episode`.

    Returns:
        The record of the replay; its cost and path are those of `record` where the machine computes
        alike.

    Raises:
        ValueError: the scenario is not the record's.
    """
    if scenario.scenario_id != record.scenario_id:
        raise ValueError(
            f"scenario {scenario.scenario_id}: the episode was on {record.scenario_id}"
        )
    kwargs: dict[str, Any] = {**env_kwargs, "cameras": ()}
    with closing(gymnasium.make(kwargs.pop("id", DEFAULT_ENV), **kwargs)) as env:
        return record_episode(
            env,
            ReplayAgent(record.actions),
            path,
            scenario=scenario,
            policy_seed=record.policy_seed,
            index=record.scenario_index,
            arm=record.arm,
            **options,
        )


def film_agent(
    config: PipelineConfig,
    agent: str,
    out: Path,
    *,
    scenario_file: Path | None,
    index: int,
    seed: int,
    mode: str,
) -> EpisodeRecord:
    """Records a video of one episode of one agent, as `named_arm` takes it, to an MP4 file.

    The scenario is number `index` of a file, else one of the validation split drawn from `seed`.

    Raises:
        ValueError: for an unknown agent or mode, a position outside the file, a file that exists or
            is no MP4 file.
    """
    if out.suffix.lower() != ".mp4":
        raise ValueError(f"--out {out}: must be a file whose name ends in .mp4")
    if out.exists():
        raise ValueError(f"{out} exists; choose another --out")
    check_mode(mode)
    arm = named_arm(agent)
    scenario = _scenario(config.env, scenario_file, index, seed)
    actor = arm(mode == "argmax")
    with closing(gymnasium.make(**config.env.kwargs(layouts=None))) as env:
        return record_episode(
            env,
            actor,
            out,
            scenario=scenario,
            policy_seed=seed,
            arm=arm.name,
            width=config.report.width,
            height=config.report.height,
        )


def _scenario(env: EnvConfig, file: Path | None, index: int, seed: int) -> Scenario:
    if file is None:
        how = {"level": env.level, "hazards": env.hazards, "knobs": env.knobs}
        return task_of(env.id).generate(seed, split="val", **how)
    listed = load_list(file)
    if index >= len(listed):
        raise ValueError(f"index {index}: {file} holds {len(listed)} scenarios")
    return listed[index]
