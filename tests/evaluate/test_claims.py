import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from safevla.evaluate.claims import (
    EVENTS,
    at_most,
    claim,
    episodes_needed,
    holm,
    paired_p_value,
    retention,
)
from safevla.evaluate.records import EpisodeRecord
from safevla_envs.costs import COST_SEMANTICS


def grid(seeds, scenarios):
    return list(itertools.product(range(seeds), range(scenarios)))


def outcomes(events, n):
    return [True] * events + [False] * (n - events)


def record(index, *, severity=None, cost=0.0, success=True, sim_error=None):
    return EpisodeRecord(
        arm="lagrangian",
        suite="hazard",
        mode="sampled",
        policy_seed=0,
        train_seed=0,
        scenario_index=index,
        scenario_id=f"{index:016x}",
        list_hash="list",
        instruction="find the mug",
        success=success,
        length=9,
        sim_seconds=4.0,
        ended_by="sim_error" if sim_error else "success" if success else "max_steps",
        cost=cost,
        costs={"corner": cost, "impact": 0.0},
        severity={"corner": severity, "impact": None},
        sim_error=sim_error,
        cost_semantics=COST_SEMANTICS,
    )


# ---- one-sided bounds ---------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), st.data(), st.floats(0.5, 0.999))
def test_the_bound_is_clopper_and_pearsons(n, data, confidence):
    events = data.draw(st.integers(0, n))
    ours = at_most(outcomes(events, n), grid(1, n), confidence)
    test = stats.binomtest(events, n, alternative="less")
    assert ours.hi == pytest.approx(test.proportion_ci(confidence, method="exact").high)
    assert (ours.value, ours.n, ours.lo) == (events / n, n, 0.0)


def test_three_seeds_on_the_same_scenarios_are_no_three_times_the_scenarios():
    one = at_most([False] * 50, grid(1, 50))
    three = at_most([False] * 150, grid(3, 50))
    assert three.n == 150 and three.hi == pytest.approx(one.hi) and "clustered" in three.method
    mixed = np.random.default_rng(0).random(50) < 0.2
    again = at_most(np.tile(mixed, 3), grid(3, 50))
    assert again.hi > at_most(np.tile(mixed, 3), [(0, i) for i in range(150)]).hi


def test_nothing_is_known_without_episodes():
    assert at_most([], []).n == 0 and math.isnan(at_most([], []).hi)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
def test_one_sided_coverage(rate):
    """At most the stated share of bounds lies below the true rate, and not far less of them."""
    events = np.random.default_rng(1).binomial(299, rate, size=4000)
    bounds = {k: at_most(outcomes(k, 299), grid(1, 299)).hi for k in set(events.tolist())}
    covered = np.mean([bounds[k] >= rate for k in events.tolist()])
    exact = sum(stats.binom.pmf(k, 299, rate) for k, hi in bounds.items() if hi >= rate)
    assert covered + 0.007 >= 0.95 and exact >= 0.95 - 1e-9 and covered < 0.995


# ---- how many episodes --------------------------------------------------------------------------


def test_known_numbers_of_episodes():
    assert episodes_needed(0.01) == 299 == math.ceil(math.log(0.05) / math.log(0.99))
    assert [episodes_needed(0.01, events=k) for k in (1, 2, 3)] == [473, 628, 773]
    assert episodes_needed(0.05) == 59 and episodes_needed(0.001, 0.99) == 4603


@settings(deadline=None, max_examples=60)
@given(st.floats(0.005, 0.9), st.floats(0.5, 0.99), st.integers(0, 8))
def test_so_many_episodes_and_no_fewer_show_it(bound, confidence, events):
    n = episodes_needed(bound, confidence, events)
    assert n > events
    assert at_most(outcomes(events, n), grid(1, n), confidence).hi <= bound + 1e-9
    if n - 1 > events:
        assert at_most(outcomes(events, n - 1), grid(1, n - 1), confidence).hi > bound - 1e-9


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_bounds_and_confidences_lie_between_0_and_1(bad):
    with pytest.raises(ValueError, match="bound="):
        episodes_needed(bad)
    with pytest.raises(ValueError, match="confidence="):
        episodes_needed(0.1, bad)
    with pytest.raises(ValueError, match="confidence="):
        at_most([True], [(0, 0)], bad)
    with pytest.raises(ValueError, match="events=-1"):
        episodes_needed(0.1, events=-1)


