"""Rooms, doorways and furniture: everything a model is compiled from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from safevla_envs.generate.home_knobs import HomeKnobs
from safevla_envs.scenes.catalog import CATALOG, FLOOR_MATERIALS, WALL_MATERIALS
from safevla_envs.scenes.occupancy import WALL_DEPTH, footprint_corners
from safevla_envs.scenes.scenario import Doorway, Placement, Room

__all__ = [
    "Layout",
    "Rejected",
    "apart",
    "box_of",
    "door_boxes",
    "furnish_room",
    "make_layout",
    "new_furniture",
    "without_passage",
]

ROOM_KINDS = ("living_room", "kitchen", "bedroom", "study", "bathroom")
DOOR_ZONE = 0.9
"""m; depth of floor kept free before a doorway."""
IMPASSABLE = 0.4
"""m; width of a doorway that the base, 0.50 m wide, cannot pass."""


class Rejected(Exception):
    """A draw that breaks a rule; the message names the rule and is counted by the generator."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The compiled part of a scenario; `gaps` are points in m that a path should lead through."""

    rooms: tuple[Room, ...]
    doorways: tuple[Doorway, ...]
    furniture: tuple[Placement, ...]
    gaps: tuple[tuple[float, float], ...] = ()


def _round(*values: float) -> tuple[float, ...]:
    return tuple(round(float(v), 3) for v in values)


def make_layout(rng: np.random.Generator, knobs: HomeKnobs) -> Layout:
    """Draws rooms, doorways and furniture.

    Args:
        rng: source of every draw.
        knobs: sizes and counts.

    Raises:
        Rejected: if a room cannot hold a doorway or too little furniture fits.
    """
    rooms = _rooms(rng, knobs)
    doorways = _doorways(rng, rooms, knobs)
    furniture: list[Placement] = []
    for room in rooms:
        furnish_room(rng, room, doorways, furniture, knobs.n_furniture)
    return Layout(rooms=rooms, doorways=doorways, furniture=tuple(furniture))


def without_passage(rng: np.random.Generator, layout: Layout) -> tuple[Layout, Room]:
    """Closes one room: its only doorway is walled up, or 0.4 m wide, too narrow for the base.

    Returns:
        The changed layout, and the room that cannot be entered any more.

    Raises:
        Rejected: if every room has more doorways.
    """
    doors = {
        room.name: [d for d in layout.doorways if room.name in d.rooms] for room in layout.rooms
    }
    leaves = [room for room in layout.rooms if len(doors[room.name]) == 1]
    if not leaves:
        raise Rejected("no_room_to_close")
    room = leaves[int(rng.integers(len(leaves)))]
    (door,) = doors[room.name]
    kept = tuple(d for d in layout.doorways if d is not door)
    if rng.random() < 0.5:
        kept = (*kept, replace(door, width=IMPASSABLE))
    return replace(layout, doorways=kept), room


def _rooms(rng: np.random.Generator, knobs: HomeKnobs) -> tuple[Room, ...]:
    """Lays rooms out in one or two rows; neighbours in a row share a wall."""
    low, high = knobs.room_side_min, knobs.room_side_max
    number = knobs.n_rooms
    if knobs.fewer_rooms:
        number = int(rng.integers(max(1, number - knobs.fewer_rooms), number + 1))
    rows = 1 if number < 4 and rng.random() < 0.75 else 2
    per_row = [number] if rows == 1 else [(number + 1) // 2, number // 2]
    kinds = list(rng.permutation(ROOM_KINDS)[:number])
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
    rng: np.random.Generator, rooms: tuple[Room, ...], knobs: HomeKnobs
) -> tuple[Doorway, ...]:
    """Joins each room to one before it, and with chance `loops` to others too."""
    doorways = []
    for i, room in enumerate(rooms[1:], 1):
        options = _neighbours(room, rooms[:i], knobs.door_width)
        if not options:
            raise Rejected("no_shared_wall")
        chosen = int(rng.integers(len(options)))
        doorways.append(_doorway(rng, room, *options.pop(chosen), knobs.door_width))
        for other, wall in options:
            if knobs.loops and rng.random() < knobs.loops:
                doorways.append(_doorway(rng, room, other, wall, knobs.door_width))
    return tuple(doorways)


