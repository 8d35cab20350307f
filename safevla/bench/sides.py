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
SCALE, HOLD = 0.5, 20
"""Random actions of both sides: share of full scale, and ticks for which each is held."""
Step = Callable[[], float]
"""One call of the thing timed; returns the simulated seconds that it advanced."""


def ours(*, mode: str, camera: int, timestep: float, env_id: str) -> tuple[Step, dict[str, Any]]:
    """Our environment, all costs on: observation, costs and task included in every step."""
    env, core = _environment(mode=mode, camera=camera, timestep=timestep, env_id=env_id)
    rng = np.random.default_rng(0)
    skipped = {getattr(core, "END", None), getattr(core, "SUB_DONE", None)}
    moves = [a for a in range(getattr(env.action_space, "n", 0)) if a not in skipped]
    twists = _wander(env)

    def step() -> float:
        before = core.sim.data.time
        action = rng.choice(moves) if moves else next(twists)
        *_, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            raise RuntimeError(f"episode ended while timing: {info.get('sim_error', 'by itself')}")
        return core.sim.data.time - before

    return step, _facts(core.sim.model)


def raw(*, timestep: float, env_id: str) -> tuple[Step, dict[str, Any]]:
    """`mj_step` of our compiled model, driven by the control signals of a real episode."""
    import mujoco

    env, core = _environment(mode="continuous", camera=0, timestep=timestep, env_id=env_id)
    model, data = core.sim.model, core.sim.data
    controls = []
    twists = _wander(env)
    for _ in range(400):
        env.step(next(twists))
        controls.append(data.ctrl.copy())
    env.reset(seed=0)
    facts = _facts(model)
    substeps, index = facts["substeps"], 0

    def step() -> float:
        nonlocal index
        data.ctrl[:] = controls[index % len(controls)]
        index += 1
        mujoco.mj_step(model, data, nstep=substeps)
        return TICK

    return step, facts


def robosuite(*, camera: int) -> tuple[Step, dict[str, Any]]:
    """Robosuite's own Lift with the same robot; it computes no costs."""
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

    return step, _facts(env.sim.model._model)


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
    env.reset(seed=0)
    env.action_space.seed(0)
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
    """One side in its own process, warmed up; keeps quiet, its errors travel by themselves.

    `side` in the request names the builder; the rest are its arguments.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        arguments = dict(request)
        build = {"ours": ours, "raw": raw, "robosuite": robosuite}[arguments.pop("side")]
        self.step, self.facts = build(**arguments)
        for _ in range(10):
            self.step()

    def __call__(self, seconds: float | None) -> Iterator[dict[str, Any]]:
        """Yields what was measured in some seconds, or the facts for None."""
        yield self.facts if seconds is None else measure(self.step, seconds)
