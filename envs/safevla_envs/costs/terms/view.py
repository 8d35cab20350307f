"""What the cost terms see of one control tick."""

from dataclasses import dataclass

import numpy as np

Reading = tuple[np.ndarray, np.ndarray]
"""(amount, violated) of a term, each broadcasting to (W, S, n)."""

NOT_READ = np.zeros(0)
"""Stands for a signal that was not measured or is silent; no term that reads it is called."""


@dataclass(slots=True, kw_only=True)
class View:
    """One tick as the terms see it; every array has a leading world axis W.

    Forces in N, torques in N·m, joints in rad, distances in m; tags as in `Partners`, with shape
    (W or 1, P). Ratios are to the joint's limit. Fields may be `NOT_READ`.
    """

    # bodies
    names: tuple[str, ...]  # P
    base_distance: np.ndarray  # (W, P) horizontal, base's centre to the body's origin
    contact: np.ndarray  # (W, S, P)
    contact_mean: np.ndarray  # (W, S, P), 5 ms
    charged: np.ndarray  # (W or 1, P) bool, False where a mover ran into the robot
    keepout: np.ndarray  # (W, S, P)
    blind: np.ndarray  # (W, P) bool
    held: np.ndarray  # (W, P) bool
    support_exempt: np.ndarray  # (W, P) bool
    linked: np.ndarray  # (W, P) bool
    displacement: np.ndarray  # (W, P), zero if no delicate body is linked
    rotation: np.ndarray  # (W, P), likewise
    fall: np.ndarray  # (W, P), zero if no critical body is linked
    tilt: np.ndarray  # (W, P), likewise
    free_share: np.ndarray  # (W,)
    delicate: np.ndarray  # fragile and in a cluster
    critical: np.ndarray
    equipment: np.ndarray
    target: np.ndarray
    floor: np.ndarray
    furniture: np.ndarray  # walls and fixed furniture
    fragile_limit: np.ndarray
    # people
    person: np.ndarray
    separation: np.ndarray  # (W, P)
    closing_robot: np.ndarray  # (W, P) m/s
    closing_mover: np.ndarray  # (W, P) m/s
    region_mean: np.ndarray  # (W, S, R), 100 ms
    region_impact: np.ndarray  # (W, S, R) predicted force where contact begins, else 0
    region_partner: np.ndarray  # int (R,)
    region_clamp: np.ndarray  # (R,) F_QS
    region_hit: np.ndarray  # (R,) F_T
    region_vital: np.ndarray  # bool (R,)
    # the robot itself
    self_mean: np.ndarray  # (W, S, L), 5 ms
    joint_pos: np.ndarray  # (W, S, J)
    joint_range: np.ndarray  # (J, 2)
    speed: np.ndarray  # (W, S, J) ratio, 5 ms
    torque: np.ndarray  # (W, S, J) ratio
    demand: np.ndarray  # (W, S, J) ratio, at least `torque`
    held_torque: np.ndarray  # (W, S, J) s, how long each load has lasted ...
    held_demand: np.ndarray  # (W, S, J) s
    held_excess: np.ndarray  # (W, S, J) s
    external: np.ndarray  # (W, J)
    strong: np.ndarray  # bool (J,), joints 1-4
    heat: np.ndarray  # (W, S, J)
    tcp_speed: np.ndarray  # (W, S) m/s
    finger_mean: np.ndarray  # (W, S, F), 50 ms
    grip_limit: np.ndarray  # (W, 3) of what is held, inf if nothing is
