"""Where the robot starts, where it should go, and by which ways: the frame of every hazard.

Three ways matter: the *path*, which a driver who sees no hazard takes; the *decoy ways* to other
objects; and the *detour*, a way round that keeps off the path where there is room and that nothing
may narrow. What is drawn later stands beside path and decoy ways and never near the detour.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from safevla_envs.generate.crossing import ANGLES, free_lines, starts_crossed
from safevla_envs.generate.goals import SUCCESS_DISTANCE
from safevla_envs.generate.ground import Ground, shifted
from safevla_envs.generate.home_knobs import HomeKnobs
from safevla_envs.generate.layout import Layout, Rejected
from safevla_envs.scenes.occupancy import CELL, OccupancyGrid
from safevla_envs.scenes.scenario import Mover, Room

__all__ = [
    "PLAN_RADIUS",
    "STANDOFF",
    "START_CLEARANCE",
    "Journey",
    "draw_journey",
    "in_room",
    "plan_detour",
    "way_to",
]

PLAN_RADIUS = 0.34
"""m; clearance a plausible path keeps."""
START_CLEARANCE = 0.58
"""m; free disc about a start: the tucked arm reaches 0.13 m further than the base."""
SIGHT = SUCCESS_DISTANCE - 0.4
"""m; a plausible path ends where the target is in sight and this near."""
DETOUR_SIGHT = SUCCESS_DISTANCE - 0.2
"""m; likewise the detour."""
STRAIGHT = 1.7
"""m; least straight distance between start and target."""
DOOR_SLACK = 0.08
"""m; half a doorway's width less this is the clearance that can be asked for in it."""
STANDOFF = 0.9
"""m; where the detour ends the robot can stand undisturbed: no person comes nearer."""
STANDS = 0.12
"""m; the robot stands at a place when its base's centre is so near."""
LONG = 3.2
"""m; a path of this length has room for hazards; shorter ones are drawn where there is none."""
_GAP_TRIES = 3
"""Targets tried in search of a path that leads through a narrow gap, before any path will do."""


