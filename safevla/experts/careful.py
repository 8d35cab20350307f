"""The careful expert: plans its very actions round everything that can be charged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import hypot
from typing import Any

import numpy as np
from scipy import ndimage

from safevla.experts.lattice import Pose, Swept, moves_of, price, search
from safevla.experts.people import Crowd, standing
from safevla.experts.space import CELL, HEADINGS, Block, PoseSpace, block_of
from safevla_envs.build.catalog import CATALOG
from safevla_envs.scenario import Placement
from safevla_envs.tasks.objnav import SUCCESS_DISTANCE

__all__ = ["CarefulExpert"]

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
AHEAD = 7
"""Actions of the plan that are checked against where people will be."""
ASIDE_ROOM = 0.5
"""m; a base whose centre is this far from what walkers sweep does not stand in their way."""
PERSON_TOLL = 1.0
"""Extra cost in actions of every pose in a walker's way: it walks round where it can."""
IN_THE_WAY = 0.15
"""m; when a walker will come nearer than this to the standing robot, the robot makes way."""
MAKE_WAY_TICKS = 50
"""How far it looks ahead for that."""
LONG = 200
"""Ticks of waiting after which it no longer insists on crossing a walker's way in one go."""
PATIENCE = 20
"""Waits for a walker who may hide the target, before the place counts as a bad one."""


