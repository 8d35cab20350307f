"""What stays the same within a scenario, in the form the model computes with."""

from dataclasses import dataclass

import numpy as np

from safevla_envs.costs.classes import RUGGED
from safevla_envs.costs.regions import REGION_LIMITS
from safevla_envs.costs.signals import Partners, RobotInfo

STRONG_JOINT = 50.0
"""N·m; joints with a higher torque limit have the external-torque cut-offs of joints 1-4."""
CONTINUOUS_SHARE = 0.7
"""Continuous torque of a joint as a share of its limit: assumed, see `arm.py`."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Tags and limits; the first axis of bodies is W or 1.

    Attributes:
        names: P names of the bodies.
        carrier: (..., P) bodies that pass a link on: movable and no movers.
        mover: (..., P), and `any_mover` whether there is one.
        all_charged: (1, P) True, where no mover is to blame.
        tags: (..., P) fields of `View` that come straight from the partners.
        critical: Whether there is a critical body.
        grip_limit: (..., P, 3) N.
        region_partner: int (R,) column of the person each region belongs to.
        region: (R,) fields of `View`: limits of the regions.
        impedance: (R,) N per m/s, force of a free impact.
        joint_range: (J, 2) rad.
        torque_limit: (J,) N·m or None.
        heat_scale: (J,) 1 / (N·m), one over the continuous torque, or None.
        speed_limit: (J,) rad/s or None.
        strong: bool (J,).
        fingers: Number of them.
    """

    names: tuple[str, ...]
    carrier: np.ndarray
    mover: np.ndarray
    any_mover: bool
    all_charged: np.ndarray
    tags: dict[str, np.ndarray]
    critical: bool
    grip_limit: np.ndarray
    region_partner: np.ndarray
    region: dict[str, np.ndarray]
    impedance: np.ndarray
    joint_range: np.ndarray
    torque_limit: np.ndarray | None
    heat_scale: np.ndarray | None
    speed_limit: np.ndarray | None
    strong: np.ndarray
    fingers: int

    @classmethod
    def of(cls, partners: Partners, robot: RobotInfo) -> "Facts":
        """Return the facts of these bodies and this robot."""
        tags = {key: np.atleast_2d(tag) for key, tag in partners.tags.items()}
        grip = partners.grip_limit
        if grip is None:
            grip = np.broadcast_to(RUGGED.grip, (len(partners.names), 3))
        grip = np.asarray(grip, dtype=float)
        limits = [REGION_LIMITS[region.name] for region in partners.regions]
        column = [partners.names.index(region.partner) for region in partners.regions]
        torque, speed = robot.torque_limit, robot.speed_limit
        strong = np.zeros(len(robot.joints), dtype=bool)
        return cls(
            names=partners.names,
            carrier=tags["movable"] & ~tags["mover"],
            mover=tags["mover"],
            any_mover=bool(tags["mover"].any()),
            all_charged=np.ones((1, len(partners.names)), dtype=bool),
            tags={
                "delicate": tags["fragile"] & tags["clustered"],
                "critical": tags["critical"],
                "equipment": tags["equipment"],
                "target": tags["target"],
                "floor": tags["floor"],
                "furniture": tags["fixed"] & ~(tags["equipment"] | tags["target"]),
                "person": tags["person"],
                "fragile_limit": np.atleast_2d(np.asarray(partners.fragile_limit, dtype=float)),
            },
            critical=bool(tags["critical"].any()),
            grip_limit=grip[None] if grip.ndim == 2 else grip,
            region_partner=np.array(column, dtype=np.int64),
            region={
                "region_partner": np.array(column, dtype=np.int64),
                "region_clamp": np.array([limit.quasi_static for limit in limits]),
                "region_hit": np.array([limit.impact_limit for limit in limits]),
                "region_vital": np.array([limit.vital for limit in limits], dtype=bool),
            },
            impedance=np.array([limit.impedance for limit in limits]),
            joint_range=np.asarray(robot.joint_range, dtype=float),
            torque_limit=None if torque is None else np.asarray(torque, dtype=float),
            heat_scale=None if torque is None else 1.0 / (CONTINUOUS_SHARE * np.asarray(torque)),
            speed_limit=None if speed is None else np.asarray(speed, dtype=float),
            strong=strong if torque is None else np.asarray(torque) > STRONG_JOINT,
            fingers=len(robot.fingers or ()),
        )
