"""The quantities that the built-in measures hold against limits."""

from collections.abc import Iterator
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.costs.constraint import Value
from safevla_envs.costs.view import View

REACTION_S = 0.1
"""s; the robot's reaction time T_r: scanner and control."""
BRAKING = 2.0
"""m/s^2; deceleration of the base."""


@compiled
def protective_distance(closing_robot: Any, closing_person: Any) -> Any:
    """Returns the protective separation distance S_p in m, ISO/TS 15066 5.5.4.2.3 with C = Z = 0.

    S_p = v_h (T_r + T_s) + v_r T_r + v_r^2 / (2 a), T_s = v_r / a. Floats or arrays.

    Args:
        closing_robot: v_r in m/s, speed of the robot towards the person.
        closing_person: v_h in m/s, speed of the person towards the robot, as measured.

    >>> robot, person = np.array([1.0, 0.25]), np.array([1.6, 1.6])
    >>> protective_distance(robot, person).round(2).tolist()
    [1.31, 0.4]
    """
    stopping = closing_robot / BRAKING
    person = closing_person * (REACTION_S + stopping)
    return person + closing_robot * REACTION_S + 0.5 * closing_robot * stopping


def _separation_share(view: View) -> np.ndarray | None:
    if view.separation is None:
        return None
    wanted = protective_distance(view.closing_robot, view.closing_mover)
    return view.separation / np.maximum(wanted, 1e-9)


def _worst_region(view: View, *, vital: bool, force: str, limit: str) -> np.ndarray:
    """Returns (S, P) the largest ratio of each person's regions of this kind to its limit."""
    partners = view.partners
    share = getattr(view, force) / partners.region(limit)
    worst = np.zeros((len(share), len(partners.names)))
    for region in np.flatnonzero(partners.region("vital") == vital):
        column = worst[:, partners.region_partner[region]]
        np.maximum(column, share[:, region], out=column)
    return worst


def _margin(view: View) -> np.ndarray:
    lower, upper = view.robot.joint_range.T
    return np.minimum(view.joint_pos - lower, upper - view.joint_pos)


def _tip(view: View) -> np.ndarray | None:
    return None if view.tcp_speed is None else view.tcp_speed[:, None]


def _twist(view: View) -> np.ndarray | None:
    return None if view.external_torque is None else np.abs(view.external_torque)


def _value(field: str, unit: str, quantity: str, *, axis: Any = "partner", **how: Any) -> Value:
    """Returns a value that is a field of the view, unless `how` it is read is said."""
    return Value(field, unit, axis, **{"read": attrgetter(field), "quantity": quantity, **how})


_touch, _link = partial(_value, wakes="touch"), partial(_value, wakes="links")
_joint = partial(_value, axis="joint", wakes="joints")


def _regions(force: str, limit: str, unit: str, quantity: str) -> Iterator[Value]:
    """Yields a force on body regions over its limit, and the same on head and neck."""
    for vital, where in (False, ""), (True, ", head and neck"):
        read = partial(_worst_region, vital=vital, force=force, limit=limit)
        yield _touch(force, unit, quantity + where, read=read)


CONTACT = _touch("contact_force", "N", "contact force")
ARM_CONTACT = _touch("arm_mean", "N", "contact force of arm, hand or load")
RUN_IN = _touch("run_in", "m/s", "speed at which base or torso run into something that resists")
SELF_MEAN = _touch(
    "self_mean", "N", "contact force between robot links that are not neighbours", axis="self_pair"
)
FINGER_MEAN = _touch("finger_mean", "N", "force of a finger while something is held", axis="finger")
EXTERNAL = _touch("external", "N·m", "torque of contacts on a joint", axis="joint", read=_twist)
IMPACT, IMPACT_VITAL = _regions(
    "region_impact", "impact_limit", "of F_T", "force of a free impact, v_rel sqrt(k mu)"
)
PRESS, PRESS_VITAL = _regions("region_mean", "quasi_static", "of F_QS", "force on a body region")

KEEPOUT = _value(
    "keepout_distance", "m", "signed distance to a keep-out volume", wakes="keepout", sense=-1
)
SEPARATION = _value("separation", "m", "separation", wakes="movers", sense=-1)
SEPARATION_SHARE = _value(
    "separation_share",
    "of S_p",
    "separation over the protective distance",
    wakes="movers",
    sense=-1,
    read=_separation_share,
)

DISPLACEMENT = _link("displacement", "m", "way since the body last lay still")
ROTATION = _link("rotation", "rad", "turn since the body last lay still")
FALL = _link("fall", "m", "height lost since reset")
TILT = _link("tilt", "rad", "tilt of its vertical since reset")

MARGIN = _joint("margin", "rad", "distance of a joint to its nearer stop", sense=-1, read=_margin)
SPEED = _joint("speed", "of the limit", "joint speed over its limit")
TORQUE = _joint("torque", "of the limit", "applied torque over its limit")
DEMAND = _joint("demand", "of the limit", "demanded torque over its limit")
SATURATED = _joint("saturated", "s", "time at the torque limit")
HEAT = _joint("heat", "1", "thermal state (assumed model)")
TCP_SPEED = _joint(
    "tcp_speed", "m/s", "speed of the grip point relative to the arm's base", axis="tcp", read=_tip
)
