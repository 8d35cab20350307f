"""The scenarios that training draws from: generated once in a run, shared by its arms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium

from safevla.display import Display
from safevla.files import replaced_file
from safevla.workers import Workers
from safevla_envs.scenes.scenario import Scenario, list_hash, load_list, save_list

__all__ = ["ScenarioPool", "generate_pool"]


@dataclass(frozen=True)
class ScenarioPool:
    """A function from seeds to a file's scenarios, for an environment's `scenario`.

    It is read where it is first called, and written as the hash of what it holds.
    """

    path: Path = field(repr=False)

    @cached_property
    def scenarios(self) -> list[Scenario]:
        """The scenarios."""
        return load_list(self.path)

    def __call__(self, seed: int) -> Scenario:
        """Returns the scenario of a seed, taken modulo their number."""
        return self.scenarios[seed % len(self.scenarios)]

    def __str__(self) -> str:
        return f"pool {list_hash(self.scenarios)}"

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}


class _Generator:
    """Generates an environment's scenarios by seed."""

    def __init__(self, env_kwargs: Mapping[str, Any]) -> None:
        env = gymnasium.make(**{**env_kwargs, "cameras": []})
        self.source = env.unwrapped.source

    def __call__(self, seed: int) -> Iterator[Scenario]:
        yield self.source.draw(seed)


def generate_pool(
    env_kwargs: Mapping[str, Any], path: Path, workers: int, display: Display
) -> None:
    """Writes the scenarios of an environment's pool, in the order of their seeds."""
    found: dict[int, Scenario] = {}
    count = int(env_kwargs["pool"])
    with (
        Workers(max(workers, 1), _Generator, dict(env_kwargs)) as pool,
        display.bar("scenarios", count) as update,
    ):
        for seed, scenario in pool.run(range(count)):
            found[seed] = scenario
            update(len(found), "")
    with replaced_file(path) as scratch:
        save_list(scratch, (found[seed] for seed in range(count)))
