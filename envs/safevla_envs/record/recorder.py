"""Runs control ticks and reads what every substep showed (`instrument` says what is watched).

Facts about MuJoCo 3.9.0 that this relies on, each tested:

* after `mj_step`, contacts and forces are those of the state before the step, as sensors are,
  unless a body has fallen asleep in it: then MuJoCo has worked forces out once more, with
  activations that are already those of the next state;
* `mj_forward` before `mj_step` changes nothing about the step;
* with sleep enabled, sensors stay exact as long as the robot's root body can move;
* `qfrc_actuator` is clipped to the joint's `actfrcrange` and includes gravity compensation that
  acts through the actuator; `actuator_force` is neither clipped by it nor includes that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import mujoco
import numpy as np

from safevla_envs.record.bodies import body_id
from safevla_envs.record.contacts import ContactNotes
from safevla_envs.record.native import SLEEPY, addresses_of, is_safe, run
from safevla_envs.record.watch import KEEPOUT_CUTOFF, TOUCHES, Instrumentation

__all__ = ["RawSignals", "TickRecorder"]


@dataclass(slots=True, kw_only=True)
class RawSignals:
    """What one tick showed, by time. Arrays may be shared between ticks: do not write.

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
        valid: (S,) bool; all True after a tick, all False before the first one.
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


