"""Times several programs in turn and reports ratios of the same round.

Absolute rates on a shared machine move by a quarter from minute to minute; the ratio of two sides
that ran seconds apart moves much less. So every round times every side once, and each ratio is
taken within a round.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import IO, Any

__all__ = ["Comparison", "Timing", "compare", "environment_sides"]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One side's rates over the rounds.

    Attributes:
        name: what was timed.
        calls: `step` calls per second, one number per round (actions/s of an environment).
        ticks: 20 Hz control ticks per second, one number per round.
        cpu_share: CPU seconds per wall second, one number per round.
        facts: time step in s, substeps per tick, sizes of the model.
    """

    name: str
    calls: tuple[float, ...]
    ticks: tuple[float, ...]
    cpu_share: tuple[float, ...]
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All timings of a run and their ratios.

    Attributes:
        timings: by name of the side.
        ratios: name -> (smallest, median, largest) over rounds of the ratio of ticks/s.
    """

    timings: dict[str, Timing]
    ratios: dict[str, tuple[float, float, float]]

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return {
            "timings": {name: asdict(timing) for name, timing in self.timings.items()},
            "ratios": {
                name: dict(zip(("min", "median", "max"), values))
                for name, values in self.ratios.items()
            },
        }


def environment_sides(env_id: str, size: int = 128) -> dict[str, dict[str, Any]]:
    """Returns the sides of `safevla bench env`: ours, robosuite's Lift and raw physics."""
    ours = {"side": "ours", "env_id": env_id, "timestep": 0.002}
    coarse = {**ours, "timestep": 0.005}
    return {
        "ours": {**ours, "mode": "continuous", "camera": 0},
        "ours, camera": {**ours, "mode": "continuous", "camera": size},
        "ours, 5 ms": {**coarse, "mode": "continuous", "camera": 0},
        "ours, 5 ms, camera": {**coarse, "mode": "continuous", "camera": size},
        "ours, 5 ms, discrete": {**coarse, "mode": "discrete", "camera": 0},
        "ours, 5 ms, discrete, camera": {**coarse, "mode": "discrete", "camera": size},
        "robosuite Lift": {"side": "robosuite", "camera": 0},
        "robosuite Lift, camera": {"side": "robosuite", "camera": size},
        "raw mj_step": {"side": "raw", "env_id": env_id, "timestep": 0.002},
    }


RATIOS = {
    "ours / robosuite, no camera": ("ours", "robosuite Lift"),
    "ours / robosuite, camera": ("ours, camera", "robosuite Lift, camera"),
    "ours 5 ms / robosuite, no camera": ("ours, 5 ms", "robosuite Lift"),
    "ours 5 ms / robosuite, camera": ("ours, 5 ms, camera", "robosuite Lift, camera"),
    "ours / raw mj_step": ("ours", "raw mj_step"),
}
"""Ratios of ticks/s that `safevla bench env` prints: (numerator, denominator)."""


class _Side:
    """A side's process; idle except while it is asked to measure."""

    def __init__(self, name: str, request: dict[str, Any], errors: IO[str]) -> None:
        env = dict(os.environ, **dict.fromkeys(_THREADS, "1"))
        self.name = name
        self.errors = errors
        self.process = subprocess.Popen(
            [sys.executable, "-m", "safevla.bench.sides", json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=env,
        )
        self.facts: dict[str, Any] = json.loads(self._answer().removeprefix("READY "))

    def measure(self, seconds: float) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"measure {seconds}\n")
        self.process.stdin.flush()
        return json.loads(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            tail = self.errors.read().strip().splitlines()[-1:]
            raise RuntimeError(f"{self.name} stopped: {tail[0] if tail else 'no message'}")
        return line

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def compare(
    requests: Mapping[str, dict[str, Any]],
    *,
    rounds: int = 5,
    seconds: float = 2.0,
    ratios: Mapping[str, tuple[str, str]] = RATIOS,
    progress: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Times every side once per round.

    Args:
        requests: what to time, by name; see `environment_sides`.
        rounds: rounds.
        seconds: wall time per side and round.
        ratios: pairs of names; pairs with a side that is not requested are left out.
        progress: called with what is being done.

    Raises:
        ValueError: for less than one round, or no time.
        RuntimeError: if a side's process ends.
    """
    if rounds < 1 or seconds <= 0:
        raise ValueError(f"rounds={rounds}, seconds={seconds}: must be at least 1 and above 0")
    sides: list[_Side] = []
    results: dict[str, list[dict[str, float]]] = {name: [] for name in requests}
    with contextlib.ExitStack() as stack:
        for name, request in requests.items():
            progress(f"starting {name}")
            errors = stack.enter_context(tempfile.TemporaryFile("w+"))
            sides.append(_Side(name, request, errors))
            stack.callback(sides[-1].close)
        for number in range(rounds):
            for side in sides:
                progress(f"round {number + 1} of {rounds}: {side.name}")
                results[side.name].append(side.measure(seconds))
    timings = {
        side.name: Timing(
            name=side.name,
            calls=tuple(r["calls"] / r["wall"] for r in results[side.name]),
            ticks=tuple(r["ticks"] / r["wall"] for r in results[side.name]),
            cpu_share=tuple(r["cpu"] / r["wall"] for r in results[side.name]),
            facts=side.facts,
        )
        for side in sides
    }
    found = {}
    for name, (upper, lower) in ratios.items():
        if upper in timings and lower in timings:
            pairs = zip(timings[upper].ticks, timings[lower].ticks)
            values = sorted(a / b for a, b in pairs)
            found[name] = (values[0], statistics.median(values), values[-1])
    return Comparison(timings=timings, ratios=found)
