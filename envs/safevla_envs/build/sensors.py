"""The safety sensors' substep history, read once per tick (`instrument` adds them to a model).

Facts about MuJoCo 3.9.0 that this relies on, each tested:

* `found` of a contact sensor is the number of matching contacts, also when there are more than
  slots;
* the history block of a sensor is [user, cursor, S times, S x dim values], oldest first after a
  whole number of ticks; slots not yet filled carry times before the start;
* with sleep enabled, history stays exact as long as the robot's root body can move;
* `jointactuatorfrc` is clipped to the joint's `actfrcrange` and includes gravity compensation that
  acts through the actuator; `actuatorfrc` is neither clipped by it nor includes that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

__all__ = ["CONTACT_SLOTS", "KEEPOUT_CUTOFF", "PREFIX", "Instrumentation", "RawSignals"]
__all__ += ["SensorReader", "body_id", "subtree"]

CONTACT_SLOTS = 16
"""Contacts of one pair that are read; more set `RawSignals.overflow`. A held bottle makes 10."""
KEEPOUT_CUTOFF = 0.25
"""m; larger distances to keep-out volumes read as this."""
PREFIX = "safety/"
"""Of the names of all safety sensors."""
_SLOT_SIZE = 4  # found, normal force, two friction forces


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
        servos: J position servos of the joints, or none.
        tip: Site whose velocity is recorded and the body relative to which, or None.
        fingers: F bodies whose contacts with anything are recorded.
        regions: R bodies whose contacts with the robot are recorded apart.
    """

    robot_root: str
    partners: tuple[str, ...]
    self_pairs: tuple[tuple[str, str], ...]
    joints: tuple[str, ...]
    keepouts: Mapping[str, tuple[str, ...]]
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
    def contact_sensors(self) -> tuple[str, ...]:
        """P sensor names."""
        return tuple(f"{PREFIX}contact/{name}" for name in self.partners)

    @property
    def self_sensors(self) -> tuple[str, ...]:
        """L sensor names."""
        return tuple(f"{PREFIX}self/{name}" for name in self.self_names)

    @property
    def region_sensors(self) -> tuple[str, ...]:
        """R sensor names."""
        return tuple(f"{PREFIX}region/{name}" for name in self.regions)

    @property
    def finger_sensors(self) -> tuple[str, ...]:
        """F sensor names."""
        return tuple(f"{PREFIX}finger/{name}" for name in self.fingers)

    @property
    def joint_sensors(self) -> tuple[str, ...]:
        """J sensor names."""
        return tuple(f"{PREFIX}joint/{name}" for name in self.joints)

    @property
    def speed_sensors(self) -> tuple[str, ...]:
        """J sensor names, or none without servos."""
        return tuple(f"{PREFIX}speed/{name}" for name in self.joints if self.servos)

    @property
    def torque_sensors(self) -> tuple[str, ...]:
        """J sensor names of what acts on the joints, or none without servos."""
        return tuple(f"{PREFIX}torque/{name}" for name in self.joints if self.servos)

    @property
    def servo_sensors(self) -> tuple[str, ...]:
        """J sensor names of what the servos ask for, or none."""
        return tuple(f"{PREFIX}servo/{name}" for name in self.servos)

    @property
    def tip_sensors(self) -> tuple[str, ...]:
        """One sensor name, or none."""
        return (f"{PREFIX}tip/{self.tip[0]}",) if self.tip else ()


@dataclass(slots=True, kw_only=True)
class RawSignals:
    """Sensor history of one tick, by time. Arrays may be shared between ticks: do not write.

    Attributes:
        touching: Whether any force below is above zero.
        contact_force: (S, P) N, sum of normal-force magnitudes between robot and partner.
        self_force: (S, L) N, the same between robot links.
        region_force: (S, R) N, the same between robot and region.
        finger_force: (S, F) N, the same between finger and anything.
        joint_pos: (S, J) rad.
        joint_vel: (S, J) rad/s, or (S, 0) without servos, as the two below.
        joint_torque: (S, J) N·m, what acts on the joints, clipped, with gravity compensation.
        servo_force: (S, J) N·m, what the servos ask for, not clipped, without it.
        tip_speed: (S,) m/s; 0 without a tip.
        keepout_distance: (S, P) m, signed, at most `KEEPOUT_CUTOFF`; +inf without a volume.
        valid: (S,) bool, substeps that began at or after the start of the tick.
        overflow: Whether a pair had more contacts than `CONTACT_SLOTS`, so that its force is low.
    """

    touching: bool
    contact_force: np.ndarray
    self_force: np.ndarray
    region_force: np.ndarray
    finger_force: np.ndarray
    joint_pos: np.ndarray
    joint_vel: np.ndarray
    joint_torque: np.ndarray
    servo_force: np.ndarray
    tip_speed: np.ndarray
    keepout_distance: np.ndarray
    valid: np.ndarray
    overflow: bool


