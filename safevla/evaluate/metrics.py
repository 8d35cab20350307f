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
pigeonhole bootstrap", Ann. Appl. Stat. 1), scenarios within their strata where strata are given.
One seed alone cannot tell how much seeds differ: the interval then speaks of scenarios only.
A sample without any spread (all costs zero) has a bootstrap interval of width zero; read the
Clopper-Pearson bound of the violation rate beside it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = [
    "Estimate",
    "bootstrap_mean",
    "clopper_pearson",
    "cvar",
    "exceedance_bound",
    "maximum",
    "paired_difference",
    "paired_difference_by_seed",
    "rate",
    "wilson",
]

REPLICATES = 4000
"""Bootstrap replicates: the interval's end points then move by about 1 % of its width."""

Cell = tuple[Hashable, Hashable]
"""(seed, scenario) of an episode."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its number of episodes and a two-sided confidence interval.

    Attributes:
        value: the point estimate; NaN when there was no episode.
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

        def plain(x: float) -> float | None:
            return float(x) if math.isfinite(x) else None

        return {
            "value": plain(self.value),
            "n": self.n,
            "lo": plain(self.lo),
            "hi": plain(self.hi),
            "method": self.method,
        }


def _nothing(method: str) -> Estimate:
    return Estimate(value=math.nan, n=0, lo=math.nan, hi=math.nan, method=method)


def _check_counts(successes: float, n: float, confidence: float) -> None:
    if n < 0:
        raise ValueError(f"n={n}: must be 0 or more")
    if not 0 <= successes <= n:
        raise ValueError(f"successes={successes}: must lie in [0, n={n}]")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: must lie strictly between 0 and 1")


def _wilson_bounds(p: float, n: float, confidence: float) -> tuple[float, float]:
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return min(max(0.0, centre - half), p), max(min(1.0, centre + half), p)


def wilson(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Wilson's score interval of a binomial rate.

    Args:
        successes: episodes counted.
        n: independent episodes.
        confidence: coverage aimed at.

    Returns:
        The rate in [0, 1] with its interval; NaN for n = 0.

    Example:
        >>> e = wilson(81, 263)
        >>> round(e.lo, 4), round(e.hi, 4)
        (0.2553, 0.3662)
    """
    _check_counts(successes, n, confidence)
    if n == 0:
        return _nothing("wilson")
    lo, hi = _wilson_bounds(successes / n, n, confidence)
    return Estimate(value=successes / n, n=n, lo=lo, hi=hi, method="wilson")


def clopper_pearson(successes: float, n: float, confidence: float = 0.95) -> Estimate:
    """Clopper and Pearson's exact interval of a binomial rate: never covers less than stated.

    Args:
        successes: episodes counted (may be fractional: an effective count).
        n: independent episodes (may be fractional).
        confidence: coverage guaranteed.

    Returns:
        The rate in [0, 1] with its interval; NaN for n = 0.

    Example:
        >>> e = clopper_pearson(0, 50)
        >>> round(e.lo, 4), round(e.hi, 4)
        (0.0, 0.0711)
    """
    _check_counts(successes, n, confidence)
    if n == 0:
        return _nothing("clopper-pearson")
    tail = (1 - confidence) / 2
    lo = float(stats.beta.ppf(tail, successes, n - successes + 1)) if successes > 0 else 0.0
    hi = float(stats.beta.ppf(1 - tail, successes + 1, n - successes)) if successes < n else 1.0
    return Estimate(value=successes / n, n=round(n), lo=lo, hi=hi, method="clopper-pearson")


@functools.lru_cache(maxsize=4)  # the costs of one table row share their cells
def _weights(
    cells: tuple[Cell, ...], strata: tuple[Hashable, ...] | None, replicates: int, seed: int
) -> np.ndarray:
    """float64 (replicates, n): how often each episode is drawn; read-only.

    Seeds and scenarios are resampled independently, scenarios within their strata.
    """
    if replicates < 1:
        raise ValueError(f"replicates={replicates}: must be at least 1")
    if strata is not None and len(strata) != len(cells):
        raise ValueError(f"strata has {len(strata)} entries for {len(cells)} episodes")
    rng = np.random.default_rng(seed)
    seeds, seed_of = _codes(seed for seed, _ in cells)
    # the same scenario in two strata is resampled in each of them
    labels = (None,) * len(cells) if strata is None else strata
    pairs, scenario_of = _codes((stratum, cell[1]) for stratum, cell in zip(labels, cells))
    stratum_of = np.zeros(len(pairs), dtype=np.int64)
    stratum_of[scenario_of] = _codes(labels)[1]
    seed_weight = _multinomial(len(seeds), replicates, rng)
    scenario_weight = np.zeros((replicates, len(pairs)))
    for stratum in range(int(stratum_of.max(initial=-1)) + 1):
        members = np.flatnonzero(stratum_of == stratum)
        scenario_weight[:, members] = _multinomial(len(members), replicates, rng)
    weights = seed_weight[:, seed_of] * scenario_weight[:, scenario_of]
    weights.setflags(write=False)
    return weights


