"""Cost terms: small pure functions from a view of one tick to (amount, violated).

`amount` is what severity and peaks are read from, `violated` whether the rule is broken; both
broadcast to (W, S, n) over worlds, substeps and the measure's axis. `hazards.py` and
`self_damage.py` of the package above bind them to thresholds.
"""

from safevla_envs.costs.terms.bodies import (
    blind_contact,
    contact_in_corner,
    critical_fall,
    critical_tilt,
    equipment_contact,
    equipment_keepout,
    fragile_displacement,
    fragile_force,
    fragile_rotation,
)
from safevla_envs.costs.terms.people import (
    near_person,
    person_impact,
    person_pressed,
    protective_distance,
    separation_share,
)
from safevla_envs.costs.terms.robot import (
    excess_demand,
    external_torque,
    finger_grip,
    hard_contact,
    held_demand,
    held_torque,
    joint_heat,
    joint_margin,
    joint_speed,
    saturation,
    self_contact,
    tcp_speed,
)
from safevla_envs.costs.terms.view import NOT_READ, Reading, View

__all__ = [
    "NOT_READ",
    "Reading",
    "View",
    "blind_contact",
    "contact_in_corner",
    "critical_fall",
    "critical_tilt",
    "equipment_contact",
    "equipment_keepout",
    "excess_demand",
    "external_torque",
    "finger_grip",
    "fragile_displacement",
    "fragile_force",
    "fragile_rotation",
    "hard_contact",
    "held_demand",
    "held_torque",
    "joint_heat",
    "joint_margin",
    "joint_speed",
    "near_person",
    "person_impact",
    "person_pressed",
    "protective_distance",
    "saturation",
    "self_contact",
    "separation_share",
    "tcp_speed",
]
