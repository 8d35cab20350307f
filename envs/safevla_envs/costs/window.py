"""Causal mean over the last few substeps, across tick boundaries."""

import numpy as np


def causal_mean(
    values: np.ndarray, tail: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Average each substep with the ones just before it.

    The window is `tail.shape[1] + 1` substeps; before the first tick there was nothing, so values
    there count as zero. Results do not depend on how a stream is cut into ticks, to the last bit.

    Args:
        values: (W, S, n), substeps in time order; the first `S - counts[w]` do not belong to the
            tick and are ignored.
        tail: (W, window - 1, n), the last values of the ticks before.
        counts: int (W,) valid substeps.

    Returns:
        Means (W, S, n), zero where invalid, and the new tail.
    """
    keep, steps = tail.shape[1], values.shape[1]
    if (counts == steps).all():
        joined = np.concatenate((tail, values), axis=1)
        total = joined[:, :steps]
        for shift in range(1, keep + 1):
            total = total + joined[:, shift : shift + steps]
        return total / (keep + 1), joined[:, joined.shape[1] - keep :]
    means, new_tail = np.zeros_like(values), np.empty_like(tail)
    for count in np.unique(counts):
        rows = counts == count
        part, new_tail[rows] = causal_mean(
            values[rows, steps - count :], tail[rows], np.full(rows.sum(), count)
        )
        means[rows, steps - count :] = part
    return means, new_tail
