"""Runs control ticks and records what every substep showed.

Facts about MuJoCo 3.9.0 that this relies on, each tested:

* after `mj_step`, contacts, forces and velocities are those of the state before the step, as
  sensors are, unless a body has fallen asleep in it: then MuJoCo has worked forces out once more,
  with activations that are already those of the next state;
* `mj_forward` before `mj_step` changes nothing about the step;
* with sleep enabled, sensors stay exact as long as the robot's root body can move;
* `qfrc_actuator` is clipped to the joint's `actfrcrange` and includes gravity compensation that
  acts through the actuator; `actuator_force` is neither clipped by it nor includes that;
* a body-to-body distance measures visual geoms too, so keep-outs use geom pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from safevla_envs.record.addresses import addresses_of, is_safe
from safevla_envs.record.contacts import add_edges, add_forces
from safevla_envs.record.distance import distance
from safevla_envs.record.native import Ids, Live, Rows, after, before, run
from safevla_envs.record.watch import KEEPOUT_CUTOFF, Watch

__all__ = ["Recorder"]


class Recorder:
    """Steps one simulation by whole ticks, or watches somebody else step it.

    `tick()` runs the substeps of a tick. Around steps that are not ours: `clear()`, then for each
    substep i `before(i)`, the step, `after(i)`.

    Attributes:
        rows: joints, tip and volumes in each substep of the last tick.
        silent: whether the robot touched nothing in the tick, nor itself.
        contact_force: (S, P) N, robot and partners, as all forces a sum of the magnitudes
            of normal forces.
        arm_force: (S, P) N, arm, hand or load and partners.
        region_force: (S, R) N, robot and regions.
        self_force: (S, L) N, robot links.
        finger_force: (S, F) N, finger and anything.
        contact_speed: (S, P) m/s at which base or torso ran into a partner, 0 without contact.
        loaded: whether any partner counts as the robot's.

    Args:
        model: The compiled model.
        data: The simulation's state.
        watch: What to record.
        substeps: Physics steps of a control tick, S.
        torque: What contacts exert on the robot's joints, (J,) N·m, of a state whose forces are
            worked out.

    Raises:
        ValueError: `substeps` is below 1.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        watch: Watch,
        substeps: int,
        torque: Callable[[mujoco.MjData], np.ndarray] | None = None,
    ):
        if substeps < 1:
            raise ValueError(f"substeps={substeps}: must be at least 1")
        self.watch, self.data, self._model, self.substeps = watch, data, model, substeps
        self._torque_of = torque
        joints, servos = len(watch.qpos), len(watch.dofs)
        self.rows = Rows(
            np.zeros((substeps, joints)),
            *(np.zeros((substeps, servos)) for _ in range(4)),
            tip_speed=np.zeros(substeps),
            volumes=np.full((len(watch.owners), substeps), KEEPOUT_CUTOFF),
            awake=np.zeros(1, dtype=np.int64),
        )
        self._always = np.ones(1)
        self._touches = self._always if watch.touches < 0 else data.sensordata[watch.touches :][:1]
        arrays: Any = {name: getattr(data, name) for name in Live._fields if name != "touches"}
        self._live = Live(**arrays, touches=self._touches)
        root = int(model.body_rootid[model.body(watch.parts.root).id])
        ids = (watch.qpos, watch.dofs, watch.servos, watch.tip, root, KEEPOUT_CUTOFF)
        self._ids = Ids(*ids, volumes=np.zeros((0, 3), dtype=np.int64), reach=np.zeros(0))
        partners = len(watch.partners)
        widths = (partners + watch.regions, partners, watch.outer.shape[1], watch.fingers.shape[1])
        self._sums = tuple(np.zeros((substeps, width)) for width in (*widths, partners))
        whole, self.arm_force, self.self_force, self.finger_force, self.contact_speed = self._sums
        self.contact_force, self.region_force = whole[:, :partners], whole[:, partners:]
        self._motion = (watch.body, data.cvel, data.subtree_com, model.body_rootid)
        self._held: bytes | None = None
        self.carry(np.zeros(partners, dtype=bool))
        self._pyramidal = bool(model.opt.cone == mujoco.mjtCone.mjCONE_PYRAMIDAL)
        try:
            self._addresses = addresses_of(model, data)
        except (OSError, AttributeError):  # MuJoCo's library is not where it usually is
            self._addresses = None
        self.silent = True
        self.clear()

    def tick(self) -> None:
        """Runs the substeps of one tick."""
        self.clear()
        data, steps = self.data, self.substeps
        if self._addresses is None or not is_safe(data):
            for substep in range(steps):
                self._substep(substep)
            return
        native = (self._addresses, self._live, self._ids, self.rows)
        substep = run(*native, 0)
        while substep < steps:
            if substep < 0:
                substep = -1 - substep
                self._substep(substep)
            else:
                self._note_contacts(substep)
            substep = run(*native, substep + 1)
        if data.ncon and self._end is None:
            self._note_contacts(steps - 1)

    def clear(self) -> None:
        """Begins a tick."""
        if not self.silent:
            for sums in self._sums:
                sums[:] = 0.0
        self.silent, self.rows.awake[0] = True, 0
        self._end: tuple[np.ndarray, np.ndarray] | None = None
        self._torque: np.ndarray | None = None

    def carry(self, held: np.ndarray) -> None:
        """Counts what is held, bool (P,), as the robot's from the next substep on."""
        if held.tobytes() == self._held:
            return
        watch, self._held, self.loaded = self.watch, held.tobytes(), bool(held.any())
        load = watch.load(held)
        pairs, reach = watch.pairs(self._model, load)
        self._ids = self._ids._replace(volumes=pairs, reach=reach)
        # the counter does not know of the load's contacts
        touches = self._always if self.loaded else self._touches
        self._live = self._live._replace(touches=touches)
        parts = (watch.robot, watch.arm, watch.others, watch.outer, watch.inner, watch.fingers)
        self._masks = (*parts, load)

    def before(self, substep: int) -> bool:
        """Notes the state before a substep; says whether a body may fall asleep in it."""
        return bool(before(self._live, self._ids, self.rows, substep))

    def after(self, substep: int) -> None:
        """Notes what the substep showed, after `mj_step` or before the next kinematics."""
        model, data, volumes = self._model, self.data, self.rows.volumes
        after(self._live, self._ids, self.rows, substep)
        volumes[:, substep] = KEEPOUT_CUTOFF
        for d, a, b in self._ids.volumes:
            near = distance((model, data), data.geom_xpos, a, b, KEEPOUT_CUTOFF, None)
            volumes[d, substep] = min(volumes[d, substep], near)
        if data.ncon:
            self._note_contacts(substep)

    def _substep(self, substep: int) -> None:
        """Does what `native.run` does through MuJoCo's Python binding, also when bodies sleep."""
        sleepy = self.before(substep)
        (mujoco.mj_forward if sleepy else mujoco.mj_step)(self._model, self.data)
        self.after(substep)
        if sleepy:
            if substep == self.substeps - 1 and self._torque_of is not None:
                self._torque = self._torque_of(self.data)
            mujoco.mj_step(self._model, self.data)

    def _note_contacts(self, substep: int) -> None:
        """Adds up the contacts of a substep that has just run."""
        seen = self.data.contact
        geom, address = seen.geom, seen.efc_address
        contacts = (geom, address, seen.dim, seen.frame, seen.pos, self.data.efc_force)
        sums = tuple(sums[substep] for sums in self._sums)
        touched = add_forces(contacts, self._pyramidal, self._masks, self._motion, sums)
        self.silent &= not touched
        if substep == self.substeps - 1:
            self._end = geom.copy(), address.copy()

    def keepout_distance(self) -> np.ndarray:
        """Returns (S, P) m, signed, at most `KEEPOUT_CUTOFF`; +inf without a volume."""
        distance = np.full(self.contact_force.shape, np.inf)
        distance[:, self.watch.owners] = self.rows.volumes.T
        return distance

    def contact_torque(self) -> np.ndarray:
        """Returns the torques (J,) in N·m of contacts on the robot's joints in the last substep.

        Raises:
            ValueError: it was not told how to work them out.
        """
        if self._torque_of is None:
            raise ValueError("torque=None: the recorder cannot tell what contacts exert on joints")
        return self._torque_of(self.data) if self._torque is None else self._torque

    def graph(self) -> np.ndarray:
        """Returns who touched whom in the last substep: bool (P + 1, P + 1), 0 is the robot."""
        count = len(self.watch.partners) + 1
        graph = np.zeros((count, count), dtype=bool)
        if self._end is not None:
            add_edges(*self._end, self.watch.node, graph)
        return graph

    def __getstate__(self) -> Any:
        raise TypeError(
            "a recorder is neither copied nor pickled: it holds addresses of what it steps, and a "
            "copy would step the original; make another for a copy of the data"
        )