class SensorReader:
    """Reads what `instrument` added: one gather a tick, no loop over sensors.

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
        self._steps, self._count = made.substeps, len(made.partners)
        self._timestep = model.opt.timestep
        contacts = (made.contact_sensors, made.self_sensors, made.region_sensors)
        joints = (made.joint_sensors, made.speed_sensors, made.torque_sensors, made.servo_sensors)
        distances = tuple(made.keepouts.values())
        step = np.arange(self._steps)[:, None]
        columns, self._cut, width = [], [], 0
        groups = (*contacts, made.finger_sensors, *joints, made.tip_sensors, sum(distances, ()))
        for names in groups:
            starts = _history(model, names, self._steps)
            size = model.sensor_dim[_sensor(model, names[0])] if names else 1
            values = starts + 2 + self._steps + step * size
            if names == made.tip_sensors and names:
                values = values + np.arange(3)
            columns.append(values)
            self._cut.append(slice(width, width + values.shape[1]))
            width += values.shape[1]
        self._found = slice(0, self._cut[3].stop)
        first = next((_history(model, n, self._steps)[0] for n in groups if n), None)
        if first is not None:
            columns.append(first + 2 + step)  # the times are the same for all
        self._timed = first is not None
        self._index = np.concatenate(columns, axis=1)
        slots = np.arange(CONTACT_SLOTS) * _SLOT_SIZE + 1
        self._force = self._index[:, self._found].T[:, :, None] + slots  # (sensor, step, slot)
        sizes = [len(names) for names in distances]
        self._distance_starts = np.cumsum([0, *sizes[:-1]]) if sizes else np.zeros(0, dtype=int)
        self._keepout = np.array([made.partners.index(n) for n in made.keepouts], dtype=int)
        self._node = self._nodes(model)
        self._silence = np.zeros((self._steps, self._found.stop))
        self._no_keepout = np.full((self._steps, self._count), np.inf)
        self._all_valid = np.ones(self._steps, dtype=bool)
        for shared in (self._silence, self._no_keepout, self._all_valid):
            shared.flags.writeable = False

    def read(self, data: mujoco.MjData, tick_start: float) -> RawSignals:
        """Return the history since `tick_start` (s, `data.time` before the tick's `mj_step`)."""
        history = data.history
        block = history[self._index]
        found = block[:, self._found]
        force, touching = self._silence, bool(np.count_nonzero(found))
        if touching:
            force = np.zeros(found.shape)
            touched = found.any(0).nonzero()[0]
            force[:, touched] = np.abs(history[self._force[touched]]).sum(2).T
        valid = self._all_valid
        if self._timed and not self._is_whole(block, tick_start):
            times = block[:, -1]
            if (times[1:] < times[:-1]).any():  # not a whole number of ticks: a ring buffer
                order = np.argsort(times)
                block, force, times = block[order], force[order], times[order]
                found = block[:, self._found]
            valid = times > tick_start - 0.5 * self._timestep
        keepout = self._no_keepout
        if len(self._keepout):
            distance = block[:, self._cut[9]]
            keepout = keepout.copy()
            keepout[:, self._keepout] = np.minimum.reduceat(distance, self._distance_starts, axis=1)
        partner, own, region, finger, pos, vel, torque, servo, tip, _ = self._cut
        velocity = block[:, tip]
        return RawSignals(
            touching=touching,
            contact_force=force[:, partner],
            self_force=force[:, own],
            region_force=force[:, region],
            finger_force=force[:, finger],
            joint_pos=block[:, pos],
            joint_vel=block[:, vel],
            joint_torque=block[:, torque],
            servo_force=block[:, servo],
            tip_speed=np.sqrt(np.einsum("ij,ij->i", velocity, velocity)),
            keepout_distance=keepout,
            valid=valid,
            overflow=touching and bool((found[valid] > CONTACT_SLOTS).any()),
        )

    def _is_whole(self, block: np.ndarray, tick_start: float) -> bool:
        """Says that the history is that of one whole tick, in order."""
        first, last = block[0, -1], block[-1, -1]
        length = (self._steps - 1.5) * self._timestep
        return first > tick_start - 0.5 * self._timestep and last - first > length

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
        owners = {body_id(model, made.robot_root): 0}
        owners |= {body_id(model, name): i + 1 for i, name in enumerate(made.partners)}
        for body in range(1, model.nbody):
            node[body] = owners.get(body, node[model.body_parentid[body]])
        return node[model.geom_bodyid]


def _sensor(model: mujoco.MjModel, name: str) -> int:
    sensor = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SENSOR, name)
    if sensor < 0:
        raise ValueError(f"model has no sensor {name!r}; was its spec instrumented?")
    return sensor


def _history(model: mujoco.MjModel, names: Sequence[str], steps: int) -> np.ndarray:
    """Return the start of each sensor's history block."""
    starts = np.zeros(len(names), dtype=int)
    for i, name in enumerate(names):
        sensor = _sensor(model, name)
        if model.sensor_history[sensor, 0] != steps:
            raise ValueError(
                f"sensor {name!r}: history of {model.sensor_history[sensor, 0]}, must be {steps}"
            )
        starts[i] = model.sensor_historyadr[sensor]
    return starts


def _check_sleep(model: mujoco.MjModel, root: str) -> None:
    sleep = model.opt.enableflags & int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    if sleep and model.body_treeid[body_id(model, root)] < 0:
        raise ValueError(
            f"robot_root={root!r} is static: with sleep enabled MuJoCo skips its sensors against "
            "other static bodies; disable sleep or name a moving body"
        )


def body_id(model: mujoco.MjModel, name: str) -> int:
    """Returns a body's id.

    Raises:
        ValueError: if the model has no such body.
    """
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
    if body < 0:
        raise ValueError(f"model has no body {name!r}")
    return body


def subtree(model: mujoco.MjModel, root: int) -> np.ndarray:
    """Returns which bodies are in the subtree of a body, by id: bool (nbody,)."""
    inside = np.zeros(model.nbody, dtype=bool)
    inside[root] = True
    for body in range(root + 1, model.nbody):
        inside[body] |= inside[model.body_parentid[body]]
    return inside
