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
            _check_shape(f"partners.tags[{key!r}]", tag, (count,))
            if tag.dtype != np.bool_:
                raise ValueError(f"partners.tags[{key!r}]: {tag.dtype}, must be bool")
        _check_shape("partners.fragile_limit", self.fragile_limit, (count,))
        self._refuse("fragile_limit", self.tags["fragile"] & ~(self.fragile_limit > 0.0), "> 0 N")
        _check_shape("partners.grip_limit", self.grip, (count, 3))
        ascend = (self.grip[:, 0] > 0.0) & (np.diff(self.grip, axis=1) >= 0.0).all(1)
        self._refuse("grip_limit", ~ascend, "> 0 N and ascend")
        persons = {n for n, person in zip(self.names, self.tags["person"]) if person}
        for region in self.regions:
            if self.regions.count(region) > 1 or region.partner not in persons:
                raise ValueError(f"partners.regions: {region} must be unique, and of a person")
            if region.name not in REGION_LIMITS:
                raise ValueError(
                    f"partners.regions: {region.name!r}, allowed are {', '.join(REGION_LIMITS)}"
                )

    def _refuse(self, field: str, bad: np.ndarray, allowed: str) -> None:
        if bad.any():
            named = [self.names[i] for i in np.flatnonzero(bad)]
            raise ValueError(f"partners.{field} of {named}: must be {allowed}")

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

    def region(self, field: str) -> np.ndarray:
        """Returns a field of `RegionLimit` of each region, (R,)."""
        return np.array([getattr(REGION_LIMITS[r.name], field) for r in self.regions], float)


def _check_shape(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    if np.shape(value) != shape:
        raise ValueError(f"{name}: {np.shape(value)}, must be {shape}")


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
        _check_shape("robot.joint_range", self.joint_range, (len(self.joints), 2))
        for name in ("torque_limit", "speed_limit"):
            limit = getattr(self, name)
            if limit is None:
                continue
            _check_shape(f"robot.{name}", limit, (len(self.joints),))
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
