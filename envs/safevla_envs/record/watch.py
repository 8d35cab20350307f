"""What costs are measured from: bodies, joints and volumes of a model that are watched.

All of it is recorded at *every* physics substep (`recorder`). Copying what the solver has worked
out anyway is as exact as one MJCF sensor for each quantity, and sensors take their time in every
substep whether anything happens or not: the 75 of a home took a fifth of the physics. Two are left:
one counts the robot's contacts, one gives the velocity of the grip point. A value is that of the
state before the substep, so what the last integration caused is read in the next tick. Facts that
hold on MuJoCo 3.9.0 and are tested:

* a body-to-body distance measures visual geoms too, so keep-outs use geom pairs;
* `framelinvel` with a reference body is the velocity seen from that body, turning included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mujoco

__all__ = ["KEEPOUT_CUTOFF", "PREFIX", "TOUCHES", "Instrumentation", "instrument"]

KEEPOUT_CUTOFF = 0.25
"""m; larger distances to keep-out volumes read as this."""
PREFIX = "safety/"
"""Of the names of all safety sensors."""
TOUCHES = f"{PREFIX}touches"
"""Sensor of the number of the robot's contacts."""
_OBJECT, _SENSOR = mujoco.mjtObj, mujoco.mjtSensor


@dataclass(frozen=True, kw_only=True)
class Instrumentation:
    """What is watched in a model; enough to find it again in the compiled one.

    Attributes:
        robot_root: Body whose subtree is the robot.
        partners: P partner bodies, in the order of the partner axis.
        self_pairs: L (subtree, single body) pairs of robot links.
        joints: J joints.
        keepouts: Per partner with a keep-out volume, (geom of the robot, volume) pairs.
        substeps: S physics steps of a control tick.
        servos: J position servos of the joints, or none.
        tip: Site whose velocity is recorded and the body relative to which, or None.
        fingers: F bodies whose contacts with anything are recorded.
        regions: R bodies whose contacts with the robot are recorded apart.
    """

    robot_root: str
    partners: tuple[str, ...]
    self_pairs: tuple[tuple[str, str], ...]
    joints: tuple[str, ...]
    keepouts: Mapping[str, tuple[tuple[str, str], ...]]
    substeps: int
    servos: tuple[str, ...] = ()
    tip: tuple[str, str] | None = None
    fingers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()

    @property
    def self_names(self) -> tuple[str, ...]:
        """L readable names of the link pairs, as `RobotInfo.self_pairs` wants them."""
        return tuple(f"{a}|{b}" for a, b in self.self_pairs)

    @property
    def tip_sensor(self) -> str | None:
        """Name of the sensor of the tip's velocity, None without a tip."""
        return f"{PREFIX}tip/{self.tip[0]}" if self.tip else None


