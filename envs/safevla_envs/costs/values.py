"""The quantities that the built-in measures hold against limits."""

from functools import partial
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


def _worst_region(view: View, *, press: bool, vital: bool) -> np.ndarray:
    """Returns (S, P) the largest ratio of each person's regions of this kind to its limit."""
    partners = view.partners
    force, limit = (
        (view.region_mean, partners.region_clamp)
        if press
        else (
            view.region_impact,
            partners.region_hit,
        )
    )
    worst = np.zeros((len(force), len(partners.names)))
    for region in np.flatnonzero(partners.region_vital == vital):
        column = worst[:, partners.region_partner[region]]
        np.maximum(column, force[:, region] / limit[region], out=column)
    return worst


def _margin(view: View) -> np.ndarray:
    lower, upper = view.robot.joint_range.T
    return np.minimum(view.joint_pos - lower, upper - view.joint_pos)


CONTACT = Value(
    name="contact", unit="N", axis="partner", wakes="touch", read=lambda view: view.contact_force,
    quantity="contact force",
)  # fmt: skip
ARM_CONTACT = Value(
    name="arm_contact", unit="N", axis="partner", wakes="touch",
    read=lambda view: view.arm_mean, quantity="contact force of arm, hand or load",
)  # fmt: skip
RUN_IN = Value(
    name="run_in",
    unit="m/s",
    axis="partner",
    wakes="touch",
    read=lambda view: view.run_in,
    quantity="speed at which base or torso run into something that resists",
)
SELF_MEAN = Value(
    name="self_mean", unit="N", axis="self_pair", wakes="touch", read=lambda view: view.self_mean,
    quantity="contact force between robot links that are not neighbours",
)  # fmt: skip
FINGER_MEAN = Value(
    name="finger_mean", unit="N", axis="finger", wakes="touch", read=lambda view: view.finger_mean,
    quantity="force of a finger while something is held",
)  # fmt: skip
KEEPOUT = Value(
    name="keepout", unit="m", axis="partner", wakes="keepout", sense=-1,
    read=lambda view: view.keepout_distance, quantity="signed distance to a keep-out volume",
)  # fmt: skip
DISPLACEMENT = Value(
    name="displacement", unit="m", axis="partner", wakes="links",
    read=lambda view: view.displacement, quantity="way since the body last lay still",
)  # fmt: skip
ROTATION = Value(
    name="rotation", unit="rad", axis="partner", wakes="links", read=lambda view: view.rotation,
    quantity="turn since the body last lay still",
)  # fmt: skip
FALL = Value(
    name="fall", unit="m", axis="partner", wakes="links", read=lambda view: view.fall,
    quantity="height lost since reset",
)  # fmt: skip
TILT = Value(
    name="tilt", unit="rad", axis="partner", wakes="links", read=lambda view: view.tilt,
    quantity="tilt of its vertical since reset",
)  # fmt: skip
SEPARATION_SHARE = Value(
    name="separation_share", unit="of S_p", axis="partner", wakes="movers", sense=-1,
    read=_separation_share, quantity="separation over the protective distance",
)  # fmt: skip
SEPARATION = Value(
    name="separation", unit="m", axis="partner", wakes="movers", sense=-1,
    read=lambda view: view.separation, quantity="separation",
)  # fmt: skip
IMPACT, IMPACT_VITAL = (
    Value(
        name="region_impact", unit="of F_T", axis="partner", wakes="touch",
        read=partial(_worst_region, press=False, vital=vital),
        quantity="force of a free impact, v_rel sqrt(k mu)" + (", head and neck" if vital else ""),
    )
    for vital in (False, True)
)  # fmt: skip
PRESS, PRESS_VITAL = (
    Value(
        name="region_press", unit="of F_QS", axis="partner", wakes="touch",
        read=partial(_worst_region, press=True, vital=vital),
        quantity="force on a body region" + (", head and neck" if vital else ""),
    )
    for vital in (False, True)
)  # fmt: skip
MARGIN = Value(
    name="margin", unit="rad", axis="joint", wakes="joints", sense=-1, read=_margin,
    quantity="distance of a joint to its nearer stop",
)  # fmt: skip
SPEED = Value(
    name="speed", unit="of the limit", axis="joint", wakes="joints",
    read=lambda view: view.speed, quantity="joint speed over its limit",
)  # fmt: skip
TCP_SPEED = Value(
    name="tcp_speed", unit="m/s", axis="tcp", wakes="joints",
    read=lambda view: None if view.tcp_speed is None else view.tcp_speed[:, None],
    quantity="speed of the grip point relative to the arm's base",
)  # fmt: skip
TORQUE = Value(
    name="torque", unit="of the limit", axis="joint", wakes="joints",
    read=lambda view: view.torque, quantity="applied torque over its limit",
)  # fmt: skip
DEMAND = Value(
    name="demand", unit="of the limit", axis="joint", wakes="joints",
    read=lambda view: view.demand, quantity="demanded torque over its limit",
)  # fmt: skip
SATURATED = Value(
    name="saturated", unit="s", axis="joint", wakes="joints",
    read=lambda view: view.saturated, quantity="time at the torque limit",
)  # fmt: skip
HEAT = Value(
    name="heat", unit="1", axis="joint", wakes="joints", read=lambda view: view.heat,
    quantity="thermal state (assumed model)",
)  # fmt: skip
EXTERNAL = Value(
    name="external", unit="N·m", axis="joint", wakes="touch",
    read=lambda view: None if view.external_torque is None else np.abs(view.external_torque),
    quantity="torque of contacts on a joint",
)  # fmt: skip
