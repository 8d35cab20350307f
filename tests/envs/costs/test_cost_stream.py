"""Streams of ticks: however they are cut, and whether or not ticks without events are looked at."""

from copy import deepcopy
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quiet_world import (
    CHAIR,
    OPTIONAL,
    SPEED,
    TORQUE,
    UPPER,
    VASE,
    fired,
    force,
    manager,
    only,
    quiet,
)
from streams import MOVERS, P, calm, noise, without

from safevla_envs.costs import CostManager
from safevla_envs.record.log import TickLog

TICK = 0.05
DTS = st.sampled_from([0.001, 0.002, 0.005])


def outcome(made: CostManager, result: dict[str, Any]) -> dict[str, Any]:
    """Sums and events of an episode in which one step was not closed yet; times to rounding."""
    events = [
        {**e, "peaks": {k: pytest.approx(v, rel=1e-9) for k, v in e["peaks"].items()}}
        for e in made.episode_events
    ]
    for event in events:
        event["peak"] = pytest.approx(event["peak"], rel=1e-9)
    return {"costs": result["cost_return"], "events": events}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 399), max_size=30), DTS)
def test_cutting_a_stream_into_other_ticks_changes_nothing(seed: int, cuts: list[int], dt: float):
    """Everything that is sampled per substep; poses and the contact graph are per tick."""
    rng, steps = np.random.default_rng(seed), 400

    def pieces(values: list[float], length: int, width: int) -> np.ndarray:
        return np.repeat(rng.choice(values, (steps // length, width)), length, axis=0)

    contact = pieces([0.0, 0.0, 5.0, 25.0, 150.0], 8, P) * (rng.random((steps, P)) < 0.9)
    own, joint = pieces([0.0, 0.0, 0.0, 3.0, 30.0], 8, 2), pieces([0.0, 0.999 * UPPER], 20, 2)
    load, region = pieces([0.0, 0.95, 1.2, 1.7], 50, 2), pieces([0.0, 0.0, 150.0, 500.0], 8, 5)

    speed = rng.choice([0.5, 1.1, 1.3], (steps, 2))

    def total(bounds: list[int]) -> dict[str, Any]:
        made = manager("graded", dt=dt, thermal_start=0.99)
        for a, b in pairwise(bounds):
            tick = quiet(
                a * dt,
                dt=dt,
                steps=b - a,
                contact_force=contact[a:b],
                self_force=own[a:b],
                joint_pos=joint[a:b],
                joint_vel=speed[a:b] * SPEED,
                joint_torque=np.minimum(load, 1.0)[a:b] * TORQUE,
                joint_demand=load[a:b] * TORQUE,
                tcp_speed=2.0 * load[a:b, 0],
                finger_force=100.0 * load[a:b],
                region_force=region[a:b],
                held=only(CHAIR),
                free_share=0.2,
            )
            made.update(tick)
        return outcome(made, made.end_step())

    whole, parts = total([0, steps]), total([0, *sorted(set(cuts)), steps])
    assert whole == parts and whole["costs"]["cost"] > 0


ALL = ("touch", "links", "joints", "keepout", "movers", "always")


def wakes_of(made: CostManager, tick: TickLog) -> list[str]:
    """Which kinds of measures can be violated in a tick, by asking a copy of the manager."""
    found = []
    for kind in ALL:
        twin = deepcopy(made)
        twin.memory.joints.advance(tick)
        twin.update(tick, (kind,))
        if twin.violated:
            found.append(kind)
    return found


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), DTS, st.floats(0.0, 1.2))
def test_only_the_woken_measures_need_asking(seed: int, dt: float, heat: float):
    """Ticks in which anything happens: those that are violated woken, against all of them."""
    rng = np.random.default_rng(seed)
    one, other = (manager("graded", dt=dt, thermal_start=heat) for _ in range(2))
    absent = [name for name in OPTIONAL if rng.random() < 0.15]
    for k in range(15):
        tick = without(noise(rng, k * 0.05, dt=dt, steps=round(0.05 / dt)), absent)
        wakes = wakes_of(one, tick)
        other.update(tick)
        one.memory.joints.advance(tick)
        one.update(tick, wakes)
        assert one.end_step() == other.end_step()
    assert one.episode_events == other.episode_events != []


def remembered(made: CostManager, tick: TickLog) -> dict[str, Any]:
    """What the next tick may depend on, as comparable values."""
    memory, end = made.memory, tick.step + tick.steps
    links, joints, blame = memory.links, memory.joints, memory.blame
    return {
        "linked": links.linked(end),
        # of what moves by itself, poses do not matter
        "position": links.reference_pos[~MOVERS],
        "quaternion": links.reference_quat[~MOVERS],
        "heat": joints.heat,
        "tail": joints.tail[1],
        "met": end - blame.met_at <= made._clock.close,
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), DTS, st.integers(1, 45))
def test_passing_over_ticks_equals_looking_at_them(seed: int, dt: float, ticks: int):
    """After anything, ticks without contact: passed over as the gate does; then anything again."""
    rng, steps = np.random.default_rng(seed), round(0.05 / dt)
    quick, slow = (manager("graded", dt=dt) for _ in range(2))
    for k in range(4):
        tick = noise(rng, 0.05 * k, dt=dt, steps=steps)
        quick.update(tick)
        slow.update(tick)
    while slow.violated or slow.memory.ringing:
        tick = calm(rng, tick)
        quick.update(tick)
        slow.update(tick)
        assert tick.time < 10.0, "nothing keeps violating for ever"
    for _ in range(ticks):
        tick = calm(rng, tick)
        slow.update(tick)
        assert not slow.violated
        quick.memory.joints.advance(tick)
        if not quick.memory.links.settled(tick.step):
            quick.memory.links.follow_poses(tick)
        quick.memory.blame.approach(tick)
    left, right = remembered(quick, tick), remembered(slow, tick)
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)
    start = (tick.step + steps) * dt
    for k in range(8):
        tick = noise(rng, start + 0.05 * k, dt=dt, steps=steps)
        quick.update(tick)
        slow.update(tick)
        assert quick.end_step() == slow.end_step()
    assert quick.episode_events == slow.episode_events != []