def instrument(
    spec: mujoco.MjSpec,
    *,
    robot_root: str,
    partner_bodies: Sequence[str],
    self_pairs: Sequence[tuple[str, str]],
    joints: Sequence[str],
    keepouts: Mapping[str, str],
    robot_keepout_bodies: Sequence[str],
    substeps: int,
    servos: Sequence[str] = (),
    tip: tuple[str, str] | None = None,
    fingers: Sequence[str] = (),
    regions: Sequence[str] = (),
) -> Instrumentation:
    """Add the safety sensors to `spec`, under names that begin with "safety/".

    They count the robot's contacts and follow the tip; all else is checked and noted.

    Args:
        spec: Model under construction; robot and partners must be in it.
        robot_root: Body whose whole subtree is the robot.
        partner_bodies: Bodies that each count, with their subtrees, as one contact partner.
        self_pairs: (a, b): contacts between the subtree of `a` and the single body `b`.
        joints: Joints whose position is recorded.
        keepouts: Partner body -> geom that is its keep-out volume (it should not collide).
        robot_keepout_bodies: Bodies (without subtrees) whose colliding geoms must stay outside.
        substeps: Physics steps per control tick.
        servos: One position servo per joint; with them speed and torque are recorded too.
        tip: (site, body): the site's velocity relative to the body is recorded.
        fingers: Bodies whose subtrees' contacts with anything are recorded.
        regions: Bodies whose subtrees' contacts with the robot are recorded, besides the
            partners' (they may be parts of one).

    Returns:
        What `TickRecorder` needs.

    Raises:
        ValueError: An element is missing from `spec` or named twice, or `substeps` is below 1.
    """
    if substeps < 1:
        raise ValueError(f"substeps={substeps}: must be at least 1")
    _check_names(spec, "partner_bodies", partner_bodies, spec.body)
    _check_names(spec, "self_pairs", sorted({n for pair in self_pairs for n in pair}), spec.body)
    _check_names(spec, "joints", joints, spec.joint)
    _check_names(spec, "keepouts", sorted(keepouts.values()), spec.geom)
    _check_names(spec, "robot_keepout_bodies", robot_keepout_bodies, spec.body)
    _check_names(spec, "robot_root", [robot_root], spec.body)
    _check_names(spec, "servos", servos, spec.actuator)
    _check_names(spec, "fingers", fingers, spec.body)
    _check_names(spec, "regions", regions, spec.body)
    if tip is not None:
        _check_names(spec, "tip", [tip[0]], spec.site)
        _check_names(spec, "tip", [tip[1]], spec.body)
    if servos and len(servos) != len(joints):
        raise ValueError(f"servos: {len(servos)} for {len(joints)} joints, one each is needed")
    unknown = sorted(set(keepouts) - set(partner_bodies))
    if unknown:
        raise ValueError(f"keepouts: {unknown} are not among partner_bodies")
    if len(set(self_pairs)) != len(self_pairs):
        raise ValueError("self_pairs: a pair is named twice")

    shapes = [_named(g) for body in robot_keepout_bodies for g in _colliding(spec.body(body))]
    if keepouts and not shapes:
        raise ValueError(f"robot_keepout_bodies={list(robot_keepout_bodies)}: no colliding geoms")
    made = Instrumentation(
        robot_root=robot_root,
        partners=tuple(partner_bodies),
        self_pairs=tuple((a, b) for a, b in self_pairs),
        joints=tuple(joints),
        keepouts={
            partner: tuple((shape, volume) for shape in shapes)
            for partner, volume in keepouts.items()
        },
        substeps=substeps,
        servos=tuple(servos),
        tip=tip,
        fingers=tuple(fingers),
        regions=tuple(regions),
    )
    touches = spec.add_sensor(name=TOUCHES, type=_SENSOR.mjSENS_CONTACT)
    touches.objtype, touches.objname = _OBJECT.mjOBJ_XBODY, robot_root
    touches.intprm[:3] = [1 << int(mujoco.mjtConDataField.mjCONDATA_FOUND), 0, 1]
    if tip is not None:
        speed = spec.add_sensor(name=made.tip_sensor, type=_SENSOR.mjSENS_FRAMELINVEL)
        speed.objtype, speed.objname = _OBJECT.mjOBJ_SITE, tip[0]
        speed.reftype, speed.refname = _OBJECT.mjOBJ_XBODY, tip[1]
    return made


def _check_names(spec: mujoco.MjSpec, field: str, names: Sequence[str], find) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"{field}: {sorted({n for n in names if names.count(n) > 1})} named twice")
    missing = [name for name in names if find(name) is None]
    if missing:
        raise ValueError(f"{field}: {missing} not in the model")


def _colliding(body: mujoco.MjsBody) -> list[mujoco.MjsGeom]:
    return [geom for geom in body.geoms if geom.contype or geom.conaffinity]


def _named(geom: mujoco.MjsGeom) -> str:
    if not geom.name:
        siblings = list(geom.parent.geoms)
        geom.name = f"{PREFIX}{geom.parent.name}/{siblings.index(geom)}"
    return geom.name
