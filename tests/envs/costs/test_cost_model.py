"""The model: a pure step, the same for one world and for many, however time is cut."""

from copy import deepcopy
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quiet_world import CHAIR, NAMES, SPEED, STEPS, TORQUE, UPPER, partners, quiet, robot
from streams import OPTIONAL, P, calm, model, noise, play, same, stack, without

from safevla_envs.costs import CostModel, CostTerm, Partners, default_terms


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.001, 0.002, 0.005]), st.integers(1, 4))
def test_many_worlds_equal_each_world_alone(seed: int, dt: float, worlds: int):
    rng = np.random.default_rng(seed)
    made, ticks = model(rng.choice(["binary", "graded"])), 20
    absent = [name for name in OPTIONAL if rng.random() < 0.1]
    kind = [noise, noise, calm]
    histories = [
        [
            without(kind[rng.integers(3)](rng, k * 0.05, dt=dt, steps=round(0.05 / dt)), absent)
            for k in range(ticks)
        ]
        for _ in range(worlds)
    ]
    costs, events, together = play(
        made, [stack(list(tick)) for tick in zip(*histories, strict=True)]
    )
    for w, history in enumerate(histories):
        alone, alone_events, state = play(made, history)
        for k in range(ticks):
            for name in alone[k]:
                assert alone[k][name].shape == () and costs[k][name].shape == (worlds,)
                assert costs[k][name][w] == alone[k][name]
            mine = events[k].row // made.groups == w
            assert (events[k].row[mine] % made.groups == alone_events[k].row).all()
            for f in fields(events[k]):
                if f.name != "row":
                    theirs = getattr(events[k], f.name)[mine]
                    assert np.array_equal(theirs, getattr(alone_events[k], f.name))
        mine = world(together, w, worlds)
        # the clocks of closed events run on or not, which nothing reads
        assert same(mine.events.open, state.events.open)
        assert same(replace(mine, events=state.events), state)
    assert sum(c["cost"].sum() for c in costs) > 0


def world(state, w: int, worlds: int):
    """The part of a state that belongs to one world."""
    if hasattr(state, "__dataclass_fields__"):
        parts = {f.name: world(getattr(state, f.name), w, worlds) for f in fields(state)}
        return type(state)(**parts)
    if not isinstance(state, np.ndarray):
        return state
    rows = len(state) // worlds
    return state[w * rows : (w + 1) * rows]


