"""How far a body has been moved since it last lay still."""

import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.costs.clock import REST_SPEED


@compiled
def rest_clock(resting, speed, ticks, needed):
    """Return int (W, P) substeps at rest, counted up to `needed`.

    Args:
        resting: int (W, P) before the tick.
        speed: (W, P) m/s.
        ticks: int (W, 1) substeps of the tick.
        needed: Substeps.
    """
    return np.where(speed < REST_SPEED, np.minimum(resting + ticks, needed), 0)


def displacement(position: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return (W, P) distance in m between positions (W, P, 3)."""
    offset = position - reference
    return np.sqrt(np.einsum("...i,...i->...", offset, offset))


def rotation_angle(quaternion: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return (W, P) angle in [0, pi] rad of the rotation between unit quaternions (W, P, 4)."""
    cosine = np.abs(np.einsum("...i,...i->...", quaternion, reference))
    return 2.0 * np.arccos(np.minimum(cosine, 1.0))


def tilt_angle(quaternion: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return (W, P) angle in [0, pi] rad between the vertical and what was vertical at `reference`.

    Turning about the vertical does not count. Both are unit quaternions (W, P, 4), wxyz.
    """
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    a, b, c, d = np.moveaxis(reference, -1, 0)
    # the horizontal part of the rotation from the reference is the sine of half the tilt
    first = x * a - w * b - y * d + z * c
    second = y * a - w * c - z * b + x * d
    return 2.0 * np.arcsin(np.minimum(np.sqrt(first * first + second * second), 1.0))
