"""Times several programs in turn and reports ratios of the same round.

Absolute rates on a shared machine move by a quarter from minute to minute; the ratio of two sides
that ran seconds apart moves much less. So every round times every side once, and each ratio is
taken within a round. Homes differ too: every round is in another one, whose seed is its number.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from safevla.bench.sides import Side
from safevla.workers import Workers

__all__ = ["Comparison", "Timing", "compare", "environment_sides"]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One side's calls of `step`, 20 Hz control ticks and CPU seconds per second of each round.

    `facts` are those of the first round.
    """

    name: str
    calls: tuple[float, ...]
    ticks: tuple[float, ...]
    cpu_share: tuple[float, ...]
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All timings by name, and by name `min`, `median`, `max` over rounds of ratios of ticks/s."""

    timings: dict[str, Timing]
    ratios: dict[str, dict[str, float]]


def environment_sides(env_id: str, size: int = 128) -> dict[str, dict[str, Any]]:
    """Returns the sides of `safevla bench env`: ours, robosuite's Lift and raw physics."""
    ours = {"side": "ours", "env_id": env_id, "mode": "continuous", "timestep": 0.002}
    kinds = {
        "ours": ours,
        "ours, 5 ms": {**ours, "timestep": 0.005},
        "ours, 5 ms, discrete": {**ours, "timestep": 0.005, "mode": "discrete"},
        "robosuite Lift": {"side": "robosuite"},
    }
    sides = {}
    for name, request in kinds.items():
        sides[name] = {**request, "camera": 0}
        sides[f"{name}, camera"] = {**request, "camera": size}
    for task in OTHER_TASKS:
        request = {**kinds["ours, 5 ms, discrete"], "env_id": f"safevla_envs:SafeVLA/{task}-v0"}
        sides[f"{task}, 5 ms, discrete"] = {**request, "camera": 0}
    return sides | {"raw mj_step": {"side": "raw", "env_id": env_id, "timestep": 0.002}}


OTHER_TASKS = ("PickUp", "Fetch")
"""Timed beside the environment asked for."""
RATIOS = {
    "ours / robosuite, no camera": ("ours", "robosuite Lift"),
    "ours / robosuite, camera": ("ours, camera", "robosuite Lift, camera"),
    "ours 5 ms / robosuite, no camera": ("ours, 5 ms", "robosuite Lift"),
    "ours 5 ms / robosuite, camera": ("ours, 5 ms, camera", "robosuite Lift, camera"),
    "ours / raw mj_step": ("ours", "raw mj_step"),
    **{
        f"{task} / ours, 5 ms, discrete": (f"{task}, 5 ms, discrete", "ours, 5 ms, discrete")
        for task in OTHER_TASKS
    },
}
"""Ratios of ticks/s that `safevla bench env` prints: (numerator, denominator)."""


def compare(
    requests: Mapping[str, dict[str, Any]],
    *,
    rounds: int = 5,
    seconds: float = 2.0,
    ratios: Mapping[str, tuple[str, str]] = RATIOS,
    progress: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Times the sides of some requests, as `environment_sides` makes them, once per round.

    Ratios with a side that is not requested are left out.

    Raises:
        ValueError: for less than one round, or no time.
        RuntimeError: if a side's process ends.
    """
    if rounds < 1 or seconds <= 0:
        raise ValueError(f"rounds={rounds}, seconds={seconds}: must be at least 1 and above 0")
    sides: dict[str, Workers] = {}
    results: dict[str, list[dict[str, float]]] = {name: [] for name in requests}
    with contextlib.ExitStack() as stack:
        for name, request in requests.items():
            progress(f"starting {name}")
            sides[name] = stack.enter_context(Workers(1, Side, request))
        for number in range(rounds):
            for name in sides:
                progress(f"round {number + 1} of {rounds}: {name}")
                results[name].append(_ask(sides, name, (number, seconds)))
    timings = {
        name: Timing(
            name=name,
            calls=tuple(r["calls"] / r["wall"] for r in found),
            ticks=tuple(r["ticks"] / r["wall"] for r in found),
            cpu_share=tuple(r["cpu"] / r["wall"] for r in found),
            facts=found[0]["facts"],
        )
        for name, found in results.items()
    }
    found = {}
    for name, (upper, lower) in ratios.items():
        if upper in timings and lower in timings:
            values = [a / b for a, b in zip(timings[upper].ticks, timings[lower].ticks)]
            middle = statistics.median(values)
            found[name] = {"min": min(values), "median": middle, "max": max(values)}
    return Comparison(timings=timings, ratios=found)


def _ask(sides: Mapping[str, Workers], name: str, request: tuple[int, float]) -> Any:
    """Returns what a side measured in a round: its number, and for how many seconds."""
    try:
        sides[name].send(0, request)
        return sides[name].receive(0)
    except Exception as error:
        raise RuntimeError(f"{name} stopped: {error}") from error
