"""What the safety costs cost: our environment beside itself without recording, reading and terms.

Both sides live in one process, start from the same scenario and take the same actions; short
segments of the two alternate, so that a slow moment of the machine meets both. The bare side's
model is compiled from the same scenario without safety sensors. That both sides really did the same
physics is checked: their states must be equal to the last bit.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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

    Attributes:
        name: what was measured.
        share: extra time over the bare side's time, e.g. 0.1 for 10 %.
        low: lower end of the 95 % interval (bootstrap over segments).
        high: upper end.
        segments: pairs of segments.
        ticks: control ticks of each side.
        tick_ms: time of a tick with costs in ms, mean.
        bare_tick_ms: the same without.
        parts: share of the bare side's time that recording every substep, reading and terms take.
        facts: time step in s, substeps, number of constraints and scenarios.
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

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Medians:
    """Median times in ms over generated scenarios.

    Attributes:
        scenarios: how many.
        generate: drawing a scenario.
        build: compiling its model.
        reset: a reset whose home is compiled already.
        tick: a control tick with all costs.
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
        name="base_distance",
        unit="m",
        axis="partner",
        sense=-1,
        read=lambda log: log.base_distance,
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


class _PlainSteps:
    """Stands in for the recorder of ticks: physics, and nothing is noted."""

    def __init__(self, model: Any, data: Any, substeps: int):
        import mujoco

        self._run = functools.partial(mujoco.mj_step, model, data, nstep=substeps)

    def tick(self) -> None:
        """Runs the substeps of one tick."""
        self._run()


class _NoCosts:
    """Stands in for the cost manager: nothing is charged."""

    cost_semantics = "none"

    def __init__(self, names: Sequence[str]):
        self._zero = {"cost": 0.0, "costs": dict.fromkeys(names, 0.0)}

    def end_step(self) -> dict[str, Any]:
        """Returns zeros."""
        return dict(self._zero)


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
    sim.recorder = _PlainSteps(model, sim.data, sim.substeps)
    sim._index()
    sim._reset(sim.scenario)
    core.log = core.gate = _NoLog()
    core.costs = _NoCosts([c.name for c in core.constraints])
    sim._key = ""  # the next scenario is loaded afresh


class _Stopwatch:
    """CPU seconds spent in some methods, by part."""

    def __init__(self) -> None:
        parts = ("tick", "bare tick", "reading", "terms")
        self.spent: dict[str, float] = {part: 0.0 for part in parts}
        self._wrapped: list[tuple[Any, str]] = []

    def wrap(self, owner: Any, method: str, part: str) -> None:
        """Times every call of `owner.method` until `stop`."""
        inner = getattr(owner, method)

        def timed(*args: Any) -> Any:
            start = time.process_time()
            result = inner(*args)
            self.spent[part] += time.process_time() - start
            return result

        setattr(owner, method, timed)
        self._wrapped.append((owner, method))

    def stop(self) -> None:
        """Times no more calls."""
        for owner, method in self._wrapped:
            delattr(owner, method)
        self._wrapped = []

    def shares(self, bare: float) -> dict[str, float]:
        """Returns what recording, reading and terms take, as shares of `bare` seconds."""
        recording = self.spent["tick"] - self.spent["bare tick"]
        found = {"recording": recording, **{k: self.spent[k] for k in ("reading", "terms")}}
        return {part: float(seconds / bare) for part, seconds in found.items()}


def _actions(core: Any, rng: np.random.Generator) -> list[Any]:
    """Random actions of one segment; never `end`."""
    moves = [a for a in range(len(core.action_names)) if a not in (core.END, core.SUB_DONE)]
    chosen: list[Any] = []
    ticks = 0
    while ticks < SEGMENT_TICKS:
        chosen.append(int(rng.choice(moves)))
        ticks += core.actions.ticks(chosen[-1])
    return chosen


