import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safevla.evaluate.metrics import (
    bootstrap_mean,
    clopper_pearson,
    cvar,
    maximum,
    median_time,
    paired_difference,
    paired_difference_by_seed,
    rate,
    wilson,
)

counts = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


# Newcombe 1998, Stat. Med. 17, table I: methods 3 (Wilson) and 5 (Clopper-Pearson)
NEWCOMBE = [
    (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20, (0.0000, 0.1611), (0.0000, 0.1684)),
    (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
]


@pytest.mark.parametrize(("k", "n", "score", "exact"), NEWCOMBE)
def test_published_intervals(k, n, score, exact):
    for estimate, (lo, hi) in ((wilson(k, n), score), (clopper_pearson(k, n), exact)):
        assert estimate.value == k / n
        assert estimate.n == n
        assert round(estimate.lo, 4) == lo
        assert round(estimate.hi, 4) == hi


@given(counts)
def test_rate_intervals_contain_the_value_and_mirror(kn):
    k, n = kn
    for function in (wilson, clopper_pearson):
        here, mirrored = function(k, n), function(n - k, n)
        assert 0.0 <= here.lo <= here.value <= here.hi <= 1.0
        assert here.lo == pytest.approx(1 - mirrored.hi, abs=1e-9)


@given(counts)
def test_four_times_the_episodes_narrow_the_interval(kn):
    k, n = kn
    for function in (wilson, clopper_pearson):
        few, many = function(k, n), function(4 * k, 4 * n)
        assert many.hi - many.lo < few.hi - few.lo


def test_clopper_pearson_never_covers_less_than_stated():
    n = 25
    for p in (0.02, 0.1, 0.37, 0.5, 0.9):
        pmf = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        covered = sum(
            mass for k, mass in enumerate(pmf) if (e := clopper_pearson(k, n)).lo <= p <= e.hi
        )
        assert covered >= 0.95


def test_no_episode_gives_no_number():
    for estimate in (wilson(0, 0), clopper_pearson(0, 0), bootstrap_mean([], []), maximum([])):
        assert estimate.n == 0
        assert math.isnan(estimate.value)
        assert estimate.as_dict()["value"] is None
        assert not estimate.excludes_zero


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: wilson(3, 2), "successes=3"),
        (lambda: wilson(0, -1), "n=-1"),
        (lambda: cvar([1.0], [(0, 0)], alpha=0.0), "alpha=0.0"),
        (lambda: bootstrap_mean([1.0, math.nan], [(0, 0), (0, 1)]), "NaN"),
        (lambda: bootstrap_mean([1.0], [(0, 0), (0, 1)]), "2 cells"),
    ],
)
def test_bad_input_is_named(call, names):
    with pytest.raises(ValueError, match=names):
        call()


def grid(seeds, scenarios):
    return [(s, j) for s in range(seeds) for j in range(scenarios)]


def test_bootstrap_matches_the_textbook_error_of_a_mean():
    values = np.random.default_rng(1).gamma(2.0, size=400)
    estimate = bootstrap_mean(values, grid(1, 400))
    half = 1.96 * values.std() / math.sqrt(400)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.lo == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert estimate.hi == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_bootstrap_coverage_over_scenarios():
    rng = np.random.default_rng(2)
    cells = grid(1, 50)
    hits = 0
    for _ in range(200):
        estimate = bootstrap_mean(rng.poisson(1.0, 50), cells)
        hits += estimate.lo <= 1.0 <= estimate.hi
    assert hits / 200 >= 0.90


def test_repeating_scenarios_under_other_seeds_adds_no_certainty_about_scenarios():
    per_scenario = np.random.default_rng(3).poisson(2.0, 40).astype(float)
    once = bootstrap_mean(per_scenario, grid(1, 40))
    thrice = bootstrap_mean(np.tile(per_scenario, 3), grid(3, 40))
    naive = (once.hi - once.lo) / math.sqrt(3)
    assert thrice.hi - thrice.lo == pytest.approx(once.hi - once.lo, rel=0.1)
    assert thrice.hi - thrice.lo > 1.4 * naive


def test_seeds_that_disagree_widen_the_interval():
    flat = np.full((3, 40), 1.0) + np.random.default_rng(4).normal(0, 0.1, (3, 40))
    shifted = flat + np.array([[-0.5], [0.0], [0.5]])
    narrow = bootstrap_mean(flat.ravel(), grid(3, 40))
    wide = bootstrap_mean(shifted.ravel(), grid(3, 40))
    assert wide.hi - wide.lo > 5 * (narrow.hi - narrow.lo)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=30),
    st.floats(0.01, 1.0),
    st.floats(0.01, 1.0),
)
def test_cvar_lies_between_mean_and_maximum_and_falls_with_alpha(values, a, b):
    cells = grid(1, len(values))
    low, high = sorted((a, b))
    strict = cvar(values, cells, alpha=low)
    loose = cvar(values, cells, alpha=high)
    tolerance = 1e-6 * (1 + max(values))
    assert strict.value >= loose.value - tolerance
    assert np.mean(values) - tolerance <= loose.value
    assert strict.value <= maximum(values).value + tolerance
    assert strict.lo <= strict.value <= strict.hi


