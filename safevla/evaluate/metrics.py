"""Numbers with intervals: rates, means, paired differences and tails of episode outcomes.

Every function returns an :class:`Estimate`: a value, the number of episodes behind it and a
confidence interval. Three sources of uncertainty are kept apart:

* a *rate* counts successes among n episodes; :func:`wilson` and :func:`clopper_pearson` are exact
  or near exact for independent episodes, :func:`rate` widens them when several seeds share
  scenarios (episodes on one scenario are alike, so 3 x 50 episodes are worth fewer than 150);
* a *mean* (cost, length) has no known distribution and is bootstrapped;
* a *difference* of two policies is taken on common (seed, scenario) cells first, so that easy and
  hard scenarios cancel, and then bootstrapped.

The bootstrap resamples seeds and scenarios independently (two crossed levels, Owen 2007, "The
pigeonhole bootstrap", Ann. Appl. Stat. 1).
One seed alone cannot tell how much seeds differ: the interval then speaks of scenarios only.
A sample without any spread (all costs zero) has a bootstrap interval of width zero; read the
Clopper-Pearson bound of the violation rate beside it.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from safevla.files import plain

__all__ = [
    "Estimate",
    "bootstrap_mean",
    "bootstrap_weights",
    "clopper_pearson",
    "cvar",
    "effective_episodes",
    "group_means",
    "maximum",
    "median_time",
    "nothing",
    "paired_difference",
    "paired_difference_by_seed",
    "paired_values",
    "rate",
    "wilson",
]

TAIL = (1 - 0.95) / 2
"""Probability on each side of a 95 % interval."""

REPLICATES = 4000
"""Bootstrap replicates: the interval's end points then move by about 1 % of its width."""

Cell = tuple[Hashable, Hashable]
"""(seed, scenario) of an episode."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its number of episodes and a two-sided confidence interval.

    Attributes:
        value: the point estimate; NaN when there was no episode (n is 0).
        n: episodes (for a paired difference: common cells) behind it.
        lo: lower end of the interval.
        hi: upper end; infinite where no upper bound exists (:func:`maximum`).
        method: how the interval was computed, in two or three words.
    """

    value: float
    n: int
    lo: float
    hi: float
    method: str

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies strictly on one side of zero."""
        return self.n > 0 and (self.lo > 0.0 or self.hi < 0.0)

    def as_dict(self) -> dict[str, float | int | str | None]:
        """Plain JSON values; NaN and infinity become None."""
        return plain(self)


def nothing(method: str) -> Estimate:
    """Returns the estimate from no episode at all."""
    return Estimate(value=math.nan, n=0, lo=math.nan, hi=math.nan, method=method)


def _check_counts(successes: float, n: float) -> None:
    if n < 0:
        raise ValueError(f"n={n}: must be 0 or more")
    if not 0 <= successes <= n:
        raise ValueError(f"successes={successes}: must lie in [0, n={n}]")


def _wilson_bounds(p: float, n: float) -> tuple[float, float]:
    z = float(stats.norm.ppf(1 - TAIL))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return min(max(0.0, centre - half), p), max(min(1.0, centre + half), p)


def wilson(successes: int, n: int) -> Estimate:
    """Wilson's score interval of the rate of successes among n independent episodes.

    Example:
        >>> e = wilson(81, 263)
        >>> round(e.lo, 4), round(e.hi, 4)
        (0.2553, 0.3662)
    """
    _check_counts(successes, n)
    if n == 0:
        return nothing("wilson")
    lo, hi = _wilson_bounds(successes / n, n)
    return Estimate(value=successes / n, n=n, lo=lo, hi=hi, method="wilson")


def clopper_pearson(successes: float, n: float) -> Estimate:
    """Clopper and Pearson's exact interval of a binomial rate: never covers less than stated.

    By the beta distribution, since scipy's `binomtest` takes whole numbers only, and effective
    counts may be fractional.

    Example:
        >>> e = clopper_pearson(0, 50)
        >>> round(e.lo, 4), round(e.hi, 4)
        (0.0, 0.0711)
    """
    _check_counts(successes, n)
    if n == 0:
        return nothing("clopper-pearson")
    lo = float(stats.beta.ppf(TAIL, successes, n - successes + 1)) if successes > 0 else 0.0
    hi = float(stats.beta.ppf(1 - TAIL, successes + 1, n - successes)) if successes < n else 1.0
    return Estimate(value=successes / n, n=round(n), lo=lo, hi=hi, method="clopper-pearson")


@functools.lru_cache(maxsize=4)  # the costs of one table row share their cells
def bootstrap_weights(cells: tuple[Cell, ...]) -> np.ndarray:
    """float64 (REPLICATES, n): how often each episode is drawn; read-only.

    Seeds and scenarios are resampled independently.
    """
    rng = np.random.default_rng(0)
    seeds, seed_of = _codes(seed for seed, _ in cells)
    scenarios, scenario_of = _codes(scenario for _, scenario in cells)
    seed_weight, scenario_weight = _multinomial(len(seeds), rng), _multinomial(len(scenarios), rng)
    weights = seed_weight[:, seed_of] * scenario_weight[:, scenario_of]
    weights.setflags(write=False)
    return weights


def _codes(labels: Iterable[Hashable]) -> tuple[list[Hashable], np.ndarray]:
    """Distinct labels in order of appearance, and each label's position among them."""
    index: dict[Hashable, int] = {}
    codes = [index.setdefault(label, len(index)) for label in labels]
    return list(index), np.asarray(codes, dtype=np.int64)


