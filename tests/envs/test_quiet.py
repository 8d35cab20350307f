"""Ticks that are passed over: the same costs, events and state as when every tick is charged."""

from dataclasses import fields, replace

import numpy as np
import pytest

from safevla_envs.costs import CostTerm, default_terms
from safevla_envs.env import SafeVLAEnv
from safevla_envs.generate import generate


def charge_all(env):
    """Makes an environment charge every tick."""
    env._quiet.possible = False


def remembered(env, *, bodies):
    """What the cost model remembers, as comparable arrays; poses of movers apart."""
    env._quiet._catch_up()
    state, result = env.costs._state, {}
    for part in (state, state.events, state.arm, state.movers):
        for field in fields(part):
            value = getattr(part, field.name)
            if isinstance(value, np.ndarray):
                pose = field.name in ("resting", "reference_pos", "reference_quat")
                result[f"{type(part).__name__}.{field.name}"] = value[:, bodies] if pose else value
    return result


def compared(seed, level, mode, timestep, actions, steps):
    """Runs one scenario both ways; returns the share of ticks that were passed over."""
    scenario = generate(seed, level=level)
    envs = [
        SafeVLAEnv(cameras=(), action_mode=mode, timestep=timestep, max_actions=10**6)
        for _ in range(2)
    ]
    for env in envs:
        env.reset(options={"scenario": scenario})
    quick, slow = envs
    charge_all(slow)
    rng = np.random.default_rng(seed)
    bodies = np.flatnonzero(~quick.signals.partners.tags["mover"])
    for _ in range(steps):
        action = actions(quick, rng)
        found = [env.step(action) for env in envs]
        assert found[0][-1] == found[1][-1]
        a, b = (remembered(env, bodies=bodies) for env in envs)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert quick.sim.state_hash() == slow.sim.state_hash()
    return quick._quiet.skipped / round(quick.sim.time / 0.05)


def wander(env, rng):
    if env.actions.mode == "continuous":
        return np.append(rng.uniform(-1, 1, 3), -1.0).astype(np.float32)
    names = [n for n in env.action_names if n not in ("end", "pick_up")]
    # mostly ahead: into things, so that quiet and busy ticks alternate
    name = "move_ahead" if rng.random() < 0.5 else names[int(rng.integers(len(names)))]
    return env.action_names.index(name)


@pytest.mark.parametrize(
    ("seed", "mode", "timestep"),
    [(0, "discrete", 0.005), (1, "discrete", 0.002), (2, "continuous", 0.005)],
)
def test_passing_over_quiet_ticks_changes_nothing(seed, mode, timestep):
    share = compared(seed, 2.0, mode, timestep, wander, 25 if mode == "discrete" else 80)
    assert share > 0.05


def test_most_ticks_of_driving_about_are_passed_over():
    def turn(env, rng):
        return env.action_names.index(("rotate_left", "rotate_right")[int(rng.integers(2))])

    assert compared(3, 1.0, "discrete", 0.005, turn, 20) > 0.6


def test_unknown_terms_are_always_asked():
    """A term of the user's own may be violated where nothing is near."""
    known = default_terms()[0]
    measure = replace(known.measures[0], func=lambda view: (view.contact, view.contact < -1.0))
    mine = CostTerm(constraint=replace(known.constraint, name="mine"), measures=(measure,))
    for extra, possible in (((), True), ((mine,), False)):
        env = SafeVLAEnv(cameras=(), extra_terms=extra)
        env.reset(seed=0)
        assert env._quiet.possible is possible
