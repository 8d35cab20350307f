"""The careful expert: plans its very actions round everything that can be charged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import hypot
from typing import Any

import numpy as np
from scipy import ndimage

from safevla.experts.lattice import Move, Pose, Search, Swept, moves_of, price, schedule
from safevla.experts.people import Crowd
from safevla.experts.space import CELL, HEADINGS, Block, PoseSpace, block_of
from safevla_envs.generate.goals import SUCCESS_DISTANCE
from safevla_envs.planar import from_axes
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.scenario import Placement

__all__ = ["MARGINS", "CarefulExpert"]

STOP = SUCCESS_DISTANCE - 0.05
"""m; a plan ends within this distance of the target."""
END = SUCCESS_DISTANCE - 0.01
"""m; it says `end` within this distance, when it sees the target."""
CAMERA = 0.30
"""m; the navigation camera stands this far before the base's centre."""
NEAR = 0.45
"""m; a target nearer to the camera than this may lie below the picture."""
ASIDE = np.radians(32.0)
"""rad; largest bearing of the target from the camera at the end of a plan (the edge is at 45)."""
MARGINS = (0.03, 0.005)
"""m; clearances to plan with, the first that leaves a way; roomier places are preferred anyway."""
STRAYED = np.array([0.03, 0.03, np.radians(3.0)])
"""m, m, rad; further from the plan than this, it plans anew."""
ELSEWHERE = 0.3
"""m; a place that showed no target is left by at least this much."""
TRIES = 6
"""Places at which it looks for the target before it gives up."""
LOOK_ROUND = 12
"""Left turns of 30 degrees before it gives up a target that is not there or out of reach."""
AHEAD = 8
"""Actions of the plan that are checked against where people will be."""
CLEAR_OF = 0.6
"""m; with its centre this far from what walkers sweep, the robot is out of their way."""
PERSON_TOLL = 1.0
"""Extra cost, as a share, of every action in a walker's way: it drives round where it can."""
WAIT_COST = 0.3
"""Cost of half a second of waiting, in actions."""
PAUSE = 3.0
"""s; from a fruitless search for another way at another time to the next, twice as long each time:
they are slow."""
TIMED_LIMIT = 4000
"""Nodes that a search with people looks at."""
PATIENCE = 20
"""Waits for a walker who may hide the target, before the place counts as a bad one."""


