"""Causal means and maxima over the last few substeps, across tick boundaries.

Nothing here depends on how a stream is cut into ticks, to the last bit.
"""

import numpy as np

__all__ = ["causal_max", "causal_mean"]


def causal_mean(values: np.ndarray, tail: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages each substep with the ones just before it.

    The window is `len(tail) + 1` substeps; before the first tick there was nothing, so values there
    count as zero.

    Args:
        values: (S, n), substeps in time order.
        tail: (window - 1, n), the last values of the ticks before.

    Returns:
        Means (S, n) and the new tail.
    """
    keep, steps = len(tail), len(values)
    if not keep:
        return values, tail
    joined = np.concatenate((tail, values))
    total = joined[:steps]
    for shift in range(1, keep + 1):
        total = total + joined[shift : shift + steps]
    return total / (keep + 1), joined[len(joined) - keep :]


def causal_max(values: np.ndarray, tail: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the greatest of each substep and the ones just before it; else as `causal_mean`."""
    keep, steps = len(tail), len(values)
    joined = np.concatenate((tail, values))
    most = joined[:steps]
    for shift in range(1, keep + 1):
        most = np.maximum(most, joined[shift : shift + steps])
    return most, joined[len(joined) - keep :]