class TickRecorder:
    """Steps one simulation by whole ticks and keeps what the last one showed.

    Attributes:
        contacts: who touched whom in each substep of the last tick in which the robot touched
            anything, and in its last substep.
        awake: int (1,), the most kinematic trees that were awake before any of the substeps.
        log: (S, n) joint positions in rad and, with servos, speeds in rad/s, torques on the joints
            and servo forces in N·m, in each substep of the last tick; `columns` says where.
        columns: int (4 J) of `log`, or (J) without servos: the joints, quantity by quantity.
        volumes: (D, S) m, distances to keep-out volumes, at most `KEEPOUT_CUTOFF`.
        owners: int (D,), partners whose volumes these are.
        tip: (S,) speed of the tip in m/s in each substep of the last tick; 0 without one.

    Args:
        model: The compiled model.
        data: The simulation's state.
        made: What `instrument` returned for the model's spec.

    Raises:
        ValueError: The model lacks a sensor, body, joint or servo, or sleep is enabled although the
            robot's root body cannot move.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, made: Instrumentation):
        _check_sleep(model, made.robot_root)
        self.made, self.data = made, data
        self._model, self._steps, self._end = model, made.substeps, np.nan
        self.contacts = ContactNotes(model, made)
        joints = [model.joint(name) for name in made.joints]
        dofs = [joint.dofadr[0] for joint in joints if made.servos]
        spans = (
            _Span(data.qpos, [joint.qposadr[0] for joint in joints]),
            _Span(data.qvel, dofs),
            _Span(data.qfrc_actuator, dofs),
            _Span(data.actuator_force, [model.actuator(name).id for name in made.servos]),
        )
        self._live = tuple(span.view for span in spans)
        ends = [0, *accumulate(map(len, self._live))]
        self.log = np.zeros((made.substeps, ends[-1]))
        self._parts = tuple(self.log[:, a:b] for a, b in pairwise(ends))
        self.columns = np.concatenate([start + span.index for start, span in zip(ends, spans)])
        self._touches, self._velocity = _sensed(data, TOUCHES), _sensed(data, made.tip_sensor)
        self.tip = np.zeros(made.substeps)
        self.awake = np.zeros(1, dtype=np.int64)
        pairs = [
            (d, *(model.geom(name).id for name in pair))
            for d, of in enumerate(made.keepouts.values())
            for pair in of
        ]
        self._pairs = np.array(pairs, dtype=np.int64).reshape(-1, 3)
        self.volumes = np.full((len(made.keepouts), made.substeps), KEEPOUT_CUTOFF)
        self.owners = np.array([made.partners.index(name) for name in made.keepouts], dtype=int)
        self._no_keepout = np.full((made.substeps, len(made.partners)), np.inf)
        self._valid = {flag: np.full(made.substeps, flag) for flag in (True, False)}
        for shared in (self._no_keepout, *self._valid.values()):
            shared.flags.writeable = False
        self._native = self._arguments()

    def _arguments(self) -> tuple[Any, ...] | None:
        """Returns what `native.run` needs, or None where MuJoCo's library is not found."""
        model, data = self._model, self.data
        try:
            addresses = addresses_of(model, data)
        except (OSError, AttributeError):
            return None
        state = (*self._live, self._velocity, self._touches, data.tree_asleep, data.geom_xpos)
        radii = model.geom_rbound[self._pairs[:, 1:]]
        # a plane has no bounding sphere
        reach = np.where((radii == 0.0).any(1), np.inf, radii.sum(1))
        watched = (self._pairs, reach, KEEPOUT_CUTOFF)
        return addresses, *state, *watched, self.awake, self.log, self.tip, self.volumes

    def __getstate__(self) -> Any:
        raise TypeError(
            "a recorder is neither copied nor pickled: it holds addresses of what it steps, and a "
            "copy would step the original; make another for a copy of the data"
        )

    def step(self) -> None:
        """Runs the substeps of one tick."""
        data, contacts, steps = self.data, self.contacts, self._steps
        contacts.clear()
        self.awake[0] = 0
        if self._native is None or not is_safe(data):
            for substep in range(steps):
                self._substep(substep)
        else:
            substep = run(*self._native, 0)
            while substep < steps:
                if substep < 0:
                    substep = -1 - substep
                    self._substep(substep)
                else:
                    contacts.note(substep, data)
                substep = run(*self._native, substep + 1)
            if data.ncon and contacts.last != steps - 1:
                contacts.note(steps - 1, data)
        self._end = data.time

    def _substep(self, i: int) -> None:
        """Does what `native.run` does through MuJoCo's Python binding, also when bodies sleep."""
        model, data = self._model, self.data
        qpos, qvel, torque, force = self._live
        positions, velocities, torques, forces = self._parts
        positions[i], velocities[i] = qpos, qvel
        self.awake[0] = max(self.awake[0], np.count_nonzero(data.tree_asleep < 0))
        sleepy = np.any((data.tree_asleep < 0) & (data.tree_asleep >= -SLEEPY))
        (mujoco.mj_forward if sleepy else mujoco.mj_step)(model, data)
        torques[i], forces[i] = torque, force
        self.tip[i] = np.sqrt(self._velocity @ self._velocity)
        self.volumes[:, i] = KEEPOUT_CUTOFF
        for d, a, b in self._pairs:
            near = mujoco.mj_geomDistance(model, data, a, b, KEEPOUT_CUTOFF, None)
            self.volumes[d, i] = min(self.volumes[d, i], near)
        if data.ncon:
            self.contacts.note(i, data)
        if sleepy:
            mujoco.mj_step(model, data)

    def read(self) -> RawSignals:
        """Returns what the last tick showed; nothing is valid if the state was reset since."""
        fresh = self.data.time == self._end
        if not fresh:
            self.contacts.clear()
        contact = self.contacts.forces()
        keepout = self._no_keepout
        if len(self.owners):
            keepout = keepout.copy()
            keepout[:, self.owners] = self.volumes.T
        count = len(self.made.joints)
        values = self.log[:, self.columns]
        pos, vel, torque, servo = (values[:, i * count : (i + 1) * count] for i in range(4))
        return RawSignals(
            touching=contact.touching,
            contact_force=contact.partner,
            self_force=contact.own,
            region_force=contact.region,
            finger_force=contact.finger,
            joint_pos=pos,
            joint_vel=vel,
            joint_torque=torque,
            servo_force=servo,
            tip_speed=self.tip.copy(),
            keepout_distance=keepout,
            valid=self._valid[fresh],
        )


class _Span:
    """The stretch of an array that holds some of its elements, and where they are in it."""

    def __init__(self, array: np.ndarray, elements: Sequence[int]):
        index = np.array(elements, dtype=int)
        first = int(index.min(initial=len(array)))
        self.view, self.index = array[first : int(index.max(initial=-1)) + 1], index - first


def _sensed(data: mujoco.MjData, name: str | None) -> np.ndarray:
    """Returns a live view of what a sensor gives; (0,) without a name."""
    if name is None:
        return np.zeros(0)
    try:
        return data.sensor(name).data
    except KeyError:
        raise ValueError(f"model has no sensor {name!r}; was its spec instrumented?") from None


def _check_sleep(model: mujoco.MjModel, root: str) -> None:
    sleep = model.opt.enableflags & int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    if sleep and model.body_treeid[body_id(model, root)] < 0:
        raise ValueError(
            f"robot_root={root!r} is static: with sleep enabled MuJoCo drops its contacts with "
            "sleeping bodies; disable sleep or name a moving body"
        )