def test_cvar_known_answers():
    values = [0, 0, 0, 0, 0, 0, 0, 1, 3, 8]
    cells = grid(1, 10)
    assert cvar(values, cells, alpha=0.1).value == pytest.approx(8.0)
    assert cvar(values, cells, alpha=0.2).value == pytest.approx(5.5)
    assert cvar(values, cells, alpha=0.25).value == pytest.approx((8 + 3 + 0.5) / 2.5)
    assert cvar(values, cells, alpha=1.0).value == pytest.approx(1.2)


def test_maximum_is_bounded_below_only():
    estimate = maximum([0.0, 4.0, 1.0])
    assert (estimate.value, estimate.lo, estimate.hi) == (4.0, 4.0, math.inf)
    assert estimate.as_dict()["hi"] is None


def test_rate_of_independent_episodes_is_wilson():
    outcomes = [True] * 30 + [False] * 20
    assert rate(outcomes, grid(1, 50)) == wilson(30, 50)
    assert rate(outcomes, grid(1, 50), exact=True) == clopper_pearson(30, 50)


def test_rate_of_repeated_scenarios_is_worth_the_scenarios():
    outcomes = np.tile([True] * 30 + [False] * 20, 3)
    clustered = rate(outcomes, grid(3, 50))
    assert clustered.value == 0.6
    assert clustered.n == 150
    width = clustered.hi - clustered.lo
    assert width == pytest.approx(wilson(30, 50).hi - wilson(30, 50).lo, rel=0.12)
    assert width > 1.3 * (wilson(90, 150).hi - wilson(90, 150).lo)


def test_rate_without_any_violation_counts_scenarios():
    clustered = rate([False] * 150, grid(3, 50), exact=True)
    assert (clustered.value, clustered.lo) == (0.0, 0.0)
    assert clustered.hi == pytest.approx(clopper_pearson(0, 50).hi)


def test_paired_difference_cancels_what_scenarios_share():
    rng = np.random.default_rng(5)
    hardness = np.tile(rng.gamma(1.0, 5.0, 60), 3)
    cells = grid(3, 60)
    a = hardness + rng.normal(-1.0, 0.5, 180)
    paired = paired_difference(a, cells, hardness, cells)
    assert paired.n == 180
    assert paired.value == pytest.approx(-1.0, abs=0.1)
    assert paired.excludes_zero
    assert paired.hi - paired.lo < 0.5
    assert not bootstrap_mean(a - hardness[::-1], cells).excludes_zero


def test_paired_difference_uses_common_cells_only():
    a = ([5.0, 1.0, 9.0], [(0, "x"), (0, "y"), (1, "x")])
    b = ([2.0, 2.0, 7.0], [(0, "x"), (0, "y"), (0, "z")])
    paired = paired_difference(*a, *b)
    assert (paired.value, paired.n) == (1.0, 2)
    assert paired_difference_by_seed(*a, *b) == {0: 1.0}
    assert paired_difference([1.0], [(0, 0)], [1.0], [(1, 0)]).n == 0


def test_paired_difference_two_level_coverage():
    rng = np.random.default_rng(6)
    cells = grid(5, 30)
    hits = 0
    for _ in range(100):
        seed_effect = rng.normal(0, 0.3, (5, 1))
        scenario_effect = rng.normal(0, 0.5, (1, 30))
        difference = -0.4 + seed_effect + scenario_effect + rng.normal(0, 0.3, (5, 30))
        zero = np.zeros(150)
        estimate = paired_difference(difference.ravel(), cells, zero, cells)
        hits += estimate.lo <= -0.4 <= estimate.hi
    assert hits >= 82  # five seeds: a bootstrap over seeds is known to be a little short


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=20))
def test_paired_difference_is_antisymmetric(pairs):
    cells = grid(1, len(pairs))
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    one = paired_difference(a, cells, b, cells)
    other = paired_difference(b, cells, a, cells)
    assert one.value == pytest.approx(-other.value)
    assert one.lo == pytest.approx(-other.hi)
    assert one.lo <= one.value <= one.hi


def test_median_time_is_that_of_the_survival_curve():
    """Freireich et al. (1963): remission of leukaemia under 6-MP, 9 of 21 relapsed: 23 weeks."""
    relapsed = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    times = relapsed + censored
    found = median_time(times, [True] * len(relapsed) + [False] * len(censored))
    assert (found.value, found.n) == (23.0, 21)
    assert found.lo == 13.0 and found.hi == math.inf


def test_median_time_without_events_is_beyond_every_bound():
    never = median_time([5.0, 5.0, 5.0], [False] * 3)
    assert (never.value, never.lo, never.hi) == (math.inf,) * 3
    always = median_time([3.0, 1.0, 2.0], [True] * 3)
    assert always.value == 2.0 and always.lo <= 2.0 <= always.hi
    assert median_time([], []).n == 0
    with pytest.raises(ValueError, match="2 entries for 1 outcomes"):
        median_time([1.0, 2.0], [True])


@pytest.mark.slow
def test_median_time_coverage():
    """Exponential times, censored after twice their median: covers in 93 to 97 %."""
    rng, within = np.random.default_rng(0), 0
    for _ in range(1000):
        times = rng.exponential(1.0 / math.log(2.0), 60)
        found = median_time(np.minimum(times, 2.0), times <= 2.0)
        within += found.lo <= 1.0 <= found.hi
    assert 930 <= within <= 975
