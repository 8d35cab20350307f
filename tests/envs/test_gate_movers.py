"""Ticks that are passed over while something moves by itself: measured only when it may matter."""

from functools import partial
from math import inf

import mujoco
import numpy as np
import pytest
from bare_home import bare_home, walker
from hypothesis import given, settings
from hypothesis import strategies as st
from test_movers import POLISHER

from safevla_envs.costs import values
from safevla_envs.env import SafeVLAEnv
from safevla_envs.record.separation import glance

TICK = 0.05
make = partial(SafeVLAEnv, cameras=(), side_steps=True, max_actions=10**6)


def facing(env, apart, robot_speed, walker_speed):
    """Puts a walker so far ahead; positive speeds are towards each other. Returns the gap in m."""
    sim, data = env.sim, env.sim.data
    data.qpos[sim._base_q], data.qpos[sim._mover_q[0]] = (2.0, 3.0, 0.0), (4.0, 3.0, np.pi)
    data.qvel[:] = 0.0
    data.qvel[sim._base_v[0]], data.qvel[sim._mover_v[0, 0]] = robot_speed, -walker_speed
    for _ in range(2):
        mujoco.mj_forward(sim.model, data)
        true = sim.meter(None).distance[0]
        data.qpos[sim._mover_q[0, 0]] -= min(true, 3.0) - apart
    mujoco.mj_forward(sim.model, data)
    env.sim._acted = env.sim.time  # the robot moves by its own doing
    env.log.begin(env.sim.time)
    return sim.meter(None).distance[0]


@pytest.fixture
def walker_ahead():
    env = make()
    env.reset(options={"scenario": bare_home(movers=[walker((5.0, 3.0), (5.2, 3.0), speed=0.4)])})
    return env


@pytest.mark.parametrize(
    ("apart", "robot_speed", "walker_speed", "woken"),
    [
        (0.28, 0.4, 0.7, True),  # S_p is 0.29 m
        (0.40, 0.4, 0.7, False),
        (0.07, 0.4, -0.7, True),  # it walks away: 0.08 m, but nearer than 0.10 m
        (0.12, 0.4, -0.7, False),
        (0.30, -0.4, 0.7, False),  # the robot backs off
        (0.50, 0.9, 0.7, True),  # 0.56 m: the shortest line is slanted
        (0.60, 0.9, 0.7, False),
    ],
)
def test_persons_nearer_than_their_distance_wake_the_rules(
    walker_ahead, apart, robot_speed, walker_speed, woken
):
    env = walker_ahead
    assert facing(env, apart, robot_speed, walker_speed) == pytest.approx(apart, abs=0.005)
    assert ("movers" in env.gate.look()) == woken


@pytest.mark.parametrize("speeds", [(0.4, 0.7), (0.0, 0.0), (0.9, 0.2)])
def test_movers_are_measured_only_when_they_may_be_near(walker_ahead, speeds):
    """Within S_p of the bounds on speeds, 0.10 m, or what a tick may bring; else taken as far."""
    env = walker_ahead
    facing(env, 1.0, *speeds)
    bounds, _ = glance(*env.sim.meter.arguments)
    wanted = values.protective_distance(*bounds)
    asked = max(wanted, 0.10, (bounds.sum() + 1.0) * TICK)
    calls = []
    env.log.measure = lambda within: calls.append(within) or np.full(3, inf)
    for slack, measured in ((0.01, True), (-0.01, False)):
        for _ in range(4):
            gap = glance(*env.sim.meter.arguments)[1][0]
            env.sim.data.qpos[env.sim._mover_q[0, 0]] += asked - slack - gap
            mujoco.mj_forward(env.sim.model, env.sim.data)
        gap = glance(*env.sim.meter.arguments)[1][0]
        assert gap == pytest.approx(asked - slack, abs=1e-4)
        calls.clear()
        env.gate.look()
        assert bool(calls) == measured == (gap < asked)
        if not measured:
            assert np.isinf(env.log.separation).all() and not env.log.closing_robot.any()


@settings(deadline=None)
@given(st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_bounds_on_speeds_bound_the_protective_distance(robot, person, a, b):
    """So that measuring within that of the bounds finds all that any true speeds ask for."""
    most = values.protective_distance(robot, person)
    assert values.protective_distance(a * robot, b * person) <= most + 1e-12


def test_moving_equipment_is_measured_when_it_or_its_volume_is_near():
    env = make()
    env.reset(options={"scenario": bare_home(movers=[POLISHER])})
    calls = []
    env.log.measure = lambda within: calls.append(within.copy()) or np.full(3, inf)
    env.gate.look()
    assert not calls
    rows = env.log.recorder.rows
    speeds, _ = glance(*env.sim.meter.arguments)
    travel = (speeds.sum() + 1.0) * TICK
    for volume, measured in ((travel + 1e-6, False), (travel - 1e-6, True), (-0.01, True)):
        calls.clear()
        rows.volumes[:] = 1.0
        rows.volumes[0, -1] = volume
        assert ("keepout" in env.gate.look()) == (volume < 0.0)
        assert bool(calls) == measured and all(np.isinf(within).all() for within in calls)


def test_a_charge_reads_movers_that_the_gate_did_not_measure(walker_ahead):
    """Far away they read as far, never as they were in a tick before."""
    env = walker_ahead
    facing(env, 0.1, 0.4, 0.7)
    env.gate.look()
    assert env.log.separation.min() == pytest.approx(0.1, abs=0.01)
    facing(env, 1.5, 0.0, 0.0)
    env.gate.look()
    assert np.isinf(env.log.separation).all()
