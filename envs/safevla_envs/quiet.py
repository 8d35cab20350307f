"""Passes over ticks in which nothing is near, before anything is read.

In most ticks the robot touches nothing, nothing moves by itself and no joint works hard. To see
that takes one look at the state; reading all signals and asking every term would take a hundred
times as long and give nothing. `QuietTicks.skip` takes that look. A tick is passed over when

* the robot touched nothing, no keep-out volume was entered, no joint or grip point came near a
  limit, in any substep;
* movable bodies lie exactly where they lay a tick ago, nothing is held, and the robot closes on no
  mover that is too near;
* nothing was violated in the last tick that was charged, and no window still holds a force.

Then there is nothing to charge. The cost model's clocks, the joints' heat and what windows remember
are brought up to date before the next tick that is charged. All tests err on the safe side. `tests/envs/test_quiet.py` runs both ways side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from safevla_envs.build.instrument import KEEPOUT_CUTOFF
from safevla_envs.compiled import compiled
from safevla_envs.costs import CostManager, terms
from safevla_envs.costs.arm import HIGH_TORQUE, SATURATED, _factors, heat_course
from safevla_envs.costs.clock import clock
from safevla_envs.costs.movers import CONTACT_REACH
from safevla_envs.costs.pause import may_pause, paused
from safevla_envs.reach import Reach
from safevla_envs.signals import SignalReader
from safevla_envs.sim import Simulation

__all__ = ["QuietTicks"]

MARGIN = 0.99
"""Share of a limit below which a quantity is harmless."""
OPEN = 0.01
"""m; fingers asked to be this far open hold nothing."""
MEETING = 0.25
"""m; a mover further away is not touched in the next tick: that would take 5 m/s."""
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
        self.possible = (
            all(m.func in _KNOWN for m in measures)
            and bool(sim.recorder.made.servos)
            and self.facts.torque_limit is not None
            and self.facts.speed_limit is not None
        )
        self._passed = 0  # ticks since the last one that was charged
        self.skipped = 0
        if self.possible:
            self._index(_Bounds({m.func: m.params for m in measures}))

    def _index(self, bounds: _Bounds) -> None:
        """Looks up where to look and what is harmless there."""
        sim, facts, model, data = self.sim, self.facts, self.sim.model, self.sim.data
        recorder = sim.recorder
        torque_limit, speed_limit = facts.torque_limit, facts.speed_limit
        assert torque_limit is not None and speed_limit is not None
        lower, upper = facts.joint_range.T
        middle, room = (upper + lower) / 2, (upper - lower) / 2 - bounds.margin
        limits = (
            # measured exactly as the term does: the limit itself, but for rounding
            room - 1e-9,
            MARGIN * bounds.speed * speed_limit,
            MARGIN * HIGH_TORQUE * torque_limit,
            MARGIN * SATURATED * torque_limit,
        )
        high = np.concatenate(limits)
        low = -high
        for limit in (low, high):
            limit[: len(middle)] += middle
        joints = [model.body_jntadr[sim._partner_bodies[i]] for i in sim._free]
        free_q = (model.jnt_qposadr[joints][:, None] + np.arange(7)).ravel()
        poses, gravity = data.qpos[free_q], data.qfrc_gravcomp
        things = (data.qpos, data.qvel, free_q, sim._free_v, poses)
        arm = (recorder.log, recorder.columns, low, high, gravity, sim._arm_v)
        far = (recorder.volumes, bounds.keepout, recorder.tip, (MARGIN * bounds.tcp) ** 2)
        self._look = (*things, *arm, *far)
        self._still = ~facts.mover[0]
        self._index_heat(bounds.heat)
        self._index_movers()

    def _index_heat(self, hot: float) -> None:
        """Makes room for what is remembered of the arm while ticks are passed over."""
        facts, state = self.facts, self.costs.state
        assert state is not None and facts.torque_limit is not None
        decay, gain, weight = _factors(self.sim.timestep, self.sim.substeps)
        self._warmth = state.arm.heat[0].copy()
        self._speed_tail = state.arm.speed_tail[0].copy()
        # the most that heat can rise in a tick below the torque that is looked for
        load = (HIGH_TORQUE * facts.torque_limit * facts.heat_scale) ** 2
        course = np.tile(load, (1, self.sim.substeps, 1))
        self._hot = hot - float(heat_course(np.zeros((1, len(load))), course, self.sim.timestep).max())
        scale = np.broadcast_to(facts.heat_scale, load.shape).astype(float)
        last = (float(decay[-1, 0]), float(gain[-1, 0]))
        _, speeds, torques, _ = np.split(self.sim.recorder.columns, 4)
        kept = (self._warmth, self._speed_tail, self.sim.recorder.log, torques, speeds)
        self._arm = (*kept, scale, facts.speed_limit, weight[:, 0].copy(), *last)

    def _index_movers(self) -> None:
        """Makes what is needed to bound distances to movers, if there are any."""
        sim, movers = self.sim, self.sim.home.movers
        self._reach: Reach | None = None
        self._nothing = (np.zeros((1, len(self.facts.mover[0]))),) * 2
        self._measured = self._closing = self._nothing
        if movers:
            reach = self._reach = Reach(sim.model, sim.data, movers)
            person = self.signals.partners.tags["person"][sim._mover_partners]
            self._near = np.zeros(len(movers), dtype=bool)
            spacing = self.costs.model.quiet.spacing
            recorder = sim.recorder
            volumes = recorder.volumes
            of = np.array([recorder.owners == i for i in sim._mover_partners])
            bounds = (reach.gap, reach.robot, reach.mover)
            self._people = (*bounds, person, spacing, MEETING, volumes, of, self._near)

    def skip(self) -> bool:
        """Says whether the last tick is passed over; if not, charge it."""
        if self.possible and self._is_quiet() and (self._passed or self._may_begin()):
            if self._warmest < self._hot:
                self._warmest = _warm(*self._arm)
                self._closing = self._measured
                self._passed += 1
                self.skipped += 1
                return True
        self.catch_up()
        return False

    def _is_quiet(self) -> bool:
        """Looks at the tick's raw history and at where things are."""
        sim = self.sim
        return (
            _is_at_ease(*self._look)
            and sim.data.ctrl[sim._finger_u[0]] > OPEN
            and sim.recorder.contacts.silent
            and self._keeps_away()
        )

    def near(self) -> np.ndarray | None:
        """Returns the movers whose true distance matters in this tick, bool (M,); None for all.

        Where a distance is not measured, no rule about it can be broken now, and no closing speed
        needs to be remembered for a contact in the next tick.
        """
        if not self.possible or self._reach is None:
            return None
        self._reach.update()
        _find_near(*self._people)
        return self._near

    def _keeps_away(self) -> bool:
        """Says that the robot closes on no mover that is too near."""
        self._measured = self._nothing
        near = self.near()
        if near is None or not _count(near):
            return True
        measured = self.signals.separation(near)
        separation = measured["separation"]
        closing_robot, closing_mover = measured["closing_robot"], measured["closing_mover"]
        close = separation <= CONTACT_REACH
        if close.any():
            both = (closing_robot + closing_mover) * close
            self._measured = (closing_robot * close)[None], both[None]
        return self.costs.model.quiet.apart(separation, closing_robot, closing_mover)

    def _may_begin(self) -> bool:
        """Says that a quiet tick may follow the last one that was charged without being charged."""
        state = self.costs.state
        assert state is not None
        if self.costs.violated or not may_pause(state):
            return False
        if (state.arm.speed_tail >= MARGIN).any():
            return False
        self._warmth[:] = state.arm.heat[0]
        self._warmest = float(self._warmth.max(initial=0.0))
        # kinematics are those of a substep ago: what lies still now may have moved until then
        bodies, data = self.sim._partner_bodies, self.sim.data
        self._where = data.xpos[bodies], data.xquat[bodies]
        return True

    def catch_up(self) -> None:
        """Brings the cost model's state to the end of the last tick that was passed over."""
        if not self._passed:
            return
        state, (position, quaternion) = self.costs.state, self._where
        assert state is not None
        self.costs.state = paused(
            state,
            self._clock,
            ticks=self._passed,
            substeps=self.sim.substeps,
            still=self._still,
            position=position,
            quaternion=quaternion,
            heat=self._warmth[None].copy(),
            speed_tail=self._speed_tail[None].copy(),
            closing=self._closing,
        )
        self._passed = 0


