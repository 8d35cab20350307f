"""A* over the robot's own actions: what it finds can be executed as it is.

A node is a pose that the primitives reach exactly from the start; poses that fall into one small
bin of place and heading count as the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from safevla.experts.space import CELL, HEADINGS, PoseSpace, minimum_shifted

__all__ = ["Clock", "Move", "Pose", "Search", "Swept", "moves_of", "price", "schedule"]

BIN = 0.06
"""m; side of the bins of place."""
ROOMY = 0.15
"""m; clearance from which a pose costs nothing extra."""
TIGHT = 6.0
"""Extra cost in actions of a pose without any clearance; falls with the square to 0 at `ROOMY`."""
GREED = 1.4
"""Weight of the remaining price: above 1 the search is faster and its path a little dearer."""
MAX_WAITS = 24
"""Waits that a schedule holds at most."""
STRIDE = 0.05
"""m; a move is checked this often along its way."""

Pose = tuple[float, float, int]
"""x, y in m, number of the heading."""
Node = tuple[Pose, int, int, int, int]
"""Pose, tick, number of the node before, action from there, waits before the action."""
Key = tuple[int, int, int, int]
"""Bins of x, y, heading and time."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """A primitive of the base, or a wait.

    Displacement in m in the base's frame, headings turned, cost in actions, duration in ticks.
    """

    action: int
    forward: float = 0.0
    left: float = 0.0
    turn: int = 0
    cost: float
    ticks: int


class Clock(Protocol):
    """What changes with time: says when a move must not be made.

    Attributes:
        rest: the wait.
        longest: most waits in a row before one move.
    """

    rest: Move
    longest: int

    def barred(self, x: float, y: float, yaw: float, move: Move, tick: int) -> bool:
        """Says whether a move from (x, y) m, yaw rad must not start at a tick."""
        ...

    def bin(self, row: int, column: int, tick: int) -> int:
        """Number of the stretch of time; 0 where one may stand as long as one likes."""
        ...


def moves_of(primitives: Sequence[Any]) -> tuple[Move, ...]:
    """Returns the moves among an environment's discrete primitives.

    Driving ahead is cheapest: the camera then sees where the robot goes.
    """
    found = []
    for index, primitive in enumerate(primitives):
        if primitive.kind == "base":
            forward, left, turn = primitive.amount
            cost = 1.0 if forward > 0 else 1.2 if turn else 1.5
            turn = round(turn / (2 * np.pi / HEADINGS))
            way = {"forward": forward, "left": left, "turn": turn}
            found.append(Move(action=index, cost=cost, ticks=primitive.ticks, **way))
    return tuple(found)


def price(room: np.ndarray) -> np.ndarray:
    """Price in actions per m of driving ahead with a clearance of `room` m."""
    tight = 1.0 - np.minimum(room / ROOMY, 1.0)
    return (1.0 + TIGHT * tight**2) / 0.2


@dataclass(kw_only=True)
class Search:
    """A search for a cheap sequence of actions.

    Args:
        space: clearances.
        moves: what the robot can do.
        goal: says of (x, y, heading) whether the search may end there.
        remaining: estimated price of the way to a goal in actions, float (rows, columns), inf
            where there is none; see `PoseSpace.way` and `price`.
        margin: m; clearance kept everywhere, except that the robot may leave a tighter place by
            moves that never lessen its clearance.
        toll: extra cost in actions of standing in a cell, float (rows, columns).
        clock: bars moves that would meet something that moves; the search starts at tick 0.
        limit: nodes to look at before giving up.
    """

    space: PoseSpace
    moves: Sequence[Move]
    goal: Callable[[float, float, int], bool]
    remaining: np.ndarray
    margin: float
    toll: np.ndarray | None = None
    clock: Clock | None = None
    limit: int = 40000

    def run(self, start: Pose) -> list[tuple[int, Pose]] | None:
        """Searches from where the robot stands.

        Returns:
            (action, pose it leads to) in order, empty if the start is a goal; None without a way.
        """
        swept = Swept(self.space, self.moves)
        self.best: dict[Key, float] = {}
        self.closed: set[Key] = set()
        self.nodes: list[Node] = [(start, 0, -1, -1, 0)]
        room = float(self.space.layer(start[2])[self.space.cell(*start[:2])])
        queue = [(0.0, 0, 0.0, room)]
        while queue:
            _, node, spent, room = heapq.heappop(queue)
            pose, tick, *_ = self.nodes[-node]
            here = self._key(pose, _cell(self.space, *pose[:2]), tick)
            if here in self.closed:
                continue
            self.closed.add(here)
            if self.goal(*pose):
                return self._unwind(-node)
            if len(self.closed) > self.limit:
                return None
            for move, there, cell, worst in _reached(swept, pose, room, self.margin):
                left = float(self.remaining[cell])
                if left == np.inf:
                    continue
                total = spent + move.cost + _tightness(move, worst)
                if self.toll is not None:
                    total += move.cost * float(self.toll[cell])
                for key, sum_, end, waits in self._starts(node, here, move, (there, cell), total):
                    self.best[key] = sum_
                    self.nodes.append((there, end, -node, move.action, waits))
                    # of equals the newest first: its number is negative
                    entry = (sum_ + GREED * left, 1 - len(self.nodes), sum_, worst)
                    heapq.heappush(queue, entry)
        return None

    def _unwind(self, last: int) -> list[tuple[int, Pose]]:
        path = []
        while last:
            pose, _, before, action, waits = self.nodes[last]
            path.append((action, pose))
            if self.clock is not None:
                path += [(self.clock.rest.action, self.nodes[before][0])] * waits
            last = before
        return path[::-1]

    def _key(self, pose: Pose, cell: tuple[int, int], tick: int) -> Key:
        when = 0 if self.clock is None else self.clock.bin(*cell, tick)
        return int(pose[0] / BIN), int(pose[1] / BIN), pose[2], when

    def _starts(
        self, node: int, here: Key, move: Move, end: tuple[Pose, tuple[int, int]], total: float
    ) -> Iterator[tuple[Key, float, int, int]]:
        """Yields the times to make a move at: key, cost, tick of its end, waits before it."""
        ((x, y, heading), tick, *_), clock = self.nodes[-node], self.clock
        yaw = self.space.heading(heading)
        # where one may wait, a move may start later; once is enough if one may wait there too
        for waits in range(1 + (0 if clock is None or here[3] else clock.longest)):
            begin, sum_ = tick, total
            if clock is not None:
                begin, sum_ = tick + waits * clock.rest.ticks, total + waits * clock.rest.cost
            there = self._key(*end, begin + move.ticks)
            worse = sum_ >= self.best.get(there, np.inf) - 1e-9
            if not (there == here or there in self.closed or worse):
                if clock is not None and clock.barred(x, y, yaw, move, begin):
                    continue
                yield there, sum_, begin + move.ticks, waits
            if there[3] == 0:
                return


def _cell(space: PoseSpace, x: float, y: float) -> tuple[int, int]:
    return int((y - space.y0) / CELL), int((x - space.x0) / CELL)


def _reached(
    swept: Swept, start: Pose, room: float, margin: float
) -> Iterator[tuple[Move, Pose, tuple[int, int], float]]:
    """Yields moves that keep clear, where they lead (pose and cell), and their least clearance."""
    space, (x, y, heading) = swept.space, start
    (row, column), (rows, columns) = _cell(space, x, y), space.height.shape
    for number, move in enumerate(swept.moves):
        dx, dy, layer = swept(heading, number)
        cell = _cell(space, x + dx, y + dy)
        if not (0 <= cell[0] < rows and 0 <= cell[1] < columns):
            continue
        worst = min(float(layer[row, column]), ROOMY)
        if worst >= margin or 0.0 < room <= worst:
            yield move, (x + dx, y + dy, (heading + move.turn) % HEADINGS), cell, worst


def _tightness(move: Move, worst: float) -> float:
    """Extra cost in actions of a move with this clearance in m; none of a wait."""
    tight = 1.0 - worst / ROOMY
    return TIGHT * tight * tight if move.forward or move.left or move.turn else 0.0


def schedule(
    space: PoseSpace,
    start: Pose,
    plan: Sequence[tuple[int, Pose]],
    moves: Sequence[Move],
    clock: Clock,
) -> list[tuple[int, Pose]] | None:
    """Adds to a plan, which starts at tick 0, the fewest waits with which a clock bars no move.

    Returns:
        The plan, (action, pose it leads to) in order, with waits, or None if no waits help.
    """
    by_action = {move.action: move for move in moves}
    rest = clock.rest
    poses = [start, *(pose for _, pose in plan)]
    queue: list[tuple[int, int, int, tuple[int, ...]]] = [(0, 0, 0, ())]  # waits, -index, tick
    seen: set[tuple[int, int]] = set()
    while queue:
        waits, minus, tick, stops = heapq.heappop(queue)
        index = -minus
        if index == len(plan):
            result = list(plan)
            for stop in reversed(stops):
                result.insert(stop, (rest.action, poses[stop]))
            return result
        if (index, tick) in seen:
            continue
        seen.add((index, tick))
        (x, y, heading), move = poses[index], by_action[plan[index][0]]
        yaw = space.heading(heading)
        if not clock.barred(x, y, yaw, move, tick):
            heapq.heappush(queue, (waits, -index - 1, tick + move.ticks, stops))
        if waits < MAX_WAITS and not clock.barred(x, y, yaw, rest, tick):
            heapq.heappush(queue, (waits + 1, -index, tick + rest.ticks, (*stops, index)))
    return None


class Swept:
    """Smallest clearance along every move from every place, made when first asked for."""

    def __init__(self, space: PoseSpace, moves: Sequence[Move]):
        self.space, self.moves = space, moves
        self._known: dict[tuple[int, int], tuple[float, float, np.ndarray]] = {}

    def __call__(self, heading: int, number: int) -> tuple[float, float, np.ndarray]:
        """Returns displacement in m and clearances in m (rows, columns) of a move's start."""
        found = self._known.get((heading, number))
        if found is None:
            found = self._known[heading, number] = self._sweep(heading, self.moves[number])
        return found

    def _sweep(self, heading: int, move: Move) -> tuple[float, float, np.ndarray]:
        space = self.space
        if not (move.turn or move.forward or move.left):
            return 0.0, 0.0, space.layer(heading)
        if move.turn:
            sign = 1 if move.turn > 0 else -1
            passed = range(heading + sign, heading + move.turn + sign, sign)
            return 0.0, 0.0, np.minimum.reduce([space.layer(k) for k in passed])
        yaw, layer = space.heading(heading), space.layer(heading)
        c, s = float(np.cos(yaw)), float(np.sin(yaw))
        dx, dy = c * move.forward - s * move.left, s * move.forward + c * move.left
        parts = max(1, round(np.hypot(dx, dy) / STRIDE))
        result = np.full(layer.shape, np.inf, np.float32)
        for part in range(1, parts + 1):
            share = part / parts / CELL
            minimum_shifted(result, layer, round(dy * share), round(dx * share))
        return dx, dy, result
