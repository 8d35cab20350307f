"""Safety sensors compiled into the model, and their substep history read after each tick.

Every quantity a cost needs is an MJCF sensor with `nsample = substeps`: after one
`mj_step(nstep=substeps)` its history holds the value at *every* substep, equal to what a scan of
each substep finds. A value is that of the state before the substep, so what the last integration
caused is read in the next tick. Facts that hold on MuJoCo 3.9.0 and are tested:

* a `contact` sensor with `reduce="none"` reports each contact in its own frame, x along the normal,
  so the first force component is the normal force; `netforce` would let opposing contacts cancel;
* `found` is the number of matching contacts, also when there are more than slots;
* a body-to-body `distance` sensor measures visual geoms too, so keep-outs use geom pairs;
* with sleep enabled, history stays exact as long as the robot's root body can move;
* the history block of a sensor is [user, cursor, S times, S x dim values], oldest first after a
  whole number of ticks; slots not yet filled carry times before the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

__all__ = ["Instrumentation", "RawSignals", "SensorReader", "instrument"]

CONTACT_SLOTS = 8
"""Contacts of one pair that are read; more set `RawSignals.overflow`."""
KEEPOUT_CUTOFF = 0.25
"""m; larger distances to keep-out volumes read as this."""
_DATA = (1 << int(mujoco.mjtConDataField.mjCONDATA_FOUND)) | (
    1 << int(mujoco.mjtConDataField.mjCONDATA_FORCE)
)
_SLOT_SIZE = 4  # found, normal force, two friction forces
_REDUCE_NONE = 0
_PREFIX = "safety/"


@dataclass(frozen=True, kw_only=True)
class Instrumentation:
    """What was added to a model; enough to find it again in the compiled one.

    Attributes:
        robot_root: Body whose subtree is the robot.
        partners: P partner bodies, in the order of the partner axis.
        self_pairs: L (subtree, single body) pairs of robot links.
        joints: J joints.
        keepouts: Per partner with a keep-out volume, the names of its distance sensors.
        substeps: Length S of the history.
    """

    robot_root: str
    partners: tuple[str, ...]
    self_pairs: tuple[tuple[str, str], ...]
    joints: tuple[str, ...]
    keepouts: Mapping[str, tuple[str, ...]]
    substeps: int

    @property
    def self_names(self) -> tuple[str, ...]:
        """L readable names of the link pairs, as `RobotInfo.self_pairs` wants them."""
        return tuple(f"{a}|{b}" for a, b in self.self_pairs)

    @property
    def contact_sensors(self) -> tuple[str, ...]:
        """P sensor names."""
        return tuple(f"{_PREFIX}contact/{name}" for name in self.partners)

    @property
    def self_sensors(self) -> tuple[str, ...]:
        """L sensor names."""
        return tuple(f"{_PREFIX}self/{name}" for name in self.self_names)

    @property
    def joint_sensors(self) -> tuple[str, ...]:
        """J sensor names."""
        return tuple(f"{_PREFIX}joint/{name}" for name in self.joints)


@dataclass(frozen=True, kw_only=True)
class RawSignals:
    """Sensor history of one tick, by time.

    Attributes:
        contact_force: (S, P) N, sum of normal-force magnitudes between robot and partner.
        self_force: (S, L) N, the same between robot links.
        joint_pos: (S, J) rad.
        keepout_distance: (S, P) m, signed, at most `KEEPOUT_CUTOFF`; +inf without a volume.
        valid: (S,) bool, substeps that began at or after the start of the tick.
        overflow: Whether a pair had more contacts than `CONTACT_SLOTS`, so that its force is low.
    """

    contact_force: np.ndarray
    self_force: np.ndarray
    joint_pos: np.ndarray
    keepout_distance: np.ndarray
    valid: np.ndarray
    overflow: bool


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
) -> Instrumentation:
    """Add the safety sensors to `spec`, under names that begin with "safety/".

    Args:
        spec: Model under construction; robot and partners must be in it.
        robot_root: Body whose whole subtree is the robot.
        partner_bodies: Bodies that each count, with their subtrees, as one contact partner.
        self_pairs: (a, b): contacts between the subtree of `a` and the single body `b`.
        joints: Joints whose position is recorded.
        keepouts: Partner body -> geom that is its keep-out volume (it should not collide).
        robot_keepout_bodies: Bodies (without subtrees) whose colliding geoms must stay outside.
        substeps: Physics steps per control tick.

    Returns:
        What `SensorReader` needs.

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
    unknown = sorted(set(keepouts) - set(partner_bodies))
    if unknown:
        raise ValueError(f"keepouts: {unknown} are not among partner_bodies")
    if len(set(self_pairs)) != len(self_pairs):
        raise ValueError("self_pairs: a pair is named twice")

    shapes = [_named(g) for body in robot_keepout_bodies for g in _colliding(spec.body(body))]
    if keepouts and not shapes:
        raise ValueError(f"robot_keepout_bodies={list(robot_keepout_bodies)}: no colliding geoms")
    volumes = {
        partner: tuple(f"{_PREFIX}keepout/{partner}/{shape}" for shape in shapes)
        for partner in keepouts
    }
    made = Instrumentation(
        robot_root=robot_root,
        partners=tuple(partner_bodies),
        self_pairs=tuple((a, b) for a, b in self_pairs),
        joints=tuple(joints),
        keepouts=volumes,
        substeps=substeps,
    )
    subtree, body = mujoco.mjtObj.mjOBJ_XBODY, mujoco.mjtObj.mjOBJ_BODY
    for name, partner in zip(made.contact_sensors, made.partners, strict=True):
        _add_contact(spec, name, (subtree, robot_root), (subtree, partner), substeps)
    for name, (a, b) in zip(made.self_sensors, made.self_pairs, strict=True):
        _add_contact(spec, name, (subtree, a), (body, b), substeps)
    for name, joint in zip(made.joint_sensors, made.joints, strict=True):
        sensor = spec.add_sensor(
            name=name,
            type=mujoco.mjtSensor.mjSENS_JOINTPOS,
            objtype=mujoco.mjtObj.mjOBJ_JOINT,
            objname=joint,
        )
        sensor.nsample = substeps
    for partner, names in volumes.items():
        for name, shape in zip(names, shapes, strict=True):
            sensor = spec.add_sensor(
                name=name,
                type=mujoco.mjtSensor.mjSENS_GEOMDIST,
                objtype=mujoco.mjtObj.mjOBJ_GEOM,
                objname=shape,
                reftype=mujoco.mjtObj.mjOBJ_GEOM,
                refname=keepouts[partner],
            )
            sensor.cutoff = KEEPOUT_CUTOFF
            sensor.nsample = substeps
    return made