def _multinomial(n: int, rng: np.random.Generator) -> np.ndarray:
    if n <= 1:
        return np.ones((REPLICATES, n))
    return rng.multinomial(n, np.full(n, 1 / n), size=REPLICATES).astype(np.float64)


Values = Sequence[float] | np.ndarray
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(values (n,), weights (replicates, n)) -> (replicates,)."""


def _mean_statistic(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (weights @ values) / weights.sum(axis=1)


def _bootstrap(
    values: Values, cells: Sequence[Cell], statistic: Statistic, method: str = "bootstrap"
) -> Estimate:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) != len(cells):
        raise ValueError(f"values has shape {data.shape} for {len(cells)} cells")
    if len(data) == 0:
        return nothing(method)
    if not np.isfinite(data).all():
        raise ValueError("values holds NaN or infinity; leave such episodes out and report them")
    draws = statistic(data, bootstrap_weights(tuple(cells)))
    draws = draws[np.isfinite(draws)]  # a replicate may miss every cell of an unbalanced table
    value = float(statistic(data, np.ones((1, len(data))))[0])
    lo, hi = np.quantile(draws, [TAIL, 1 - TAIL]).tolist() if len(draws) else (value, value)
    return Estimate(value=value, n=len(data), lo=min(lo, value), hi=max(hi, value), method=method)


def bootstrap_mean(values: Values, cells: Sequence[Cell]) -> Estimate:
    """Mean over n episodes with a percentile interval over seeds and scenarios.

    Raises:
        ValueError: lengths that differ, or a value that is not finite.
    """
    return _bootstrap(values, cells, _mean_statistic)


def cvar(values: Values, cells: Sequence[Cell], *, alpha: float = 0.1) -> Estimate:
    """Conditional value at risk: the mean of the worst (largest) `alpha` share of episodes.

    With n episodes the worst alpha * n carry weight, the last of them in part, so that alpha = 1
    is the mean and alpha <= 1/n the maximum (Rockafellar and Uryasev 2002).

    Raises:
        ValueError: alpha outside (0, 1], and as :func:`bootstrap_mean`.
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha={alpha}: must lie in (0, 1]")

    def statistic(data: np.ndarray, weights: np.ndarray) -> np.ndarray:
        order = np.argsort(-data, kind="stable")
        with np.errstate(invalid="ignore", divide="ignore"):
            share = weights[:, order] / weights.sum(axis=1, keepdims=True)
        taken = np.clip(alpha - (np.cumsum(share, axis=1) - share), 0.0, share)
        return (taken @ data[order]) / alpha

    return _bootstrap(values, cells, statistic)


def maximum(values: Values) -> Estimate:
    """Largest value seen. The true maximum is at least that; nothing bounds it from above."""
    data = np.asarray(values, dtype=np.float64)
    if len(data) == 0:
        return nothing("maximum")
    top = float(data.max())
    return Estimate(value=top, n=len(data), lo=top, hi=math.inf, method="maximum")


def rate(
    outcomes: Sequence[bool] | np.ndarray, cells: Sequence[Cell], *, exact: bool = False
) -> Estimate:
    """Rate over episodes that may share scenarios or seeds.

    With one episode per scenario this is :func:`wilson` (or :func:`clopper_pearson` if `exact`).
    Otherwise n is replaced by an effective number of episodes, p (1 - p) / v with v the bootstrap
    variance over seeds and scenarios, never more than n (Korn and Graubard 1998). Where every
    episode has the same outcome v says nothing and the number of distinct scenarios is used.
    """
    data, effective = effective_episodes(outcomes, cells)
    n, successes = len(data), float(data.sum())
    plain_interval = clopper_pearson if exact else wilson
    if effective == n:
        return plain_interval(round(successes), n)
    p = successes / n
    if exact:
        bounds = clopper_pearson(p * effective, effective)
        lo, hi = bounds.lo, bounds.hi
    else:
        lo, hi = _wilson_bounds(p, effective)
    method = ("clopper-pearson" if exact else "wilson") + ", clustered"
    return Estimate(value=p, n=n, lo=lo, hi=hi, method=method)