def _codes(labels: Iterable[Hashable]) -> tuple[list[Hashable], np.ndarray]:
    """Distinct labels in order of appearance, and each label's position among them."""
    index: dict[Hashable, int] = {}
    codes = [index.setdefault(label, len(index)) for label in labels]
    return list(index), np.asarray(codes, dtype=np.int64)


def _multinomial(n: int, replicates: int, rng: np.random.Generator) -> np.ndarray:
    if n <= 1:
        return np.ones((replicates, n))
    return rng.multinomial(n, np.full(n, 1 / n), size=replicates).astype(np.float64)


Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(values (n,), weights (replicates, n)) -> (replicates,)."""


def _mean_statistic(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (weights @ values) / weights.sum(axis=1)


def _bootstrap(
    values: Sequence[float] | np.ndarray,
    cells: Sequence[Cell],
    statistic: Statistic,
    *,
    method: str,
    confidence: float,
    strata: Sequence[Hashable] | None,
    replicates: int,
    seed: int,
) -> Estimate:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) != len(cells):
        raise ValueError(f"values has shape {data.shape} for {len(cells)} cells")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: must lie strictly between 0 and 1")
    if len(data) == 0:
        return _nothing(method)
    if not np.isfinite(data).all():
        raise ValueError("values holds NaN or infinity; leave such episodes out and report them")
    labels = None if strata is None else tuple(strata)
    draws = statistic(data, _weights(tuple(cells), labels, replicates, seed))
    draws = draws[np.isfinite(draws)]  # a replicate may miss every cell of an unbalanced table
    tail = (1 - confidence) / 2
    value = float(statistic(data, np.ones((1, len(data))))[0])
    lo, hi = (
        (float(q) for q in np.quantile(draws, [tail, 1 - tail]))
        if len(draws)
        else (
            value,
            value,
        )
    )
    return Estimate(value=value, n=len(data), lo=min(lo, value), hi=max(hi, value), method=method)


def bootstrap_mean(
    values: Sequence[float] | np.ndarray,
    cells: Sequence[Cell],
    *,
    confidence: float = 0.95,
    strata: Sequence[Hashable] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Estimate:
    """Mean over episodes with a percentile interval over seeds and scenarios.

    Args:
        values: (n,) one number per episode.
        cells: n pairs (seed, scenario).
        confidence: coverage aimed at.
        strata: n labels; scenarios are resampled within a label (levels of one suite).
        replicates: bootstrap replicates.
        seed: seed of the resampling itself; the same data give the same interval.

    Returns:
        The mean with its interval; NaN for no episode.

    Raises:
        ValueError: lengths that differ, or a value that is not finite.
    """
    return _bootstrap(
        values,
        cells,
        _mean_statistic,
        method="bootstrap",
        confidence=confidence,
        strata=strata,
        replicates=replicates,
        seed=seed,
    )


def cvar(
    values: Sequence[float] | np.ndarray,
    cells: Sequence[Cell],
    *,
    alpha: float = 0.1,
    confidence: float = 0.95,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Estimate:
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

    return _bootstrap(
        values,
        cells,
        statistic,
        method="bootstrap",
        confidence=confidence,
        strata=None,
        replicates=replicates,
        seed=seed,
    )


def maximum(values: Sequence[float] | np.ndarray) -> Estimate:
    """Largest value seen. The true maximum is at least that; nothing bounds it from above.

    :func:`exceedance_bound` tells how often a larger one can be expected.
    """
    data = np.asarray(values, dtype=np.float64)
    if len(data) == 0:
        return _nothing("maximum")
    top = float(data.max())
    return Estimate(value=top, n=len(data), lo=top, hi=math.inf, method="maximum")


def exceedance_bound(n: int, confidence: float = 0.95) -> float:
    """Largest probability, at this confidence, that a new episode exceeds the worst of n seen."""
    if n <= 0:
        return 1.0
    return 1.0 - (1.0 - confidence) ** (1.0 / n)


def rate(
    outcomes: Sequence[bool] | np.ndarray,
    cells: Sequence[Cell],
    *,
    confidence: float = 0.95,
    exact: bool = False,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Estimate:
    """Rate over episodes that may share scenarios or seeds.

    With one episode per scenario this is :func:`wilson` (or :func:`clopper_pearson` if `exact`).
    Otherwise n is replaced by an effective number of episodes, p (1 - p) / v with v the bootstrap
    variance over seeds and scenarios, never more than n (Korn and Graubard 1998). Where every
    episode has the same outcome v says nothing and the number of distinct scenarios is used.

    Args:
        outcomes: (n,) truth per episode.
        cells: n pairs (seed, scenario).
        confidence: coverage aimed at.
        exact: Clopper-Pearson instead of Wilson bounds.
        replicates: bootstrap replicates for v.
        seed: seed of the resampling.
    """
    data = np.asarray(outcomes, dtype=np.float64)
    if len(data) != len(cells):
        raise ValueError(f"outcomes has {len(data)} entries for {len(cells)} cells")
    n, successes = len(data), float(data.sum())
    plain = clopper_pearson if exact else wilson
    scenarios = len({scenario for _, scenario in cells})
    if n == 0 or scenarios == n:
        return plain(round(successes), n, confidence)
    p = successes / n
    effective = float(scenarios)
    if 0 < p < 1:
        draws = _mean_statistic(data, _weights(tuple(cells), None, replicates, seed))
        variance = float(np.nanvar(draws))
        effective = min(float(n), max(1.0, p * (1 - p) / variance)) if variance > 0 else float(n)
    if exact:
        lo_hi = clopper_pearson(p * effective, effective, confidence)
        lo, hi = lo_hi.lo, lo_hi.hi
    else:
        lo, hi = _wilson_bounds(p, effective, confidence)
    method = ("clopper-pearson" if exact else "wilson") + ", clustered"
    return Estimate(value=p, n=n, lo=lo, hi=hi, method=method)


def _cell_means(values: Sequence[float] | np.ndarray, cells: Sequence[Cell]) -> dict[Cell, float]:
    if len(values) != len(cells):
        raise ValueError(f"values has {len(values)} entries for {len(cells)} cells")
    groups: dict[Cell, list[float]] = {}
    for value, cell in zip(values, cells):
        groups.setdefault(cell, []).append(float(value))
    return {cell: float(np.mean(group)) for cell, group in groups.items()}


def _differences(
    a: Sequence[float] | np.ndarray,
    cells_a: Sequence[Cell],
    b: Sequence[float] | np.ndarray,
    cells_b: Sequence[Cell],
) -> dict[Cell, float]:
    mean_a, mean_b = _cell_means(a, cells_a), _cell_means(b, cells_b)
    return {cell: mean_a[cell] - mean_b[cell] for cell in mean_a if cell in mean_b}


def paired_difference(
    a: Sequence[float] | np.ndarray,
    cells_a: Sequence[Cell],
    b: Sequence[float] | np.ndarray,
    cells_b: Sequence[Cell],
    *,
    confidence: float = 0.95,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Estimate:
    """Mean of a - b on the (seed, scenario) cells both have, bootstrapped over both levels.

    Cells present on one side only (a diverged simulation, a list cut short) are left out; n is the
    number of common cells, 0 if there is none.
    """
    common = _differences(a, cells_a, b, cells_b)
    estimate = bootstrap_mean(
        list(common.values()),
        list(common),
        confidence=confidence,
        replicates=replicates,
        seed=seed,
    )
    return Estimate(
        value=estimate.value,
        n=estimate.n,
        lo=estimate.lo,
        hi=estimate.hi,
        method="paired bootstrap",
    )


def paired_difference_by_seed(
    a: Sequence[float] | np.ndarray,
    cells_a: Sequence[Cell],
    b: Sequence[float] | np.ndarray,
    cells_b: Sequence[Cell],
) -> dict[Hashable, float]:
    """Mean of a - b for each seed both have, in order of appearance in `cells_a`."""
    groups: dict[Hashable, list[float]] = {}
    for (seed, _), difference in _differences(a, cells_a, b, cells_b).items():
        groups.setdefault(seed, []).append(difference)
    return {seed: float(np.mean(group)) for seed, group in groups.items()}
