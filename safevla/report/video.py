"""Videos and film strips of episodes: what the robot did, what it saw, and what it violated.

Left the scene from behind the robot, right what its navigation camera sees. A bar above holds
instruction, action, step and running cost; while a constraint is violated, and for a second after,
its name and partner stand in red over the picture. Below runs the `timeline`: contact force, cost
and the onsets of the whole episode. Frames are taken every 0.2 simulated seconds *inside* the
actions and played at twice real time.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from safevla.evaluate.agents import Agent
from safevla.evaluate.diagnosis import partner_category
from safevla.evaluate.records import EpisodeRecord
from safevla.evaluate.worker import SLOTS, Env, Episode, Job
from safevla.report.timeline import STRIP_HEIGHT, Timeline

__all__ = ["Film", "Shot", "film_strip", "frame_size"]

TICKS_PER_FRAME = 4
BANNER_SECONDS = 1.0
BAR = 46
STRIP_FRAMES = 8
STRIP_SIZE = (240, 180)
INK, PAPER, FAINT = (34, 39, 46), (255, 255, 255), (120, 128, 140)
RED, GREEN, AMBER = (200, 30, 30), (0, 112, 79), (168, 94, 0)
DARK_RED, GREY = (120, 20, 20), (70, 76, 84)
OUTCOME = {
    "success": "success: target found",
    "wrong_end": 'failed: said "end", task not done',
    "max_steps": "failed: out of actions",
    "max_seconds": "failed: out of time",
    "sim_error": "simulation diverged",
}


@dataclass(kw_only=True)
class Shot:
    """One captured moment: JPEG pictures, simulated time in s, and the action's number.

    `violated` maps constraints to who was harmed, a body, a link pair or a joint, and how hard.
    """

    scene: bytes
    eye: bytes
    time: float
    step: int
    action: str
    cost: float = 0.0
    violated: dict[str, str] = field(default_factory=dict)


def frame_size(width: int, height: int) -> tuple[int, int]:
    """Width and height in pixels of a video whose left picture has this size; both are even."""
    return width + height + (width + height) % 2, height + height % 2 + BAR + STRIP_HEIGHT


class Film:
    """Steps an episode and yields its shots, each with what is known at its time."""

    def __init__(
        self, env: Env, job: Job, index: int, agent: Agent, width: int, height: int
    ) -> None:
        self.env, self.agent = env, agent
        self.width, self.height = width, height
        self.episode = Episode(job, index, env, agent, 0)
        self.arm = job.arm
        self.forces: list[tuple[float, float]] = []

    def shots(self) -> Iterator[Shot]:
        """Yields moments in order until the episode is over."""
        yield self._shot("start")
        over = False
        while not over:
            obs = {key: np.stack([value] * SLOTS) for key, value in self.episode.obs.items()}
            action = self.agent.act(obs, [self.env, *[None] * (SLOTS - 1)])[0]
            name = _action_name(self.env, action)
            before = self.episode.cost
            taken: list[Shot] = []
            look = lambda: taken.append(self._shot(name, 1))  # noqa: B023, E731
            with _watching(self.env, look, self.forces):
                over = self.episode.step(action)
            if over or not taken:
                taken.append(self._shot(name))
            info = self.episode.info
            onsets = [event["onset_time"] for event in info["cost_events"] if event["opened"]]
            charged = min(onsets, default=float(info["seconds"]))
            for shot in taken:
                shot.cost = before if shot.time < charged else self.episode.cost
                shot.violated = self._violated(shot.time)
                yield shot

    def _shot(self, action: str, ahead: int = 0) -> Shot:
        base = self.env.unwrapped
        return Shot(
            scene=_jpeg(base.render_frame("third_person", self.width, self.height)),
            eye=_jpeg(base.render_frame("navigation", self.height, self.height)),
            time=float(base.sim.time),
            step=len(self.episode.actions) + ahead,
            action=action,
            cost=self.episode.cost,
        )

    def _violated(self, time: float) -> dict[str, str]:
        """Constraints violated at a time, or up to a second before: whom they harmed, how hard."""
        return {
            event["constraint"]: _harm(event)
            for event in self.episode.events.values()
            if event["onset_time"]
            <= time
            <= event["onset_time"] + event["duration"] + BANNER_SECONDS
        }

    def timeline(self, shots: list[Shot]) -> Timeline:
        """The strip of the finished episode."""
        return Timeline(
            frame_size(self.width, self.height)[0],
            end=float(self.episode.info["seconds"]),
            forces=self.forces,
            costs=[(shot.time, shot.cost) for shot in shots],
            events=list(self.episode.events.values()),
        )

    def compose(self, shot: Shot, timeline: Timeline, outcome: str | None = None) -> np.ndarray:
        """uint8 (H, W, 3): both pictures between their bar and the strip, with even sides."""
        h, w = self.height, self.width
        canvas = Image.new("RGB", frame_size(w, h), PAPER)
        canvas.paste(_picture(shot.scene), (0, BAR))
        canvas.paste(_picture(shot.eye), (w, BAR))
        canvas.paste(timeline.at(shot.time), (0, canvas.height - STRIP_HEIGHT))
        draw = ImageDraw.Draw(canvas)
        told = self.episode.instruction
        limit = self.env.unwrapped.max_episode_steps
        draw.text((10, 4), f'"{told}"', INK, _font(17))
        draw.text((10, 25), self.arm.replace("_", " "), FAINT, _font(14))
        steps = f"action {shot.step}/{limit}: {shot.action.replace('_', ' ')}"
        _right(draw, canvas.width - 10, 4, steps, INK, 15)
        _right(draw, canvas.width - 10, 24, f"cost {shot.cost:g}", RED if shot.cost else INK, 17)
        draw.line([(w, BAR), (w, BAR + h)], PAPER, 2)
        _banner(draw, w + 8, BAR + h - 28, "robot's camera", GREY, 12)
        size = 20 if len(shot.violated) <= 3 else 13  # a crash violates many: leave room to see it
        for row, (name, harm) in enumerate(shot.violated.items()):
            text, y = f"violated: {name.replace('_', ' ')}", BAR + 8 + round(1.7 * size) * row
            end = _banner(draw, 8, y, text, RED, size)
            _banner(draw, end, y, harm, DARK_RED, size)
        if outcome is not None:
            text, colour = _outcome(outcome, shot.cost)
            _banner(draw, 8, BAR + h - 42, f"{text}, cost {shot.cost:g}", colour, 18)
        return np.asarray(canvas)


def _harm(event: Mapping[str, Any]) -> str:
    """Whom an event harmed and its worst so far, as `glass bottle, 134 N`."""
    partner = partner_category(str(event["partner"]))
    if "peak" not in event:
        return partner
    return f"{partner}, {abs(event['peak']):.{0 if event['unit'] == 'N' else 2}f} {event['unit']}"


def _strip_shots(shots: list[Shot]) -> list[Shot]:
    """Evenly spaced shots, moved onto the beginnings of violations where there are any."""
    picks = np.linspace(0, len(shots) - 1, STRIP_FRAMES).round().astype(int).tolist()
    begins = [
        i for i in range(1, len(shots)) if set(shots[i].violated) - set(shots[i - 1].violated)
    ]
    for begin in begins[: STRIP_FRAMES - 2]:
        free = [j for j in range(1, len(picks) - 1) if picks[j] not in begins]
        if begin not in picks and free:
            picks[min(free, key=lambda j: abs(picks[j] - begin))] = begin
    return [shots[i] for i in sorted(picks)]


def film_strip(shots: list[Shot], record: EpisodeRecord) -> Image.Image:
    """Two rows of four frames that tell the story, each with its time; violations in red."""
    (w, h), gap, label = STRIP_SIZE, 6, 20
    canvas = Image.new("RGB", (4 * w + 3 * gap, 2 * (h + label) + gap), PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, shot in enumerate(_strip_shots(shots)):
        x, y = (i % 4) * (w + gap), (i // 4) * (h + label + gap)
        scene = _picture(shot.scene).resize(STRIP_SIZE, Image.Resampling.LANCZOS)
        canvas.paste(scene, (x, y + label))
        draw.text((x, y + 2), f"{shot.time:.1f} s, action {shot.step}", INK, _font(13))
        _right(draw, x + w, y + 2, f"cost {shot.cost:g}", RED if shot.cost else FAINT, 13)
        for row, (name, harm) in enumerate(shot.violated.items()):
            text = f"{name.replace('_', ' ')}: {harm}"
            size = 12
            while size > 8 and draw.textlength(text, _font(size)) > w - 14:
                size -= 1
            _banner(draw, x + 4, y + label + 4 + 22 * row, text, RED, size)
        if shot.violated:
            draw.rectangle([x, y + label, x + w - 1, y + label + h - 1], outline=RED, width=3)
    text, colour = _outcome(record.ended_by, record.cost)
    _banner(draw, canvas.width - w + 4, canvas.height - 26, text, colour, 12)
    return canvas.quantize(256, dither=Image.Dither.NONE)


@contextmanager
def _watching(
    env: Env, look: Callable[[], None], forces: list[tuple[float, float]]
) -> Iterator[None]:
    """Calls `look` every few control ticks, notes every tick's time in s and largest contact in N.

    Simulation and costs do not notice.
    """
    sim, costs = env.unwrapped.sim, env.unwrapped.costs
    tick, update, count = sim.tick, costs.update, 0

    def watched() -> float:
        nonlocal count
        start = tick()
        count += 1
        if count % TICKS_PER_FRAME == 0:
            look()
        return start

    def updated(log: Any, wakes: Any = None) -> None:
        update(log, wakes)
        forces.append((log.time, float(log.contact_force.max(initial=0.0))))

    sim.tick, costs.update = watched, updated
    try:
        yield
    finally:
        del sim.tick, costs.update


def _jpeg(pixels: np.ndarray) -> bytes:
    """Shrinks a picture thirtyfold: a long episode is kept in memory until its end is known."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()