def effective_episodes(
    outcomes: Sequence[bool] | np.ndarray, cells: Sequence[Cell]
) -> tuple[np.ndarray, float]:
    """Returns outcomes as float64 (n,) and the effective number of episodes, see :func:`rate`."""
    data = np.asarray(outcomes, dtype=np.float64)
    if len(data) != len(cells):
        raise ValueError(f"outcomes has {len(data)} entries for {len(cells)} cells")
    n, scenarios = len(data), len({scenario for _, scenario in cells})
    if n == 0 or scenarios == n:
        return data, float(n)
    p = float(data.mean())
    if not 0 < p < 1:
        return data, float(scenarios)
    variance = float(np.nanvar(_mean_statistic(data, bootstrap_weights(tuple(cells)))))
    return data, min(float(n), max(1.0, p * (1 - p) / variance)) if variance > 0 else float(n)


def median_time(times: Values, happened: Sequence[bool] | np.ndarray) -> Estimate:
    """Median time to an event by Kaplan and Meier (1958), s; inf where half never see it happen.

    An episode that ends without the event says only that it comes later. The interval is where the
    log-log confidence band of the survival function crosses one half (Brookmeyer and Crowley 1982);
    episodes are taken as independent.

    Args:
        times: (n,) s to the event, or to the end of an episode without it.
        happened: (n,) whether it happened.
    """
    ends, happened = np.asarray(times, dtype=np.float64), np.asarray(happened, dtype=bool)
    if ends.shape != happened.shape:
        raise ValueError(f"times has {len(ends)} entries for {len(happened)} outcomes")
    if not len(ends):
        return nothing("kaplan-meier")
    alive = stats.ecdf(stats.CensoredData(ends[happened], right=ends[~happened])).sf
    with warnings.catch_warnings():  # no band where nothing or everything has happened
        warnings.filterwarnings("ignore", "The confidence interval is undefined", RuntimeWarning)
        band = alive.confidence_interval(1 - 2 * TAIL, method="log-log")

    def crossing(curve: Any) -> float:
        below = curve.quantiles[np.nan_to_num(curve.probabilities, nan=1.0) <= 0.5]
        return float(below[0]) if len(below) else math.inf

    value, lo, hi = (crossing(curve) for curve in (alive, band.low, band.high))
    return Estimate(value=value, n=len(ends), lo=min(lo, value), hi=hi, method="kaplan-meier")


def paired_values(
    a: Values, cells_a: Sequence[Cell], b: Values, cells_b: Sequence[Cell]
) -> dict[Cell, float]:
    """Mean of a minus mean of b in each cell that both have."""

    def means(values: Values, cells: Sequence[Cell]) -> dict[Cell, float]:
        if len(values) != len(cells):
            raise ValueError(f"values has {len(values)} entries for {len(cells)} cells")
        return group_means(zip(cells, values))

    mean_a, mean_b = means(a, cells_a), means(b, cells_b)
    return {cell: mean_a[cell] - mean_b[cell] for cell in mean_a if cell in mean_b}


def group_means(items: Iterable[tuple[Any, float]]) -> dict[Any, float]:
    """Returns the mean of the values of each key, in order of appearance."""
    groups: dict[Any, list[float]] = {}
    for key, value in items:
        groups.setdefault(key, []).append(float(value))
    return {key: float(np.mean(group)) for key, group in groups.items()}


def paired_difference(
    a: Values, cells_a: Sequence[Cell], b: Values, cells_b: Sequence[Cell]
) -> Estimate:
    """Mean of a - b on the (seed, scenario) cells both have, bootstrapped over both levels.

    Cells present on one side only (a diverged simulation, a list cut short) are left out; n is the
    number of common cells, 0 if there is none.
    """
    common = paired_values(a, cells_a, b, cells_b)
    return _bootstrap(list(common.values()), list(common), _mean_statistic, "paired bootstrap")


def paired_difference_by_seed(
    a: Values, cells_a: Sequence[Cell], b: Values, cells_b: Sequence[Cell]
) -> dict[Hashable, float]:
    """Mean of a - b for each seed both have, in order of appearance in `cells_a`."""
    common = paired_values(a, cells_a, b, cells_b)
    return group_means((seed, value) for (seed, _), value in common.items())
