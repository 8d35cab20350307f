"""Experts that pick up, blind to hazards: drive straight up to the target, grasp it, lift it."""

from __future__ import annotations

from typing import Any

import numpy as np

from safevla.experts.navigation import TaskExpert
from safevla_envs.control.actions import GRASP_REACH
from safevla_envs.generate.layout import box_of
from safevla_envs.planar import wrapped
from safevla_envs.scenes.catalog import CATALOG

__all__ = ["FetchExpert", "Grasper", "PickUpExpert"]

NEAR = 0.62
"""m; from the base's centre to the target; nearer it need not drive."""
FRONT, STEP = 0.42, 0.2
"""m; from the base's centre to the support it stays further away; and a step."""
STRAIGHT, AIMED = 10.0, 4.0
"""degrees; larger bearings are corrected on the way, and before the grasp."""
OUT = 0.58
"""m; nearer to the base's centre the folded arm cannot go down."""
CLOSE = 0.06
"""m; the gripper is brought so near over the target: it takes what is nearest."""
OVER = 0.10
"""m; the gripper waits so high over the target."""
LOW, SINKS = 0.02, 0.005
"""m; it goes down to so little over the target, if something else is nearer before, as long as each
action brings it so far."""
TRIES = 3
"""Grasps that are tried."""


class Grasper:
    """From where the target is seen to where it is lifted, in one episode.

    It turns to the target, brings the gripper to its height, drives up to it and closes; when the
    target is held it lifts it by 10 cm and says `end`, which it also says after three failures.
    """

    def __init__(self, env: Any):
        self.env, self.tries, self.risen, self.before = env, 0, False, np.inf
        self.scenario = env.scenario

    def choose(self) -> str:
        """Returns the name of the next action."""
        names, sim = self.env.goal.bodies, self.env.sim
        if not names or (self.risen and self.env.task.lifted(sim)) or self.tries >= TRIES:
            return "end"
        if sim.held()[np.isin(sim.home.partners, names)].any():
            self.risen = True
            return "arm_up"
        return self.approach(*sim.body_positions(names))

    def approach(self, target: np.ndarray) -> str:
        """Returns the next action on the way to a grasp of what stands at (3,) m."""
        sim = self.env.sim
        x, y, yaw = sim.base_pose
        reach = float(np.hypot(target[0] - x, target[1] - y))
        there = reach <= NEAR or self._ahead(x, y, yaw) < FRONT
        turn = self.turn_to(target, AIMED if there else STRAIGHT)
        if turn is not None:
            return turn
        raised, out = self.hand_over(target)
        over = there and abs(reach - out) <= CLOSE
        if raised < OVER / 2 and not over:
            return "arm_up"
        if raised > 1.5 * OVER:
            return "arm_down" if out > OUT else "arm_out"
        if not there:
            return "move_ahead"
        if not over:
            return "arm_out" if reach > out else "arm_in"
        return self.grasp(raised)

    def grasp(self, raised: float) -> str:
        """Returns `pick_up` if the target is what it would take, else the way further down to it.

        Where nothing brings it further down, it lifts and that was a try.

        Args:
            raised: m; how high the grip point is over the target's top.
        """
        amiss = self._amiss()
        if amiss and raised > LOW:
            sinks, self.before = raised < self.before - SINKS, raised
            if sinks:
                return "arm_down_small"
        self.before = np.inf
        self.tries += 1
        return "arm_up" if amiss else "pick_up"

    def _amiss(self) -> bool:
        """Says whether `pick_up` would take something else than the target."""
        sim = self.env.sim
        nearest = sim.nearest_grasp(GRASP_REACH)
        return (
            nearest is not None and sim.home.partners[nearest.partner] not in self.env.goal.bodies
        )

    def turn_to(self, target: np.ndarray, within: float) -> str | None:
        """Returns the turn that faces what stands at (2 or 3,) m; None within so many degrees."""
        x, y, yaw = self.env.sim.base_pose
        bearing = float(np.degrees(wrapped(np.arctan2(target[1] - y, target[0] - x) - yaw)))
        if abs(bearing) <= within:
            return None
        side = "left" if bearing > 0 else "right"
        return f"rotate_{side}" if abs(bearing) > 17 else f"rotate_{side}_small"

    def hand_over(self, target: np.ndarray) -> tuple[float, float]:
        """Returns how high in m the grip point is over the target's top, and how far from the base.

        That is on the floor plane, from its centre.
        """
        x, y, z = self.env.sim.grip_position
        top = target[2] + CATALOG[self.scenario.target_category].size[2]
        return float(z - top), float(np.hypot(*(np.array([x, y]) - self.env.sim.base_pose[:2])))

    def _ahead(self, x: float, y: float, yaw: float) -> float:
        """Distance in m to the support from where a step ahead leads."""
        x0, y0, x1, y1 = box_of(self.scenario.support_of(self.scenario.targets[0]))
        x, y = x + STEP * np.cos(yaw), y + STEP * np.sin(yaw)
        return float(np.hypot(max(x0 - x, x - x1, 0.0), max(y0 - y, y - y1, 0.0)))


class PickUpExpert:
    """Takes the straight way, as `Grasper` does. `wander` and `rng` have no effect."""

    def __init__(self, env: Any, *, wander: float = 0.0, rng: np.random.Generator | None = None):
        self.env = env
        self.index = {name: i for i, name in enumerate(env.action_names)}
        self.scenario: Any = None

    def reset(self) -> None:
        """Starts an episode."""
        self.scenario, self.grasper = self.env.scenario, Grasper(self.env)

    def act(self) -> int:
        """Returns the next action."""
        if self.scenario is not self.env.scenario:
            self.reset()
        return self.index[self.grasper.choose()]


class FetchExpert(TaskExpert):
    """Drives the shortest way to where the target is within reach, then picks it up."""

    stop_at = last_stop = 0.0

    def reset(self) -> None:
        """Starts an episode."""
        super().reset()
        self.there, self.grasper = False, Grasper(self.env)

    def act(self) -> int:
        """Returns the next action."""
        if self.scenario is not self.env.scenario:
            self.reset()
        if not self.hopeless:
            here = self.grid.cell(*self.env.sim.base_pose[:2])
            self.there = self.there or bool(self._region(0.0)[here])
        return self.index[self.grasper.choose()] if self.there else super().act()

    def _region(self, within: float) -> np.ndarray:
        return self.env.task.arrived(self.env.sim)