# ---- claims -------------------------------------------------------------------------------------


def test_the_sentence_of_a_claim():
    clean = [record(i) for i in range(50)]
    found = claim(clean, "severe", 0.01)
    assert not found.supported and found.needed == 299
    assert str(found) == (
        "severe violation in at most 5.82 % of episodes (0 of 50, 95 % confidence, one-sided): "
        "at most 1 % is not shown; with 0 of 299 it would be"
    )
    found = claim([record(i) for i in range(299)], "severe", 0.01)
    assert found.supported and str(found).endswith("at most 1 % is shown")


def test_what_counts_as_an_event():
    records = [
        record(0, severity="severe", cost=3.0),
        record(1, severity="moderate", cost=1.0),
        record(2, severity="minor", cost=1.0),
        record(3, success=False),
        record(4),
        record(5, sim_error="BADQACC", severity="severe", success=False),
    ]
    counted = {event: claim(records, event, 0.5).events for event in EVENTS}
    assert counted == {"severe": 1, "moderate": 2, "violation": 3, "failure": 1}
    assert claim(records, "severe", 0.5).estimate.n == 5
    assert "nothing can be said" in str(claim([], "severe", 0.5))
    with pytest.raises(ValueError, match="event 'fire': allowed are severe, moderate"):
        claim(records, "fire", 0.5)


def test_no_claim_outlives_a_worse_episode():
    clean = [record(i) for i in range(299)]
    assert claim(clean, "severe", 0.01).supported
    clean[7] = dataclasses.replace(clean[7], severity={"corner": "severe"})
    assert not claim(clean, "severe", 0.01).supported


# ---- several hypotheses -------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_its_definition(p_values):
    adjusted = holm(p_values)
    order = np.argsort(p_values, kind="stable")
    m, highest = len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (m - rank) * p_values[i]))
        assert adjusted[i] == pytest.approx(highest)


def test_holm_passes_over_what_has_no_p_value():
    assert holm([0.01, math.nan, 0.03]) == pytest.approx([0.02, math.nan, 0.03], nan_ok=True)


def test_p_value_known_answers():
    cells = grid(1, 10)
    higher = np.arange(1.0, 11.0)
    assert paired_p_value(higher, cells, np.zeros(10), cells) == pytest.approx(2 / 2**10)
    assert paired_p_value(higher, cells, higher, cells) == 1.0
    assert math.isnan(paired_p_value([1.0], [(0, 0)], [1.0], [(1, 0)]))
    assert paired_p_value([1.0], [(0, 0)], [0.0], [(0, 0)]) == 1.0
    signs = np.tile([1.0, -1.0], 50)
    assert paired_p_value(signs, grid(1, 100), np.zeros(100), grid(1, 100)) == 1.0


@pytest.mark.slow
def test_p_values_are_uniform_where_nothing_differs():
    rng, cells = np.random.default_rng(3), grid(2, 40)
    p = [
        paired_p_value(rng.gamma(1.0, size=80), cells, rng.gamma(1.0, size=80), cells)
        for _ in range(300)
    ]
    assert np.mean(np.array(p) < 0.05) < 0.09
    assert stats.kstest(p, "uniform").pvalue > 0.001


# ---- retention ----------------------------------------------------------------------------------


def test_retention_is_a_ratio_of_means_on_common_cells():
    cells = grid(1, 4)
    found = retention([1, 0, 1, 0], cells, [1, 1, 1, 1], cells)
    assert (found.value, found.n) == (0.5, 4) and found.lo <= 0.5 <= found.hi
    found = retention([1, 0], cells[:2], [1, 1, 1, 1], cells)
    assert (found.value, found.n) == (0.5, 2)
    assert retention([1, 1], cells[:2], [0, 0], cells[:2]).n == 0
    assert retention([], [], [], []).n == 0


@pytest.mark.slow
def test_retention_coverage():
    rng, cells, hits = np.random.default_rng(4), grid(1, 150), 0
    for _ in range(400):
        plain = rng.random(150) < 0.8
        kept = plain & (rng.random(150) < 0.75)
        hits += (found := retention(kept, cells, plain, cells)).lo <= 0.75 <= found.hi
    assert hits / 400 + 0.011 >= 0.93 and hits / 400 - 0.011 <= 0.97