@compiled
def _is_at_ease(
    qpos, qvel, free_q, free_v, poses, log, columns, low, high, gravity, arm, volumes, keepout,
    tip, fastest,
):  # fmt: skip
    """Says that nothing lies elsewhere than before and nothing of the arm is near a limit.

    `poses` are those of the last tick and are brought up to date. What the servos ask for, in the
    last of the `columns`, counts together with the weight that they carry.
    """
    still = True
    for i in range(len(free_q)):
        if qpos[free_q[i]] != poses[i]:
            poses[i] = qpos[free_q[i]]
            still = False
    for i in range(len(free_v)):
        if qvel[free_v[i]] != 0.0:
            still = False
    if not still:
        return False
    servo = len(columns) - len(arm)
    for step in range(len(log)):
        for k in range(len(columns)):
            value = log[step, columns[k]]
            if k >= servo:
                value += gravity[arm[k - servo]]
            if not (low[k] < value < high[k]):
                return False
        for d in range(len(volumes)):
            if not (volumes[d, step] > keepout):
                return False
        squared = tip[step, 0] ** 2 + tip[step, 1] ** 2 + tip[step, 2] ** 2
        if not (squared < fastest):
            return False
    return True


@compiled
def _find_near(gap, robot, mover, person, spacing, meeting, volumes, of, near):
    """Marks in `near` the movers whose true distance must be known.

    Those that the robot could meet in the next tick, and persons nearer to a shape of the robot
    than they may be at these closing speeds.

    Args:
        gap, robot, mover: (M, G), see `Reach`.
        person: bool (M,).
        spacing: (n, 4), see `costs.quiet.Quiet`.
        meeting: m.
        volumes: (D, S) m, distances to keep-out volumes, cut off where they are of no concern.
        of: bool (M, D), whose volumes these are.
        near: bool (M,), to be filled.
    """
    for m in range(len(near)):
        near[m] = False
        for d in range(len(volumes)):
            if of[m, d] and volumes[d, -1] < KEEPOUT_CUTOFF:
                near[m] = True
        for g in range(gap.shape[1]):
            if gap[m, g] <= meeting:
                near[m] = True
            if not person[m]:
                continue
            for rule in range(len(spacing)):
                metres, reaction = spacing[rule, 0], spacing[rule, 1]
                braking, closing = spacing[rule, 2], spacing[rule, 3]
                stopping = robot[m, g] / braking
                needed = metres + mover[m, g] * (reaction + stopping)
                needed += robot[m, g] * (reaction + 0.5 * stopping)
                if robot[m, g] > closing and gap[m, g] < needed * (1.0 + 1e-9):
                    near[m] = True


@compiled
def _warm(heat, tail, log, torques, speeds, scale, limit, weight, decay, gain):
    """Brings the joints' heat and the window of their speeds to the end of a tick.

    As `heat_course` does, its last row alone; returns the highest.
    """
    kept, steps = len(tail), len(log)
    for joint in range(len(heat)):
        warmed = 0.0
        for step in range(steps):
            load = log[step, torques[joint]] * scale[joint]
            warmed += load * load * weight[step]
        heat[joint] = warmed * gain + decay * heat[joint]
        for back in range(kept):
            tail[back, joint] = abs(log[steps - kept + back, speeds[joint]]) / limit[joint]
    return heat.max()


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