def _picture(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg))


def _action_name(env: Env, action: Any) -> str:
    if isinstance(action, (int, np.integer)):
        return env.unwrapped.action_names[int(action)]
    return " ".join(f"{value:+.1f}" for value in np.asarray(action).ravel()[:4])


def _outcome(ended_by: str, cost: float) -> tuple[str, tuple[int, int, int]]:
    if ended_by == "success" and cost > 0:
        return "unsafe success: target found", AMBER
    return OUTCOME[ended_by], GREEN if ended_by == "success" else INK


_font: Any = ImageFont.load_default


def _right(
    draw: ImageDraw.ImageDraw, x: int, y: int, text: str, colour: tuple[int, int, int], size: int
) -> None:
    draw.text((x - draw.textlength(text, _font(size)), y), text, colour, _font(size))


def _banner(
    draw: ImageDraw.ImageDraw, x: int, y: int, text: str, colour: tuple[int, int, int], size: int
) -> int:
    """Writes on a coloured field; returns where the field ends."""
    length = int(draw.textlength(text, _font(size)))
    pad = max(3, size // 4)
    draw.rectangle([x, y, x + length + 2 * pad, y + round(1.25 * size) + pad], colour)
    draw.text((x + pad, y + pad // 2), text, PAPER, _font(size))
    return x + length + 2 * pad + 1
