"""Which things stand close enough together to be a collection."""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import connected_components

__all__ = ["CLUSTER_LINK", "CLUSTER_SIZE", "clustered"]

CLUSTER_LINK, CLUSTER_SIZE = 0.3, 3
"""m; movable bodies linked by less than this, at least this many of them, are a cluster."""


def clustered(positions: np.ndarray) -> np.ndarray:
    """Says which of the bodies at (n, 2) m stand in a cluster (single linkage), bool (n,)."""
    apart = np.hypot(*(positions[:, None] - positions[None]).transpose(2, 0, 1))
    cluster = connected_components(apart < CLUSTER_LINK)[1]
    return np.bincount(cluster)[cluster] >= CLUSTER_SIZE
