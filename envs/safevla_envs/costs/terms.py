"""Cost terms: small pure functions from a view of one tick to (amount, violated).

`amount` is what severity and peaks are read from, `violated` whether the rule is broken; both
broadcast to (W, S, n) over worlds, substeps and the measure's axis. `defaults.py` binds them.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(slots=True, kw_only=True)
class View:
    """One tick as the terms see it; every array has a leading world axis W.

    Forces in N, joints in rad, distances in m; tags as in `Partners`, with shape (W or 1, P).
    """

    contact: np.ndarray  # (W, S, P)
    contact_mean: np.ndarray  # (W, S, P)
    self_mean: np.ndarray  # (W, S, L)
    joint_pos: np.ndarray  # (W, S, J)
    joint_range: np.ndarray  # (J, 2)
    keepout: np.ndarray  # (W, S, P)
    free_share: np.ndarray  # (W,)
    held: np.ndarray  # (W, P)
    support_exempt: np.ndarray  # (W, P)
    linked: np.ndarray  # (W, P)
    displacement: np.ndarray  # (W, P), zero if no delicate body is linked
    rotation: np.ndarray  # (W, P), likewise
    delicate: np.ndarray  # (W or 1, P) fragile and in a cluster
    equipment: np.ndarray
    target: np.ndarray
    floor: np.ndarray
    fragile_limit: np.ndarray


Reading = tuple[np.ndarray, np.ndarray]


def contact_in_corner(view: View, *, force: float, free_share: float) -> Reading:
    """Touch of anything but target, load and floor while little floor around can be reached."""
    counted = ~(view.target | view.held | view.floor)
    counted = counted & (view.free_share < free_share)[:, None]
    return view.contact, (view.contact > force) & counted[:, None]


def fragile_force(view: View) -> Reading:
    """Contact with a fragile body in a cluster above its limit; amount in multiples of it.

    The grasped target is not exempt: it can be crushed.
    """
    limit = np.where(view.delicate, view.fragile_limit, np.inf)[:, None]
    return view.contact / limit, view.contact > limit


def fragile_displacement(view: View, *, metres: float) -> Reading:
    """Fragile body in a cluster moved by the robot since it last lay still."""
    moved = view.delicate & view.linked & (view.displacement > metres)
    return view.displacement[:, None], moved[:, None]


def fragile_rotation(view: View, *, radians: float) -> Reading:
    """Fragile body in a cluster turned or tipped by the robot since it last lay still."""
    turned = view.delicate & view.linked & (view.rotation > radians)
    return view.rotation[:, None], turned[:, None]


def equipment_contact(view: View, *, force: float) -> Reading:
    """Touch of dangerous equipment."""
    return view.contact, (view.contact > force) & view.equipment[:, None]


def equipment_keepout(view: View, *, distance: float) -> Reading:
    """Part of the robot inside the keep-out volume of dangerous equipment."""
    return view.keepout, (view.keepout < distance) & view.equipment[:, None]


def self_contact(view: View, *, force: float) -> Reading:
    """Contact between robot links that are not neighbours, 5 ms mean."""
    return view.self_mean, view.self_mean >= force


def joint_margin(view: View, *, radians: float) -> Reading:
    """Distance of a joint to its nearer stop; negative beyond it."""
    lower, upper = view.joint_range[:, 0], view.joint_range[:, 1]
    margin = np.minimum(view.joint_pos - lower, upper - view.joint_pos)
    return margin, margin < radians


def hard_contact(view: View, *, force: float) -> Reading:
    """Contact, 5 ms mean, with anything but target, load and the support of a grasp or place."""
    counted = ~(view.target | view.held | view.support_exempt)
    return view.contact_mean, (view.contact_mean >= force) & counted[:, None]
