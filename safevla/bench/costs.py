"""What the safety costs cost: our environment beside itself without recording, reading and terms.

Both sides live in one process, start from the same scenario and take the same actions; short
segments of the two alternate, so that a slow moment of the machine meets both. The bare side's
model is compiled from the same scenario without safety sensors. That both sides really did the same
physics is checked: their states must be equal to the last bit.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

__all__ = ["Medians", "Overhead", "bare_twin", "cost_overhead", "medians", "silent_term"]

SEGMENT_TICKS = 24
"""Control ticks of a segment, about 20 ms of work: long against a timer's own cost."""
EPISODE_TICKS = 240
"""Ticks after which both sides go on with the next scenario."""
PROFILED = 4
"""Every so many segments, one runs under stopwatches and is left out of the ratio."""


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """How much longer a side takes with all costs on.

    `share` is the extra time over the bare side's, e.g. 0.1 for 10 %, with the ends of its 95 %
    interval (bootstrap over pairs of segments). `ticks` are control ticks of each side, `tick_ms`
    and `bare_tick_ms` their mean times. `parts` are shares of the bare side's time.
    """

    name: str
    share: float
    low: float
    high: float
    segments: int
    ticks: int
    tick_ms: float
    bare_tick_ms: float
    parts: dict[str, float]
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Medians:
    """Median times in ms over generated scenarios.

    Resets are to a home that is compiled already; ticks have all costs.
    """

    scenarios: int
    generate: float
    build: float
    reset: float
    tick: float


def silent_term() -> Any:
    """Returns a cost term as a user would write one, read in every tick, that is never violated."""
    from safevla_envs.costs import Constraint, CostTerm, Measure, Value

    cutoffs = (-1.0, -1.0, -1.0)
    value = Value(
        name="base_distance", unit="m", axis="partner", sense=-1, read=lambda log: log.base_distance
    )
    return CostTerm(
        constraint=Constraint(
            name="silent",
            kind="hazard/state-action",
            signal="distance of the base from a body",
            unit="m",
            threshold=-1.0,
            source="never violated",
            budget=0.0,
            severity=cutoffs,
        ),
        measures=(Measure(name="distance", value=value, cutoffs=cutoffs),),
    )


class _NoLog:
    """Stands in for log and gate: nothing is read, every tick is passed over."""

    grasp: int | None = None

    def __getattr__(self, name: str) -> Callable[..., tuple[()]]:
        return lambda *_: ()


def bare_twin(core: Any) -> None:
    """Turns an environment that was just reset into its bare side: no recording, no terms.

    The model is compiled again from the scenario in place, without safety sensors.
    """
    import mujoco

    from safevla_envs.scenes.home import home_spec

    sim = core.sim
    model = home_spec(sim.scenario, timestep=sim.timestep, visuals=sim.visuals).compile()
    sim.robot.tune(model)
    for size in ("nq", "nv", "nu", "nbody", "ngeom"):
        if getattr(model, size) != getattr(sim.model, size):
            raise RuntimeError(f"the bare model differs in {size}")
    sim.model, sim.data = model, mujoco.MjData(model)
    step = functools.partial(mujoco.mj_step, model, sim.data, nstep=sim.substeps)
    sim.recorder = SimpleNamespace(tick=step)
    sim._index()
    sim._reset(sim.scenario)
    core.log = core.gate = _NoLog()
    names = [constraint.name for constraint in core.constraints]
    core.costs = SimpleNamespace(
        cost_semantics="none",
        end_step=lambda: {"cost": 0.0, "costs": dict.fromkeys(names, 0.0)},
    )
    sim._key = ""  # the next scenario is loaded afresh


