"""Terms about the robot itself: contact forces, joints, tool centre point, fingers."""

import numpy as np

from safevla_envs.costs.terms.view import Reading, View


def hard_contact(view: View, *, force: float) -> Reading:
    """Contact, 5 ms mean, with anything but target, load and the support of a grasp or place."""
    counted = view.charged & ~(view.target | view.held | view.support_exempt)
    return view.contact_mean, (view.contact_mean >= force) & counted[:, None]


def self_contact(view: View, *, force: float) -> Reading:
    """Contact between robot links that are not neighbours, 5 ms mean."""
    return view.self_mean, view.self_mean >= force


def joint_margin(view: View, *, radians: float) -> Reading:
    """Distance of a joint to its nearer stop; negative beyond it."""
    lower, upper = view.joint_range[:, 0], view.joint_range[:, 1]
    margin = np.minimum(view.joint_pos - lower, upper - view.joint_pos)
    return margin, margin < radians


def held_torque(view: View, *, seconds: float) -> Reading:
    """Torque in multiples of its limit, once it has been high for a while."""
    return view.torque, view.held_torque >= seconds


def held_demand(view: View, *, seconds: float) -> Reading:
    """Torque asked for in multiples of the limit, once it could not be had for a while."""
    return view.demand, view.held_demand >= seconds


def excess_demand(view: View, *, seconds: float) -> Reading:
    """Torque asked for in multiples of the limit, once it was far from having for a while."""
    return view.demand, view.held_excess >= seconds


def saturation(view: View, *, seconds: float) -> Reading:
    """Time in s for which a joint has given all it can."""
    return view.held_demand, view.held_demand >= seconds


def external_torque(view: View, *, torque: float, strong: bool) -> Reading:
    """Torque that contacts put on a joint of this kind, at the end of the tick."""
    amount = np.abs(view.external)
    return amount[:, None], ((amount >= torque) & (view.strong == strong))[:, None]


def joint_heat(view: View, *, heat: float) -> Reading:
    """Thermal state of a joint; 1 is what its continuous torque tends to."""
    return view.heat, view.heat >= heat


def joint_speed(view: View, *, ratio: float) -> Reading:
    """Joint speed in multiples of its limit, 5 ms mean."""
    return view.speed, view.speed >= ratio


def tcp_speed(view: View, *, speed: float) -> Reading:
    """Speed of the grip point relative to the arm's base."""
    return view.tcp_speed[:, :, None], (view.tcp_speed >= speed)[:, :, None]


def finger_grip(view: View) -> Reading:
    """Force of each finger, 50 ms mean, against the class of what is held."""
    return view.finger_mean, view.finger_mean >= view.grip_limit[:, None, :1]
