"""Passes over ticks in which nothing is near, before anything is read.

In most ticks the robot touches nothing, nothing moves by itself and no joint works hard. To see
that takes one look at the sensors' history; reading all signals and asking every term would take
ten times as long and give nothing. `QuietTicks.skip` takes that look. A tick is passed over when

* no safety sensor found a contact, no keep-out volume was entered, no joint or grip point came near
  a limit, in any substep;
* movable bodies lie exactly where they lay a tick ago, nothing is held, and the robot closes on no
  mover that is too near;
* the cost model is idle: no event is open, no body linked, no clock running.

Then costs, events and the model's state are what they would be had the tick been charged, but for
the joints' heat and what windows remember, which are brought up to date before the next tick that
is charged. All tests err on the safe side. `tests/envs/test_quiet.py` runs both ways side by side.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from safevla_envs.build.robot import ROBOT
from safevla_envs.costs import CostManager, terms
from safevla_envs.costs.arm import HIGH_TORQUE, SATURATED, _factors, heat_course
from safevla_envs.costs.clock import clock
from safevla_envs.costs.movers import CONTACT_REACH
from safevla_envs.reach import Reach
from safevla_envs.separation import SEPARATION_CUTOFF
from safevla_envs.signals import SignalReader
from safevla_envs.sim import TICK, Simulation

__all__ = ["QuietTicks"]

MARGIN = 0.99
"""Share of a limit below which a quantity is harmless."""
OPEN = 0.01
"""m; fingers asked to be this far open hold nothing."""
MOVER_RADIUS = 0.5
"""m; more than any mover extends from its axis."""
SLACK = 0.1
"""m/s; more than speeds change in a physics step."""
DRIFT = 0.4
"""m/s; more than speeds change in a control tick."""
KEPT = 64
"""Ticks of which load is remembered before heat is worked out."""
_KNOWN = {f for f in map(vars(terms).get, terms.__all__) if callable(f)}
_count = np.count_nonzero


class QuietTicks:
    """The ticks of one episode.

    Args:
        sim: with the scenario in place.
        signals: its reader.
        costs: its manager, reset.
    """

    def __init__(self, sim: Simulation, signals: SignalReader, costs: CostManager):
        self.sim, self.signals, self.costs = sim, signals, costs
        self.facts, self._clock = costs.model.facts, clock(sim.timestep)
        measures = costs.model.measures
        bounds = _Bounds({m.func: m.params for m in measures})
        self.possible = (
            all(m.func in _KNOWN for m in measures)
            and sim.reader._timed
            and bool(sim.reader.instrumentation.servos)
            and self.facts.torque_limit is not None
            and self.facts.speed_limit is not None
        )
        self._idle = False
        self._load: list[np.ndarray] = []
        self._closing: tuple[np.ndarray, np.ndarray] | None = None
        self._reach: Reach | None = None
        self._gap = self._unknown = np.full(len(sim.home.movers), -np.inf)
        self._measured = self._closing
        self.skipped = 0
        if self.possible:
            self._index(bounds)

    def _index(self, bounds: _Bounds) -> None:
        """Looks up columns of the history's block and what is harmless in each."""
        sim, facts = self.sim, self.facts
        reader = sim.reader
        found, (*_, pos, vel, torque, servo, tip, distance) = reader._found, reader._cut
        self._history, self._found = reader._index, found
        self._used = slice(pos.start, tip.stop)
        self._vel, self._torque, self._distance = vel, torque, distance
        self._servo = slice(servo.start - pos.start, servo.stop - pos.start)
        lower, upper = facts.joint_range.T
        torque_limit, speed_limit = facts.torque_limit, facts.speed_limit
        assert torque_limit is not None and speed_limit is not None
        # measured exactly as the term does: the limit itself, but for rounding
        room = (0.5 * (upper - lower) - bounds.margin - 1e-9) / MARGIN
        speeds = np.full(tip.stop - tip.start, bounds.tcp / np.sqrt(3.0))
        limits = (
            room,
            bounds.speed * speed_limit,
            HIGH_TORQUE * torque_limit,
            SATURATED * torque_limit,
            speeds,
        )
        self._factor = 1.0 / (MARGIN * np.concatenate(limits))
        self._offset = np.zeros(len(self._factor))
        self._offset[: len(room)] = 0.5 * (upper + lower)
        self._keepout, self._hot = bounds.keepout, bounds.heat
        model = sim.model
        joints = [model.body_jntadr[sim._partner_bodies[i]] for i in sim._free]
        self._free_q = (model.jnt_qposadr[joints][:, None] + np.arange(7)).ravel()
        self._poses = sim.data.qpos[self._free_q]
        self._still = np.flatnonzero(~facts.mover[0])
        # the most that heat can rise in a tick below the torque that is looked for
        load = (HIGH_TORQUE * torque_limit * facts.heat_scale) ** 2
        course = np.tile(load, (1, sim.substeps, 1))
        self._rise = float(heat_course(np.zeros((1, len(load))), course, sim.timestep).max())
        self._warmest = self._heat()
        movers = sim.home.movers
        self._nothing = (np.zeros((1, len(facts.mover[0]))),) * 2
        if movers:
            self._reach = Reach(model, sim.data, movers)
            self._gap, self._radius = self._reach(sim.data)
            self._person = self.signals.partners.tags["person"][sim._mover_partners]
            slides = [model.joint(n).dofadr[0] for n in (ROBOT.torso_joint, *ROBOT.finger_joints)]
            self._robot_v = np.concatenate((sim._base_v, sim._arm_v, slides))
            self._levers = np.concatenate((self._reach.levers, np.ones(len(slides))))

    def skip(self, start: float) -> bool:
        """Says whether the tick that began at `start` s is passed over; if not, charge it."""
        if self.possible and self._is_quiet(start):
            if not self._idle:
                self._idle = self._is_idle()
                self._warmest = self._heat()
            if self._idle and self._stays_cool():
                self._load.append(self._block)
                self._closing = self._measured
                self._warmest += self._rise
                self.skipped += 1
                return True
        self._catch_up()
        self._idle, self._gap = False, self._unknown
        return False

    def _is_quiet(self, start: float) -> bool:
        """Looks at the tick's raw history and at where things are."""
        data = self.sim.data
        poses = data.qpos[self._free_q]
        unmoved = not _count(poses != self._poses) and not _count(data.qvel[self.sim._free_v])
        self._poses = poses
        if not unmoved or data.ctrl[self.sim._finger_u[0]] <= OPEN:
            return False
        block = self._block = data.history[self._history]
        if _count(block[:, self._found]):
            return False
        first, half = block[0, -1], 0.5 * self.sim.timestep
        whole = block[-1, -1] - first > (len(block) - 1.5) * self.sim.timestep
        if not (whole and first > start - half):
            return False
        if self._distance.stop > self._distance.start and not (
            block[:, self._distance].min() > self._keepout
        ):
            return False
        # what the servos ask for counts together with the weight that they carry
        self._offset[self._servo] = -data.qfrc_gravcomp[self.sim._arm_v]
        share = np.abs((block[:, self._used] - self._offset) * self._factor)
        return bool(share.max() < 1.0) and self._keeps_away()

    def _keeps_away(self) -> bool:
        """Says that the robot closes on no mover that is too near."""
        if self._reach is None:
            return True
        robot, mover = self._speeds()
        quiet = self.costs.model.quiet
        spacing = max(quiet.needed(robot, mover), CONTACT_REACH)
        needed = np.where(self._person, spacing, CONTACT_REACH)
        self._measured = self._nothing
        self._gap = self._gap - (robot + mover + DRIFT) * TICK
        if (self._gap > needed).all():
            return True
        self._gap, self._radius = self._reach(self.sim.data)
        near = self._gap <= needed
        if not near.any():
            return True
        measured = self.signals.separation(near)
        separation = measured["separation"]
        self._gap[near] = min(float(separation.min()), SEPARATION_CUTOFF)
        closing_robot, closing_mover = measured["closing_robot"], measured["closing_mover"]
        close = separation <= CONTACT_REACH
        if close.any():
            both = (closing_robot + closing_mover) * close
            self._measured = (closing_robot * close)[None], both[None]
        return quiet.apart(separation, closing_robot, closing_mover)

    def _speeds(self) -> tuple[float, float]:
        """Returns bounds in m/s on the speed of any point of the robot and of any mover."""
        rates = self.sim.data.qvel[self._robot_v]
        x, y, turn = rates[:3].tolist()
        arm = float(np.abs(rates[3:]) @ self._levers)
        robot = math.hypot(x, y) + self._radius * abs(turn) + arm
        rates = self.sim.data.qvel[self.sim._mover_v].tolist()
        mover = max(math.hypot(x, y) + MOVER_RADIUS * abs(turn) for x, y, turn in rates)
        return robot + SLACK, mover + SLACK

    def _is_idle(self) -> bool:
        """Says that a quiet tick leaves the model's state as it is, heat and windows apart."""
        state, clk = self.costs._state, self._clock
        assert state is not None
        arm, movers, still = state.arm, state.movers, self._still
        busy = (
            state.events.open,
            state.contact_tail,
            state.self_tail,
            arm.runs,
            arm.finger_tail,
            movers.peak,
            movers.region_last,
            movers.region_tail,
        )
        data, bodies = self.sim.data, self.sim._partner_bodies[still]
        return not (
            any(_count(part) for part in busy)
            or (state.since_link <= clk.linger).any()
            or (state.resting[:, still] < clk.rest).any()
            or (movers.apart <= clk.close).any()
            or (movers.quiet <= clk.close).any()
            or (arm.speed_tail >= MARGIN).any()
            or (state.reference_pos[0, still] != data.xpos[bodies]).any()
            or (state.reference_quat[0, still] != data.xquat[bodies]).any()
        )

    def _heat(self) -> float:
        state = self.costs._state
        assert state is not None
        return float(state.arm.heat.max(initial=0.0))

    def _stays_cool(self) -> bool:
        """Says that no joint can become too hot in this tick."""
        if self._warmest + self._rise < self._hot and len(self._load) < KEPT:
            return True
        self._catch_up()
        self._warmest = self._heat()
        return self._warmest + self._rise < self._hot

    def _catch_up(self) -> None:
        """Brings heat, windows and closing speeds of the state to the end of the last tick."""
        if not self._load:
            return
        state, facts = self.costs._state, self.facts
        assert state is not None
        torque = np.stack([block[:, self._torque] for block in self._load])
        decay, gain, weight = _factors(self.sim.timestep, torque.shape[1])
        warmth = np.cumsum(np.square(torque * facts.heat_scale) * weight, axis=1)[:, -1]
        heat = state.arm.heat
        for warmed in warmth * gain[-1]:  # `heat_course` of every tick, its last row alone
            heat = warmed + decay[-1] * heat
        tail = state.arm.speed_tail
        if tail.shape[1]:
            last = self._load[-1][-tail.shape[1] :, self._vel]
            tail = (np.abs(last) / facts.speed_limit)[None]
        movers = state.movers
        if self._closing is not None:
            movers = replace(movers, closing_robot=self._closing[0], closing=self._closing[1])
        arm = replace(state.arm, heat=heat, speed_tail=tail)
        self.costs._state = replace(state, arm=arm, movers=movers)
        self._load = []


class _Bounds:
    """Limits of the measures that are violated without contact."""

    def __init__(self, params: dict[Any, Any]):
        def bound(func: Any, name: str, default: float) -> float:
            return float(params.get(func, {}).get(name, default))

        self.margin = bound(terms.joint_margin, "radians", 0.0)
        self.speed = bound(terms.joint_speed, "ratio", 1e9)
        self.tcp = bound(terms.tcp_speed, "speed", 1e9)
        self.heat = bound(terms.joint_heat, "heat", np.inf)
        self.keepout = bound(terms.equipment_keepout, "distance", -np.inf)