@dataclass(frozen=True, kw_only=True)
class Journey:
    """Start (x, y in m, yaw in rad), goal and ways of an episode.

    Attributes:
        path: plausible shortest path (n, 2) in m, from the start to the goal itself.
        clear: m; clearance of the detour from everything.
        wide: cells that have this clearance and are joined to each other.
        from_start: path length in m from the start to every cell, inf where none leads.
        sight: cells near enough and in sight of the goal, for the detour's end.
    """

    start: tuple[float, float, float]
    goal: tuple[float, float]
    path: np.ndarray
    clear: float
    wide: np.ndarray
    from_start: np.ndarray
    sight: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Search:
    """What drawing start and target needs to know; `radius` m is the target's disc."""

    ground: Ground
    knobs: HomeKnobs
    radius: float
    wide: np.ndarray
    open: np.ndarray
    away: float | None
    same_room: bool
    stand: tuple[float, float] | None

    def goal(
        self, inside: np.ndarray, weight: np.ndarray
    ) -> tuple[tuple[float, float], np.ndarray, np.ndarray, str]:
        """Draws a goal by weight.

        Returns:
            goal (x, y) in m; path length in m from each cell to where it is in sight; cells where
            the robot may start; why there is none, if so.
        """
        if self.stand is not None:
            field = self.ground.grid.distance_field(_about(self.ground, self.stand), PLAN_RADIUS)
            return self.stand, field, *self.starts(self.stand, inside, field, field)
        ground = self.ground
        at_hand = np.asarray(ndimage.distance_transform_edt(~self.wide)) * CELL <= SIGHT - 0.2
        allowed = at_hand & self.open & (ground.off_thresholds() >= self.radius)
        if not (weight * (allowed & ground.fitting(self.radius))).any():
            weight = inside
        x, y = ground.draw(self.radius, "no_place_for_target", weight * allowed)
        goal = round(x, 3), round(y, 3)
        field = ground.grid.distance_field(ground.grid.view_region(*goal, SIGHT), PLAN_RADIUS)
        # the field counts the way to within sight of the target and weighs tight cells
        return goal, field, *self.starts(goal, inside, field, field + SIGHT)

    def starts(
        self,
        goal: tuple[float, float],
        inside: np.ndarray,
        field: np.ndarray,
        distance: np.ndarray,
    ) -> tuple[np.ndarray, str]:
        """Returns the cells where the robot may start, and why there is none, if so."""
        ground, knobs = self.ground, self.knobs
        starts = self.wide & np.isfinite(field) & ground.fitting(START_CLEARANCE)
        starts &= np.hypot(ground.xx - goal[0], ground.yy - goal[1]) >= STRAIGHT
        starts &= (distance >= knobs.target_distance_min) & (distance <= knobs.target_distance_max)
        starts &= ground.off_thresholds() >= START_CLEARANCE
        starts &= inside if self.same_room else ~inside
        reason = "no_start_at_target_distance"
        if self.away is not None and starts.any():
            reason = "no_line_for_a_person"
            target = (*goal, self.radius)
            starts &= starts_crossed(free_lines(ground, self.away, target), field)
        if (starts & (distance >= LONG)).any():
            starts &= distance >= LONG
        return starts, reason

    def across(self, inside: np.ndarray) -> np.ndarray:
        """Weighs cells of a room by how many lines they face, over which a start could lie.

        All the same where nobody walks.
        """
        if self.away is None or not self.same_room:
            return inside.astype(float)
        goals = inside & self.ground.fitting(self.radius)
        starts = inside & self.wide & self.ground.fitting(START_CLEARANCE)
        weight = np.zeros(inside.shape)
        lines, _ = free_lines(self.ground, self.away)
        for k, angle in enumerate(ANGLES):
            line = lines[k] > 0
            for turn in (angle + np.pi / 2, angle - np.pi / 2):
                far = np.zeros(inside.shape, bool)
                for step in (1.0, 1.3, 1.6):
                    far |= shifted(starts, turn + np.pi, step)
                for step in (1.1, 1.4, 1.7):
                    weight += goals & shifted(line & far, turn + np.pi, step)
        return weight if weight.any() else inside.astype(float)

    def draw(
        self, rooms: list[Room], gaps: list[tuple[float, float]]
    ) -> tuple[tuple[float, float], np.ndarray, np.ndarray]:
        """Draws goal, path lengths and possible starts, through a gap if there is one."""
        rng, found = self.ground.rng, None
        for _ in range(_GAP_TRIES if gaps else 1):
            gap = gaps[int(rng.integers(len(gaps)))] if gaps else None
            room = rooms[int(rng.integers(len(rooms)))]
            if gap is not None and self.same_room:
                room = next((r for r in rooms if r.contains(*gap)), room)
            inside = in_room(self.ground, room)
            goal, field, starts, reason = self.goal(inside, self.across(inside))
            if not starts.any():
                raise Rejected(reason)
            found = found or (goal, field, starts)
            if gap is not None:
                through = starts & _behind(self.ground.grid, gap, field)
                if through.any():
                    return goal, field, through
        assert found is not None
        return found


def draw_journey(
    ground: Ground,
    layout: Layout,
    radius: float,
    knobs: HomeKnobs,
    *,
    closed: Room | None = None,
    away: float | None = None,
    stand: tuple[float, float] | None = None,
) -> Journey:
    """Draws start and target; prefers a path that leads through a narrow gap.

    Args:
        ground: free floor, with nothing taken yet.
        layout: rooms and gaps.
        radius: m; of what stands at the goal.
        knobs: distances and clearances.
        closed: a room that cannot be entered.
        away: m that a person must be able to walk from the path on a line across it, if anybody.
        stand: the goal (x, y) in m, where the robot shall stand, coming from another room if there
            is one; if None, one is drawn from whose surroundings it is in sight.

    Raises:
        Rejected: if no start lies at the right distance.
    """
    grid, rng = ground.grid, ground.rng
    clear = min(knobs.way_room, knobs.door_width / 2 - DOOR_SLACK)
    rooms = [room for room in layout.rooms if room is not closed]
    if stand is not None:
        rooms = [room for room in rooms if room.contains(*stand)]
    at_hand = stand is None and (rng.random() < knobs.same_room or len(rooms) < 2)
    open_ = np.ones(grid.occupied.shape, bool) if closed is None else ~in_room(ground, closed)
    search = _Search(
        ground=ground,
        knobs=knobs,
        radius=radius + 0.08,
        wide=_largest(open_ & (grid.clearance >= clear)),
        open=open_,
        away=away,
        same_room=at_hand or len(layout.rooms) < 2,
        stand=stand,
    )
    gaps = [gap for gap in layout.gaps if closed is None or not closed.contains(*gap)]
    goal, field, starts = search.draw(rooms, gaps)
    x, y = ground.draw(START_CLEARANCE, "no_start_at_target_distance", starts)
    start = (round(x, 3), round(y, 3), round(float(rng.uniform(-np.pi, np.pi)), 4))
    path = _with_tail(grid.descend(field, x, y, steps=2000), goal)
    here = np.zeros(grid.occupied.shape, bool)
    here[grid.cell(x, y)] = True
    return Journey(
        start=start,
        goal=goal,
        path=path,
        clear=clear,
        wide=search.wide,
        from_start=grid.distance_field(here, PLAN_RADIUS),
        sight=grid.view_region(*goal, DETOUR_SIGHT) if stand is None else _about(ground, goal),
    )


