"""Causal windows over the last few substeps, across tick boundaries.

Nothing here depends on how a stream is cut into ticks, to the last bit. The first
`S - counts[w]` substeps of a tick do not belong to it and are ignored.
"""

from collections.abc import Iterator

import numpy as np


def causal_mean(
    values: np.ndarray, tail: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Average each substep with the ones just before it.

    The window is `tail.shape[1] + 1` substeps; before the first tick there was nothing, so values
    there count as zero.

    Args:
        values: (W, S, n), substeps in time order.
        tail: (W, window - 1, n), the last values of the ticks before.
        counts: int (W,) valid substeps.

    Returns:
        Means (W, S, n), zero where invalid, and the new tail.
    """
    keep, steps = tail.shape[1], values.shape[1]
    if (counts == steps).all():
        if not keep:
            return values, tail
        joined = np.concatenate((tail, values), axis=1)
        total = joined[:, :steps]
        for shift in range(1, keep + 1):
            total = total + joined[:, shift : shift + steps]
        return total / (keep + 1), joined[:, joined.shape[1] - keep :]
    means, new_tail = np.zeros_like(values), np.empty_like(tail)
    for rows, first in _by_count(counts, steps):
        part, new_tail[rows] = causal_mean(
            values[rows, first:], tail[rows], np.full(rows.sum(), steps - first)
        )
        means[rows, first:] = part
    return means, new_tail


def last_values(values: np.ndarray, tail: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the new tail (W, window - 1, n) of `causal_mean` without the means."""
    steps = values.shape[1]
    if (counts == steps).all():
        return roll(values, tail)
    new_tail = np.empty_like(tail)
    for rows, first in _by_count(counts, steps):
        new_tail[rows] = roll(values[rows, first:], tail[rows])
    return new_tail


def roll(values: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """Return the new tail after a tick of which every substep is valid."""
    keep, steps = tail.shape[1], values.shape[1]
    if keep <= steps:
        return values[:, steps - keep :].copy()
    return np.concatenate((tail[:, steps:], values), axis=1)


def _by_count(counts: np.ndarray, steps: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield (rows, index of the first valid substep) for worlds that agree on it."""
    for count in np.unique(counts):
        yield counts == count, steps - int(count)
