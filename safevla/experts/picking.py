"""The expert of Safety-PickUp: drives straight up to the target, grasps it from above, lifts it."""

from __future__ import annotations

from typing import Any

import numpy as np

from safevla_envs.generate.layout import box_of
from safevla_envs.scenes.catalog import CATALOG

__all__ = ["PickUpExpert"]

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
TRIES = 3
"""Grasps that are tried."""


class PickUpExpert:
    """Takes the straight way and sees no hazard.

    It turns to the target, brings the gripper to its height, drives up to it and closes; when the
    target is held it lifts it by 10 cm and says `end`, which it also says after three failures.
    """

    def __init__(self, env: Any, *, wander: float = 0.0, rng: np.random.Generator | None = None):
        self.env = env
        self.index = {name: i for i, name in enumerate(env.action_names)}
        self.scenario: Any = None

    def reset(self) -> None:
        """Starts an episode."""
        self.scenario, self.tries, self.risen = self.env.scenario, 0, False

    def act(self) -> int:
        """Returns the next action."""
        if self.scenario is not self.env.scenario:
            self.reset()
        return self.index[self._choose()]

    def _choose(self) -> str:
        names, sim = self.env.goal.bodies, self.env.sim
        if not names or (self.risen and self.env.task.lifted(sim)) or self.tries >= TRIES:
            return "end"
        if sim.held()[np.isin(sim.home.partners, names)].any():
            self.risen = True
            return "arm_up"
        (target,) = sim.body_positions(names)
        x, y, yaw = sim.base_pose
        reach = float(np.hypot(target[0] - x, target[1] - y))
        bearing = np.arctan2(target[1] - y, target[0] - x) - yaw
        bearing = float(np.degrees((bearing + np.pi) % (2 * np.pi) - np.pi))
        there = reach <= NEAR or self._ahead(x, y, yaw) < FRONT
        if abs(bearing) > (AIMED if there else STRAIGHT):
            side = "left" if bearing > 0 else "right"
            return f"rotate_{side}" if abs(bearing) > 17 else f"rotate_{side}_small"
        raised = sim.grip_position[2] - target[2] - CATALOG[self.scenario.target_category].size[2]
        out = float(np.hypot(*(sim.grip_position[:2] - (x, y))))
        if abs(raised - OVER) > OVER / 2:
            if raised < OVER:
                return "arm_up"
            return "arm_down" if out > OUT else "arm_out"
        if not there:
            return "move_ahead"
        if abs(reach - out) > CLOSE:
            return "arm_out" if reach > out else "arm_in"
        self.tries += 1
        return "pick_up"

    def _ahead(self, x: float, y: float, yaw: float) -> float:
        """Distance in m to the support from where a step ahead leads."""
        x0, y0, x1, y1 = box_of(self.scenario.furniture[0])
        x, y = x + STEP * np.cos(yaw), y + STEP * np.sin(yaw)
        return float(np.hypot(max(x0 - x, x - x1, 0.0), max(y0 - y, y - y1, 0.0)))
