"""Ticks made up for at once: the same state as when each of them is charged."""

from dataclasses import fields, replace

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from quiet_world import JOINTS, REGIONS, VASE, body, force, quiet, touch
from streams import MOVERS, P, model, noise

from safevla_envs.costs import CostState, Signals
from safevla_envs.costs.clock import clock
from safevla_envs.costs.pause import may_pause, paused

NOBODY = np.zeros((1, P))


def silence(time: float, like: Signals) -> Signals:
    """A tick without signals in which everything lies where it lay in another."""
    steps = len(like.valid)
    return quiet(
        time,
        dt=like.substep_dt,
        steps=steps,
        body_pos=like.body_pos,
        body_quat=like.body_quat,
        joint_vel=np.full((steps, len(JOINTS)), 0.5),
        joint_torque=np.full((steps, len(JOINTS)), 8.0),
        joint_demand=np.full((steps, len(JOINTS)), 8.0),
        tcp_speed=np.zeros(steps),
        separation=np.where(MOVERS, 4.0, np.inf),
        closing_robot=np.zeros(P),
        closing_mover=np.zeros(P),
        region_force=np.zeros((steps, len(REGIONS))),
        finger_force=np.zeros((steps, 2)),
        external_torque=np.zeros(len(JOINTS)),
    )


def make_up(state: CostState, ticks: int, like: Signals, charged: CostState) -> CostState:
    """`paused`, with heat and speeds, which are the caller's, taken from the charged way."""
    return paused(
        state,
        clock(like.substep_dt),
        ticks=ticks,
        substeps=len(like.valid),
        still=~MOVERS,
        position=like.body_pos,
        quaternion=like.body_quat,
        heat=charged.arm.heat,
        speed_tail=charged.arm.speed_tail,
        closing=(NOBODY, NOBODY),
    )


def assert_equal(a: CostState, b: CostState) -> None:
    for one, other in ((a, b), (a.events, b.events), (a.arm, b.arm), (a.movers, b.movers)):
        for field in fields(one):
            values = [getattr(part, field.name) for part in (one, other)]
            if isinstance(values[0], np.ndarray):
                if field.name in ("resting", "reference_pos", "reference_quat"):
                    values = [value[:, ~MOVERS] for value in values]
                np.testing.assert_array_equal(*values, err_msg=field.name)
                assert values[0].dtype == values[1].dtype, field.name


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.001, 0.002, 0.005]),
    st.integers(1, 45),
    st.booleans(),
)
@example(214771, 0.005, 1, False)
def test_making_up_equals_charging(seed: int, dt: float, ticks: int, graded: bool):
    """After ticks in which anything happened, with events open and links running."""
    rng = np.random.default_rng(seed)
    made = model("graded" if graded else "binary")
    stream = [noise(rng, 0.05 * k, dt=dt, steps=round(0.05 / dt)) for k in range(4)]
    state = made.init_state(stream[0])
    for tick in stream:
        _, _, state = made.step(tick, state)
    # at least one tick of which every substep is valid: what an invalid one shows violates nothing
    like, k, shots = stream[-1], len(stream), [0]
    while len(shots) or not may_pause(state) or state.arm.speed_tail.max(initial=0.0) > 0.9:
        _, shots, state = made.step(silence(0.05 * k, like), state)
        k += 1
        assert k < 100, "nothing keeps violating for ever"
    charged = state
    for more in range(ticks):
        costs, shots, charged = made.step(silence(0.05 * (k + more), like), charged)
        assert not any(costs.values()) and not len(shots)
    assert_equal(make_up(state, ticks, like, charged), charged)


def test_a_force_in_a_window_forbids_it():
    made = model()
    state = made.init_state(quiet())
    assert may_pause(state)
    for held in (
        replace(state, contact_tail=np.ones((1, 1, P))),
        replace(state, self_tail=np.ones((1, 1, 2))),
        replace(state, movers=replace(state.movers, region_last=np.ones((1, len(REGIONS))))),
        replace(state, movers=replace(state.movers, region_tail=np.ones((1, 1, len(REGIONS))))),
    ):
        assert not may_pause(held)


def test_links_run_out_and_events_close_at_their_time():
    """One push; the vase stays linked for 1 s, its event open for 0.5 s."""
    made = model()
    pushed = quiet(contact_force=force(VASE, 50.0), contact_graph=touch((-1, VASE)))
    _, shots, state = made.step(pushed, made.init_state(quiet()))
    assert len(shots)
    like = silence(0.05, pushed)
    state = made.step(like, state)[2]
    for ticks, opened, linked in (
        (8, True, True),
        (9, False, True),
        (18, False, True),
        (20, False, False),
    ):
        later = make_up(state, ticks, like, state)
        assert later.events.open.any() == opened
        assert (later.since_link <= clock(like.substep_dt).linger)[0, VASE] == linked
        assert not (later.since_link <= clock(like.substep_dt).linger)[
            0, body(VASE, 0, 1) > 0
        ].any()