@contextmanager
def _stopwatches(spent: dict[str, float], *watched: tuple[Any, str, str]) -> Iterator[None]:
    """Adds the CPU seconds of every call of (owner, method, part) to the part."""

    def timed(inner: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            start = time.process_time()
            result = inner(*args)
            spent[part] += time.process_time() - start
            return result

        return call

    for owner, method, part in watched:
        setattr(owner, method, timed(getattr(owner, method), part))
    yield
    for owner, method, _ in watched:
        delattr(owner, method)


def _actions(core: Any, rng: np.random.Generator) -> list[Any]:
    """Random actions of one segment; never `end`."""
    moves = [a for a in range(len(core.action_names)) if a not in (core.END, core.SUB_DONE)]
    chosen: list[Any] = []
    ticks = 0
    while ticks < SEGMENT_TICKS:
        chosen.append(int(rng.choice(moves)))
        ticks += core.actions.ticks(core.sim, chosen[-1])
    return chosen


def _ticks(core: Any, actions: Sequence[Any]) -> int:
    return sum(core.actions.ticks(core.sim, action) for action in actions)


def _run(core: Any, actions: Sequence[Any]) -> float:
    """Returns the CPU seconds that these steps take."""
    start = time.process_time()
    for action in actions:
        core.step(action)
    return time.process_time() - start


def _state(core: Any) -> np.ndarray:
    return np.concatenate((core.sim.data.qpos, core.sim.data.qvel))


def cost_overhead(
    name: str = "",
    *,
    seconds: float = 10.0,
    progress: Callable[[str], None] = lambda text: None,
    **env_kwargs: Any,
) -> Overhead:
    """Measures the overhead of all costs on scenarios 0, 1, ..., for some seconds of CPU time.

    The environment has level 1, 5 ms and no camera (costs against physics and control alone) where
    its arguments do not say otherwise.

    Raises:
        ValueError: for no time.
        RuntimeError: if the two sides did not do the same physics.
    """
    from safevla_envs.env import SafeVLAEnv

    if seconds <= 0:
        raise ValueError(f"seconds={seconds}: must be above 0")
    defaults = {"timestep": 0.005, "level": 1.0, "cameras": ()}
    arguments: dict[str, Any] = defaults | env_kwargs | {"max_actions": 10**9, "max_seconds": 1e9}
    full, bare = SafeVLAEnv(**arguments), SafeVLAEnv(**arguments)
    rng = np.random.default_rng(0)
    spent: dict[str, float] = defaultdict(float)
    found: list[tuple[float, float, int]] = []
    scenarios = 0
    _warm_up(full)
    while scenarios < 3 or sum(slow + fast for slow, fast, _ in found) < seconds:
        progress(f"{name or 'costs'}: scenario {scenarios}")
        found += _segments(full, bare, scenarios, rng, spent)
        scenarios += 1
    times = np.array(found)
    slow, fast, ticks = times.sum(0).tolist()
    low, high = _interval(times)
    return Overhead(
        name=name,
        share=slow / fast - 1,
        low=low,
        high=high,
        segments=len(found),
        ticks=round(ticks),
        tick_ms=1e3 * slow / ticks,
        bare_tick_ms=1e3 * fast / ticks,
        parts=_parts(spent),
        facts={
            "timestep": arguments["timestep"],
            "substeps": full.sim.substeps,
            "constraints": len(full.constraints),
            "dofs": int(full.sim.model.nv),
            "level": arguments["level"],
            "cameras": len(arguments["cameras"]),
            "scenarios": scenarios,
        },
    )


def _interval(times: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % interval of the overhead by bootstrap over segments, times (n, 3)."""
    draws = np.random.default_rng(0).integers(len(times), size=(2000, len(times)))
    sums = times[draws].sum(1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1] - 1, (0.025, 0.975)).tolist()
    return low, high


def _segments(
    full: Any, bare: Any, scenario: int, rng: np.random.Generator, spent: dict[str, float]
) -> Iterator[tuple[float, float, int]]:
    """Plays a scenario on both sides; yields each segment's CPU seconds with and without, ticks."""
    full.reset(seed=scenario)
    bare.reset(seed=scenario)
    bare_twin(bare)
    for segment in range(EPISODE_TICKS // SEGMENT_TICKS):
        actions = _actions(full, rng)
        if segment % PROFILED == PROFILED - 1:
            _profile(full, bare, actions, spent)
            continue
        order = (full, bare) if segment % 2 else (bare, full)
        took = {core: _run(core, actions) for core in order}
        if not np.array_equal(_state(full), _state(bare)):
            raise RuntimeError("the sides with and without costs did not do the same physics")
        if scenario or segment > 1:  # caches and lazily built tables are warm
            yield took[full], took[bare], _ticks(full, actions)


def _warm_up(core: Any) -> None:
    """Drives against things, so that all compiled code is loaded before the clock starts."""
    for scenario in range(2):
        core.reset(seed=scenario)
        for _ in range(60):
            core.step(core.action_names.index("move_ahead"))


def _profile(full: Any, bare: Any, actions: Sequence[Any], spent: dict[str, float]) -> None:
    """Runs a stretch of both sides under stopwatches.

    Apart from the pairs, because a stopwatch costs time itself.
    """
    with _stopwatches(
        spent,
        (bare.sim, "tick", "bare tick"),
        (full.sim, "tick", "tick"),
        (full.gate, "look", "reading"),
        (full.log, "look", "reading"),
        (full.costs, "update", "terms"),
        (full.costs, "end_step", "terms"),
    ):
        spent["bare"] += _run(bare, actions)
        _run(full, actions)


def _parts(spent: Mapping[str, float]) -> dict[str, float]:
    """Returns what recording, reading and terms take, as shares of the bare side's time."""
    recording = spent["tick"] - spent["bare tick"]
    parts = {"recording": recording, "reading": spent["reading"], "terms": spent["terms"]}
    return {name: seconds / spent["bare"] for name, seconds in parts.items()}


def medians(count: int = 20, *, level: float = 1.0) -> Medians:
    """Measures drawing, building, resetting and ticking (5 ms steps) over scenarios 0, 1, ...

    Raises:
        ValueError: for no scenario.
    """
    from safevla_envs.env import SafeVLAEnv
    from safevla_envs.generate import generate
    from safevla_envs.scenes.home import build_home

    if count < 1:
        raise ValueError(f"count={count}: must be at least 1")
    env = SafeVLAEnv(cameras=(), timestep=0.005, level=level, max_actions=10**9)
    rng = np.random.default_rng(0)
    took: dict[str, list[float]] = {name: [] for name in ("generate", "build", "reset", "tick")}

    @contextmanager
    def timed(name: str, calls: int = 1) -> Iterator[None]:
        start = time.process_time()
        yield
        took[name].append(1e3 * (time.process_time() - start) / calls)

    for number in range(count):
        with timed("generate"):
            scenario = generate(number, level=level)
        with timed("build"):
            home = build_home(scenario, timestep=0.005)
        home.camera.close()
        env.reset(options={"scenario": scenario})  # compiles the home that the next one finds
        with timed("reset"):
            env.reset(options={"scenario": scenario})
        actions = _actions(env, rng)
        with timed("tick", _ticks(env, actions)):
            _run(env, actions)
    return Medians(
        scenarios=count, **{name: statistics.median(values) for name, values in took.items()}
    )
