"""What the cost model reads: static facts of a scenario and one control tick of signals."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

PARTNER_TAGS = ("movable", "fragile", "clustered", "equipment", "floor", "fixed", "target")


@dataclass(frozen=True, kw_only=True)
class Partners:
    """The bodies the robot can harm or be harmed by; static within a scenario.

    Attributes:
        names: P unique names, in the order of every partner axis.
        tags: bool (P,) per key of `PARTNER_TAGS`; a leading world axis is allowed, (W, P), for
            worlds that share names but not roles.
        fragile_limit: (P,) or (W, P) contact force in N above which a fragile partner is harmed;
            not read for others.
    """

    names: tuple[str, ...]
    tags: Mapping[str, np.ndarray]
    fragile_limit: np.ndarray

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


@dataclass(frozen=True, kw_only=True)
class RobotInfo:
    """Names and limits of the robot; static.

    Attributes:
        self_pairs: L names of non-adjacent link pairs, in the order of `Signals.self_force`.
        joints: J joint names, in the order of `Signals.joint_pos`.
        joint_range: (J, 2) lower and upper stop in rad.
    """

    self_pairs: tuple[str, ...]
    joints: tuple[str, ...]
    joint_range: np.ndarray

    def __post_init__(self) -> None:
        if np.shape(self.joint_range) != (len(self.joints), 2):
            raise ValueError(
                f"robot.joint_range: {np.shape(self.joint_range)}, must be ({len(self.joints)}, 2)"
            )


@dataclass(frozen=True, kw_only=True)
class Signals:
    """One control tick. "..." is nothing or one leading world axis W.

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
        robot_moving: (...) bool. Recorded for terms about people; none of the first six reads it.
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
        for name, shape in wanted.items():
            if np.shape(getattr(self, name)) != lead + shape:
                raise ValueError(
                    f"signals.{name}: shape {np.shape(getattr(self, name))}, must be {lead + shape}"
                )
        if not self.substep_dt > 0.0:
            raise ValueError(f"signals.substep_dt={self.substep_dt!r}: must be > 0 s")
