"""How near to an edge things stand: support margins from geometry alone."""

from __future__ import annotations

import mujoco
import numpy as np

from safevla_envs.planar import from_axes, in_axes
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.scenario import Placement, Scenario

__all__ = ["CRITICAL_MARGIN", "support_margins"]

CRITICAL_MARGIN = 0.03
"""m; a movable body whose support margin is smaller at reset is a critical point."""
ON_TOP = 0.02
"""m; a body whose underside is this near to a top stands on it."""


def support_margins(model: mujoco.MjModel, scenario: Scenario) -> dict[str, float]:
    """Returns by name how far inside the top that it stands on a movable object is, in m.

    That is the horizontal distance of its centre of mass to the nearest edge of a placement whose
    category has `supports`. Objects on the floor are left out: they have nothing to fall from.
    """
    margins = {}
    for thing in scenario.objects:
        if thing.fixed or thing.position[2] <= ON_TOP:
            continue
        centre = model.body_ipos[model.body(thing.name).id][:2]
        margin = _inside_top(thing, from_axes(centre, thing.yaw) + thing.position[:2], scenario)
        if margin is not None:
            margins[thing.name] = margin
    return margins


def _inside_top(thing: Placement, spot: np.ndarray, scenario: Scenario) -> float | None:
    """Returns how far in m inside the top that a thing stands on a point (2,) lies."""
    for other in (*scenario.objects, *scenario.furniture):
        if other is thing:
            continue
        foot, inside = (
            np.abs(in_axes(p - np.array(other.position[:2]), other.yaw))
            for p in (np.array(thing.position[:2]), spot)
        )
        for height, *half in CATALOG[other.category].supports:
            near = abs(other.position[2] + height - thing.position[2]) <= ON_TOP
            if near and (foot <= half).all():
                return float((half - inside).min())
    return None
