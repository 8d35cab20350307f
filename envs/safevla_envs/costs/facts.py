"""What the cost model is told of a scenario and a robot, once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from safevla_envs.costs.classes import RUGGED
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
STRONG_JOINT = 50.0
"""N·m; joints with a higher torque limit have the external-torque cut-offs of joints 1-4."""


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
        tags: bool (P,) per key of `PARTNER_TAGS`.
        fragile_limit: (P,) contact force in N above which a fragile partner is harmed; not read for
            others.
        grip_limit: (P, 3) N per finger, minor, moderate and severe grip force of each body's class;
            None: all are rugged.
        regions: R regions of the persons, in the order of `TickLog.region_force`.
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
            if np.shape(tag) != (count,) or np.asarray(tag).dtype != np.bool_:
                raise ValueError(
                    f"partners.tags[{key!r}]: {np.asarray(tag).dtype} {np.shape(tag)}, "
                    f"must be bool ({count},)"
                )
        if np.shape(self.fragile_limit) != (count,):
            raise ValueError(
                f"partners.fragile_limit: {np.shape(self.fragile_limit)}, must be ({count},)"
            )
        limited = self.tags["fragile"] & ~(np.asarray(self.fragile_limit) > 0.0)
        if limited.any():
            bad = [self.names[i] for i in np.flatnonzero(limited)]
            raise ValueError(f"partners.fragile_limit of {bad}: must be > 0 N")
        self._check_grip(count)
        self._check_regions()

    def _check_grip(self, count: int) -> None:
        if self.grip_limit is None:
            return
        limit = np.asarray(self.grip_limit)
        if limit.shape != (count, 3):
            raise ValueError(f"partners.grip_limit: {limit.shape}, must be ({count}, 3)")
        bad = ~((limit[:, 0] > 0.0) & (np.diff(limit, axis=1) >= 0.0).all(1))
        if bad.any():
            named = [self.names[i] for i in np.flatnonzero(bad)]
            raise ValueError(f"partners.grip_limit of {named}: must be > 0 N and ascend")

    def _check_regions(self) -> None:
        if len(set(self.regions)) != len(self.regions):
            raise ValueError("partners.regions: must be unique")
        for region in self.regions:
            if region.partner not in self.names:
                raise ValueError(f"partners.regions: {region.partner!r} is no partner")
            if not self.tags["person"][self.names.index(region.partner)]:
                raise ValueError(f"partners.regions: {region.partner!r} is no person")
            if region.name not in REGION_LIMITS:
                raise ValueError(
                    f"partners.regions: {region.name!r}, allowed are {', '.join(REGION_LIMITS)}"
                )

    def among(self, which: str | Callable[[str], bool]) -> np.ndarray:
        """Returns the bodies with a tag (also `delicate`), or whose names are meant, bool (P,).

        Raises:
            ValueError: There is no such tag.
        """
        if callable(which):
            return np.array([bool(which(name)) for name in self.names], dtype=bool)
        if which not in self.tags and which != "delicate":
            raise ValueError(f"among={which!r}: allowed are {', '.join(PARTNER_TAGS)}, delicate")
        return self.delicate if which == "delicate" else self.tags[which]

    @cached_property
    def delicate(self) -> np.ndarray:
        """Fragile and in a cluster, bool (P,)."""
        return self.tags["fragile"] & self.tags["clustered"]

    @cached_property
    def furniture(self) -> np.ndarray:
        """Walls and fixed furniture, bool (P,)."""
        return self.tags["fixed"] & ~(self.tags["equipment"] | self.tags["target"])

    @cached_property
    def carrier(self) -> np.ndarray:
        """Bodies that pass a link on: movable and no movers, bool (P,)."""
        return self.tags["movable"] & ~self.tags["mover"]

    @cached_property
    def grip(self) -> np.ndarray:
        """`grip_limit` with its default, (P, 3) N."""
        if self.grip_limit is None:
            return np.tile(np.asarray(RUGGED.grip, dtype=float), (len(self.names), 1))
        return np.asarray(self.grip_limit, dtype=float)

    @cached_property
    def region_partner(self) -> np.ndarray:
        """Index of the person each region belongs to, int (R,)."""
        return np.array([self.names.index(r.partner) for r in self.regions], dtype=np.int64)

    @cached_property
    def region_clamp(self) -> np.ndarray:
        """F_QS of each region, (R,) N."""
        return np.array([REGION_LIMITS[r.name].quasi_static for r in self.regions])

    @cached_property
    def region_hit(self) -> np.ndarray:
        """Limit of a free impact, (R,) N."""
        return np.array([REGION_LIMITS[r.name].impact_limit for r in self.regions])

    @cached_property
    def region_vital(self) -> np.ndarray:
        """Whether a region is head or neck, bool (R,)."""
        return np.array([REGION_LIMITS[r.name].vital for r in self.regions], dtype=bool)

    @cached_property
    def impedance(self) -> np.ndarray:
        """Force of a free impact on a region, (R,) N per m/s."""
        return np.array([REGION_LIMITS[r.name].impedance for r in self.regions])


@dataclass(frozen=True, kw_only=True)
class RobotInfo:
    """Names and limits of the robot; static.

    Attributes:
        self_pairs: L names of non-adjacent link pairs, in the order of `TickLog.self_force`.
        joints: J joint names, in the order of `TickLog.joint_pos`.
        joint_range: (J, 2) lower and upper stop in rad; infinite where a joint has none.
        torque_limit: (J,) N·m; None: measures of torque are silent.
        speed_limit: (J,) rad/s; None: measures of joint speed are silent.
        fingers: Names in the order of `TickLog.finger_force`.
        thermal_start: Thermal state of all joints at reset, 1.0 being the continuous limit.
    """

    self_pairs: tuple[str, ...]
    joints: tuple[str, ...]
    joint_range: np.ndarray
    torque_limit: np.ndarray | None = None
    speed_limit: np.ndarray | None = None
    fingers: tuple[str, ...] = ()
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

    @cached_property
    def strong(self) -> np.ndarray:
        """Joints 1-4 of a Panda, bool (J,)."""
        if self.torque_limit is None:
            return np.zeros(len(self.joints), dtype=bool)
        return np.asarray(self.torque_limit) > STRONG_JOINT
