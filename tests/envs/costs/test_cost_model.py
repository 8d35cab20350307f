"""The model: a pure step, the same for one world and for many, however time is cut."""

from copy import deepcopy
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quiet_world import CHAIR, JOINTS, NAMES, PAIRS, UPPER, partners, quiet, robot

from safevla_envs.costs import CostModel, CostState, Partners, Signals, default_terms

P = len(NAMES)


def model(mode: str = "binary") -> CostModel:
    return CostModel(default_terms(), partners(), robot(), mode)


def noise(rng: np.random.Generator, time: float, *, dt: float, steps: int) -> Signals:
    """A tick in which anything may happen, quiet ones among them."""
    busy = rng.random(P) < 0.25
    level = rng.choice([0.5, 5.0, 25.0, 70.0, 150.0, 300.0], (steps, P))
    graph = rng.random((P + 1, P + 1)) < 0.15
    quat = np.array([1.0, 0, 0, 0]) + 0.2 * rng.normal(size=(P, 4)) * (rng.random((P, 1)) < 0.3)
    return quiet(
        time,
        dt=dt,
        steps=steps,
        contact_force=level * busy * (rng.random((steps, P)) < 0.5),
        self_force=rng.choice([0.0, 0.0, 0.0, 3.0, 50.0], (steps, len(PAIRS))),
        joint_pos=rng.choice([0.0, 1.0, 0.999 * UPPER], (steps, len(JOINTS)), p=[0.5, 0.4, 0.1]),
        keepout_distance=rng.choice(
            [np.inf, 0.1, -0.02, -0.1], (steps, P), p=[0.7, 0.2, 0.07, 0.03]
        ),
        valid=np.arange(steps) >= rng.choice([0, 0, 0, 1, steps // 2, steps]),
        body_pos=0.04 * rng.normal(size=(P, 3)),
        body_quat=quat / np.linalg.norm(quat, axis=1, keepdims=True),
        body_speed=rng.choice([0.0, 0.005, 0.3], P),
        contact_graph=graph | graph.T,
        free_share=rng.choice([0.2, 0.8]),
        held=rng.random(P) < 0.05,
        support_exempt=rng.random(P) < 0.1,
        robot_moving=bool(rng.random() < 0.5),
    )


def stack(worlds: list[Signals]) -> Signals:
    arrays = {
        f.name: np.stack([np.asarray(getattr(w, f.name)) for w in worlds])
        for f in fields(Signals)
        if f.name != "substep_dt" and getattr(worlds[0], f.name) is not None
    }
    return Signals(substep_dt=worlds[0].substep_dt, **arrays)


def play(made: CostModel, ticks: list[Signals]) -> tuple[list[dict], list, CostState]:
    state, costs, events = made.init_state(ticks[0]), [], []
    for tick in ticks:
        cost, shots, state = made.step(tick, state)
        costs.append(cost)
        events.append(shots)
    return costs, events, state


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.001, 0.002, 0.005]), st.integers(1, 4))
def test_many_worlds_equal_each_world_alone(seed: int, dt: float, worlds: int):
    rng = np.random.default_rng(seed)
    made, ticks = model(rng.choice(["binary", "graded"])), 20
    histories = [
        [noise(rng, k * 0.05, dt=dt, steps=round(0.05 / dt)) for k in range(ticks)]
        for _ in range(worlds)
    ]
    costs, events, _ = play(made, [stack(list(tick)) for tick in zip(*histories, strict=True)])
    for w, history in enumerate(histories):
        alone, alone_events, _ = play(made, history)
        for k in range(ticks):
            for name in alone[k]:
                assert alone[k][name].shape == () and costs[k][name].shape == (worlds,)
                assert costs[k][name][w] == alone[k][name]
            mine = events[k].row // made.groups == w
            assert (events[k].row[mine] % made.groups == alone_events[k].row).all()
            for f in fields(events[k]):
                if f.name != "row":
                    together = getattr(events[k], f.name)[mine]
                    assert np.array_equal(together, getattr(alone_events[k], f.name))
    assert sum(c["cost"].sum() for c in costs) > 0


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

    def total(bounds: list[int]) -> tuple[dict, dict]:
        made = model("graded")
        state, sums, events = made.init_state(quiet(dt=dt)), {}, {}
        for a, b in pairwise(bounds):
            tick = quiet(
                a * dt,
                dt=dt,
                steps=b - a,
                contact_force=force[a:b],
                self_force=own[a:b],
                joint_pos=joint[a:b],
                free_share=0.2,
            )
            costs, shots, state = made.step(tick, state)
            sums = {name: sums.get(name, 0.0) + value for name, value in costs.items()}
            for i in range(len(shots)):
                key = (shots.row[i], shots.constraint[i], round(shots.onset[i] / dt))
                charged = events.get(key, (0.0,))[0] + shots.charged[i]
                peak, level = shots.peak[i].max(), shots.level[i]
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


def same(a, b) -> bool:
    if hasattr(a, "__dataclass_fields__"):
        return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return np.array_equal(a, b)


def test_more_than_one_leading_axis_is_refused():
    deep = stack([stack([quiet()])])
    with pytest.raises(ValueError, match=r"signals.time.*one world axis"):
        model().init_state(deep)


def test_worlds_of_the_wrong_shape_are_named():
    two = stack([quiet(), quiet()])
    with pytest.raises(ValueError, match=r"signals\.held"):
        model().init_state(replace(two, held=two.held[0]))
