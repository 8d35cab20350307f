"""Rooms, doorways and furniture: everything a model is compiled from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from safevla_envs.build.catalog import CATALOG, FLOOR_MATERIALS, WALL_MATERIALS
from safevla_envs.generate.knobs import Knobs
from safevla_envs.occupancy import WALL_DEPTH, footprint_corners
from safevla_envs.scenario import Doorway, Placement, Room

__all__ = ["Layout", "Rejected", "make_layout"]

ROOM_KINDS = ("living_room", "kitchen", "bedroom", "study", "bathroom")
DOOR_ZONE = 0.9
"""m; depth of floor kept free before a doorway."""


class Rejected(Exception):
    """A draw that breaks a rule; the message names the rule and is counted by the generator."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The compiled part of a scenario."""

    rooms: tuple[Room, ...]
    doorways: tuple[Doorway, ...]
    furniture: tuple[Placement, ...]
    gaps: tuple[tuple[float, float], ...]


def _round(*values: float) -> tuple[float, ...]:
    return tuple(round(float(v), 3) for v in values)


def make_layout(rng: np.random.Generator, knobs: Knobs, *, corners: bool) -> Layout:
    """Draws rooms, doorways and furniture.

    Args:
        rng: source of every draw.
        knobs: sizes and counts.
        corners: also place the free-standing furniture that makes narrow gaps.

    Raises:
        Rejected: if a room cannot hold a doorway or too little furniture fits.
    """
    rooms = _rooms(rng, knobs)
    doorways = _doorways(rng, rooms, knobs.door_width)
    furniture: list[Placement] = []
    for room in rooms:
        _furnish(rng, room, doorways, furniture, knobs.n_furniture)
    gaps: list[tuple[float, float]] = []
    for number in range(knobs.n_corners if corners else 0):
        gaps.append(_narrow_gap(rng, rooms, doorways, furniture, knobs.corner_gap, number))
    return Layout(rooms=rooms, doorways=doorways, furniture=tuple(furniture), gaps=tuple(gaps))


