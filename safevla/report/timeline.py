"""A strip under a video: contact force and cost over the episode, onsets of violations, a cursor.

Force is the largest that any one body exerts on the robot within 50 ms, on a logarithmic scale from
1 N: a touch and a crash both show. A triangle marks the onset of every event in the colour of its
constraint. What lies ahead of the cursor is faint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from safevla.report.style import CONSTRAINT_COLOUR, INK, MUTED

__all__ = ["STRIP_HEIGHT", "Timeline", "force_height"]

STRIP_HEIGHT = 96
"""Pixels."""
TICK = 0.05
"""s."""
REFLEX = 20.0
"""N; from here a contact is an impact."""
FORCES = (1.0, REFLEX, 200.0)
"""N; labelled lines."""
FULL_SCALE = 500.0
"""N; the top of the scale, more is cut off."""
LEFT, RIGHT, TOP, BOTTOM = 44, 54, 26, 15
"""Pixels around the plot: force labels, cost labels, constraints, times."""
PAPER, SHADE, HARD, RED = "#ffffff", "#b9c0c9", "#22272e", "#c81e1e"


def force_height(newton: float) -> float:
    """Height of a force on the strip's scale, 0 (1 N or less) to 1 (500 N or more)."""
    if not newton > 1.0:
        return 0.0
    return min(math.log(newton) / math.log(FULL_SCALE), 1.0)


class Timeline:
    """The strip of one episode; drawn once, then copied with the cursor at each frame's time.

    Args:
        width: pixels.
        end: length of the episode in s.
        forces: (start in s, N) of 50 ms ticks; those left out are without contact.
        costs: (time in s, running cost), rising.
        events: dicts with `constraint` and `onset_time` in s.
    """

    def __init__(
        self,
        width: int,
        *,
        end: float,
        forces: Iterable[tuple[float, float]],
        costs: Iterable[tuple[float, float]],
        events: Sequence[Mapping[str, Any]],
    ) -> None:
        self.width, self.end = width, max(end, 1e-6)
        self.full = Image.new("RGB", (width, STRIP_HEIGHT), PAPER)
        draw = ImageDraw.Draw(self.full)
        self._frame(draw)
        self._forces(draw, list(forces))
        self._costs(draw, list(costs))
        self._marks(draw, events)
        veil = Image.new("RGB", self.full.size, PAPER)
        self.faint = Image.blend(self.full, veil, 0.62)
        # labels on both sides stay as they are
        right, below = width - RIGHT, STRIP_HEIGHT - BOTTOM
        for corner, end in (((0, 0), LEFT), ((right, 0), width)):
            self.faint.paste(self.full.crop((*corner, end, STRIP_HEIGHT)), corner)
        for y, end in ((0, TOP - 9), (below, STRIP_HEIGHT)):
            self.faint.paste(self.full.crop((0, y, width, end)), (0, y))

    def x(self, time: float) -> int:
        """Column of a time in s."""
        share = min(max(time / self.end, 0.0), 1.0)
        return LEFT + round(share * (self.width - LEFT - RIGHT - 1))

    def y(self, newton: float) -> int:
        """Row of a force in N."""
        return self._row(force_height(newton))

    def _row(self, share: float) -> int:
        return round(STRIP_HEIGHT - BOTTOM - 1 - share * (STRIP_HEIGHT - BOTTOM - TOP - 1))

    def at(self, time: float) -> Image.Image:
        """Returns the strip with the cursor at a time in s."""
        picture = self.faint.copy()
        x = self.x(time)
        picture.paste(self.full.crop((0, 0, x, STRIP_HEIGHT)), (0, 0))
        ImageDraw.Draw(picture).line([(x, TOP - 8), (x, self._row(0.0))], HARD, 2)
        return picture

    # ---- parts ------------------------------------------------------------------------------

    def _frame(self, draw: ImageDraw.ImageDraw) -> None:
        left, right = LEFT, self.width - RIGHT
        for force in FORCES:
            y = self.y(force)
            colour = "#d98c8c" if force == REFLEX else "#e3e6ea"
            draw.line([(left, y), (right, y)], colour)
            label = f"{force:g} N"
            draw.text((left - 4, y), label, MUTED, _font(), anchor="rm")
        step = next(s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 3600) if self.end / s <= 9)
        for second in range(0, int(self.end) + 1, step):
            unit = " s" if second == 0 else ""
            place = (self.x(second), STRIP_HEIGHT - BOTTOM + 1)
            draw.text(place, f"{second}{unit}", MUTED, _font(), anchor="mt" if second else "lt")

    def _forces(self, draw: ImageDraw.ImageDraw, forces: list[tuple[float, float]]) -> None:
        worst = np.zeros(self.width + 1)
        for time, force in forces:
            first = self.x(time)
            last = max(self.x(time + TICK), first + 1)
            worst[first:last] = np.maximum(worst[first:last], force)
        bottom = self._row(0.0)
        for x in np.flatnonzero(worst > FORCES[0]):
            force = float(worst[x])
            draw.line([(x, bottom), (x, self.y(force))], HARD if force >= REFLEX else SHADE)

    def _costs(self, draw: ImageDraw.ImageDraw, costs: list[tuple[float, float]]) -> None:
        final = costs[-1][1] if costs else 0.0
        right = self.width - RIGHT
        if final <= 0.0:
            draw.text((right + 5, self._row(0.0)), "cost 0", MUTED, _font(), anchor="ls")
            return
        line = [(self.x(0.0), self._row(0.0))]
        for time, cost in costs:
            line += [(self.x(time), line[-1][1]), (self.x(time), self._row(cost / final))]
        draw.line([*line, (right, line[-1][1])], RED, 2)
        draw.text((right + 5, self._row(1.0)), f"cost {final:g}", RED, _font(), anchor="lm")

    def _marks(self, draw: ImageDraw.ImageDraw, events: Sequence[Mapping[str, Any]]) -> None:
        names = dict.fromkeys(event["constraint"] for event in events)
        told = [name.replace("_", " ") for name in names]
        sizes = [s for s in (11, 10, 9, 8) if LEFT + _legend_width(draw, told, s) <= self.width]
        size = sizes[0] if sizes else 8
        x = LEFT
        for name, text in zip(names, told):
            _triangle(draw, x + 4, 4, CONSTRAINT_COLOUR.get(name, INK))
            draw.text((x + 11, 1), text, INK, _font(size))
            x += _legend_width(draw, [text], size)
        for event in events:
            colour = CONSTRAINT_COLOUR.get(event["constraint"], INK)
            _triangle(draw, self.x(event["onset_time"]), TOP - 8, colour)


def _triangle(draw: ImageDraw.ImageDraw, x: int, y: int, colour: str) -> None:
    draw.polygon([(x - 4, y), (x + 4, y), (x, y + 7)], colour)


def _legend_width(draw: ImageDraw.ImageDraw, names: Sequence[str], size: int) -> int:
    return sum(2 * size + round(draw.textlength(name, _font(size))) for name in names)


def _font(size: int = 11) -> Any:
    return ImageFont.load_default(size)
