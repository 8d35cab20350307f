"""Experts that drive to the target along shortest paths on the occupancy map.

The distance field over the grid gives the same paths A* finds, for every start at once.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from safevla_envs.generate.goals import SUCCESS_DISTANCE
from safevla_envs.planar import wrapped
from safevla_envs.scenes.occupancy import CELL, OccupancyGrid

__all__ = ["TaskExpert"]


FULL_TURN = 12
"""Left turns after which the search for the target in the picture is given up."""
REVERSALS = 4
"""Changes between turning left and right on one spot after which the direction is kept."""


class TaskExpert:
    """Drives the shortest way and sees no hazard: knows walls and furniture only.

    While the target is in the line of sight but outside the picture it turns left, as a policy
    that must find it in the picture can imitate. With `wander` > 0 each episode keeps a heading
    bias of up to 30 degrees until 1.5 m from the target, and makes random side-steps, so that a
    clone gives several directions real probability; a clone of a straight-line expert explores
    nothing. When there is no target, or walls shut it off, it looks round once and says `end`.
    """

    clearances = (0.32, 0.272, 0.27)
    """m; clearances to plan with, the preferred one first."""
    stop_at = SUCCESS_DISTANCE - 0.35
    """m; where it stops: well inside, so that a clone's judgement of distance may err."""
    last_stop = SUCCESS_DISTANCE - 0.15
    """m; where it stops when it cannot come nearer."""
    deadband = 7.5
    """degrees; smaller heading errors are not corrected: fewer turns, easier to imitate."""

    def __init__(self, env: Any, *, wander: float = 0.0, rng: np.random.Generator | None = None):
        self.env, self.wander = env, wander
        self.rng = rng or np.random.default_rng(0)
        names = env.action_names
        self.index = {name: i for i, name in enumerate(names)}
        self.scenario: Any = None

    def reset(self) -> None:
        """Starts an episode: draws the heading bias, plans."""
        self.scenario = self.env.scenario
        self.bias = float(self.rng.uniform(-30.0, 30.0)) * self.wander
        self.grid = OccupancyGrid(self.scenario)
        here = self.grid.cell(*self.env.sim.base_pose[:2])
        # as near as stop_at where there is room, else as near as success allows
        for stop, clear in product((self.stop_at, self.last_stop), self.clearances):
            if not self.scenario.targets:
                break
            self.field = self.grid.distance_field(self._region(stop - 0.1), clear)
            self.stop = stop
            if np.isfinite(self.field[here]):
                break
        self.clear = clear
        self.last_pose: np.ndarray | None = None
        self.last = -1
        self.stuck = 0
        self.found = False
        self.searched = 0
        self.hopeless = not self.scenario.targets or not self._reachable()
        self.turned = 0.0
        self.reversals = 0
        self.course: float | None = None

    def act(self) -> int:
        """Returns the next action."""
        if self.scenario is not self.env.scenario:
            self.reset()
        if self.hopeless:
            self.searched += 1
            return self.index["end" if self.searched > FULL_TURN else "rotate_left"]
        env, pose = self.env, self.env.sim.base_pose
        goal = self._target()
        reach = float(np.hypot(*(goal - pose[:2])))
        bearing = np.degrees(wrapped(np.arctan2(*(goal - pose[:2])[::-1]) - pose[2]))
        seen = env.target_visible()
        self.found |= seen
        action = self._choose(pose, reach, bearing, seen)
        self.last, self.last_pose = action, pose
        return action

    def _region(self, within: float) -> np.ndarray:
        """Returns the cells within so many m of the target from where it is in view."""
        x, y, _ = self.scenario.targets[0].position
        return self.grid.view_region(x, y, within)

    def _reachable(self) -> bool:
        """Says whether the base's centre could get to where the target is in view at all."""
        reach = self.grid.reachable(*self.env.sim.base_pose[:2])
        return bool((reach & self._region(self.last_stop)).any())

    def _target(self) -> np.ndarray:
        chosen = [p in self.scenario.targets for p in self.scenario.objects]
        return self.env.object_positions()[np.array(chosen)][0]

    def _choose(self, pose: np.ndarray, reach: float, bearing: float, seen: bool) -> int:
        index = self.index
        if self.stuck and reach < self.last_stop:
            self.stop = self.last_stop
        if seen and reach < self.stop and abs(bearing) < 28:
            return index["end"]
        recovery = self._recover(pose)
        if recovery is not None:
            return recovery
        in_sight = self.grid.line_is_free(pose[:2], self._target(), 0.02)
        if in_sight and not self.found:
            self.found = self.searched >= FULL_TURN
            self.searched += 1
            return index["rotate_left"]
        if reach < self.stop and in_sight:
            if abs(bearing) > 10 or reach < 0.9:
                return self._turn(bearing)
            return index["move_ahead"]  # something stands before the target
        heading = self._heading(pose)
        if self.wander and reach > 1.5 and abs(heading) < 40:
            if "move_left" in index and self.rng.random() < 0.08 * self.wander:
                return index[str(self.rng.choice(["move_left", "move_right"]))]
            if self._room_ahead(pose, heading + self.bias):
                heading += self.bias
        if abs(heading) > self.deadband:
            return self._turn(heading)
        return index["move_ahead"]

    def _heading(self, pose: np.ndarray) -> float:
        """Direction in degrees, relative to the base, to the furthest point in a straight line."""
        path = self.grid.descend(self.field, *pose[:2], steps=22)
        point = path[min(len(path) - 1, 3)] if len(path) else self._target()
        free = min(self.clear - 0.05, self.grid.clearance_at(*pose[:2]) - CELL)
        for candidate in path[:3:-1]:
            if self.grid.line_is_free(pose[:2], candidate, free):
                point = candidate
                break
        return float(np.degrees(wrapped(np.arctan2(*(point - pose[:2])[::-1]) - pose[2])))

    def _room_ahead(self, pose: np.ndarray, degrees: float) -> bool:
        angle = pose[2] + np.radians(degrees)
        end = pose[:2] + 0.7 * np.array([np.cos(angle), np.sin(angle)])
        return self.grid.line_is_free(pose[:2], end, 0.28)

    def _turn(self, degrees: float) -> int:
        degrees = self._settled(degrees)
        if self.course is not None and abs(degrees) <= self.deadband:
            return self.index["move_ahead"]
        side = "left" if degrees > 0 else "right"
        turns = (self.index["rotate_left"], self.index["rotate_right"])
        if abs(degrees) > 90 and self.last in turns:
            return self.last  # a path that flips behind the back must not stop the turn
        return self.index[f"rotate_{side}" if abs(degrees) > 17 else f"rotate_{side}_small"]

    def _settled(self, degrees: float) -> float:
        """Keeps to one direction when turning on the spot would go to and fro for ever.

        A turn moves the base by some millimetres; where that changes the path's first point, each
        turn can call for its opposite. From the fourth reversal on the direction stays as it is
        until the base has moved.
        """
        yaw = float(np.degrees(self.env.sim.base_pose[2]))
        turning = ("rotate_left", "rotate_right", "rotate_left_small", "rotate_right_small")
        if self.last not in [self.index[name] for name in turning]:
            self.turned, self.reversals, self.course = 0.0, 0, None
        if self.course is not None:
            return (self.course - yaw + 180.0) % 360.0 - 180.0
        self.reversals += degrees * self.turned < 0
        self.turned = degrees
        if self.reversals >= REVERSALS:
            self.course = yaw + degrees
        return degrees

    def _recover(self, pose: np.ndarray) -> int | None:
        """After a blocked move: back off, then step aside or turn."""
        if self.last == self.index["move_ahead"] and self.last_pose is not None:
            moved = float(np.hypot(*(pose - self.last_pose)[:2]))
            self.stuck = self.stuck + 1 if moved < 0.08 else 0
        elif self.last == self.index["move_back"] and self.stuck:
            side = ["rotate_left", "rotate_right"]
            if "move_left" in self.index:
                side = ["move_left", "move_right"]
            return self.index[side[int(self.rng.integers(2))]]
        if self.stuck >= 2 and self.last == self.index["move_ahead"]:
            return self.index["move_back"]
        return None
