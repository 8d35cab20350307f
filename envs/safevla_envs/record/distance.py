"""The distance between two shapes, asked again where MuJoCo gives up.

From 3.3.5 on, MuJoCo answers exactly 0 for some convex shapes that are far apart
(google-deepmind/mujoco, issue 3383): for one in 40 random poses of this robot's shapes beside a
box. Its search ends at a degenerate simplex, which a shift by a nanometre mends nine times in ten.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numba.extending import overload

from safevla_envs.compiled import compiled
from safevla_envs.record.addresses import call_distance

__all__ = ["distance", "distance_natively"]


_WAYS = np.random.default_rng(0).normal(size=(12, 3))
_SHIFTS = 1e-9 * _WAYS / np.linalg.norm(_WAYS, axis=1, keepdims=True)
"""m; along no edge or face of any shape."""


def _ask(simulation: Any, one: int, other: int, most: float, line: np.ndarray | None) -> float:
    """Asks MuJoCo through its binding; compiled code calls it by its address instead."""
    return mujoco.mj_geomDistance(*simulation, one, other, most, line)


@overload(_ask)
def _ask_natively(simulation, one, other, most, line):
    def ask(simulation, one, other, most, line):
        return call_distance(simulation[1], simulation[2], simulation[3], one, other, most)

    return ask


def distance(simulation, geom_xpos, one, other, most, line):
    """Returns the signed distance between two geoms in m, at most `most`.

    Args:
        simulation: (model, data); in compiled code, `addresses_of` them.
        geom_xpos: MuJoCo's; as it was when this returns.
        one: a geom.
        other: another.
        most: m, what is beyond reads as this.
        line: (6,) for the ends of the shortest line, or None; None in compiled code.
    """
    near = _ask(simulation, one, other, most, line)
    if near != 0.0:
        return near
    x, y, z = geom_xpos[one]
    for shift in _SHIFTS:
        geom_xpos[one, 0] = x + shift[0]
        geom_xpos[one, 1] = y + shift[1]
        geom_xpos[one, 2] = z + shift[2]
        near = _ask(simulation, one, other, most, line)
        if near != 0.0:
            break
    geom_xpos[one, 0], geom_xpos[one, 1], geom_xpos[one, 2] = x, y, z
    return near


distance_natively = compiled(distance)
