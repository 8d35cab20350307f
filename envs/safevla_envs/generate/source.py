"""Where an environment's scenarios come from: a list, a function of seeds, or the generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from safevla_envs.arguments import scenario_list
from safevla_envs.scenes.scenario import Scenario

__all__ = ["ScenarioArgument", "ScenarioSource"]

ScenarioArgument = Scenario | str | Path | Sequence[Scenario] | Callable[[int], Scenario] | None
"""A scenario, a file of them, a list, a function from a seed to one; None generates."""

_drawn: dict[tuple[int, int | None, str], Scenario] = {}
"""Scenarios of pools, by seed, number of layouts and arguments; shared by a process."""


class ScenarioSource:
    """Hands out scenarios, one per reset.

    Args:
        scenario: what the environment was given.
        generate: of the task, see `Task.generate`.
        how: its keyword arguments.
        layouts: number of different homes that generated scenarios draw from; None for no limit.
        pool: number of different drawn scenarios, each drawn once a process; None for no limit.

    Raises:
        ValueError: if `scenario` is nothing of what is allowed, or its file cannot be read.
    """

    def __init__(
        self,
        scenario: ScenarioArgument,
        generate: Callable[..., Scenario],
        how: dict[str, Any],
        layouts: int | None,
        pool: int | None,
    ):
        self.generate, self.how, self.layouts, self.pool = generate, how, layouts, pool
        self.make = scenario if callable(scenario) else None
        self.scenarios = scenario_list(None if callable(scenario) else scenario)
        self._next = 0

    def next(self, seed: int | None, rng: np.random.Generator) -> Scenario:
        """Returns the next scenario.

        Args:
            seed: an explicit one names the scenario and restarts a list; None draws.
            rng: the environment's generator, just seeded if there is a seed.

        Raises:
            ValueError: if the function returned something else.
        """
        if self.scenarios is not None:
            if seed is not None:
                self._next = 0
            scenario = self.scenarios[self._next % len(self.scenarios)]
            self._next += 1
            return scenario
        draw = int(rng.integers(2**31)) if seed is None else int(seed)
        if self.pool is None:
            return self.draw(draw)
        what = (self.generate.__qualname__, self.how, self.make)
        key = (draw % self.pool, self.layouts, repr(what))
        if key not in _drawn:
            _drawn[key] = self.draw(key[0])
        return _drawn[key]

    def draw(self, seed: int) -> Scenario:
        """Returns the scenario of a seed, made anew.

        Raises:
            ValueError: if the function returned something else.
        """
        if self.make is not None:
            scenario = self.make(seed)
            if not isinstance(scenario, Scenario):
                raise ValueError(f"scenario function returned {scenario!r}: a Scenario is needed")
            return scenario
        layout = None if self.layouts is None else seed % self.layouts
        return self.generate(seed, layout_seed=layout, **self.how)