@pytest.mark.parametrize(("ticks", "opened"), [(10, False), (11, True)])
def test_events_close_while_ticks_are_passed_over(ticks: int, opened: bool):
    made = manager()
    made.update(quiet(contact_force=force(CHAIR, 50.0)))
    made.end_step()
    made.update(quiet(ticks * TICK, contact_force=force(CHAIR, 50.0)))
    assert bool(fired(made.end_step())) == opened


@pytest.mark.parametrize(("ticks", "linked"), [(20, True), (21, False)])
def test_links_run_out_while_ticks_are_passed_over(ticks: int, linked: bool):
    """One weak push; the vase passes 5 cm so many ticks later."""
    made = manager()
    made.update(quiet(contact_force=force(VASE, 0.5)))
    moved = np.where(only(VASE)[:, None], 0.06, 0.0) * [1, 0, 0]
    made.update(quiet(ticks * TICK, body_speed=0.5 * only(VASE), body_pos=moved))
    assert bool(fired(made.end_step())) == linked


def test_a_tick_leaves_its_log_as_it_was():
    rng, made = np.random.default_rng(3), manager(dt=0.002)
    for k in range(30):
        tick = noise(rng, k * 0.05, dt=0.002, steps=25)
        before = deepcopy(tick)
        made.update(tick)
        for f in fields(tick):
            np.testing.assert_array_equal(getattr(before, f.name), getattr(tick, f.name), f.name)


def test_what_a_log_held_may_be_written_over_in_the_next_tick():
    """A log that follows a simulation, against one of its own for each tick."""
    rng, live, fresh = np.random.default_rng(4), manager(), manager()
    one = noise(rng, 0.0, dt=0.005, steps=10)
    for k in range(40):
        tick = noise(rng, 0.05 * k, dt=0.005, steps=10)
        for f in fields(one):
            held = getattr(one, f.name)
            if isinstance(held, np.ndarray):
                held[:] = getattr(tick, f.name)
            else:
                setattr(one, f.name, getattr(tick, f.name))
        live.update(one)
        fresh.update(tick)
        assert live.end_step() == fresh.end_step()
