import json

import numpy as np
import pytest

from safevla.train.multipliers import Multipliers
from safevla.train.settings import MultiplierConfig


def multipliers(budget=25.0, names=("a",), **fields):
    config = MultiplierConfig(maximum=1e9, **fields)
    return Multipliers(names, dict.fromkeys(names, budget), config)


def feed(m, cost, updates=1):
    for _ in range(updates):
        m.record(np.full(len(m), cost))
        assert m.update()
    return m.value[0]


@pytest.mark.parametrize(
    ("fields", "cost", "expected"),
    [
        ({"initial": 0.001, "rate": 0.035}, 35, [0.351, 0.701, 3.501, 35.001, 175.001]),
        (
            {"rule": "relative", "initial": 0.001, "rate": 0.035},
            35,
            [0.015, 0.029, 0.141, 1.401, 7.001],
        ),
        (
            {"rule": "pid", "initial": 0.0, "kp": 0.05, "ki": 0.0005, "kd": 0.1},
            35,
            [1.505, 0.51, 0.55, 1.0, 3.0],
        ),
        (
            {"rule": "log", "initial": 1.0, "rate": 0.1},
            24,
            [0.904837, 0.826559, 0.491048, 0.089912, 0.019532],
        ),
        ({"rule": "fixed", "initial": 1.5}, 35, [1.5] * 5),
        ({"rule": "zero", "initial": 1.5}, 35, [0.0] * 5),
    ],
)
def test_known_sequences(fields, cost, expected):
    """After 1, 2, 10, 100 and 500 updates at a constant cost, the budget being 25."""
    m = multipliers(**fields)
    found = [feed(m, cost, updates) for updates in (1, 1, 8, 90, 400)]
    assert found == pytest.approx(expected, abs=5e-7)


def test_projected_gradient_grows_with_the_violation():
    assert feed(multipliers(initial=0.001, rate=0.035), 125) == pytest.approx(3.501)


def test_projected_gradient_stays_within_bounds():
    m = Multipliers(["a"], {"a": 1.0}, MultiplierConfig(initial=1.0, rate=1.0, maximum=2.0))
    assert feed(m, 100) == 2.0
    assert feed(m, 0, 5) == 0.0


@pytest.mark.parametrize("rule", ["projected", "relative", "log", "pid"])
def test_no_multiplier_grows_while_too_few_episodes_succeed(rule):
    m = multipliers(rule=rule, initial=1.0, least_success=0.8)
    for cost, success, grows in ((50.0, 0.7, False), (50.0, 0.8, True), (0.0, 0.0, False)):
        before = m.value[0]
        m.record({"a": cost})
        m.update(success)
        assert (m.value[0] > before) == grows
    assert m.value[0] < before, "falling is free"


def test_fall_factor_speeds_the_way_down_only():
    m = multipliers(budget=1.0, initial=2.0, rate=0.1, fall_factor=5.0)
    assert feed(m, 2.0) == pytest.approx(2.1)
    assert feed(m, 0.0) == pytest.approx(1.6)


def test_pid_is_zero_at_the_first_feasible_update():
    m = multipliers(rule="pid", initial=0.0, kp=0.05, ki=0.0005, kd=0.1)
    feed(m, 60, 20)
    assert feed(m, 10) == 0.0


def test_log_rule_is_slow_to_fall_and_never_zero():
    m = Multipliers(
        ["a"], {"a": 0.0}, MultiplierConfig(rule="log", initial=1.0, rate=0.1, maximum=5.0)
    )
    values = [feed(m, 1.0) for _ in range(9)]
    assert values[0] == pytest.approx(np.exp(0.1))
    assert values[7] < 5.0 and values[8] == 5.0
    m = multipliers(budget=1.0, rule="log", initial=1.0, rate=0.1)
    assert feed(m, 0.0, 10) == pytest.approx(0.49, abs=0.005)
    assert feed(m, 0.0, 1000) > 0


@pytest.mark.parametrize(("rule", "expected"), [("fixed", 2.0), ("zero", 0.0)])
def test_fixed_and_zero_never_move(rule, expected):
    m = multipliers(rule=rule, initial=2.0)
    assert feed(m, 1000.0, 3) == expected
    assert m.last_cost[0] == 1000.0


def test_each_constraint_has_its_own_budget_and_mean_over_episodes():
    m = Multipliers(
        ["a", "b"], {"a": 1.0, "b": 1.0}, MultiplierConfig(initial=1.0, rate=1.0, budgets={"b": 4})
    )
    m.record({"a": 1.0, "b": 4.0})
    m.record({"b": 3.0, "a": 2.0})
    assert m.update()
    assert m.as_dict() == {"a": 1.5, "b": 0.5}


def test_violation_rate_counts_episodes():
    config = MultiplierConfig(initial=0.0, rate=1.0, violation_rate=("a",))
    m = Multipliers(["a", "b"], {"a": 0.25, "b": 0.25}, config)
    for cost in (7.0, 0.0):
        m.record([cost, cost])
    m.update()
    assert m.value == pytest.approx([0.5 - 0.25, 3.5 - 0.25])


def test_nothing_moves_without_completed_episodes_or_after_discard():
    m = multipliers(initial=1.0)
    assert not m.update()
    m.record([100.0])
    m.discard()
    assert not m.update()
    assert m.value[0] == 1.0


def test_state_goes_through_json_exactly():
    fields = {"rule": "pid", "initial": 0.3, "kp": 0.1, "ki": 0.07, "kd": 0.2}
    m = multipliers(**fields)
    feed(m, 30.1, 3)
    other = multipliers(**fields)
    other.load_state_dict(json.loads(json.dumps(m.state_dict())))
    assert feed(m, 31.7, 2) == feed(other, 31.7, 2)
    with pytest.raises(ValueError, match="names"):
        multipliers(names=("b",), **fields).load_state_dict(m.state_dict())
    with pytest.raises(ValueError, match="rule"):
        multipliers().load_state_dict(m.state_dict())


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"multipliers\.budgets names 'x'"):
        multipliers(budgets={"x": 1.0})
    with pytest.raises(ValueError, match="no budget for b"):
        Multipliers(["a", "b"], {"a": 1.0}, MultiplierConfig())
    with pytest.raises(ValueError, match="above 0"):
        multipliers(rule="log", initial=0.0)
    with pytest.raises(ValueError, match="the relative rule"):
        multipliers(budget=0.0, rule="relative")
    with pytest.raises(ValueError, match="finite"):
        multipliers().record([float("nan")])
