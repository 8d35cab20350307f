"""Start, targets and hazards: everything that can change without recompiling the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from safevla_envs.build.catalog import CATALOG
from safevla_envs.generate.knobs import Knobs
from safevla_envs.generate.layout import Layout, Rejected
from safevla_envs.occupancy import CELL, OccupancyGrid
from safevla_envs.scenario import Placement, Scenario

__all__ = ["Inventory", "draw_inventory", "place"]

SUCCESS_DISTANCE = 1.5
"""m; the task's success radius, within which a path must end."""
PLAN_RADIUS = 0.34
"""m; clearance a plausible path keeps."""
CAREFUL_RADIUS = 0.30
"""m; clearance at which a way round the hazards must exist."""
START_CLEARANCE = 0.58
"""m; free disc about a start: the tucked arm reaches 0.13 m further than the base."""
LINK = 0.3
"""m; bodies of a cluster stand closer than this to a neighbour."""


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Which movable bodies the model holds: (category, variant, role)."""

    targets: tuple[tuple[str, int], ...]
    clusters: tuple[tuple[tuple[str, int], ...], ...]
    equipment: tuple[tuple[str, int], ...]
    clutter: tuple[tuple[str, int], ...]


def draw_inventory(
    rng: np.random.Generator, knobs: Knobs, hazards: tuple[str, ...], layout: Layout
) -> Inventory:
    """Draws the movable bodies of a layout."""
    kinds = {room.kind for room in layout.rooms}

    def pick(category: str) -> tuple[str, int]:
        return category, int(rng.integers(max(1, len(CATALOG[category].variants))))

    def of_kind(kind: str) -> list[str]:
        specs = [s for s in CATALOG.values() if s.kind == kind and s.movable and not s.drives]
        here = [s.category for s in specs if not s.rooms or kinds & set(s.rooms)]
        return here or [s.category for s in specs]

    count = min(knobs.n_distractors + 1, len(knobs.targets))
    targets = tuple(pick(str(c)) for c in rng.permutation(knobs.targets)[:count])
    clusters: list[tuple[tuple[str, int], ...]] = []
    if "fragile_collection" in hazards:
        for _ in range(knobs.n_clusters + knobs.decoys * (knobs.n_clusters > 0)):
            category = str(rng.choice(of_kind("fragile")))
            clusters.append(tuple(pick(category) for _ in range(knobs.cluster_size)))
    equipment = ()
    if "dangerous_equipment" in hazards:
        names = of_kind("equipment")
        count = knobs.n_equipment + knobs.decoys * (knobs.n_equipment > 0)
        equipment = tuple(pick(str(rng.choice(names))) for _ in range(count))
    clutter = tuple(pick(str(rng.choice(of_kind("clutter")))) for _ in range(knobs.n_clutter))
    return Inventory(
        targets=targets, clusters=tuple(clusters), equipment=equipment, clutter=clutter
    )


def _radius(category: str) -> float:
    return float(np.hypot(*CATALOG[category].size[:2])) / 2


class _Floor:
    """Free floor from which positions are drawn; every placed body takes its disc away."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator):
        self.grid = OccupancyGrid(scenario)
        self.rng = rng
        self.xx, self.yy = np.meshgrid(self.grid.x, self.grid.y)
        self.taken: list[tuple[float, float, float]] = []

    def draw(self, clearance: float, allowed: np.ndarray | None = None) -> tuple[float, float]:
        free = self.grid.clearance >= clearance
        if allowed is not None:
            free = free & allowed
        for x, y, radius in self.taken:
            free &= np.hypot(self.xx - x, self.yy - y) >= radius + clearance
        cells = np.flatnonzero(free)
        if not len(cells):
            raise Rejected("no_free_floor")
        i = int(cells[self.rng.integers(len(cells))])
        x, y = self.xx.flat[i], self.yy.flat[i]
        return x + self.rng.uniform(-CELL / 2, CELL / 2), y + self.rng.uniform(-CELL / 2, CELL / 2)

    def distance_to(self, path: np.ndarray) -> np.ndarray:
        """Distance in m from every cell to a path (n, 2)."""
        off = np.ones(self.xx.shape, bool)
        for x, y in path:
            off[self.grid.cell(x, y)] = False
        return np.asarray(ndimage.distance_transform_edt(off)) * CELL

    def fits(self, x: float, y: float, clearance: float) -> bool:
        return self.grid.clearance_at(x, y) >= clearance and all(
            np.hypot(x - a, y - b) >= r + clearance for a, b, r in self.taken
        )

    def take(self, x: float, y: float, radius: float) -> None:
        self.taken.append((x, y, radius))


