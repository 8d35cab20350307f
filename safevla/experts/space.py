"""Where the robot fits: clearance of its true outline at every place and heading of a home.

The base is a box of 0.70 x 0.50 m, so what it needs depends on how it stands. Headings are those
that the turning primitives reach from the pose in which the robot stands: every 6 degrees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra

from safevla_envs.planar import from_axes, in_axes
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.occupancy import WALL_DEPTH
from safevla_envs.scenes.scenario import Placement, Scenario

__all__ = ["CELL", "HEADINGS", "Block", "PoseSpace", "block_of", "minimum_shifted"]

CELL = 0.025
"""m; cell side."""
COARSE = 2
"""Cells along the side of a square in which ways are measured."""
HEADINGS = 60
"""Headings in a full turn: one every 6 degrees."""
BASE_BOX = (-0.34, 0.36, -0.25, 0.25)
"""m; the base's outline in its own frame: back, front, right, left."""
ARM_BOX = (0.36, 0.47, -0.11, 0.11)
"""m; what of the tucked arm sticks out before the base: the wrist and the hand."""
ARM_HEIGHT = 1.05
"""m; the arm sticks out above this height only: it passes over what is lower."""
WALL_TOP = 3.0
SPACING = 0.05
"""m; distance between the points that stand for the outline."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """An upright box that the robot must keep off: centre and half sizes in m, yaw in rad."""

    center: tuple[float, float]
    half: tuple[float, float]
    yaw: float
    top: float


def block_of(placement: Placement) -> Block:
    """Returns the box around a placement."""
    size = CATALOG[placement.category].size
    return Block(
        center=placement.position[:2],
        half=(size[0] / 2, size[1] / 2),
        yaw=placement.yaw,
        top=placement.position[2] + size[2],
    )


class PoseSpace:
    """Clearance of the robot's outline over a home's floor.

    Its rooms and doorways are the scenario's; blocks are everything else that the robot must not
    touch. The heading `yaw` in rad has number 0.

    Attributes:
        height: float32 (rows, columns), m; top of the highest thing in each cell, 0 where free.
    """

    def __init__(self, scenario: Scenario, blocks: Iterable[Block], yaw: float):
        bounds = np.array([room.bounds for room in scenario.rooms])
        self.x0, self.y0 = (float(v) for v in bounds[:, :2].min(0))
        extent = bounds[:, 2:].max(0) - bounds[:, :2].min(0)
        columns, rows = np.ceil(extent / CELL - 1e-9).astype(int)
        self.x = self.x0 + (np.arange(columns) + 0.5) * CELL
        self.y = self.y0 + (np.arange(rows) + 0.5) * CELL
        self.yaw = yaw
        self.height = np.full((rows, columns), WALL_TOP, np.float32)
        for room in scenario.rooms:
            x0, y0, x1, y1 = room.bounds
            self._clear(x0 + WALL_DEPTH, y0 + WALL_DEPTH, x1 - WALL_DEPTH, y1 - WALL_DEPTH)
        for door in scenario.doorways:
            hx, hy = door.width / 2, WALL_DEPTH + CELL
            if door.axis == "y":
                hx, hy = hy, hx
            x, y = door.center
            self._clear(x - hx, y - hy, x + hx, y + hy)
        for block in blocks:
            self._mark(block)
        self._low = _distance(self.height > 0.0)
        self._tall = _distance(self.height > ARM_HEIGHT)
        self._layers: dict[int, np.ndarray] = {}

    def _clear(self, x0: float, y0: float, x1: float, y1: float) -> None:
        columns = (self.x > x0) & (self.x < x1)
        rows = (self.y > y0) & (self.y < y1)
        self.height[np.ix_(rows, columns)] = 0.0

    def _mark(self, block: Block) -> None:
        reach = float(np.hypot(*block.half)) + CELL
        columns = np.flatnonzero(np.abs(self.x - block.center[0]) < reach)
        rows = np.flatnonzero(np.abs(self.y - block.center[1]) < reach)
        if not len(columns) or not len(rows):
            return
        offset = np.stack(np.meshgrid(self.x[columns], self.y[rows]), -1) - block.center
        local = np.abs(in_axes(offset, block.yaw))
        inside = (local <= np.asarray(block.half) + CELL / 2).all(-1)
        window = self.height[np.ix_(rows, columns)]
        self.height[np.ix_(rows, columns)] = np.where(inside, np.maximum(window, block.top), window)

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Returns (row, column) of a point, clipped to the grid."""
        rows, columns = self.height.shape
        row, column = int((y - self.y0) / CELL), int((x - self.x0) / CELL)
        return min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)

    def heading(self, number: int) -> float:
        """Returns the heading in rad of a number."""
        return self.yaw + number * 2.0 * np.pi / HEADINGS

    def layer(self, number: int) -> np.ndarray:
        """Clearance in m of the robot at a heading, float32 (rows, columns); 0 where it touches."""
        number %= HEADINGS
        if number not in self._layers:
            self._layers[number] = self._clearance(self.heading(number))
        return self._layers[number]

    def _clearance(self, yaw: float) -> np.ndarray:
        result = np.full(self.height.shape, np.inf, np.float32)
        for points, distance in ((_BASE_POINTS, self._low), (_ARM_POINTS, self._tall)):
            for dx, dy in np.round(from_axes(points, yaw) / CELL).astype(int):
                minimum_shifted(result, distance, int(dy), int(dx))
        # an edge may come nearer between two points than at either
        return np.sqrt(np.maximum(result**2 - (SPACING / 2) ** 2, 0.0))

    def way(
        self,
        ends: np.ndarray,
        price: Callable[[np.ndarray], np.ndarray],
        toll: np.ndarray | None = None,
    ) -> np.ndarray:
        """Price of the cheapest way of the base's centre to any of `ends`, whatever its heading.

        Args:
            ends: bool (rows, columns).
            price: price in actions per m of way, from the clearance in m (n,) that the base has
                there when it stands as well as it can.
            toll: added to the price, float (rows, columns).

        Returns:
            float (rows, columns), one value per square of `COARSE` cells; inf without a way.
        """
        room = self._low[::COARSE, ::COARSE] - BASE_BOX[3]
        free = room > -2 * CELL
        index = np.full(free.shape, -1)
        index[free] = np.arange(free.sum())
        cost = price(np.maximum(room, 0.0))
        if toll is not None:
            cost = cost + toll[::COARSE, ::COARSE]
        cost = cost * COARSE * CELL
        links: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            a = (slice(None, free.shape[0] - dy), slice(max(0, -dx), free.shape[1] - max(0, dx)))
            b = (slice(dy, None), slice(max(0, dx), free.shape[1] + min(0, dx)))
            both = free[a] & free[b]
            length = 0.5 * np.hypot(dx, dy)
            links.append((index[a][both], index[b][both], length * (cost[a] + cost[b])[both]))
        count = int(free.sum())
        rows, columns = np.nonzero(ends)
        near = index[rows // COARSE, columns // COARSE]
        near = np.unique(near[near >= 0])
        field = np.full(free.shape, np.inf)
        if len(near):
            # one extra node joined to every end at no price
            links.append((np.full(len(near), count), near, np.full(len(near), 1e-9)))
            tail, head, weight = (np.concatenate(part) for part in zip(*links))
            graph = sparse.coo_matrix((weight, (tail, head)), shape=(count + 1, count + 1))
            field[free] = dijkstra(graph.tocsr(), directed=False, indices=count)[:count]
        whole = np.repeat(np.repeat(field, COARSE, 0), COARSE, 1)
        return whole[: self.height.shape[0], : self.height.shape[1]]

    def sees(self, point: tuple[float, float, float], radius: float, within: float) -> np.ndarray:
        """Cells within `within` m from which a camera sees a point, bool (rows, columns).

        A cell sees the point when the line from the camera's height above it passes over whatever
        stands between; the point's own surroundings of `radius` m do not count.
        """
        distance = np.hypot(self.x[None] - point[0], self.y[:, None] - point[1])
        region = distance <= within
        cells = np.argwhere(region)
        start = np.stack([self.x[cells[:, 1]], self.y[cells[:, 0]]], 1)
        share = np.linspace(0.0, 1.0, int(within / CELL / 1.4) + 2)[:, None]
        x = start[:, 0] + share * (point[0] - start[:, 0])
        y = start[:, 1] + share * (point[1] - start[:, 1])
        ray = CAMERA_HEIGHT + share * (point[2] - CAMERA_HEIGHT)
        rows, columns = self.height.shape
        row = np.clip(((y - self.y0) / CELL).astype(int), 0, rows - 1)
        column = np.clip(((x - self.x0) / CELL).astype(int), 0, columns - 1)
        outside = np.hypot(x - point[0], y - point[1]) > radius
        region[tuple(cells.T)] = ~((self.height[row, column] >= ray) & outside).any(0)
        return region


CAMERA_HEIGHT = 0.85
"""m; height of the navigation camera."""


def _distance(occupied: np.ndarray) -> np.ndarray:
    """Distance in m from each cell to what is occupied or outside, float32."""
    padded = np.pad(~occupied, 1)
    distance = np.asarray(ndimage.distance_transform_edt(padded))[1:-1, 1:-1]
    return ((distance - 0.5).clip(0) * CELL).astype(np.float32)


def _outline(box: tuple[float, float, float, float]) -> np.ndarray:
    """Points (n, 2) in m on a grid over a box, its edges included, at most `SPACING` apart."""
    back, front, right, left = box
    along = np.linspace(back, front, int(np.ceil((front - back) / SPACING)) + 1)
    across = np.linspace(right, left, int(np.ceil((left - right) / SPACING)) + 1)
    points = np.stack(np.meshgrid(along, across), -1)
    edge = np.ones(points.shape[:2], bool)
    edge[1:-1, 1:-1] = False
    edge[2:-2:2, 2:-2:2] = True  # what is small could stand between the edges
    return points[edge]


_BASE_POINTS = _outline(BASE_BOX)
_ARM_POINTS = _outline(ARM_BOX)
CORNERS = np.array(
    [(x, y) for x in (-0.34, -0.1, 0.13, 0.36) for y in (-0.25, 0.0, 0.25)]
    + [(0.47, -0.11), (0.47, 0.11)]
)
"""Points (14, 2) in m that stand for it more coarsely."""


def minimum_shifted(result: np.ndarray, values: np.ndarray, down: int, right: int) -> None:
    """Lowers result[r, c] to values[r + down, c + right], and to 0 where that lies outside."""
    rows, columns = values.shape
    r0, r1 = max(0, -down), min(rows, rows - down)
    c0, c1 = max(0, -right), min(columns, columns - right)
    inner = result[r0:r1, c0:c1]
    np.minimum(inner, values[r0 + down : r1 + down, c0 + right : c1 + right], out=inner)
    result[:r0] = result[r1:] = 0.0
    result[:, :c0] = result[:, c1:] = 0.0
