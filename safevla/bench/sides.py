"""The programs that `safevla bench env` times, each in a process of its own.

robosuite's own camera turns black beside another renderer in the same process, and its controllers
are compiled by numba at first use: hence processes and a warm-up.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["Side", "measure"]

TICK = 0.05
"""s; control tick of both sides (20 Hz)."""
WARM_UP = 10
"""Steps of each round that are not timed."""
SCALE, HOLD = 0.5, 20
"""Random actions of both sides: share of full scale, and ticks for which each is held."""
Step = Callable[[], float]
"""One call of the thing timed; returns the simulated seconds that it advanced."""
Begin = Callable[[int], tuple[Step, dict[str, Any]]]
"""Makes ready for a round, given its number; returns what to time and facts about it."""


def ours(*, mode: str, camera: int, timestep: float, env_id: str) -> Begin:
    """Our environment, all costs on: observation, costs and task included in every step."""
    env, core = _environment(mode=mode, camera=camera, timestep=timestep, env_id=env_id)
    skipped = {getattr(core, "END", None), getattr(core, "SUB_DONE", None)}
    moves = [a for a in range(getattr(env.action_space, "n", 0)) if a not in skipped]

    def begin(number: int) -> tuple[Step, dict[str, Any]]:
        env.reset(seed=number)
        env.action_space.seed(number)
        rng, twists = np.random.default_rng(number), _wander(env)

        def step() -> float:
            before = core.sim.data.time
            action = rng.choice(moves) if moves else next(twists)
            *_, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                why = info.get("sim_error", "by itself")
                raise RuntimeError(f"episode ended while timing: {why}")
            return core.sim.data.time - before

        return step, _facts(core.sim.model)

    return begin


def raw(*, timestep: float, env_id: str) -> Begin:
    """`mj_step` of our compiled model, driven by the control signals of a real episode."""
    import mujoco

    env, core = _environment(mode="continuous", camera=0, timestep=timestep, env_id=env_id)

    def begin(number: int) -> tuple[Step, dict[str, Any]]:
        env.reset(seed=number)
        env.action_space.seed(number)
        controls, twists = [], _wander(env)
        for _ in range(400):
            env.step(next(twists))
            controls.append(core.sim.data.ctrl.copy())
        env.reset(seed=number)
        model, data, facts = core.sim.model, core.sim.data, _facts(core.sim.model)
        rounds = itertools.cycle(controls)

        def step() -> float:
            data.ctrl[:] = next(rounds)
            mujoco.mj_step(model, data, nstep=facts["substeps"])
            return TICK

        return step, facts

    return begin


def robosuite(*, camera: int) -> Begin:
    """Robosuite's own Lift with the same robot, one episode; it computes no costs."""
    logging.disable(logging.CRITICAL)
    from safevla_envs.render.gl import configure_gl

    if camera:
        configure_gl()
    import robosuite as suite

    env = suite.make(
        "Lift",
        robots="PandaOmron",
        has_renderer=False,
        has_offscreen_renderer=camera > 0,
        use_camera_obs=camera > 0,
        camera_names=["agentview"],
        camera_heights=camera or 128,
        camera_widths=camera or 128,
        control_freq=round(1 / TICK),
        horizon=10**9,
        ignore_done=True,
        hard_reset=False,
    )
    env.reset()
    low, high = env.action_spec
    rng = np.random.default_rng(0)
    held = itertools.chain.from_iterable(
        itertools.repeat(SCALE * rng.uniform(low, high), HOLD) for _ in itertools.count()
    )

    def step() -> float:
        env.step(next(held))
        return TICK

    return lambda number: (step, _facts(env.sim.model._model))


def _environment(*, mode: str, camera: int, timestep: float, env_id: str) -> tuple[Any, Any]:
    import gymnasium

    env = gymnasium.make(
        env_id,
        action_mode=mode,
        cameras=("navigation",) if camera else (),
        image_size=camera or 128,
        max_actions=10**9,
        max_seconds=1e9,
        timestep=timestep,
        disable_env_checker=True,
    )
    return env, env.unwrapped


def _wander(env: Any) -> Iterator[np.ndarray]:
    """Random twists at half scale, each held for a second, so that the robot gets about."""
    while True:
        action = SCALE * env.action_space.sample()
        action[-1] = -1.0  # the last entry ends the episode where it is positive
        yield from [action] * HOLD


def _facts(model: Any) -> dict[str, Any]:
    timestep = float(model.opt.timestep)
    return {
        "timestep": timestep,
        "substeps": round(TICK / timestep),
        "geoms": int(model.ngeom),
        "dofs": int(model.nv),
    }


def measure(step: Step, seconds: float) -> dict[str, float]:
    """Calls `step` for about `seconds`; returns calls, ticks, wall seconds and CPU seconds."""
    calls, simulated = 0, 0.0
    cpu, start = time.process_time(), time.perf_counter()
    while time.perf_counter() - start < seconds:
        simulated += step()
        calls += 1
    wall = time.perf_counter() - start
    return {
        "calls": calls,
        "ticks": simulated / TICK,
        "wall": wall,
        "cpu": time.process_time() - cpu,
    }


class Side:
    """One side in its own process; keeps quiet, its errors travel by themselves.

    `side` in the request names the builder; the rest are its arguments.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        arguments = dict(request)
        build = {"ours": ours, "raw": raw, "robosuite": robosuite}[arguments.pop("side")]
        self.begin = build(**arguments)

    def __call__(self, request: tuple[int, float]) -> Iterator[dict[str, Any]]:
        """Yields the facts and what was measured in a round: its number, and for how many s."""
        number, seconds = request
        step, facts = self.begin(number)
        for _ in range(WARM_UP):
            step()
        yield {**measure(step, seconds), "facts": facts}