class CarefulExpert:
    """Drives its true outline round every hazard and object to where it sees the target.

    It knows the scenario. It plans with the primitives themselves, so that what it executes is
    what it planned, and plans anew when it is not where it should be. It waits, or makes way, when
    an action would break the protective distance to what walks. A short wait is `sub_task_done`, a
    longer one `drop_off` of nothing, which is half a second.

    When there is no target, or no way to one that keeps clear of everything, it looks round once
    and says `end`: driving about could only cause harm.

    Args:
        env: the unwrapped environment.
        wander: has no effect; demonstrators take it.
        rng: likewise; this expert draws nothing.
    """

    def __init__(self, env: Any, *, wander: float = 0.0, rng: np.random.Generator | None = None):
        self.env = env
        self.primitives = env.actions.primitives
        self.index = {name: i for i, name in enumerate(env.action_names)}
        self.moves = moves_of(self.primitives)
        self.scenario: Any = None

    def reset(self) -> None:
        """Starts an episode: plans."""
        self.scenario = self.env.scenario
        self.crowd = Crowd(self.env)
        self.plan: list[tuple[int, Pose]] = []
        self.at: Pose | None = None
        self.blind: list[np.ndarray] = []
        self.turns = self.patience = self.waited = 0
        self.hopeless = not self.scenario.targets
        self.space = self._space()
        if not self.hopeless:
            self._plan()

    def act(self) -> int:
        """Returns the next action."""
        if self.scenario is not self.env.scenario:
            self.reset()
        if self.scenario.targets and self._may_end():
            return self.index["end"]
        if not self.hopeless:
            self._follow()
        action = self._give_up() if self.hopeless else self.plan[0][0]
        if self.crowd and action != self.index["end"]:
            instead = self._give_way(action)
            if instead is not None:
                return instead
        if self.hopeless:
            self.turns += 1
        else:
            self.at = self.plan.pop(0)[1]
        return action

    # ---- ending -----------------------------------------------------------------------------

    def _may_end(self) -> bool:
        names = tuple(p.name for p in self.scenario.targets)
        seen = self.env.sim.visible(names)
        spots = self.env.sim.body_positions(names)[:, :2]
        reach = np.hypot(*(spots - self.env.sim.base_pose[:2]).T)
        return bool((seen & (reach <= END)).any())

    def _give_up(self) -> int:
        """Looks round where there is room to turn, then ends."""
        row, column = self.space.cell(*self.env.sim.base_pose[:2])
        roomy = all(self.space.layer(k)[row, column] >= MARGINS[0] for k in range(0, HEADINGS, 2))
        done = self.turns >= LOOK_ROUND or not roomy
        return self.index["end" if done else "rotate_left"]

    # ---- people -----------------------------------------------------------------------------

    def _give_way(self, action: int) -> int | None:
        """Returns what to do instead of `action` when something that walks is too near, or None."""
        pose = self.env.sim.base_pose
        planned = [a for a, _ in self.plan[:AHEAD]] if not self.hopeless else [action]
        sequence = [self.primitives[a] for a in planned]
        if self._may_go(pose, sequence):
            self.waited = 0
            return None
        near = self.crowd.nearest(pose, MAKE_WAY_TICKS)
        if near < IN_THE_WAY and self._in_the_way(pose):
            aside = self._make_way(pose)
            if aside is not None:
                self.plan, self.at = [], None
                return aside
        drop = self.index["drop_off"]
        ticks = range(1, self.primitives[drop].ticks)
        if self.env.sim.held().any() or any(self._may_go(pose, sequence, wait) for wait in ticks):
            self.waited += 1
            return self.index["sub_task_done"]
        self.waited += self.primitives[drop].ticks
        return drop

    def _may_go(self, pose: np.ndarray, sequence: Sequence[Any], wait: int = 0) -> bool:
        """Says whether the first action may start after `wait` ticks of standing still.

        It must keep the protective distance. A robot beside a walker's way also stays there until
        it can cross in one go, unless that has taken too long: stopping on the way harms nobody,
        but makes the walker wait.
        """
        free = self.crowd.free_actions(pose, sequence, wait)
        if free == 0 or free == len(sequence):
            return free > 0
        if self.waited > LONG or self._in_the_way(pose):
            return True
        return not self._in_the_way(np.array(self.plan[free - 1][1]))

    def _in_the_way(self, pose: np.ndarray) -> bool:
        return bool(self.crowd.off_path(pose[None, :2])[0] < ASIDE_ROOM)

    def _make_way(self, pose: np.ndarray) -> int | None:
        """The move that leads furthest from where people will be; None if none does any good."""
        space = PoseSpace(self.scenario, self.blocks, pose[2])
        swept = Swept(space, self.moves)
        cell = space.cell(*pose[:2])
        best, chosen = self.crowd.nearest(pose, MAKE_WAY_TICKS) + 0.05, None
        for number, move in enumerate(self.moves):
            dx, dy, clearance = swept(0, number)
            if clearance[cell] < MARGINS[0]:
                continue
            if not self.crowd.free_actions(pose, [self.primitives[move.action]]):
                continue
            there = pose + np.array([dx, dy, move.turn * 2 * np.pi / HEADINGS])
            gap = self.crowd.nearest(there, MAKE_WAY_TICKS)
            gap += 0.5 * float(self.crowd.off_path(there[None, :2])[0])
            gap -= 0.5 * float(self.crowd.off_path(pose[None, :2])[0])
            if gap > best:
                best, chosen = gap, move.action
        return chosen

    # ---- planning ---------------------------------------------------------------------------

    def _follow(self) -> None:
        """Sees to it that there is a plan from here, or that `hopeless` is set."""
        if self.at is None or self._strayed():
            self._plan()
        elif not self.plan:  # it stands where it should see a target, and sees none
            if self.crowd and self.patience < PATIENCE:
                self.patience += 1
                wait: Pose = self.at
                self.plan = [(self.index["drop_off"], wait)]
                return
            self.patience = 0
            self.blind.append(self._camera(*self.env.sim.base_pose))
            self._plan()

    def _strayed(self) -> bool:
        assert self.at is not None
        x, y, heading = self.at
        off = np.abs(self.env.sim.base_pose - [x, y, self.space.heading(heading)])
        off[2] = abs((off[2] + np.pi) % (2 * np.pi) - np.pi)
        return bool((off > STRAYED).any())

    def _plan(self) -> None:
        """Plans from where the robot stands; leaves `hopeless` set when there is no way."""
        self.space = space = self._space()
        x, y, _ = self.env.sim.base_pose
        self.at, self.plan = (float(x), float(y), 0), []
        goal, remaining = self._goal(space)
        if len(self.blind) <= TRIES and np.isfinite(remaining[space.cell(x, y)]):
            toll = self._toll(space)
            for margin in MARGINS:
                found = search(
                    space, self.at, self.moves, goal, remaining, margin=margin, toll=toll
                )
                if found:
                    self.plan = found
                    return
        self.hopeless = True

    def _space(self) -> PoseSpace:
        """The home as it is now, with the robot's heading as heading 0."""
        self.blocks = [block_of(p) for p in self.scenario.furniture if _upright(p.category)]
        spots = self.env.object_positions()
        for placement, spot in zip(self.scenario.objects, spots):
            now = replace(placement, position=(*spot, placement.position[2]))
            self.blocks.append(self._kept_out(now))
        self.blocks += standing(self.scenario.movers)
        return PoseSpace(self.scenario, self.blocks, self.env.sim.base_pose[2])

    def _kept_out(self, placement: Placement) -> Block:
        """The box around a thing, or around its keep-out volume."""
        block = block_of(placement)
        if not CATALOG[placement.category].keepout:
            return block
        geom = self.env.sim.model.geom(f"{placement.name}/keepout")
        c, s = np.cos(placement.yaw), np.sin(placement.yaw)
        x, y = placement.position[:2] + np.array([[c, -s], [s, c]]) @ geom.pos[:2]
        top = max(block.top, placement.position[2] + float(geom.pos[2] + geom.size[2]))
        half = (float(geom.size[0]), float(geom.size[1]))
        return replace(block, center=(float(x), float(y)), half=half, top=top)

    def _toll(self, space: PoseSpace) -> np.ndarray | None:
        """Extra cost of standing where something walks, float (rows, columns), or None."""
        if not self.crowd:
            return None
        places = np.stack(np.meshgrid(space.x, space.y), -1).reshape(-1, 2)
        inside = self.crowd.off_path(places) < ASIDE_ROOM
        return PERSON_TOLL * inside.reshape(space.height.shape)

    def _goal(self, space: PoseSpace) -> tuple[Callable[[float, float, int], bool], np.ndarray]:
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
        return goal, space.way(ends, price)

    @staticmethod
    def _camera(x: float, y: float, yaw: float) -> np.ndarray:
        return np.array([x + CAMERA * np.cos(yaw), y + CAMERA * np.sin(yaw)])


def _upright(category: str) -> bool:
    return CATALOG[category].size[2] > 0.03


def _middle(placement: Placement) -> float:
    return placement.position[2] + CATALOG[placement.category].size[2] / 2