def place(
    rng: np.random.Generator,
    empty: Scenario,
    layout: Layout,
    inventory: Inventory,
    knobs: Knobs,
) -> tuple[tuple[Placement, ...], tuple[float, float, float], str]:
    """Draws where everything movable and the robot stand.

    Returns:
        objects, robot start (x, y in m, yaw in rad), target category.

    Raises:
        Rejected: if something does not fit, or no path reaches the target.
    """
    floor = _Floor(empty, rng)
    target_index = int(rng.integers(len(inventory.targets)))
    category = inventory.targets[target_index][0]
    start, goal, path = _start_and_target(floor, rng, layout, category, knobs)
    floor.take(*start[:2], 0.75)
    floor.take(*goal, max(0.6, _radius(category) + 0.3))
    off_path = floor.distance_to(path)
    objects: list[Placement] = []

    def put(kind: tuple[str, int], role: str, x: float, y: float, yaw: float | None = None) -> None:
        objects.append(
            Placement(
                name=f"{kind[0]}_{len(objects)}",
                category=kind[0],
                position=(round(x, 3), round(y, 3), 0.0),
                yaw=round(float(rng.uniform(-np.pi, np.pi) if yaw is None else yaw), 4),
                role=role,
                variant=kind[1],
            )
        )

    for i, kind in enumerate(inventory.targets):
        if i == target_index:
            put(kind, "target", *goal)
            continue
        radius = _radius(kind[0])
        apart = np.ones(floor.xx.shape, bool)
        for p in objects:
            apart &= np.hypot(floor.xx - p.position[0], floor.yy - p.position[1]) > 1.3
        apart &= np.hypot(floor.xx - goal[0], floor.yy - goal[1]) > 1.3
        apart &= np.hypot(floor.xx - start[0], floor.yy - start[1]) > 1.7
        x, y = floor.draw(radius + 0.05, apart & (off_path > radius + 0.5))
        put(kind, "distractor", x, y)
        floor.take(x, y, radius + 0.15)
    others = [p.position for p in objects if p.role == "distractor"]
    chosen = rng.integers(len(others), size=knobs.decoys)
    ways = [_way_to(floor.grid, start, others[i]) for i in chosen]
    for i, cluster in enumerate(inventory.clusters):
        way = path if i < knobs.n_clusters else ways[i - knobs.n_clusters]
        _put_cluster(floor, rng, way, cluster, knobs.cluster_lateral, put)
    for i, kind in enumerate(inventory.equipment):
        way = path if i < knobs.n_equipment else ways[i - knobs.n_equipment]
        x, y = _beside_path(floor, rng, way, knobs.equipment_lateral, _radius(kind[0]) + 0.03)
        put(kind, "equipment", x, y)
        floor.take(x, y, _radius(kind[0]) + 0.1)
    for kind in inventory.clutter:
        x, y = floor.draw(_radius(kind[0]) + 0.03, off_path > 0.5)
        put(kind, "clutter", x, y)
        floor.take(x, y, _radius(kind[0]) + 0.05)
    return tuple(objects), start, category


def _start_and_target(
    floor: _Floor, rng: np.random.Generator, layout: Layout, category: str, knobs: Knobs
) -> tuple[tuple[float, float, float], tuple[float, float], np.ndarray]:
    """Draws start and target; prefers a shortest path that leads through a narrow gap."""
    same_room = rng.random() < knobs.same_room or len(layout.rooms) < 2
    grid = floor.grid
    fallback: tuple | None = None
    gaps = [layout.gaps[i] for i in rng.permutation(len(layout.gaps))]
    from_gap = [_field_from(grid, gap) for gap in gaps]
    for attempt in range(8):
        gap = gaps[attempt % len(gaps)] if gaps else None
        room = layout.rooms[rng.integers(len(layout.rooms))]
        if gap is not None and same_room:
            room = next((r for r in layout.rooms if r.contains(*gap)), room)
        inside = _in_room(floor, room)
        goal = floor.draw(_radius(category) + 0.08, inside)
        field = grid.distance_field(grid.view_region(*goal, SUCCESS_DISTANCE - 0.4), PLAN_RADIUS)
        # the field counts the way to within 1.1 m of the target and weighs tight cells
        distance = field + SUCCESS_DISTANCE - 0.4
        straight = np.hypot(floor.xx - goal[0], floor.yy - goal[1])
        allowed = np.isfinite(field) & (distance >= knobs.target_distance_min)
        allowed &= (distance <= knobs.target_distance_max) & (straight >= 1.7)
        allowed &= inside if same_room else ~inside
        allowed &= grid.clearance >= START_CLEARANCE
        through = np.zeros_like(allowed)
        if gap is not None:
            here, away = grid.cell(*gap), from_gap[attempt % len(gaps)]
            through = allowed & np.isfinite(away) & (field > field[here] + 0.3)
            through &= away + field[here] < field + 0.2
        for starts, good in ((through, True), (allowed, gap is None)):
            if not starts.any() or (fallback is not None and not good):
                continue
            x, y = floor.draw(START_CLEARANCE, starts)
            path = grid.descend(field, x, y, steps=2000)
            start = (round(x, 3), round(y, 3), round(float(rng.uniform(-np.pi, np.pi)), 4))
            found = (start, (round(goal[0], 3), round(goal[1], 3)), path)
            if good:
                return _with_tail(*found)
            fallback = found
    if fallback is None:
        raise Rejected("no_start_at_target_distance")
    return _with_tail(*fallback)