def test_worlds_may_differ_in_tags():
    """The chair is harmless in world 0 and dangerous equipment in world 1."""
    base = partners()
    tags = {key: np.stack((tag, tag)) for key, tag in base.tags.items()}
    tags["equipment"][1, CHAIR] = True
    both = Partners(names=base.names, tags=tags, fragile_limit=base.fragile_limit)
    made = CostModel(default_terms(), both, robot())
    contact = np.zeros((10, P))
    contact[2, CHAIR] = 5.0
    tick = quiet(contact_force=contact)
    costs, _, _ = made.step(stack([tick, tick]), made.init_state(stack([tick, tick])))
    assert costs["dangerous_equipment"].tolist() == [0.0, 1.0]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 399), max_size=30),
    st.sampled_from([0.001, 0.002, 0.005]),
)
def test_cutting_a_stream_into_other_ticks_changes_nothing(seed: int, cuts: list[int], dt: float):
    """Everything that is sampled per substep; poses and the contact graph are per tick."""
    rng = np.random.default_rng(seed)
    steps = 400
    force = np.repeat(rng.choice([0.0, 0.0, 5.0, 25.0, 150.0], (steps // 8, P)), 8, axis=0)
    force *= rng.random((steps, P)) < 0.9
    own = np.repeat(rng.choice([0.0, 0.0, 0.0, 3.0, 30.0], (steps // 8, 2)), 8, axis=0)
    joint = np.repeat(rng.choice([0.0, 0.999 * UPPER], (steps // 20, 2)), 20, axis=0)
    load = np.repeat(rng.choice([0.0, 0.95, 1.2, 1.7], (steps // 50, 2)), 50, axis=0)
    region = np.repeat(rng.choice([0.0, 0.0, 150.0, 500.0], (steps // 8, 5)), 8, axis=0)
    held = np.arange(P) == CHAIR

    def total(bounds: list[int]) -> tuple[dict, dict]:
        made = model("graded", thermal_start=0.99)
        state, sums, events = made.init_state(quiet(dt=dt)), {}, {}
        for a, b in pairwise(bounds):
            tick = quiet(
                a * dt,
                dt=dt,
                steps=b - a,
                contact_force=force[a:b],
                self_force=own[a:b],
                joint_pos=joint[a:b],
                joint_vel=load[a:b] * SPEED * 0.8,
                joint_torque=np.minimum(load, 1.0)[a:b] * TORQUE,
                joint_demand=load[a:b] * TORQUE,
                tcp_speed=2.0 * load[a:b, 0],
                finger_force=100.0 * load[a:b],
                region_force=region[a:b],
                held=held,
                free_share=0.2,
            )
            costs, shots, state = made.step(tick, state)
            sums = {name: sums.get(name, 0.0) + value for name, value in costs.items()}
            for i in range(len(shots)):
                key = (shots.row[i], shots.constraint[i], round(shots.onset[i] / dt))
                charged = events.get(key, (0.0,))[0] + shots.charged[i]
                peak, level = round(shots.peak[i].max(), 9), shots.level[i]
                events[key] = (charged, round(shots.duration[i] / dt), level, peak)
        return sums, events

    whole, parts = total([0, steps]), total([0, *sorted(set(cuts)), steps])
    assert whole == parts and whole[0]["cost"] > 0


def test_a_step_changes_neither_signals_nor_state():
    rng = np.random.default_rng(3)
    made = model()
    tick = noise(rng, 0.0, dt=0.002, steps=25)
    state = made.init_state(tick)
    for k in range(30):
        tick = noise(rng, k * 0.05, dt=0.002, steps=25)
        before = deepcopy((tick, state))
        first = made.step(tick, state)
        for old, new in zip(before, (tick, state), strict=True):
            for f in fields(old):
                a, b = getattr(old, f.name), getattr(new, f.name)
                assert same(a, b), f.name
        again = made.step(tick, state)
        assert first[0] == again[0]
        state = first[2]


@pytest.mark.parametrize("mode", ["binary", "graded"])
def test_a_state_that_is_not_kept_leads_to_the_same(mode: str):
    rng, made = np.random.default_rng(1), model(mode)
    ticks = [noise(rng, 0.05 * k, dt=0.005, steps=10) for k in range(30)]
    costs, shots, kept = play(made, ticks)
    state, total = made.init_state(ticks[0]), 0.0
    for tick, cost, events in zip(ticks, costs, shots, strict=True):
        found, mine, state = made.step(tick, state, keep=False)
        assert found == cost and same(mine, events)
        total += found["cost"]
    assert same(state, kept) and total > 5


@pytest.mark.parametrize("source", ["heat", "speed", "tcp", "keepout"])
def test_a_term_of_ones_own_may_have_stricter_bounds(source: str):
    """Where the built-in terms about the same signal are silent."""
    reads = {
        "heat": lambda view: view.heat[:, -1:] > 0.4,
        "speed": lambda view: view.speed > 0.5,
        "tcp": lambda view: (view.tcp_speed > 1.0)[:, :, None],
        "keepout": lambda view: view.keepout < 0.2,
    }
    axis = {"tcp": "tcp", "keepout": "partner"}.get(source, "joint")
    known = next(t for t in default_terms() if t.name == "joint_speed")
    measure = replace(
        known.measures[0],
        axis=axis,
        source=source,
        func=lambda view: (reads[source](view).astype(float), reads[source](view)),
        params={},
    )
    mine = CostTerm(constraint=replace(known.constraint, name="mine"), measures=(measure,))
    made = CostModel((*default_terms(), mine), partners(), robot(thermal_start=0.5))
    near = quiet(
        joint_vel=np.full((STEPS, 2), 1.5),
        joint_torque=np.zeros((STEPS, 2)),
        joint_demand=np.zeros((STEPS, 2)),
        tcp_speed=np.full(STEPS, 1.2),
        keepout_distance=np.full((STEPS, len(NAMES)), 0.1),
    )
    costs, _, _ = made.step(near, made.init_state(quiet()))
    assert {name for name, cost in costs.items() if cost} == {"mine", "cost"}


def test_more_than_one_leading_axis_is_refused():
    deep = stack([stack([quiet()])])
    with pytest.raises(ValueError, match=r"signals.time.*one world axis"):
        model().init_state(deep)


def test_worlds_of_the_wrong_shape_are_named():
    two = stack([quiet(), quiet()])
    with pytest.raises(ValueError, match=r"signals\.held"):
        model().init_state(replace(two, held=two.held[0]))
