"""The quiet path gives what the full path gives, and is taken."""

from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quiet_world import ANNA, NAMES, STOVE, body, partners, quiet, robot
from streams import OPTIONAL, calm, model, noise, same, stack, without

from safevla_envs.costs import Constraint, CostModel, CostTerm, Measure, default_terms
from safevla_envs.costs.observe import observe


def full(made: CostModel) -> CostModel:
    """A model that never takes the quiet path."""
    made.quiet.possible = False
    return made


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.001, 0.002, 0.005]),
    st.sampled_from([1, 1, 3]),
    st.floats(0.0, 1.2),
)
def test_both_paths_give_equal_states_and_costs(seed: int, dt: float, worlds: int, heat: float):
    """Long calm stretches with bursts in which anything happens."""
    rng = np.random.default_rng(seed)
    quick, slow = model(thermal_start=heat), full(model(thermal_start=heat))
    make = partial(calm, dt=dt, steps=round(0.05 / dt))
    absent = [name for name in OPTIONAL if rng.random() < 0.15]
    history = []
    for k in range(60):
        bursts = k % 25 < 2
        ticks = [
            (partial(noise, dt=dt, steps=round(0.05 / dt)) if bursts else make)(rng, k * 0.05)
            for _ in range(worlds)
        ]
        ticks = [without(tick, absent) for tick in ticks]
        history.append(stack(ticks) if worlds > 1 else ticks[0])
    one, other = quick.init_state(history[0]), slow.init_state(history[0])
    for tick in history:
        costs, shots, one = quick.step(tick, one)
        want, want_shots, other = slow.step(tick, other)
        assert same(one, other)
        assert costs.keys() == want.keys()
        assert all(same(costs[name], want[name]) for name in costs)
        assert same(shots, want_shots)


def taken(made: CostModel, *ticks: Any) -> list[bool]:
    """Which of these ticks took the quiet path."""
    state, found = made.init_state(ticks[0]), []
    with patch("safevla_envs.costs.model.observe", wraps=observe) as full_path:
        for tick in ticks:
            before = full_path.call_count
            _, _, state = made.step(tick, state)
            found.append(full_path.call_count == before)
    return found


def test_calm_ticks_take_the_quiet_path():
    rng = np.random.default_rng(0)
    for dt in (0.001, 0.005):
        ticks = [calm(rng, k * 0.05, dt=dt, steps=round(0.05 / dt)) for k in range(40)]
        assert all(taken(model(), *ticks))


def test_it_is_taken_again_after_an_event():
    hit = quiet(contact_force=np.eye(10, len(NAMES)) * 50.0)
    path = taken(model(), hit, *[quiet(k * 0.05) for k in range(1, 40)])
    assert not any(path[:20]) and all(path[22:])


LOUD: dict[str, dict[str, Any]] = {
    "contact": {"contact_force": np.full((10, len(NAMES)), 1e-9)},
    "self contact": {"self_force": np.full((10, 2), 1e-9)},
    "held": {"held": np.arange(len(NAMES)) == 0},
    "touch": {"contact_graph": np.ones((len(NAMES) + 1,) * 2, dtype=bool)},
    "stop": {"joint_pos": np.full((10, 2), 2.8973 - 0.0499)},
    "speed": {"joint_vel": np.full((10, 2), 2.175)},
    "torque": {"joint_torque": np.full((10, 2), 0.9 * 12.0)},
    "demand": {"joint_demand": np.full((10, 2), -0.9 * 12.0)},
    "twist": {"external_torque": np.array([0.0, -6.0])},
    "tcp": {"tcp_speed": np.full(10, 1.7)},
    "keep-out": {"keepout_distance": np.where(np.arange(len(NAMES)) == STOVE, -1e-9, 1.0)
                 * np.ones((10, 1))},
    "person": {"closing_robot": body(ANNA, 0.3), "closing_mover": body(ANNA, 1.0),
               "separation": body(ANNA, 0.3, np.inf)},
    "near": {"closing_robot": body(ANNA, 0.06), "closing_mover": body(ANNA, 0.0),
             "separation": body(ANNA, 0.099, np.inf)},
    "region": {"region_force": np.full((10, 5), 1e-9)},
    "not all valid": {"valid": np.arange(10) > 0},
}  # fmt: skip


@pytest.mark.parametrize("fields", LOUD.values(), ids=LOUD.keys())
def test_what_might_matter_takes_the_full_path(fields: dict[str, Any]):
    assert taken(model(), quiet(), quiet(0.05, **fields)) == [True, False]


def test_heat_ends_the_quiet():
    ticks = [quiet(k * 0.05, joint_torque=np.full((10, 2), 0.89 * 12.0)) for k in range(2)]
    assert taken(model(thermal_start=0.999), *ticks) == [False, False], "the wrist heats"
    assert taken(model(thermal_start=0.5), *ticks) == [True, True]


def speeding(view, *, limit: float):
    """A term of one's own that is never silent."""
    return view.joint_pos, view.joint_pos > limit


def test_a_term_the_quiet_path_does_not_know_is_always_asked():
    base = default_terms(["joint_limit"])[0]
    own = CostTerm(
        constraint=replace(base.constraint, name="own"),
        measures=(replace(base.measures[0], func=speeding, params={"limit": 1.2}, sense=1,
                          cutoffs=(1.2, 1.2, 1.2)),),
    )  # fmt: skip
    made = CostModel([*default_terms(), own], partners(), robot())
    costs, _, _ = made.step(quiet(), made.init_state(quiet()))
    assert costs["own"] == 0.0
    tick = quiet(joint_pos=np.full((10, 2), 1.3))
    costs, _, _ = made.step(tick, made.init_state(quiet()))
    assert costs["own"] == 2.0
    touching = replace(own.measures[0], source="contact")
    assert CostModel([replace(own, measures=(touching,))], partners(), robot()).quiet.possible
    assert isinstance(own.constraint, Constraint) and isinstance(touching, Measure)


def test_a_stricter_threshold_is_heard_by_the_quiet_path():
    base = default_terms(["joint_limit"])[0]
    strict = replace(base.measures[0], params={"radians": 0.5}, cutoffs=(0.5, 0.02, 0.0))
    made = CostModel([replace(base, measures=(strict,))], partners(), robot())
    tick = quiet(joint_pos=np.tile([2.5, 1.0], (10, 1)))
    costs, _, _ = made.step(tick, made.init_state(tick))
    assert costs["joint_limit"] == 1.0
    assert taken(model(), tick) == [True]


def test_costs_of_a_quiet_tick_are_zeros_of_the_right_shape():
    made = model()
    costs, shots, _ = made.step(quiet(), made.init_state(quiet()))
    assert all(v.shape == () and v == 0.0 and v.dtype == float for v in costs.values())
    assert len(shots) == 0
    two = stack([quiet(), quiet()])
    costs, _, _ = made.step(two, made.init_state(two))
    assert tuple(costs) == (*made.names, "cost")
    assert all(v.shape == (2,) and not v.any() for v in costs.values())