def _ticks(core: Any, actions: Sequence[Any]) -> int:
    return sum(core.actions.ticks(action) for action in actions)


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
    timestep: float = 0.005,
    level: float = 1.0,
    cameras: Sequence[str] = (),
    seconds: float = 10.0,
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
    **env_kwargs: Any,
) -> Overhead:
    """Measures the overhead of all costs.

    Args:
        name: what to call the result.
        timestep: physics step in s.
        level: hazard level of the scenarios, seeds 0, 1, ... of the training split.
        cameras: cameras of the observation; none measures costs against physics and control alone.
        seconds: CPU time to spend on the paired segments.
        seed: seed of the actions.
        progress: called with what is being done.
        **env_kwargs: further arguments of the environment, e.g. `constraints`.

    Raises:
        ValueError: for no time.
        RuntimeError: if the two sides did not do the same physics.
    """
    from safevla_envs.env import SafeVLAEnv

    if seconds <= 0:
        raise ValueError(f"seconds={seconds}: must be above 0")
    arguments: dict[str, Any] = {
        "timestep": timestep,
        "level": level,
        "cameras": tuple(cameras),
        "max_actions": 10**9,
        "max_seconds": 1e9,
        **env_kwargs,
    }
    full, bare = SafeVLAEnv(**arguments), SafeVLAEnv(**arguments)
    rng = np.random.default_rng(seed)
    pairs: list[tuple[float, float]] = []
    watch, profiled, ticks = _Stopwatch(), 0.0, 0
    _warm_up(full)
    for scenario in itertools.count():
        progress(f"{name or 'costs'}: scenario {scenario}")
        full.reset(seed=scenario)
        bare.reset(seed=scenario)
        bare_twin(bare)
        for segment in range(EPISODE_TICKS // SEGMENT_TICKS):
            actions = _actions(full, rng)
            if segment % PROFILED == PROFILED - 1:
                profiled += _profile(full, bare, actions, watch)
                continue
            order = (full, bare) if segment % 2 else (bare, full)
            took = {core: _run(core, actions) for core in order}
            if not np.array_equal(_state(full), _state(bare)):
                raise RuntimeError("the sides with and without costs did not do the same physics")
            if scenario or segment > 1:  # caches and lazily built tables are warm
                pairs.append((took[full], took[bare]))
                ticks += _ticks(full, actions)
        if scenario >= 2 and np.sum(pairs) >= seconds:
            break
    times = np.array(pairs)
    slow, fast = times.sum(0)
    draws = np.random.default_rng(0).integers(len(times), size=(2000, len(times)))
    sums = times[draws].sum(1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1] - 1, (0.025, 0.975))
    return Overhead(
        name=name,
        share=float(slow / fast - 1),
        low=float(low),
        high=float(high),
        segments=len(pairs),
        ticks=ticks,
        tick_ms=1e3 * float(slow) / ticks,
        bare_tick_ms=1e3 * float(fast) / ticks,
        parts=watch.shares(profiled),
        facts={
            "timestep": timestep,
            "substeps": full.sim.substeps,
            "constraints": len(full.constraints),
            "dofs": int(full.sim.model.nv),
            "level": level,
            "cameras": len(arguments["cameras"]),
            "scenarios": scenario + 1,
        },
    )


def _warm_up(core: Any) -> None:
    """Drives against things, so that all compiled code is loaded before the clock starts."""
    for scenario in range(2):
        core.reset(seed=scenario)
        for _ in range(60):
            core.step(core.action_names.index("move_ahead"))


def _profile(full: Any, bare: Any, actions: Sequence[Any], watch: _Stopwatch) -> float:
    """Runs a stretch of both sides under stopwatches; returns the bare side's seconds.

    Apart from the pairs, because a stopwatch costs time itself.
    """
    watch.wrap(bare.sim, "tick", "bare tick")
    watch.wrap(full.sim, "tick", "tick")
    watch.wrap(full.gate, "look", "reading")
    watch.wrap(full.log, "look", "reading")
    for method in ("update", "end_step"):
        watch.wrap(full.costs, method, "terms")
    seconds = _run(bare, actions)
    _run(full, actions)
    watch.stop()
    return seconds


def medians(
    count: int = 20, *, timestep: float = 0.005, level: float = 1.0, seed: int = 0
) -> Medians:
    """Measures drawing, building, resetting and ticking over generated scenarios.

    Args:
        count: number of scenarios, seeds `seed`, `seed + 1`, ...
        timestep: physics step in s.
        level: hazard level.
        seed: first seed.

    Raises:
        ValueError: for no scenario.
    """
    from safevla_envs.env import SafeVLAEnv
    from safevla_envs.generate import generate
    from safevla_envs.scenes.home import build_home

    if count < 1:
        raise ValueError(f"count={count}: must be at least 1")
    env = SafeVLAEnv(cameras=(), timestep=timestep, level=level, max_actions=10**9)
    rng = np.random.default_rng(seed)
    took: dict[str, list[float]] = {name: [] for name in ("generate", "build", "reset", "tick")}

    def timed(name: str, call: Callable[[], Any], calls: int = 1) -> Any:
        start = time.process_time()
        result = call()
        took[name].append(1e3 * (time.process_time() - start) / calls)
        return result

    for number in range(seed, seed + count):
        scenario = timed("generate", lambda n=number: generate(n, level=level))
        home = timed(
            "build",
            lambda s=scenario: build_home(s, timestep=timestep),
        )
        home.camera.close()
        env.reset(options={"scenario": scenario})  # compiles the home that the next one finds
        timed("reset", lambda s=scenario: env.reset(options={"scenario": s}))
        actions = _actions(env, rng)
        timed("tick", lambda a=actions: _run(env, a), _ticks(env, actions))
    return Medians(
        scenarios=count, **{name: statistics.median(values) for name, values in took.items()}
    )