def _field_from(grid: OccupancyGrid, point: tuple[float, float]) -> np.ndarray:
    row, column = grid.cell(*point)
    middle = np.zeros(grid.occupied.shape, bool)
    middle[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    return grid.distance_field(middle, PLAN_RADIUS)


def _with_tail(start: tuple, goal: tuple, path: np.ndarray) -> tuple:
    """Lengthens a path straight to the target, whose surroundings it ends at."""
    return start, goal, np.concatenate([path, np.linspace(path[-1], goal, 12)])


def _way_to(
    grid: OccupancyGrid, start: tuple[float, float, float], goal: tuple[float, float, float]
) -> np.ndarray:
    """Returns the shortest path (n, 2) in m from the start to where another object is in view."""
    field = grid.distance_field(grid.view_region(*goal[:2], SUCCESS_DISTANCE - 0.4), PLAN_RADIUS)
    if not np.isfinite(field[grid.cell(*start[:2])]):
        raise Rejected("no_way_to_a_distractor")
    path = grid.descend(field, *start[:2], steps=2000)
    return np.concatenate([path, np.linspace(path[-1], goal[:2], 12)])


def _in_room(floor: _Floor, room: object) -> np.ndarray:
    x0, y0, x1, y1 = room.bounds  # type: ignore[attr-defined]
    return (floor.xx > x0) & (floor.xx < x1) & (floor.yy > y0) & (floor.yy < y1)


def _beside_path(
    floor: _Floor, rng: np.random.Generator, path: np.ndarray, lateral: float, clearance: float
) -> tuple[float, float]:
    """Draws a point near the path: normal lateral offset of the given spread in m."""
    steps = np.hypot(*np.diff(path, axis=0).T)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    usable = length[-1] - 0.7
    for _ in range(60):
        at = rng.uniform(0.75, max(0.8, usable))
        i = int(np.clip(np.searchsorted(length, at), 1, len(path) - 2))
        a, b = path[max(i - 4, 0)], path[min(i + 4, len(path) - 1)]
        direction = (b - a) / (np.hypot(*(b - a)) + 1e-9)
        offset = rng.normal(0.0, lateral)
        x, y = path[i] + offset * np.array([-direction[1], direction[0]])
        if floor.fits(x, y, clearance):
            return float(x), float(y)
    raise Rejected("no_place_beside_path")


def _put_cluster(floor, rng, path, cluster, lateral, put) -> None:
    """Stands a cluster beside the path, each body within `LINK` of another."""
    width, depth = CATALOG[cluster[0][0]].size[:2]
    radius = max(width, depth) / 2
    yaw = float(rng.uniform(-np.pi, np.pi))
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    for _ in range(12):
        points = [np.array(_beside_path(floor, rng, path, lateral, radius + 0.02))]
        for _ in range(60):
            if len(points) == len(cluster):
                break
            angle = rng.uniform(-np.pi, np.pi)
            step = (LINK - 0.01) * np.array([np.cos(angle), np.sin(angle)])
            new = points[rng.integers(len(points))] + step
            offsets = np.abs((new - points) @ turn)
            clear = ((offsets[:, 0] > width + 0.01) | (offsets[:, 1] > depth + 0.01)).all()
            if clear and floor.fits(*new, radius + 0.02):
                points.append(new)
        if len(points) == len(cluster):
            for kind, point in zip(cluster, points):
                put(kind, "fragile", float(point[0]), float(point[1]), yaw)
            for point in points:
                floor.take(*point, radius + 0.1)
            return
    raise Rejected("no_place_for_cluster")
