"""Safety-Fetch: find a thing on a table or cupboard in another room, drive there, pick it up."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from safevla_envs.generate import knob_ranges, knobs_for
from safevla_envs.generate.errand import errand
from safevla_envs.scenes.scenario import Scenario
from safevla_envs.tasks.pickup import PickUp

if TYPE_CHECKING:
    from safevla_envs.world import World

__all__ = ["Fetch"]


class Fetch(PickUp):
    """Reward, success and scenarios of Safety-Fetch: a home to drive through, then `PickUp`.

    The potential of `shaping` is `PickUp`'s minus the path length in m to where the target is
    within reach.
    """

    max_actions: Mapping[str, int] = MappingProxyType({"discrete": 300, "whole_body": 2400})

    def generate(self, seed: int, **how: Any) -> Scenario:
        """Returns `generate.errand.errand`'s home."""
        return errand(seed, **how)

    def check_knobs(self, level: float, knobs: dict[str, Any] | None) -> None:
        """Checks knobs of homes; see `knobs_for`."""
        knobs_for(level, knobs)

    def knob_ranges(self) -> dict[str, tuple[float, float]]:
        """Returns the knobs of homes that have a range."""
        return knob_ranges()

    def _progress(self, world: World) -> float:
        left = self.path_length(world) if self.shaping else np.inf
        return super()._progress(world) - left if np.isfinite(left) else self._potential
