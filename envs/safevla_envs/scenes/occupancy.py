"""The home as a grid: clearance, reachability, path distances, free share.

One map serves the generator (is the target reachable?), the environment (the `corner` constraint's
free-floor fraction, shaping, privileged state) and the experts (where next?).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra

from safevla_envs.planar import from_axes, in_axes
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.scenario import HAZARD_ONLY_ROLES, Placement, Scenario

__all__ = [
    "BASE_RADIUS",
    "CELL",
    "INSCRIBED_RADIUS",
    "FreeShare",
    "OccupancyGrid",
    "footprint_corners",
    "overlap",
]

CELL = 0.05
"""m; cell side."""
BASE_RADIUS = 0.43
"""m; circumscribed radius of the base's 0.70 x 0.50 m footprint."""
INSCRIBED_RADIUS = 0.25
"""m; half-width of the base: its centre can be where the clearance is at least this."""
WALL_DEPTH = 0.05
"""m; each room's wall panels stand this far inside its bounds."""


def footprint_corners(placement: Placement, margin: float = 0.0) -> np.ndarray:
    """Returns the four corners (4, 2) in m of a placement's footprint grown by `margin` m."""
    size = CATALOG[placement.category].size
    hx, hy = size[0] / 2 + margin, size[1] / 2 + margin
    corners = np.array([[hx, hy], [-hx, hy], [-hx, -hy], [hx, -hy]])
    return from_axes(corners, placement.yaw) + np.asarray(placement.position[:2])