def _rooms(rng: np.random.Generator, knobs: Knobs) -> tuple[Room, ...]:
    """Lays rooms out in one or two rows; neighbours in a row share a wall."""
    low, high = knobs.room_side_min, knobs.room_side_max
    rows = 1 if knobs.n_rooms < 4 and rng.random() < 0.75 else 2
    per_row = [knobs.n_rooms] if rows == 1 else [(knobs.n_rooms + 1) // 2, knobs.n_rooms // 2]
    kinds = list(rng.permutation(ROOM_KINDS)[: knobs.n_rooms])
    bounds = []
    y = 0.0
    for count in per_row:
        depth = rng.uniform(low, high)
        x = 0.0
        for _ in range(count):
            width = rng.uniform(low, high)
            bounds.append((x, y, x + width, y + depth))
            x += width
        y += depth
    if rng.random() < 0.5:  # the other orientation
        bounds = [(y0, x0, y1, x1) for x0, y0, x1, y1 in bounds]
    return tuple(
        Room(
            name=f"{kind}_{i}",
            kind=str(kind),
            bounds=_round(*box),  # type: ignore[arg-type]
            floor=str(rng.choice(FLOOR_MATERIALS)),
            walls=str(rng.choice(WALL_MATERIALS)),
        )
        for i, (kind, box) in enumerate(zip(kinds, bounds))
    )


def _doorways(
    rng: np.random.Generator, rooms: tuple[Room, ...], width: float
) -> tuple[Doorway, ...]:
    doorways = []
    joined = {rooms[0].name}
    for room in rooms[1:]:
        options = []
        for other in rooms:
            if other.name in joined and other is not room:
                wall = _shared_wall(room, other)
                if wall is not None and wall[3] - wall[2] >= width + 0.5:
                    options.append((other, wall))
        if not options:
            raise Rejected("no_shared_wall")
        other, (axis, across, low, high) = options[rng.integers(len(options))]
        along = rng.uniform(low + width / 2 + 0.2, high - width / 2 - 0.2)
        center = (along, across) if axis == "x" else (across, along)
        doorways.append(
            Doorway(
                rooms=(other.name, room.name),
                center=_round(*center),  # type: ignore[arg-type]
                axis=axis,
                width=round(width, 3),
            )
        )
        joined.add(room.name)
    return tuple(doorways)


def _shared_wall(a: Room, b: Room) -> tuple[str, float, float, float] | None:
    """Returns (axis the wall runs along, its other coordinate, low, high) or None."""
    for axis, (u, v) in (("y", (0, 1)), ("x", (1, 0))):
        low = max(a.bounds[v], b.bounds[v])
        high = min(a.bounds[v + 2], b.bounds[v + 2])
        for first, second in ((a, b), (b, a)):
            if abs(first.bounds[u + 2] - second.bounds[u]) < 1e-6 and high > low:
                return axis, second.bounds[u], low, high
    return None


def _door_boxes(doorways: tuple[Doorway, ...]) -> list[tuple[float, float, float, float]]:
    boxes = []
    for door in doorways:
        side = door.width / 2 + 0.1
        hx, hy = (side, DOOR_ZONE) if door.axis == "x" else (DOOR_ZONE, side)
        x, y = door.center
        boxes.append((x - hx, y - hy, x + hx, y + hy))
    return boxes


def _box(placement: Placement, margin: float = 0.0) -> tuple[float, float, float, float]:
    corners = footprint_corners(placement, margin)
    return (*corners.min(0), *corners.max(0))  # type: ignore[return-value]


def _apart(a: tuple[float, ...], b: tuple[float, ...], gap: float = 0.0) -> bool:
    return a[0] >= b[2] + gap or b[0] >= a[2] + gap or a[1] >= b[3] + gap or b[1] >= a[3] + gap


def _furnish(
    rng: np.random.Generator,
    room: Room,
    doorways: tuple[Doorway, ...],
    placed: list[Placement],
    count: int,
) -> None:
    """Puts furniture of the room's kind with its back to the walls."""
    x0, y0, x1, y1 = room.bounds
    kinds = [
        spec.category
        for spec in CATALOG.values()
        if spec.kind == "furniture" and spec.placement == "wall" and room.kind in spec.rooms
    ]
    blocked = _door_boxes(doorways)
    mine = 0
    for attempt in range(count * 8):
        if mine == count:
            break
        category = str(kinds[(attempt + rng.integers(len(kinds))) % len(kinds)])
        if any(p.category == category and room.contains(*p.position[:2]) for p in placed):
            continue
        depth, width, _ = CATALOG[category].size
        wall = int(rng.integers(4))
        back = WALL_DEPTH + 0.02 + depth / 2
        side = WALL_DEPTH + 0.05 + width / 2
        low, high = ((y0, y1), (x0, x1))[wall // 2]
        if high - low < 2 * side + 0.1:
            continue
        along = rng.uniform(low + side, high - side)
        if rng.random() < 0.4:  # into a corner of the room
            along = low + side if rng.random() < 0.5 else high - side
        x, y, yaw = (
            (x0 + back, along, 0.0),
            (x1 - back, along, np.pi),
            (along, y0 + back, np.pi / 2),
            (along, y1 - back, -np.pi / 2),
        )[wall]
        new = _furniture(category, len(placed), x, y, yaw, "furniture", rng)
        if all(_apart(_box(new), box) for box in blocked) and all(
            _apart(_box(new), _box(p), 0.05) for p in placed
        ):
            placed.append(new)
            mine += 1
    if mine < min(count, 2):
        raise Rejected("too_little_furniture")


def _furniture(
    category: str, number: int, x: float, y: float, yaw: float, role: str, rng: np.random.Generator
) -> Placement:
    return Placement(
        name=f"{category}_{number}",
        category=category,
        position=(*_round(x, y), 0.0),  # type: ignore[arg-type]
        yaw=round(float(yaw), 4),
        role=role,
        variant=int(rng.integers(max(1, len(CATALOG[category].variants)))),
        fixed=True,
    )


def _narrow_gap(
    rng: np.random.Generator,
    rooms: tuple[Room, ...],
    doorways: tuple[Doorway, ...],
    placed: list[Placement],
    gap: float,
    number: int,
) -> tuple[float, float]:
    """Places a free-standing piece `gap` m from a wall; returns the gap's centre."""
    categories = [
        c.category for c in CATALOG.values() if c.kind == "furniture" and c.placement == "floor"
    ]
    blocked = _door_boxes(doorways)
    for _ in range(60):
        room = rooms[rng.integers(len(rooms))]
        category = str(categories[rng.integers(len(categories))])
        depth, width, _ = CATALOG[category].size
        x0, y0, x1, y1 = room.bounds
        wall = int(rng.integers(4))
        quarter = int(rng.integers(4))
        yaw = quarter * np.pi / 2
        hx, hy = (width / 2, depth / 2) if quarter % 2 else (depth / 2, width / 2)
        if x1 - x0 < 2 * (hx + gap) + 0.2 or y1 - y0 < 2 * (hy + gap) + 0.2:
            continue
        x = rng.uniform(x0 + hx + gap, x1 - hx - gap)
        y = rng.uniform(y0 + hy + gap, y1 - hy - gap)
        near = WALL_DEPTH + gap
        if wall == 0:
            x = x0 + near + hx
            center = (x0 + WALL_DEPTH + gap / 2, y)
        elif wall == 1:
            x = x1 - near - hx
            center = (x1 - WALL_DEPTH - gap / 2, y)
        elif wall == 2:
            y = y0 + near + hy
            center = (x, y0 + WALL_DEPTH + gap / 2)
        else:
            y = y1 - near - hy
            center = (x, y1 - WALL_DEPTH - gap / 2)
        new = _furniture(category, len(placed), x, y, yaw, "corner", rng)
        box = _box(new)
        lane = (center[0] - gap / 2, center[1] - gap / 2, center[0] + gap / 2, center[1] + gap / 2)
        free = all(_apart(box, b) for b in blocked)
        free &= all(_apart(box, _box(p), gap) and _apart(lane, _box(p)) for p in placed)
        if free:
            placed.append(new)
            return _round(*center)  # type: ignore[return-value]
    raise Rejected("no_place_for_narrow_gap")
