"""A* over the robot's own actions: what it finds can be executed as it is.

A node is a pose that the primitives reach exactly from the start; poses that fall into one small
bin of place and heading count as the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from safevla.experts.space import CELL, HEADINGS, PoseSpace, minimum_shifted

__all__ = ["Move", "Pose", "Swept", "moves_of", "price", "search"]

BIN = 0.06
"""m; side of the bins of place."""
ROOMY = 0.15
"""m; clearance from which a pose costs nothing extra."""
TIGHT = 6.0
"""Extra cost in actions of a pose without any clearance; falls with the square to 0 at `ROOMY`."""
GREED = 1.2
"""Weight of the remaining price: above 1 the search is faster and its path a little dearer."""
STRIDE = 0.05
"""m; a move is checked this often along its way."""

Pose = tuple[float, float, int]
"""x, y in m, number of the heading."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """A primitive of the base: displacement in m in its frame, headings turned, cost in actions."""

    action: int
    forward: float
    left: float
    turn: int
    cost: float


def moves_of(primitives: Sequence[object]) -> tuple[Move, ...]:
    """Returns the moves among an environment's discrete primitives.

    Driving ahead is cheapest: the camera then sees where the robot goes.
    """
    found = []
    for index, primitive in enumerate(primitives):
        if primitive.kind != "base":  # type: ignore[attr-defined]
            continue
        forward, left, turn = primitive.amount  # type: ignore[attr-defined]
        headings = round(turn / (2 * np.pi / HEADINGS))
        cost = 1.0 if forward > 0 else 1.2 if turn else 1.5
        found.append(Move(action=index, forward=forward, left=left, turn=headings, cost=cost))
    return tuple(found)


def price(room: np.ndarray) -> np.ndarray:
    """Price in actions per m of driving ahead with a clearance of `room` m."""
    tight = 1.0 - np.minimum(room / ROOMY, 1.0)
    return (1.0 + TIGHT * tight**2) / 0.2


def search(
    space: PoseSpace,
    start: Pose,
    moves: Sequence[Move],
    goal: Callable[[float, float, int], bool],
    remaining: np.ndarray,
    *,
    margin: float,
    toll: np.ndarray | None = None,
    limit: int = 40000,
) -> list[tuple[int, Pose]] | None:
    """Finds a cheap sequence of actions.

    Args:
        space: clearances.
        start: where the robot stands.
        moves: what it can do.
        goal: says of (x, y, heading) whether the search may end there.
        remaining: estimated price of the way to a goal in actions, float (rows, columns), inf
            where there is none; see `PoseSpace.way` and `price`.
        margin: m; clearance kept everywhere, except that the robot may leave a tighter place by
            moves that never lessen its clearance.
        toll: extra cost in actions of standing in a cell, float (rows, columns).
        limit: nodes to look at before giving up.

    Returns:
        (action, pose it leads to) in order, empty if the start is a goal; None without a way.
    """
    swept = Swept(space, moves)
    rows, columns = space.height.shape
    x0, y0 = space.x0, space.y0

    def key(x: float, y: float, heading: int) -> tuple[int, int, int]:
        return int(x / BIN), int(y / BIN), heading

    best = {key(*start): 0.0}
    nodes: list[tuple[Pose, int, int]] = [(start, -1, -1)]  # pose, node before, action between
    queue = [(0.0, 0, 0.0, float(space.layer(start[2])[space.cell(*start[:2])]))]
    closed: set[tuple[int, int, int]] = set()
    while queue:
        _, node, spent, room = heapq.heappop(queue)
        x, y, heading = nodes[-node][0]
        here = key(x, y, heading)
        if here in closed:
            continue
        closed.add(here)
        if goal(x, y, heading):
            return _unwind(nodes, -node)
        if len(closed) > limit:
            return None
        row, column = int((y - y0) / CELL), int((x - x0) / CELL)
        for number, move in enumerate(moves):
            turned = (heading + move.turn) % HEADINGS
            dx, dy, layer = swept(heading, number)
            nx, ny = x + dx, y + dy
            down, right = int((ny - y0) / CELL), int((nx - x0) / CELL)
            if not (0 <= down < rows and 0 <= right < columns):
                continue
            worst = min(float(layer[row, column]), ROOMY)
            if worst < margin and not 0.0 < room <= worst:
                continue
            there = key(nx, ny, turned)
            if there in closed:
                continue
            left = float(remaining[down, right])
            if left == np.inf:
                continue
            tight = 1.0 - worst / ROOMY
            total = spent + move.cost + TIGHT * tight * tight
            if toll is not None:
                total += float(toll[down, right])
            if total < best.get(there, np.inf) - 1e-9:
                best[there] = total
                nodes.append(((nx, ny, turned), -node, move.action))
                # of equals the newest first: its number is negative
                heapq.heappush(queue, (total + GREED * left, 1 - len(nodes), total, worst))
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


def _unwind(nodes: list[tuple[Pose, int, int]], last: int) -> list[tuple[int, Pose]]:
    path = []
    while last:
        pose, last, action = nodes[last][0], nodes[last][1], nodes[last][2]
        path.append((action, pose))
    return path[::-1]