def overlap(
    shape: tuple[int, ...], rows: int, columns: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Returns the window of a grid and that of the cells `rows`, `columns` further on."""
    here, there = (
        tuple(slice(max(-d, 0), n - max(d, 0)) for n, d in zip(shape, shift))
        for shift in ((rows, columns), (-rows, -columns))
    )
    return here, there  # type: ignore[return-value]


class OccupancyGrid:
    """Occupied floor cells of a scenario.

    Args:
        scenario: the world.
        hazards: also mark bodies whose only role is a hazard (the careful view).
        objects: also mark targets, distractors and clutter.

    Attributes:
        occupied: bool (rows, columns); row = y, column = x.
        origin: (x, y) in m of the lower corner of cell (0, 0).
    """

    def __init__(self, scenario: Scenario, *, hazards: bool = False, objects: bool = False):
        bounds = np.array([room.bounds for room in scenario.rooms])
        self.origin = bounds[:, :2].min(0)
        extent = bounds[:, 2:].max(0) - self.origin
        columns, rows = np.ceil(extent / CELL - 1e-9).astype(int)
        self.x = self.origin[0] + (np.arange(columns) + 0.5) * CELL
        self.y = self.origin[1] + (np.arange(rows) + 0.5) * CELL
        self.occupied = np.ones((rows, columns), bool)
        for room in scenario.rooms:
            x0, y0, x1, y1 = room.bounds
            self._fill(x0 + WALL_DEPTH, y0 + WALL_DEPTH, x1 - WALL_DEPTH, y1 - WALL_DEPTH, False)
        for door in scenario.doorways:
            half = door.width / 2
            hx, hy = (half, WALL_DEPTH + CELL) if door.axis == "x" else (WALL_DEPTH + CELL, half)
            x, y = door.center
            self._fill(x - hx, y - hy, x + hx, y + hy, False)
        self.mark(p for p in scenario.furniture if CATALOG[p.category].size[2] > 0.03)
        # what stands at a critical point overhangs its stand
        marked = [p for p in scenario.objects if p.position[2] < 0.3 or p.role == "critical"]
        self.mark(
            p for p in marked if p.fixed or (hazards if p.role in HAZARD_ONLY_ROLES else objects)
        )

    def _fill(self, x0: float, y0: float, x1: float, y1: float, value: bool) -> None:
        columns = (self.x > x0) & (self.x < x1)
        rows = (self.y > y0) & (self.y < y1)
        self.occupied[np.ix_(rows, columns)] = value

    def mark(self, placements: Iterable[Placement], margin: float = 0.0) -> None:
        """Marks footprints, grown by `margin` m, as occupied."""
        for placement in placements:
            corners = footprint_corners(placement, margin)
            low, high = corners.min(0) - CELL, corners.max(0) + CELL
            columns = np.flatnonzero((self.x > low[0]) & (self.x < high[0]))
            rows = np.flatnonzero((self.y > low[1]) & (self.y < high[1]))
            if not len(columns) or not len(rows):
                continue
            grid = np.stack(np.meshgrid(self.x[columns], self.y[rows]), -1) - placement.position[:2]
            local = np.abs(in_axes(grid, placement.yaw))
            size = CATALOG[placement.category].size
            inside = (local <= np.array(size[:2]) / 2 + margin).all(-1)
            self.occupied[np.ix_(rows, columns)] |= inside
        self.__dict__.pop("clearance", None)

    def mark_line(self, points: Iterable[tuple[float, float]], radius: float) -> None:
        """Marks everything within `radius` m of a line as occupied: the strip of a mover."""
        corners = np.asarray(list(points), float)
        xx, yy = np.meshgrid(self.x, self.y)
        cells = np.stack([xx, yy], -1)
        for a, b in pairwise(corners):
            along = b - a
            share = ((cells - a) @ along / max(float(along @ along), 1e-12)).clip(0.0, 1.0)
            off = cells - a - share[..., None] * along
            self.occupied |= np.hypot(off[..., 0], off[..., 1]) <= radius
        self.__dict__.pop("clearance", None)

    @cached_property
    def clearance(self) -> np.ndarray:
        """Distance in m from each cell to the nearest occupied one, float (rows, columns)."""
        padded = np.pad(~self.occupied, 1)
        distance = np.asarray(ndimage.distance_transform_edt(padded))[1:-1, 1:-1]
        return (distance - 0.5).clip(0) * CELL

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Returns (row, column) of a point, clipped to the grid."""
        column = int((x - self.origin[0]) / CELL)
        row = int((y - self.origin[1]) / CELL)
        rows, columns = self.occupied.shape
        return min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)

    def cells(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows (...) and columns (...) of points (..., 2), clipped to the grid."""
        rows, columns = self.occupied.shape
        place = ((points - self.origin) / CELL).astype(int)
        return place[..., 1].clip(0, rows - 1), place[..., 0].clip(0, columns - 1)

    def clearance_at(self, x: float, y: float) -> float:
        """Clearance in m at a point."""
        return float(self.clearance[self.cell(x, y)])

    def reachable(self, x: float, y: float, radius: float = INSCRIBED_RADIUS) -> np.ndarray:
        """Cells with clearance >= `radius` connected to the point's cell, bool (rows, columns)."""
        labels = np.empty(self.occupied.shape, np.int32)
        ndimage.label(self.clearance >= radius, structure=np.ones((3, 3)), output=labels)
        here = labels[self.cell(x, y)]
        return (labels == here) & (here > 0)

    def view_region(self, x: float, y: float, within: float) -> np.ndarray:
        """Cells within `within` m of a point that see it over the floor plan, bool (rows, columns).

        A cell sees the point when no occupied cell lies on the straight line between them; the
        point's own surroundings of 0.3 m do not count.
        """
        distance = np.hypot(self.x[None] - x, self.y[:, None] - y)
        region = (distance <= within) & ~self.occupied
        cells = np.argwhere(region)
        if not len(cells):
            return region
        start = np.stack([self.x[cells[:, 1]], self.y[cells[:, 0]]], 1)
        share = np.linspace(0.0, 1.0, int(within / CELL) + 2)[:, None, None]
        points = start + share * (np.array([x, y]) - start)
        near = np.hypot(points[..., 0] - x, points[..., 1] - y) < 0.3
        region[tuple(cells.T)] = ~(self.occupied[self.cells(points)] & ~near).any(0)
        return region

    def distance_field(
        self, goal: np.ndarray, radius: float, weight: np.ndarray | None = None
    ) -> np.ndarray:
        """Path length in m from every cell to the nearest cell of `goal`, bool (rows, columns).

        Shortest paths on the 8-connected grid of cells with clearance >= `radius`, discouraged
        (up to 3x) within 0.15 m of that limit so that paths keep some distance where there is room.
        `weight` (rows, columns) makes cells longer still; 1 changes nothing.

        Returns:
            float (rows, columns); inf where no path exists.
        """
        free = self.clearance >= radius
        index = np.full(free.shape, -1)
        index[free] = np.arange(free.sum())
        spread = 1.0 + 2.0 * np.clip((radius + 0.15 - self.clearance) / 0.15, 0.0, 1.0)
        length = spread if weight is None else spread * weight
        rows_, cols_, costs = [], [], []
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            here, there = overlap(free.shape, dy, dx)
            both = free[here] & free[there]
            rows_.append(index[here][both])
            cols_.append(index[there][both])
            costs.append((length[here] + length[there])[both] * 0.5 * CELL * np.hypot(dx, dy))
        count = int(free.sum())
        goals = index[free & goal]
        field = np.full(free.shape, np.inf)
        if not count or not len(goals):
            return field
        # one extra node joined to every goal at no cost
        rows_.append(np.full(len(goals), count))
        cols_.append(goals)
        costs.append(np.full(len(goals), 1e-9))
        graph = sparse.coo_matrix(
            (np.concatenate(costs), (np.concatenate(rows_), np.concatenate(cols_))),
            shape=(count + 1, count + 1),
        ).tocsr()
        field[free] = dijkstra(graph, directed=False, indices=count)[:count]
        return field

    def descend(self, field: np.ndarray, x: float, y: float, steps: int = 12) -> np.ndarray:
        """Follows a distance field downhill from a point.

        Returns:
            float (n, 2): points in m, at most `steps` cells further; starts at the nearest cell
            that has a path when the point itself has none. Empty when nothing near has one.
        """
        row, column = self.cell(x, y)
        if not np.isfinite(field[row, column]):
            r0, c0 = max(row - 10, 0), max(column - 10, 0)
            window = field[r0 : row + 11, c0 : column + 11]
            near = np.argwhere(np.isfinite(window))
            if not len(near):
                return np.zeros((0, 2))
            near = near + np.array([r0, c0])
            row, column = near[np.argmin(((near - [row, column]) ** 2).sum(1))]
        path = [(row, column)]
        for _ in range(steps):
            r0, c0 = max(row - 1, 0), max(column - 1, 0)
            window = field[r0 : row + 2, c0 : column + 2]
            dr, dc = np.unravel_index(np.argmin(window), window.shape)
            nxt = (r0 + int(dr), c0 + int(dc))
            if nxt == (row, column):
                break
            row, column = nxt
            path.append(nxt)
        cells = np.array(path)
        return np.stack([self.x[cells[:, 1]], self.y[cells[:, 0]]], 1)

    def line_is_free(self, a: np.ndarray, b: np.ndarray, radius: float) -> bool:
        """Says whether the straight way from a to b (2,) keeps a clearance of `radius` m."""
        count = max(2, int(np.hypot(*(np.asarray(b) - a)) / CELL) + 1)
        points = np.linspace(a, b, count)
        return all(self.clearance_at(*p) >= radius for p in points)


class FreeShare:
    """The `corner` constraint's signal: how much of the surroundings the base centre can reach.

    `share(x, y)` is the fraction of 5 cm cells in the disc of `radius` m around the base centre
    that the base centre can reach: clearance at least its inscribed radius to walls and fixed
    furniture, and connected to the start. Movable things do not count.
    """

    def __init__(self, scenario: Scenario, radius: float):
        self.grid = OccupancyGrid(scenario)
        self.reach = self.grid.reachable(*scenario.robot_start[:2])
        self.size = int(np.ceil(radius / CELL))
        steps = np.arange(-self.size, self.size + 1) * CELL
        self.disc = np.hypot(steps[None], steps[:, None]) <= radius
        self.padded = np.pad(self.reach, self.size)
        self.count = float(self.disc.sum())

    def share(self, x: float, y: float) -> float:
        """Returns the free share in [0, 1] around a point in m."""
        row, column = self.grid.cell(x, y)
        width = 2 * self.size + 1
        window = self.padded[row : row + width, column : column + width]
        return float((window & self.disc).sum() / self.count)
