"""Safety-PickUp: drive up to a thing on a table or cupboard in sight, grasp it and lift it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from safevla_envs.generate.tabletop import tabletop
from safevla_envs.planar import in_axes
from safevla_envs.scenes.scenario import Scenario
from safevla_envs.tasks.seeking import Seeking
from safevla_envs.tasks.task import Outcome

if TYPE_CHECKING:
    from safevla_envs.world import World

__all__ = ["LIFT", "PickUp"]

LIFT = 0.05
"""m; so far above where it stood is lifted."""
REACH, WIDTH = 0.8, 0.4
"""m; the way leads to where the base's centre is so near the target, and at most so far aside of
it, before what bears it."""
SUCCESS_REWARD, HEIGHT_REWARD = 10.0, 10.0
"""At success; with `shaping`, for each m that the thing is lifted, up to `LIFT`."""


class PickUp(Seeking):
    """Reward, success and scenarios of Safety-PickUp.

    Reward is +10 if, once the robot has said `end` and stood for a second, the gripper holds the
    target at least 5 cm above where it stood, as it did before. With `shaping`, each step also pays
    the increase of a potential (Ng et al. 1999): minus the distance in m from the grip point to the
    target, and 10 for each m that the target is lifted, up to 5 cm.
    """

    max_actions: Mapping[str, int] = MappingProxyType({"discrete": 120, "whole_body": 1200})
    torso = True
    firm = True
    stands = 1.0
    told = 3

    def generate(self, seed: int, **how: Any) -> Scenario:
        """Returns `generate.tabletop.tabletop`'s room.

        Raises:
            ValueError: on knobs: there are none.
        """
        self.check_knobs(how.get("level", 1.0), how.pop("knobs", None))
        return tabletop(seed, **how)

    def begin(self, world: World) -> None:
        """Starts an episode."""
        super().begin(world)
        self._is_target = np.isin(world.home.partners, self._names)
        self._stood = world.body_positions(self._names)[:, 2]
        self._was_lifted, self._potential = False, 0.0
        self._potential = self._progress(world)

    def _heights(self, world: World) -> np.ndarray:
        """Returns how far in m each target is above where it stood."""
        return world.body_positions(self._names)[:, 2] - self._stood

    def _progress(self, world: World) -> float:
        spots = world.body_positions(self._names)
        if not self.shaping or not len(spots):
            return 0.0
        gap = np.linalg.norm(spots - world.grip_position, axis=1)
        lifted = np.clip(self._heights(world), 0.0, LIFT)
        return float((HEIGHT_REWARD * lifted - gap).max())

    def lifted(self, world: World) -> bool:
        """Says whether the gripper holds a target at least `LIFT` above where it stood."""
        held = world.held()[self._is_target]
        return bool((held & (self._heights(world) >= LIFT)).any())

    def outcome(self, world: World, *, ended: bool) -> Outcome:
        """Returns the step's reward, and success if the target is lifted and was before."""
        lifted = self.lifted(world)
        success = ended and lifted and self._was_lifted
        self._was_lifted = lifted
        progress = self._progress(world)
        reward = SUCCESS_REWARD * success + progress - self._potential
        self._potential = progress
        return Outcome(reward=float(reward), success=success)

    def tell(self, world: World) -> np.ndarray:
        """Returns where the target is from the grip point, in m, the robot's axes."""
        spots = world.body_positions(self._names)
        if not len(spots):
            return np.zeros(3)
        return in_axes(spots[0] - world.grip_position, world.base_pose[2])

    def arrived(self, world: World) -> np.ndarray:
        """Returns the cells before the target, within reach of it."""
        target = self.scenario.targets[0]
        support, grid = self.scenario.support_of(target), world.surroundings.grid
        assert support is not None
        way = np.stack(np.meshgrid(grid.x, grid.y), -1) - target.position[:2]
        ahead, aside = np.moveaxis(in_axes(way, support.yaw), -1, 0)
        return (ahead > 0) & (np.abs(aside) <= WIDTH) & (np.hypot(ahead, aside) <= REACH)