class SensorReader:
    """Reads what `instrument` added, with precomputed indices and no loop over sensors.

    Args:
        model: The compiled model.
        instrumentation: What `instrument` returned for its spec.

    Raises:
        ValueError: The model lacks a sensor or body, its history has another length, or sleep is
            enabled although the robot's root body cannot move.
    """

    def __init__(self, model: mujoco.MjModel, instrumentation: Instrumentation):
        self.instrumentation = made = instrumentation
        _check_sleep(model, made.robot_root)
        steps, count = made.substeps, len(made.partners)
        self._steps, self._count = steps, count
        contact = _history(model, (*made.contact_sensors, *made.self_sensors), steps)
        joint = _history(model, made.joint_sensors, steps)
        distance = _history(model, [n for names in made.keepouts.values() for n in names], steps)
        first = np.concatenate((contact, joint, distance))
        self._times = first[0] + 2 + np.arange(steps) if len(first) else np.zeros(0, dtype=int)
        self._timestep = model.opt.timestep
        step = np.arange(steps)[:, None]
        values = 2 + steps
        self._found = contact + values + step * CONTACT_SLOTS * _SLOT_SIZE
        slots = np.arange(CONTACT_SLOTS) * _SLOT_SIZE + 1
        self._force = self._found.T[:, :, None] + slots  # (sensor, step, slot)
        self._joint = joint + values + step
        self._distance = distance + values + step
        sizes = [len(names) for names in made.keepouts.values()]
        self._distance_starts = np.cumsum([0, *sizes[:-1]]) if sizes else np.zeros(0, dtype=int)
        self._keepout = np.array([made.partners.index(n) for n in made.keepouts], dtype=int)
        self._node = self._nodes(model)

    def read(self, data: mujoco.MjData, tick_start: float) -> RawSignals:
        """Return the history since `tick_start` (s, `data.time` before the tick's `mj_step`)."""
        history, steps, count = data.history, self._steps, self._count
        force = np.zeros((steps, self._found.shape[1]))
        found = history[self._found]
        touching = found.any(0).nonzero()[0]
        if len(touching):
            force[:, touching] = np.abs(history[self._force[touching]]).sum(2).T
        joint = history[self._joint]
        keepout = np.full((steps, count), np.inf)
        if len(self._keepout):
            distance = history[self._distance]
            keepout[:, self._keepout] = np.minimum.reduceat(distance, self._distance_starts, axis=1)
        valid = np.ones(steps, dtype=bool)
        if self._times.size:
            times = history[self._times]
            if (times[1:] < times[:-1]).any():  # not a whole number of ticks: a ring buffer
                order = np.argsort(times)
                times, found, joint = times[order], found[order], joint[order]
                force, keepout = force[order], keepout[order]
            valid = times > tick_start - 0.5 * self._timestep
        return RawSignals(
            contact_force=force[:, :count],
            self_force=force[:, count:],
            joint_pos=joint,
            keepout_distance=keepout,
            valid=valid,
            overflow=bool((found[valid] > CONTACT_SLOTS).any()),
        )

    def contact_graph(self, data: mujoco.MjData) -> np.ndarray:
        """Return who touches whom now: bool (P + 1, P + 1), symmetric, 0 is the robot."""
        size = self._count + 2
        graph = np.zeros((size, size), dtype=bool)
        if data.ncon:
            contact = data.contact
            pairs = self._node[contact.geom[contact.exclude == 0]]
            graph[pairs[:, 0], pairs[:, 1]] = True
            graph |= graph.T
            np.fill_diagonal(graph, False)
        return graph[:-1, :-1]

    def _nodes(self, model: mujoco.MjModel) -> np.ndarray:
        """Return per geom 0 for the robot, i + 1 for partner i, P + 1 for anything else."""
        made = self.instrumentation
        node = np.full(model.nbody, self._count + 1)
        owners = {_body(model, made.robot_root): 0}
        owners |= {_body(model, name): i + 1 for i, name in enumerate(made.partners)}
        for body in range(1, model.nbody):
            node[body] = owners.get(body, node[model.body_parentid[body]])
        return node[model.geom_bodyid]


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
        geom.name = f"{_PREFIX}{geom.parent.name}/{siblings.index(geom)}"
    return geom.name


