"""What the cost model reads: static facts of a scenario and one control tick of signals."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from safevla_envs.costs.regions import REGION_LIMITS

PARTNER_TAGS = (
    "movable",
    "fragile",
    "clustered",
    "equipment",
    "floor",
    "fixed",
    "target",
    "critical",
    "person",
    "mover",
)
"""critical: movable, with a support margin below 3 cm at reset. mover: moves by itself (a person or
moving equipment); never robot-linked, and passes no links on."""


@dataclass(frozen=True, kw_only=True)
class BodyRegion:
    """A body region of a person; its limits are in `regions.REGION_LIMITS`.

    Attributes:
        partner: Name of the person.
        name: Key of `REGION_LIMITS`.
    """

    partner: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Partners:
    """The bodies the robot can harm or be harmed by; static within a scenario.

    Attributes:
        names: P unique names, in the order of every partner axis.
        tags: bool (P,) per key of `PARTNER_TAGS`; a leading world axis is allowed, (W, P), for
            worlds that share names but not roles.
        fragile_limit: (P,) or (W, P) contact force in N above which a fragile partner is harmed;
            not read for others.
        grip_limit: (P, 3) or (W, P, 3) N per finger, minor, moderate and severe grip force of each
            body's class; None: all are rugged.
        regions: R regions of the persons, in the order of `Signals.region_force`.
    """

    names: tuple[str, ...]
    tags: Mapping[str, np.ndarray]
    fragile_limit: np.ndarray
    grip_limit: np.ndarray | None = None
    regions: tuple[BodyRegion, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.names)
        if len(set(self.names)) != count:
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            raise ValueError(f"partners.names: {twice} occur more than once, must be unique")
        if set(self.tags) != set(PARTNER_TAGS):
            raise ValueError(
                f"partners.tags: got {sorted(self.tags)}, must be {sorted(PARTNER_TAGS)}"
            )
        for key, tag in self.tags.items():
            if np.shape(tag)[-1:] != (count,) or np.asarray(tag).dtype != np.bool_:
                raise ValueError(
                    f"partners.tags[{key!r}]: {np.asarray(tag).dtype} {np.shape(tag)}, "
                    f"must be bool (..., {count})"
                )
        if np.shape(self.fragile_limit)[-1:] != (count,):
            raise ValueError(
                f"partners.fragile_limit: {np.shape(self.fragile_limit)}, must be (..., {count})"
            )
        limited = self.tags["fragile"] & ~(np.asarray(self.fragile_limit) > 0.0)
        if limited.any():
            bad = sorted({self.names[i] for i in np.nonzero(limited)[-1]})
            raise ValueError(f"partners.fragile_limit of {bad}: must be > 0 N")
        self._check_grip(count)
        self._check_regions()

    def _check_grip(self, count: int) -> None:
        if self.grip_limit is None:
            return
        limit = np.asarray(self.grip_limit)
        if limit.shape[-2:] != (count, 3):
            raise ValueError(f"partners.grip_limit: {limit.shape}, must be (..., {count}, 3)")
        bad = ~((limit[..., 0] > 0.0) & (np.diff(limit, axis=-1) >= 0.0).all(-1))
        if bad.any():
            named = sorted({self.names[i] for i in np.nonzero(bad)[-1]})
            raise ValueError(f"partners.grip_limit of {named}: must be > 0 N and ascend")

    def _check_regions(self) -> None:
        if len(set(self.regions)) != len(self.regions):
            raise ValueError("partners.regions: must be unique")
        for region in self.regions:
            if region.partner not in self.names:
                raise ValueError(f"partners.regions: {region.partner!r} is no partner")
            if not np.any(self.tags["person"][..., self.names.index(region.partner)]):
                raise ValueError(f"partners.regions: {region.partner!r} is no person")
            if region.name not in REGION_LIMITS:
                raise ValueError(
                    f"partners.regions: {region.name!r}, allowed are {', '.join(REGION_LIMITS)}"
                )


@dataclass(frozen=True, kw_only=True)
class RobotInfo:
    """Names and limits of the robot; static.

    Attributes:
        self_pairs: L names of non-adjacent link pairs, in the order of `Signals.self_force`.
        joints: J joint names, in the order of `Signals.joint_pos`.
        joint_range: (J, 2) lower and upper stop in rad.
        torque_limit: (J,) N·m; None: terms about torque are silent.
        speed_limit: (J,) rad/s; None: terms about joint speed are silent.
        fingers: Names in the order of `Signals.finger_force`; None is the same as none.
        thermal_start: Thermal state of all joints at reset, 1.0 being the continuous limit.
    """

    self_pairs: tuple[str, ...]
    joints: tuple[str, ...]
    joint_range: np.ndarray
    torque_limit: np.ndarray | None = None
    speed_limit: np.ndarray | None = None
    fingers: tuple[str, ...] | None = ()
    thermal_start: float = 0.0

    def __post_init__(self) -> None:
        if np.shape(self.joint_range) != (len(self.joints), 2):
            raise ValueError(
                f"robot.joint_range: {np.shape(self.joint_range)}, must be ({len(self.joints)}, 2)"
            )
        for name in ("torque_limit", "speed_limit"):
            limit = getattr(self, name)
            if limit is None:
                continue
            if np.shape(limit) != (len(self.joints),):
                raise ValueError(f"robot.{name}: {np.shape(limit)}, must be ({len(self.joints)},)")
            if not (np.asarray(limit) > 0.0).all():
                raise ValueError(f"robot.{name}={limit!r}: must be > 0")
        if not 0.0 <= self.thermal_start < np.inf:
            raise ValueError(f"robot.thermal_start={self.thermal_start!r}: must be >= 0")


@dataclass(frozen=True, kw_only=True)
class Signals:
    """One control tick. "..." is nothing or one leading world axis W.

    A field that is None was not measured: measures that read it are silent.

    A substep's value is that of the state *before* the substep, as MuJoCo's sensor history gives
    it; what the last integration caused is in the next tick.

    Attributes:
        substep_dt: Length of a substep in s.
        time: (...) start of the tick in s.
        contact_force: (..., S, P) N, sum of normal-force magnitudes robot <-> partner.
        self_force: (..., S, L) N, the same between non-adjacent robot links.
        joint_pos: (..., S, J) rad.
        keepout_distance: (..., S, P) m, signed distance robot <-> keep-out volume of the partner,
            negative inside, +inf where it has none.
        valid: (..., S) bool, substeps that belong to this tick; invalid ones must come first
            (history slots not yet filled after a reset, or older than the tick).
        body_pos: (..., P, 3) m at the end of the tick.
        body_quat: (..., P, 4) unit quaternion wxyz at the end of the tick.
        body_speed: (..., P) m/s, the greater of linear speed and 0.1 m x angular speed.
        contact_graph: (..., P + 1, P + 1) bool, symmetric; 0 is the robot with what it holds.
        free_share: (...) share in [0, 1] of the floor around the base that the base can reach.
        held: (..., P) bool, what the gripper holds.
        support_exempt: (..., P) bool, support of an object within 10 cm of its grasp or place.
        robot_moving: (...) bool. Recorded; no term reads it.
        base_distance: (..., P) m, horizontal distance from the base's centre to the origin of each
            body at the end of the tick. No built-in term reads it.
        blind: (..., P) bool, seen at some action of the last 20 and at none of the last 2; may be
            False for bodies that the robot does not touch in this tick.
        separation: (..., P) m, distance robot <-> mover at the end of the tick, +inf for others.
        closing_robot: (..., P) m/s, the part of the closing speed that the robot's own motion
            makes, >= 0; 0 for bodies that are no movers.
        closing_mover: (..., P) m/s, the mover's own part, >= 0.
        region_force: (..., S, R) N, sum of normal-force magnitudes robot <-> region of a person.
        joint_vel: (..., S, J) rad/s.
        joint_torque: (..., S, J) N·m, what the actuators apply (clipped).
        joint_demand: (..., S, J) N·m, the same before clipping, gravity compensation included.
        external_torque: (..., J) N·m, J^T f of the robot's contacts at the end of the tick.
        tcp_speed: (..., S) m/s, grip point relative to the arm's base.
        finger_force: (..., S, F) N, each finger's sum of normal forces with anything.
    """

    substep_dt: float
    time: np.ndarray | float
    contact_force: np.ndarray
    self_force: np.ndarray
    joint_pos: np.ndarray
    keepout_distance: np.ndarray
    valid: np.ndarray
    body_pos: np.ndarray
    body_quat: np.ndarray
    body_speed: np.ndarray
    contact_graph: np.ndarray
    free_share: np.ndarray | float
    held: np.ndarray
    support_exempt: np.ndarray
    robot_moving: np.ndarray | bool
    base_distance: np.ndarray | None = None
    blind: np.ndarray | None = None
    separation: np.ndarray | None = None
    closing_robot: np.ndarray | None = None
    closing_mover: np.ndarray | None = None
    region_force: np.ndarray | None = None
    joint_vel: np.ndarray | None = None
    joint_torque: np.ndarray | None = None
    joint_demand: np.ndarray | None = None
    external_torque: np.ndarray | None = None
    tcp_speed: np.ndarray | None = None
    finger_force: np.ndarray | None = None

    def check(self, partners: Partners, robot: RobotInfo) -> None:
        """Raise `ValueError` naming the field whose shape does not fit `partners` and `robot`."""
        lead, count = np.shape(self.time), len(partners.names)
        if len(lead) > 1:
            raise ValueError(f"signals.time: shape {lead}, at most one world axis is allowed")
        steps = np.shape(self.valid)[-1] if np.ndim(self.valid) else 0
        wanted = {
            "contact_force": (steps, count),
            "self_force": (steps, len(robot.self_pairs)),
            "joint_pos": (steps, len(robot.joints)),
            "keepout_distance": (steps, count),
            "valid": (steps,),
            "body_pos": (count, 3),
            "body_quat": (count, 4),
            "body_speed": (count,),
            "contact_graph": (count + 1, count + 1),
            "free_share": (),
            "held": (count,),
            "support_exempt": (count,),
            "robot_moving": (),
        }
        optional = {
            "base_distance": (count,),
            "blind": (count,),
            "separation": (count,),
            "closing_robot": (count,),
            "closing_mover": (count,),
            "region_force": (steps, len(partners.regions)),
            "joint_vel": (steps, len(robot.joints)),
            "joint_torque": (steps, len(robot.joints)),
            "joint_demand": (steps, len(robot.joints)),
            "external_torque": (len(robot.joints),),
            "tcp_speed": (steps,),
            "finger_force": (steps, len(robot.fingers or ())),
        }
        wanted |= {k: v for k, v in optional.items() if getattr(self, k) is not None}
        for name, shape in wanted.items():
            if np.shape(getattr(self, name)) != lead + shape:
                raise ValueError(
                    f"signals.{name}: shape {np.shape(getattr(self, name))}, must be {lead + shape}"
                )
        if not self.substep_dt > 0.0:
            raise ValueError(f"signals.substep_dt={self.substep_dt!r}: must be > 0 s")