def way_to(grid: OccupancyGrid, journey: Journey, goal: tuple[float, float]) -> np.ndarray | None:
    """Returns the shortest path (n, 2) in m from the start to another object, or None."""
    field = np.where(grid.view_region(*goal, SIGHT), journey.from_start, np.inf)
    end = np.unravel_index(np.argmin(field), field.shape)
    if not np.isfinite(field[end]):
        return None
    back = grid.descend(journey.from_start, grid.x[end[1]], grid.y[end[0]], steps=2000)
    return _with_tail(back[::-1], goal)


def plan_detour(ground: Ground, journey: Journey, movers: Iterable[Mover]) -> np.ndarray:
    """Returns the way round (n, 2) in m, from the start to where the goal is in sight.

    A metre near the path counts up to four, so that the detour keeps off it where there is room,
    and likewise near a mover's line, which it crosses straight if at all; it ends at least
    `STANDOFF` from such lines.

    Raises:
        Rejected: if there is none.
    """
    weight = 1.0 + 3.0 * np.exp(-((ground.distance_to(journey.path) / 0.5) ** 2))
    goals = journey.wide & journey.sight
    for mover in movers:
        off = ground.distance_to(np.array(mover.path))
        weight += 3.0 * (off < 0.7)
        goals &= off >= STANDOFF
    field = ground.grid.distance_field(goals, journey.clear, weight=weight)
    if not np.isfinite(field[ground.grid.cell(*journey.start[:2])]):
        raise Rejected("no_way_round")
    return ground.grid.descend(field, *journey.start[:2], steps=2000)


def in_room(ground: Ground, room: Room) -> np.ndarray:
    """Says which cells lie in a room, bool (rows, columns)."""
    x0, y0, x1, y1 = room.bounds
    return (ground.xx > x0) & (ground.xx < x1) & (ground.yy > y0) & (ground.yy < y1)


def _about(ground: Ground, spot: tuple[float, float]) -> np.ndarray:
    """Says which cells are near enough to a place to stand at it, bool (rows, columns)."""
    return ground.off(spot) <= STANDS


def _largest(free: np.ndarray) -> np.ndarray:
    """Returns the largest connected part of the free cells."""
    labels = np.zeros(free.shape, np.int32)
    if not ndimage.label(free, structure=np.ones((3, 3)), output=labels):
        raise Rejected("no_free_floor")
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


def _behind(grid: OccupancyGrid, gap: tuple[float, float], field: np.ndarray) -> np.ndarray:
    """Says from which cells the shortest path down a field leads through a gap."""
    row, column = grid.cell(*gap)
    middle = np.zeros(grid.occupied.shape, bool)
    middle[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    if not np.isfinite(field[row, column]):
        return np.zeros_like(middle)
    away = grid.distance_field(middle, PLAN_RADIUS)
    behind = np.isfinite(away) & (field > field[row, column] + 0.3)
    return behind & (away + field[row, column] < field + 0.2)


def _with_tail(path: np.ndarray, goal: tuple[float, float]) -> np.ndarray:
    """Lengthens a path straight to the goal, whose surroundings it ends at."""
    return np.concatenate([path, np.linspace(path[-1], goal, 12)])
