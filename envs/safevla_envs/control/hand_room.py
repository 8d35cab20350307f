"""How much room hand and arm have where a thing is to be gripped from above, before they are there.

The shapes are Panda's, measured at a grasp 0.56 to 0.74 m before the base's centre: boxes round the
open fingers, the palm, and the arm above them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["SIDES", "TURNS", "Cylinders", "hand_room"]

SIDES = np.linspace(-0.9, 0.9, 19)
"""rad; directions from a grasp to where the base may stand, from the support's front."""
TURNS = np.radians(np.arange(-90.0, 90.0, 10.0))
"""rad; directions, from that to the base, in which the fingers may close on what is round."""
_HAND = (
    ((-0.065, 0.065), (-0.015, 0.015), -0.02),
    ((-0.105, 0.105), (-0.04, 0.03), 0.03),
)
"""Fingers and palm: extent in m along the closing axis and across it, and from how far above the
grip point."""
_ARM = (
    ((-0.06, 0.13), (-0.09, 0.09), 0.095),
    ((0.02, 0.33), (-0.135, 0.06), 0.155),
    ((0.26, 0.50), (-0.06, 0.11), 0.29),
)
"""Links 6 and 7, 5, and 4: likewise along the direction to the base and across it."""


@dataclass(frozen=True, kw_only=True)
class Cylinders:
    """Upright cylinders: centres (n, 2), radii (n,) and tops (n,) in m."""

    spots: np.ndarray
    radii: np.ndarray
    tops: np.ndarray


def hand_room(things: Cylinders, grip: np.ndarray, side: float, turns: np.ndarray) -> np.ndarray:
    """Returns the clearance (m,) in m of hand and arm from things, negative inside; inf without.

    Args:
        things: what stands around.
        grip: (3,) m.
        side: rad; direction from there to the base.
        turns: (m,) rad; directions in which the fingers may close.
    """
    arm = _clearance(things, grip, _ARM, np.array([side]))
    return np.minimum(_clearance(things, grip, _HAND, turns), arm)


def _clearance(things: Cylinders, grip: np.ndarray, parts: Any, angles: np.ndarray) -> np.ndarray:
    """Returns the clearance (m,) in m of boxes turned by angles (m,) in rad about a grip."""
    x, y = (things.spots - grip[:2]).T
    c, s = np.cos(angles)[:, None], np.sin(angles)[:, None]
    local = np.stack((c * x + s * y, c * y - s * x), -1)
    least = np.full(len(angles), np.inf)
    for (x0, x1), (y0, y1), rise in parts:
        out = local - np.clip(local, (x0, y0), (x1, y1))
        gap = np.hypot(out[..., 0], out[..., 1]) - things.radii
        tall = things.tops > grip[2] + rise
        least = np.minimum(least, gap[:, tall].min(1, initial=np.inf))
    return least
