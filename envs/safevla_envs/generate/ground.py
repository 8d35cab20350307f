"""Free floor: what is placed takes its disc or strip, the rest is drawn from what still fits."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from safevla_envs.generate.layout import Rejected
from safevla_envs.scenes.occupancy import CELL, OccupancyGrid, overlap
from safevla_envs.scenes.scenario import Scenario

__all__ = ["BESIDE", "JITTER", "Ground", "densely", "draw_cell", "offset", "shifted"]

BESIDE = 0.9
"""m; what stands further from a way than this and the detour's clearance is not beside it."""
JITTER = 0.02
"""m; positions are drawn within this of a cell's centre, along x and along y."""
SLACK = 0.035
"""m; kept between things beside what they ask for: jitter and the grid's own error."""


class Ground:
    """Floor from which positions are drawn.

    Args:
        scenario: rooms, doorways and furniture; what else it holds does not matter.
        rng: source of every draw.

    Attributes:
        reach: m; what stands further from a way is not beside it.
        thresholds: a line (2, 2) in m across each doorway.
        room: m, float (rows, columns); free distance around each cell: to walls, furniture and
            whatever was taken since.
    """

    def __init__(self, scenario: Scenario, rng: np.random.Generator):
        self.grid = OccupancyGrid(scenario)
        self.rng = rng
        self.reach = BESIDE
        self.xx, self.yy = np.meshgrid(self.grid.x, self.grid.y)
        self.room = self.grid.clearance.copy()
        self.thresholds = []
        for door in scenario.doorways:
            along = np.array([door.width / 2, 0.0] if door.axis == "x" else [0.0, door.width / 2])
            self.thresholds.append(np.array([door.center - along, door.center + along]))

    def take(self, x: float, y: float, radius: float) -> None:
        """Takes a disc away."""
        np.minimum(self.room, self.off((x, y)) - radius, out=self.room)

    def off(self, point: tuple[float, float]) -> np.ndarray:
        """Returns the distance in m from every cell to a point, (rows, columns)."""
        return np.hypot(self.xx - point[0], self.yy - point[1])

    def take_line(self, points: np.ndarray, radius: float) -> None:
        """Takes everything within `radius` m of a line (n, 2) away."""
        np.minimum(self.room, self.distance_to(points) - radius, out=self.room)

    def off_thresholds(self) -> np.ndarray:
        """Returns the distance in m from every cell to the nearest doorway, (rows, columns)."""
        off = np.full(self.room.shape, np.inf)
        for line in self.thresholds:
            np.minimum(off, self.distance_to(line), out=off)
        return off

    def distance_to(self, points: np.ndarray) -> np.ndarray:
        """Returns the distance in m from every cell to a line (n, 2), to within half a cell."""
        off = np.ones(self.xx.shape, bool)
        off[self.grid.cells(densely(points))] = False
        return np.asarray(ndimage.distance_transform_edt(off)) * CELL

    def fitting(self, radius: float) -> np.ndarray:
        """Says where a disc of `radius` m fits, bool (rows, columns)."""
        return self.room >= radius + SLACK

    def draw(
        self, radius: float, reason: str, weight: np.ndarray | None = None
    ) -> tuple[float, float]:
        """Draws a place for a disc.

        Args:
            radius: of the disc in m.
            reason: what to reject the draw with when nothing fits.
            weight: of the cells, non-negative (rows, columns); equal if None.

        Raises:
            Rejected: if no cell of positive weight has room.
        """
        free = self.fitting(radius)
        index = draw_cell(self.rng, free if weight is None else free * weight, reason)
        x, y = self.xx.flat[index], self.yy.flat[index]
        return x + self.rng.uniform(-JITTER, JITTER), y + self.rng.uniform(-JITTER, JITTER)

    def settle(
        self, radius: float, spare: float, reason: str, weight: np.ndarray | None = None
    ) -> tuple[float, float]:
        """Draws a place for a disc with `spare` m around it, as `draw` does, and takes the disc."""
        x, y = self.draw(radius + spare, reason, weight)
        self.take(x, y, radius)
        return x, y

    def beside(self, way: np.ndarray, lateral: float) -> np.ndarray:
        """Returns weights (rows, columns): normal about a way (n, 2) with spread `lateral` m."""
        distance = self.distance_to(way)
        weight = np.exp(-0.5 * (distance / max(lateral, CELL)) ** 2)
        return weight * (distance <= self.reach)

    def fits(self, points: np.ndarray, radius: float) -> np.ndarray:
        """Says at which points (n, 2) a disc of `radius` m fits, bool (n,)."""
        return self.room[self.grid.cells(points)] >= radius + SLACK


def draw_cell(rng: np.random.Generator, weight: np.ndarray, reason: str) -> int:
    """Draws a flat index with probability proportional to a non-negative `weight`.

    Raises:
        Rejected: with `reason` if every weight is zero.
    """
    total = np.cumsum(weight.ravel(), dtype=float)
    if not total[-1] > 0.0:
        raise Rejected(reason)
    return int(np.searchsorted(total, rng.random() * total[-1], side="right"))


def densely(points: np.ndarray) -> np.ndarray:
    """Returns points (m, 2) along a line (n, 2), at most half a cell apart."""
    points = np.asarray(points, float)
    start, way = points[:-1], np.diff(points, axis=0)
    count = np.ceil(np.hypot(*way.T) / (CELL / 2)).astype(int)
    which = np.repeat(np.arange(len(way)), count)
    last = np.cumsum(count)
    number = np.arange(1, len(which) + 1) - (last - count)[which]
    between = start[which] + (number / count[which])[:, None] * way[which]
    between[last[count > 0] - 1] = points[1:][count > 0]
    return np.concatenate([points[:1], between])


def offset(angle: float, distance: float) -> tuple[int, int]:
    """Returns rows and columns to what is `distance` m further along an angle in rad."""
    return round(distance * np.sin(angle) / CELL), round(distance * np.cos(angle) / CELL)


def shifted(mask: np.ndarray, angle: float, distance: float) -> np.ndarray:
    """Returns what a mask (rows, columns) says `distance` m further along an angle in rad."""
    here, there = overlap(mask.shape, *offset(angle, distance))
    result = np.zeros_like(mask)
    result[here] = mask[there]
    return result