def _neighbours(
    room: Room, others: Sequence[Room], width: float
) -> list[tuple[Room, tuple[str, float, float, float]]]:
    """Returns the rooms that share with one a wall with room for a doorway, each with it."""
    walls = [(other, _shared_wall(room, other)) for other in others]
    return [
        (other, wall)
        for other, wall in walls
        if wall is not None and wall[3] - wall[2] >= width + 0.5
    ]


def _doorway(
    rng: np.random.Generator,
    room: Room,
    other: Room,
    wall: tuple[str, float, float, float],
    width: float,
) -> Doorway:
    """Draws where in a wall between two rooms a doorway is."""
    axis, across, low, high = wall
    along = rng.uniform(low + width / 2 + 0.2, high - width / 2 - 0.2)
    center = (along, across) if axis == "x" else (across, along)
    return Doorway(
        rooms=(other.name, room.name),
        center=_round(*center),  # type: ignore[arg-type]
        axis=axis,
        width=round(width, 3),
    )


def _shared_wall(a: Room, b: Room) -> tuple[str, float, float, float] | None:
    """Returns (axis the wall runs along, its other coordinate, low, high) or None."""
    for axis, (u, v) in (("y", (0, 1)), ("x", (1, 0))):
        low = max(a.bounds[v], b.bounds[v])
        high = min(a.bounds[v + 2], b.bounds[v + 2])
        for first, second in ((a, b), (b, a)):
            if abs(first.bounds[u + 2] - second.bounds[u]) < 1e-6 and high > low:
                return axis, second.bounds[u], low, high
    return None


def door_boxes(doorways: tuple[Doorway, ...]) -> list[tuple[float, float, float, float]]:
    """Returns boxes (x0, y0, x1, y1) in m of the floor kept free before doorways."""
    boxes = []
    for door in doorways:
        side = door.width / 2 + 0.1
        hx, hy = (side, DOOR_ZONE) if door.axis == "x" else (DOOR_ZONE, side)
        x, y = door.center
        boxes.append((x - hx, y - hy, x + hx, y + hy))
    return boxes


def box_of(placement: Placement) -> tuple[float, float, float, float]:
    """Returns the box (x0, y0, x1, y1) in m around a placement's footprint."""
    corners = footprint_corners(placement)
    return (*corners.min(0), *corners.max(0))  # type: ignore[return-value]


def apart(a: Any, b: Any, gap: float = 0.0) -> Any:
    """Says whether boxes (x0, y0, x1, y1) in m, or arrays of them, are `gap` m apart."""
    return (a[0] >= b[2] + gap) | (b[0] >= a[2] + gap) | (a[1] >= b[3] + gap) | (b[1] >= a[3] + gap)


def furnish_room(
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
    blocked = door_boxes(doorways)
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
        new = new_furniture(category, len(placed), x, y, yaw, "furniture", rng)
        if all(apart(box_of(new), box) for box in blocked) and all(
            apart(box_of(new), box_of(p), 0.05) for p in placed
        ):
            placed.append(new)
            mine += 1
    if mine < min(count, 2):
        raise Rejected("too_little_furniture")


def new_furniture(
    category: str, number: int, x: float, y: float, yaw: float, role: str, rng: np.random.Generator
) -> Placement:
    """Returns a piece of furniture with a name and a random look; x, y in m, yaw in rad."""
    return Placement(
        name=f"{category}_{number}",
        category=category,
        position=(*_round(x, y), 0.0),  # type: ignore[arg-type]
        yaw=round(float(yaw), 4),
        role=role,
        variant=int(rng.integers(max(1, len(CATALOG[category].variants)))),
        fixed=True,
    )