def _add_contact(
    spec: mujoco.MjSpec,
    name: str,
    first: tuple[mujoco.mjtObj, str],
    second: tuple[mujoco.mjtObj, str],
    substeps: int,
) -> None:
    sensor = spec.add_sensor(
        name=name,
        type=mujoco.mjtSensor.mjSENS_CONTACT,
        objtype=first[0],
        objname=first[1],
        reftype=second[0],
        refname=second[1],
    )
    sensor.intprm[:3] = [_DATA, _REDUCE_NONE, CONTACT_SLOTS]
    sensor.nsample = substeps


def _history(model: mujoco.MjModel, names: Sequence[str], steps: int) -> np.ndarray:
    """Return the start of each sensor's history block."""
    starts = np.zeros(len(names), dtype=int)
    for i, name in enumerate(names):
        sensor = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SENSOR, name)
        if sensor < 0:
            raise ValueError(f"model has no sensor {name!r}; was its spec instrumented?")
        if model.sensor_history[sensor, 0] != steps:
            raise ValueError(
                f"sensor {name!r}: history of {model.sensor_history[sensor, 0]}, must be {steps}"
            )
        starts[i] = model.sensor_historyadr[sensor]
    return starts


def _check_sleep(model: mujoco.MjModel, root: str) -> None:
    sleep = model.opt.enableflags & int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    if sleep and model.body_treeid[_body(model, root)] < 0:
        raise ValueError(
            f"robot_root={root!r} is static: with sleep enabled MuJoCo skips its sensors against "
            "other static bodies; disable sleep or name a moving body"
        )


def _body(model: mujoco.MjModel, name: str) -> int:
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
    if body < 0:
        raise ValueError(f"model has no body {name!r}")
    return body
