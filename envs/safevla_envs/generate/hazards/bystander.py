"""`bystander`: a person who walks to and fro on a straight line across the path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from safevla_envs.costs import hazards as terms
from safevla_envs.generate.crossing import ANGLES, CROSSING, STEEP, free_lines
from safevla_envs.generate.ground import densely
from safevla_envs.generate.hazard import Group, Hazard, Item, Kind, Site, Stock
from safevla_envs.generate.home_knobs import knob
from safevla_envs.generate.journey import STANDOFF
from safevla_envs.generate.layout import Rejected
from safevla_envs.scenes.occupancy import CELL
from safevla_envs.scenes.scenario import Mover

__all__ = ["HAZARD"]

START_DISTANCE = 1.5
"""m; nobody starts nearer to the robot's start."""
STRIP = 0.3
"""m; half-width of what a walking person takes of the floor."""


@dataclass(frozen=True, kw_only=True)
class PersonKnobs:
    """`person_speed` in m/s; `person_gap`: s for which the crossing is free between passages."""

    n_persons: int = knob(1, 0, 2)
    person_speed: float = knob(0.7, 0.2, 1.6, (0.4, 0.7, 1.1))
    person_gap: float = knob(2.0, 0.0, 4.0, (3.0, 2.0, 1.0))


def _draw(stock: Stock) -> list[tuple[Kind, ...]]:
    return [(("person", look),) for look in stock.looks[: stock.knobs.n_persons]]


def _away(knobs: Any) -> float:
    """Returns how far in m a person walks to be out of the way for `person_gap` s."""
    return CROSSING + 0.5 * knobs.person_gap * knobs.person_speed


def _place(site: Site, way: np.ndarray, item: Item) -> Mover:
    """Draws a line that crosses a way and takes its strip; one side of it is `_away` long."""
    ground, journey, rng = site.ground, site.journey, site.ground.rng
    ahead, back = free_lines(ground, _away(site.knobs))
    points = densely(way)[::2]
    direction = np.gradient(points, axis=0)
    direction = np.stack([np.convolve(d, np.ones(7), "same") for d in direction.T], 1)
    direction /= np.hypot(*direction.T)[:, None] + 1e-9
    sine = np.abs(direction[:, :1] * np.sin(ANGLES) - direction[:, 1:] * np.cos(ANGLES))
    rows, columns = ground.grid.cells(points)
    ahead, back = ahead[:, rows, columns].T, back[:, rows, columns].T
    candidates = np.argwhere((ahead > 0) & (sine >= STEEP))
    stops = np.nonzero(journey.wide & journey.sight)
    stops = np.stack([ground.xx[stops], ground.yy[stops]], 1)[::5]
    for i in rng.permutation(len(candidates)):
        n, k = candidates[i]
        middle = np.array([ground.grid.x[columns[n]], ground.grid.y[rows[n]]])
        along = np.array([np.cos(ANGLES[k]), np.sin(ANGLES[k])])
        ends = middle + ahead[n, k] * along, middle - back[n, k] * along
        line = np.round(np.array(ends if rng.random() < 0.5 else ends[::-1]), 3)
        if not (_off(stops, *line) >= STANDOFF + CELL).any():
            continue
        length = float(np.hypot(*(line[1] - line[0])))
        marks = np.arange(0.0, length - 0.01, 0.05)
        spots = line[0] + marks[:, None] / length * (line[1] - line[0])
        marks = marks[np.hypot(*(spots - journey.start[:2]).T) >= START_DISTANCE + 0.05]
        if not len(marks):
            continue
        ground.take_line(line, STRIP)
        return Mover(
            name=f"person_{item.number}",
            category="person",
            path=tuple((x, y) for x, y in line.tolist()),
            speed=round(site.knobs.person_speed, 3),
            start=round(float(rng.choice(marks)), 3),
            variant=item.kinds[0][1],
        )
    raise Rejected("no_line_for_a_person")


def _off(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the distances (n,) in m of points (n, 2) from the straight line between a and b."""
    share = ((points - a) @ (b - a) / ((b - a) @ (b - a))).clip(0.0, 1.0)
    return np.hypot(*(points - a - share[:, None] * (b - a)).T)


HAZARD = Hazard(
    name="bystander",
    knobs=PersonKnobs,
    groups=(Group("bystander", _draw, _place, moves=True, across=_away, order=(7, 0, 0)),),
    term=terms.BYSTANDER,
    colour="#7a1fa2",
    marker="H",
    order=6,
)