class CarefulExpert:
    """Drives its true outline round every hazard and object to where it sees the target.

    It knows the scenario. It plans with the primitives themselves, so that what it executes is
    what it planned, and plans anew when it is not where it should be. It waits when an action would
    break the protective distance to what walks: where walkers come, plans reckon with time, and go,
    wait or draw back accordingly. It waits by `drop_off` of nothing, which is half a second.

    When there is no target, or no way to one that keeps clear of everything, it looks round once
    and says `end`: driving about could only cause harm. `wander` and `rng` have no effect.
    """

    limit = 40000
    """Nodes that a search looks at."""

    def __init__(self, env: Any, *, wander: float = 0.0, rng: np.random.Generator | None = None):
        self.env = env
        self.primitives = env.actions.primitives
        self.index = {name: i for i, name in enumerate(env.action_names)}
        self.moves = moves_of(self.primitives)
        drop = self.index["drop_off"]
        self.rest = Move(action=drop, cost=WAIT_COST, ticks=self.primitives[drop].ticks)
        self.scenario: Any = None

    def reset(self) -> None:
        """Starts an episode: plans."""
        self.scenario = self.env.scenario
        self.crowd = Crowd(self.env)
        self.plan: list[tuple[int, Pose]] = []
        self.at: Pose | None = None
        self.blind: list[np.ndarray] = []
        self.turns = self.patience = 0
        self.again, self.pause = 0.0, PAUSE
        self.hopeless = not self.scenario.targets
        self._plan()

    def act(self) -> int:
        """Returns the next action."""
        if self.scenario is not self.env.scenario:
            self.reset()
        if self.scenario.targets and self._may_end():
            return self.index["end"]
        self._follow()
        if not self.plan:
            return self.index["end"]
        if not self._may_go_on():
            return self._wait()
        self.turns += self.hopeless
        action, self.at = self.plan.pop(0)
        return action

    # ---- ending -----------------------------------------------------------------------------

    def _may_end(self) -> bool:
        names = tuple(p.name for p in self.scenario.targets)
        seen = self.env.sim.visible(names)
        spots = self.env.sim.body_positions(names)[:, :2]
        reach = np.hypot(*(spots - self.env.sim.base_pose[:2]).T)
        return bool((seen & (reach <= END)).any())

    def _look_round(self) -> list[tuple[int, Pose]]:
        """A plan to turn round once, where there is room to."""
        assert self.at is not None
        x, y, heading = self.at
        turn = next(m for m in self.moves if m.action == self.index["rotate_left"])
        cell = self.space.cell(x, y)
        if min(self.space.layer(k)[cell] for k in range(HEADINGS)) < MARGINS[0]:
            return []
        headings = [(heading + turn.turn * (i + 1)) % HEADINGS for i in range(LOOK_ROUND)]
        return [(turn.action, (x, y, k)) for k in headings]

    # ---- people -----------------------------------------------------------------------------

    def _may_go_on(self) -> bool:
        """Says whether the plan's next action keeps the protective distance; may plan anew."""
        pose = self.env.sim.base_pose
        if not self.crowd or self.crowd.far(pose):
            return True
        if self.timed and self._free(pose) == len(self.plan[:AHEAD]):
            return True
        if not self.hopeless:
            self._search()
        if self.timed or self.hopeless:
            return self._free(pose) > 0
        # no way that reckons with the walkers: stand where nobody walks until there is one
        assert self.sweep is not None
        if self.sweep[self.space.cell(*pose[:2])] >= CLEAR_OF:
            return False
        return (self._retreat() and self._free(pose) > 0) or self._back_off()

    def _retreat(self) -> bool:
        """Plans to the nearest place that nothing walks over; says whether there is one."""
        assert self.at is not None and self.sweep is not None
        ends = self.sweep >= CLEAR_OF
        found = Search(
            space=self.space,
            moves=self.moves,
            goal=lambda x, y, _: bool(ends[self.space.cell(x, y)]),
            remaining=self.space.way(ends, price),
            margin=MARGINS[0],
            limit=TIMED_LIMIT,
        ).run(self.at)
        if found:
            self.plan, self.retreating, self.timed = found, True, True
        return bool(found)

    def _back_off(self) -> bool:
        """Plans the one move that leads furthest from walkers; says whether there is one."""
        assert self.at is not None
        x, y, heading = self.at
        cell, pose = self.space.cell(x, y), self.env.sim.base_pose
        swept = Swept(self.space, self.moves)
        best = -np.inf
        for number, move in enumerate(self.moves):
            dx, dy, clearance = swept(heading, number)
            far = self.crowd.distance(np.array([x + dx, y + dy]))
            if clearance[cell] < MARGINS[1] or far <= best:
                continue
            if self.crowd.free_actions(pose, [self.primitives[move.action]]):
                best = far
                there = (x + dx, y + dy, (heading + move.turn) % HEADINGS)
                self.plan, self.retreating, self.timed = [(move.action, there)], True, True
        return best > -np.inf

    def _free(self, pose: np.ndarray) -> int:
        sequence = [self.primitives[action] for action, _ in self.plan[:AHEAD]]
        return self.crowd.free_actions(pose, sequence)

    def _wait(self) -> int:
        """Stands still: for half a second, unless something is in the gripper."""
        return self.index["sub_task_done" if self.env.sim.held().any() else "drop_off"]

    # ---- planning ---------------------------------------------------------------------------

    def _follow(self) -> None:
        """Sees to it that there is a plan from here; none is left when it has given up."""
        if self.at is None or self._strayed():
            self._plan()
        elif not self.plan and self.retreating:
            self._search()
        elif not self.plan and not self.hopeless:
            # it stands where it should see a target, and sees none
            if self.crowd and self.patience < PATIENCE:
                self.patience += 1
                self.plan = [(self.index["drop_off"], self.at)]
                return
            self.patience = 0
            self.blind.append(self._camera(*self.env.sim.base_pose))
            self._search()

    def _strayed(self) -> bool:
        assert self.at is not None
        x, y, heading = self.at
        off = np.abs(self.env.sim.base_pose - [x, y, self.space.heading(heading)])
        off[2] = abs((off[2] + np.pi) % (2 * np.pi) - np.pi)
        return bool((off > STRAYED).any())

    def _plan(self) -> None:
        """Plans from where the robot stands, in the home as it is now."""
        self.space = self._space()
        self.ways: dict[tuple[Pose, int], list[tuple[int, Pose]] | None] = {}
        x, y, _ = self.env.sim.base_pose
        self.at = (float(x), float(y), 0)
        self.sweep = self._sweep(self.space)
        if not self.hopeless:
            self.toll = None if self.sweep is None else PERSON_TOLL * (self.sweep < CLEAR_OF)
            self.goal, self.remaining = self._goal(self.space, self.toll)
        self._search()

    def _search(self) -> None:
        """Plans the way to a target; without one, to look round."""
        self.retreating, self.timed = False, True
        self.plan = [] if self.hopeless else self._way_to_target()
        if not self.plan:
            self.hopeless = True
            self.plan = self._look_round()[self.turns :]

    def _way_to_target(self) -> list[tuple[int, Pose]]:
        assert self.at is not None
        start = self.space.cell(*self.at[:2])
        if len(self.blind) > TRIES or not np.isfinite(self.remaining[start]):
            return []
        # who waits asks for the same way before every action
        asked = (self.at, len(self.blind))
        if asked not in self.ways:
            found = None
            for margin in MARGINS:
                found = found or self._found(self.moves, margin=margin)
            self.ways[asked] = found
        found = self.ways[asked]
        if not found or self.sweep is None:
            return list(found or [])
        # where people walk: the same way at better times, else another, else as it comes
        clock = self.crowd.clock(self.sweep < CLEAR_OF, self.rest)
        timed = schedule(self.space, self.at, found, self.moves, clock)
        if timed is None and self.env.sim.time >= self.again:
            moves = (*self.moves, self.rest)
            timed = self._found(moves, margin=MARGINS[0], clock=clock, limit=TIMED_LIMIT)
            if timed is None:
                self.again, self.pause = self.env.sim.time + self.pause, 2 * self.pause
        self.timed = timed is not None
        return list(timed or found)

    def _found(self, moves: Sequence[Move], **rules: Any) -> list[tuple[int, Pose]] | None:
        assert self.at is not None
        find = Search(
            space=self.space,
            moves=moves,
            goal=self.goal,
            remaining=self.remaining,
            toll=self.toll,
            **{"limit": self.limit, **rules},
        )
        return find.run(self.at)

    def _space(self) -> PoseSpace:
        """The home as it is now, with the robot's heading as heading 0."""
        self.blocks = [block_of(p) for p in self.scenario.furniture if _upright(p.category)]
        spots = self.env.object_positions()
        for placement, spot in zip(self.scenario.objects, spots):
            now = replace(placement, position=(*spot, placement.position[2]))
            self.blocks.append(self._kept_out(now))
        return PoseSpace(self.scenario, self.blocks, self.env.sim.base_pose[2])

    def _kept_out(self, placement: Placement) -> Block:
        """The box around a thing, or around its keep-out volume."""
        block = block_of(placement)
        if not CATALOG[placement.category].keepout:
            return block
        geom = self.env.sim.model.geom(f"{placement.name}/keepout")
        x, y = placement.position[:2] + from_axes(geom.pos[:2], placement.yaw)
        top = max(block.top, placement.position[2] + float(geom.pos[2] + geom.size[2]))
        half = (float(geom.size[0]), float(geom.size[1]))
        return replace(block, center=(float(x), float(y)), half=half, top=top)

    def _sweep(self, space: PoseSpace) -> np.ndarray | None:
        """Distance in m of each cell from what walkers sweep, float (rows, columns), or None."""
        if not self.crowd:
            return None
        places = np.stack(np.meshgrid(space.x, space.y), -1).reshape(-1, 2)
        return self.crowd.off_path(places).reshape(space.height.shape)

    def _goal(
        self, space: PoseSpace, toll: np.ndarray | None
    ) -> tuple[Callable[[float, float, int], bool], np.ndarray]:
        """Where a plan may end, and the estimated price of the way to there."""
        targets = self.scenario.targets
        spots = self.env.sim.body_positions(tuple(p.name for p in targets)).tolist()
        views = [
            space.sees((*spot[:2], _middle(p)), CATALOG[p.category].radius + 0.06, SUCCESS_DISTANCE)
            for p, spot in zip(targets, spots)
        ]

        def goal(x: float, y: float, heading: int) -> bool:
            near = [i for i, (a, b, _) in enumerate(spots) if hypot(a - x, b - y) <= STOP]
            if not near:
                return False
            yaw = space.heading(heading)
            eye = self._camera(x, y, yaw)
            for spot, view in ((spots[i], views[i]) for i in near):
                dx, dy = np.subtract(spot[:2], eye)
                aside = (np.arctan2(dy, dx) - yaw + np.pi) % (2 * np.pi) - np.pi
                if abs(aside) > ASIDE or np.hypot(dx, dy) < NEAR:
                    continue
                if view[space.cell(*eye)]:
                    return all(np.hypot(*(eye - b)) > ELSEWHERE for b in self.blind)
            return False

        ends = np.zeros(space.height.shape, bool)
        for spot, view in zip(spots, views):
            apart = np.hypot(space.x[None] - spot[0], space.y[:, None] - spot[1])
            # from where the camera, `CAMERA` before the base's centre, may stand in the view
            away = np.asarray(ndimage.distance_transform_edt(~view)) * CELL
            ends |= (apart <= STOP) & (away <= CAMERA + CELL)
        # a toll is per action, of which a metre takes 5
        return goal, space.way(ends, price, None if toll is None else 5.0 * toll)

    @staticmethod
    def _camera(x: float, y: float, yaw: float) -> np.ndarray:
        return np.array([x + CAMERA * np.cos(yaw), y + CAMERA * np.sin(yaw)])


def _upright(category: str) -> bool:
    return CATALOG[category].size[2] > 0.03


def _middle(placement: Placement) -> float:
    return placement.position[2] + CATALOG[placement.category].size[2] / 2
