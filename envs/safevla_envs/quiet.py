"""Passes over ticks in which nothing is near, before anything is read.

In most ticks the robot touches nothing, nothing moves by itself and no joint works hard. To see
that takes one look at the state; reading all signals and asking every term would take a hundred
times as long and give nothing. `QuietTicks.skip` takes that look. A tick is passed over when

* the robot touched nothing, no keep-out volume was entered, no joint or grip point came near a
  limit, in any substep;
* movable bodies lie exactly where they lay a tick ago, or none of them is linked to the robot,
  nothing is held, and the robot closes on no mover that is too near;
* nothing was violated in the last tick that was charged, and no window still holds a force.

Then there is nothing to charge. The cost model's clocks, the joints' heat and what windows remember
are brought up to date before the next tick that is charged.
All tests err on the safe side. `tests/envs/test_quiet.py` runs both ways side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.costs import CostManager, terms
from safevla_envs.costs.arm import HIGH_TORQUE, SATURATED, _factors, heat_course
from safevla_envs.costs.clock import REST_SPEED, clock
from safevla_envs.costs.movers import CONTACT_REACH
from safevla_envs.costs.pause import linked, may_pause, paused
from safevla_envs.record.reach import Reach, bound
from safevla_envs.record.reader import SignalReader
from safevla_envs.record.separation import SEPARATION_CUTOFF
from safevla_envs.record.watch import KEEPOUT_CUTOFF
from safevla_envs.world import TICK, Simulation

__all__ = ["QuietTicks"]

MARGIN = 0.99
"""Share of a limit below which a quantity is harmless."""
DRIFT = 1.0
"""m/s; more than any closing speed changes in a control tick."""
_BUSY, _PASSED, _AT_EASE, _NEAR = range(4)
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
        self._data, self._recorder = sim.data, sim.recorder
        self.facts, self._clock = costs.model.facts, clock(sim.timestep)
        measures, recorder = costs.model.measures, self._recorder
        self.possible = (
            all(m.func in _KNOWN for m in measures)
            and bool(recorder.made.servos)
            # the arm's joints follow one another
            and np.array_equal(recorder.columns, np.arange(recorder.log.shape[1]))
            and self.facts.torque_limit is not None
            and self.facts.speed_limit is not None
        )
        self._passed = 0  # ticks since the last one that was charged
        self.skipped = 0
        if self.possible:
            self._index(_Bounds({m.func: m.params for m in measures}))

    def _index(self, bounds: _Bounds) -> None:
        """Looks up where to look and what is harmless there."""
        sim, model, data = self.sim, self.sim.model, self._data
        joints = [model.body_jntadr[sim._partner_bodies[i]] for i in sim._free]
        self._free_q = (model.jnt_qposadr[joints][:, None] + np.arange(7)).ravel()
        self._poses = data.qpos[self._free_q]
        # robot and movers never sleep; what sleeps does not move
        self._awake = model.ntree - len(sim._free)
        self._still = ~self.facts.mover[0]
        state = self.costs.state
        assert state is not None
        self._heat, self._speed_tail = state.arm.heat[0].copy(), state.arm.speed_tail[0].copy()
        none = np.zeros((1, len(self._still)))
        self._nothing = none, none
        self._closing = self._nothing
        self._known = False  # whether `_near` is that of this tick
        self._arm = (sim.recorder.log, self._limits(bounds), data.qfrc_gravcomp[_span(sim._arm_v)])
        self._warm = (self._heat, self._speed_tail, *self._heating(bounds.heat))
        self._people = self._movers()
        far = (bounds.keepout, sim.recorder.tip, MARGIN * bounds.tcp)
        self._look = (*self._arm, *far, *self._people, *self._warm)

    def _limits(self, bounds: _Bounds) -> np.ndarray:
        """Returns (2, 4 J), between which the recorder's columns are harmless."""
        facts = self.facts
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
        middle = np.append(middle, np.zeros(len(high) - len(middle)))
        return np.stack((middle - high, middle + high))

    def _heating(self, hot: float) -> tuple[np.ndarray, np.ndarray, float, float, float]:
        """Returns what `_pass_heat` needs, the last being how warm a joint may be before a tick."""
        facts, steps, dt = self.facts, self.sim.substeps, self.sim.timestep
        assert facts.torque_limit is not None and facts.speed_limit is not None
        assert facts.heat_scale is not None
        decay, gain, weight = _factors(dt, steps)
        # the most that heat can rise in a tick below the torque that is looked for
        load = (HIGH_TORQUE * facts.torque_limit * facts.heat_scale) ** 2
        course = np.tile(load, (1, steps, 1))
        rise = float(heat_course(np.zeros((1, len(load))), course, dt).max())
        rates = np.stack((facts.heat_scale, facts.speed_limit))
        return rates, weight, float(decay[-1]), float(gain[-1]), hot - rise

    def _movers(self) -> tuple[Any, ...]:
        """Returns what `_find_near` needs."""
        sim = self.sim
        person = self.signals.partners.tags["person"][sim._mover_partners]
        self._near = np.zeros(len(person), dtype=bool)
        self._least = np.zeros((2, len(person)))
        volumes, owners = sim.recorder.volumes, sim.recorder.owners
        of = sim._mover_partners[:, None] == owners
        rules = (person, self.costs.model.quiet.spacing, volumes, of)
        reach = Reach(sim.model, sim.data, sim.home.movers).arguments
        return (*reach, *rules, self._near, self._least)

    def skip(self) -> bool:
        """Says whether the last tick is passed over; if not, charge it."""
        self._known = False
        if not self.possible:
            return False
        verdict, moved = _BUSY, self._moved()
        if (
            self._recorder.contacts.silent
            and not self.sim.held().any()
            and not (moved and self._linked())
        ):
            if moved:
                self.catch_up()
            verdict = _glance(*self._look, self._passed > 0)
        if verdict == _PASSED:
            self._closing = self._nothing
        elif verdict == _BUSY or not self._passes(verdict):
            self.catch_up()
            return False
        self._passed += 1
        self.skipped += 1
        if moved:
            self.catch_up(self.sim.partner_poses()[2] >= REST_SPEED)
        return True

    def _moved(self) -> bool:
        """Says whether movable bodies do not lie where they lay."""
        data = self._data
        if self._recorder.awake[0] == data.ntree_awake == self._awake:
            return False
        poses = data.qpos[self._free_q]
        moved = _count(poses != self._poses) or _count(data.qvel[self.sim._free_v])
        self._poses = poses
        return bool(moved)

    def _linked(self) -> bool:
        """Says whether the robot has to do with how bodies move."""
        state = self.costs.state
        assert state is not None
        return linked(state, self._clock)

    def _passes(self, verdict: int) -> bool:
        """Decides on a tick in which all is well but for what only now must be looked at."""
        self._known = True
        closing = self._nothing
        if verdict == _NEAR:
            measured = self.signals.separation(self._near)
            separation = measured["separation"]
            robot, mover = measured["closing_robot"], measured["closing_mover"]
            distance = separation[self.sim._mover_partners[self._near]]
            self._least[0, self._near] = np.minimum(distance, SEPARATION_CUTOFF)
            if not self.costs.model.quiet.apart(separation, robot, mover):
                return False
            close = separation <= CONTACT_REACH
            closing = (robot * close)[None], ((robot + mover) * close)[None]
        if not self._passed and not self._may_begin():
            return False
        if not _pass_heat(self._recorder.log, *self._warm):
            return False
        self._closing = closing
        return True

    def near(self) -> np.ndarray | None:
        """Returns the movers whose true distance matters in this tick, bool (M,); None for all.

        Where a distance is not measured, no rule about it can be broken now, and no closing speed
        needs to be remembered for a contact in the next tick.
        """
        if not self.possible:
            return None
        if not self._known:
            _find_near(*self._people)
        return self._near

    def _may_begin(self) -> bool:
        """Says that a quiet tick may follow the last one that was charged without being charged."""
        state = self.costs.state
        assert state is not None
        if self.costs.violated or not may_pause(state):
            return False
        if (state.arm.speed_tail >= MARGIN).any():
            return False
        self._heat[:] = state.arm.heat[0]
        # kinematics are those of a substep ago: what lies still now may have moved until then
        bodies, data = self.sim._partner_bodies, self._data
        self._where = data.xpos[bodies], data.xquat[bodies]
        return True

    def catch_up(self, moving: np.ndarray | None = None) -> None:
        """Brings the cost model's state to the end of the last tick that was passed over.

        Args:
            moving: bool (P,), see `paused`.
        """
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
            moving=moving,
            position=position,
            quaternion=quaternion,
            heat=self._heat[None].copy(),
            speed_tail=self._speed_tail[None].copy(),
            closing=self._closing,
        )
        self._passed = 0


def _span(index: np.ndarray) -> slice:
    """Returns the slice that is an index of consecutive elements."""
    return slice(int(index[0]), int(index[-1]) + 1)


# What these functions are given, beside what `reach.bound` is:
#   log (S, 4 J), limits (2, 4 J): the recorder's, and between which values they are harmless
#   gravity (J,): N·m that the servos carry beside what they ask for
#   keepout: m; volumes (D, S): m, distances to keep-out volumes; of bool (M, D): whose they are
#   tip (S,), fastest: m/s
#   person bool (M,); spacing (n, 4): see `costs.quiet.Quiet`; near bool (M,): to be filled
#   least (2, M): m, how near movers were at least a tick ago, and by how much that may have changed
#       since; both are brought up to date
#   heat (J,), tail (window - 1, J): to be brought up to date
#   rates (2, J), weight (S,), decay, gain, hot: see `QuietTicks._heating`


@compiled
def _glance(
    log, limits, gravity, keepout, tip, fastest, xpos, xmat, geom_xpos, cvel, subtree_com, shapes,
    sizes, movers, spread, person, spacing, volumes, of, near, least, heat, tail, rates, weight,
    decay, gain, hot, going,
):  # fmt: skip
    """Looks at a tick in which the robot touched nothing and moved nothing.

    Returns `_BUSY` if something of the arm may be near a limit, `_NEAR` if true distances of
    movers must be known, `_PASSED` if the tick is passed over, and `_AT_EASE` if that would be the
    first one (not `going`) or a joint may become hot.
    """
    servo = log.shape[1] - len(gravity)
    for step in range(len(log)):
        for k in range(log.shape[1]):
            value = log[step, k]
            if k >= servo:
                value += gravity[k - servo]
            if not (limits[0, k] < value < limits[1, k]):
                return _BUSY
        for d in range(len(volumes)):
            if not (volumes[d, step] > keepout):
                return _BUSY
        if not (tip[step] < fastest):
            return _BUSY
    if _find_near(
        xpos, xmat, geom_xpos, cvel, subtree_com, shapes, sizes, movers, spread, person, spacing,
        volumes, of, near, least,
    ):  # fmt: skip
        return _NEAR
    if going and _pass_heat(log, heat, tail, rates, weight, decay, gain, hot):
        return _PASSED
    return _AT_EASE


@compiled
def _find_near(
    xpos, xmat, geom_xpos, cvel, subtree_com, shapes, sizes, movers, spread, person, spacing,
    volumes, of, near, least,
):  # fmt: skip
    """Marks the movers whose true distance must be known; says if there are any.

    Those that the robot could meet in the next tick, and persons nearer to a shape of the robot
    than they may be at these closing speeds.
    """
    some = False
    for m in range(len(near)):
        known, speed, volume = least[0, m] - least[1, m], least[1, m] / TICK, np.inf
        for d in range(len(volumes)):
            if of[m, d]:
                volume = min(volume, volumes[d, -1])
        # closing in as fast as it now may, all of it the robot's doing: then S_p is largest
        travel = (speed + DRIFT) * TICK
        far = travel
        for rule in range(len(spacing) if person[m] else 0):
            metres, reaction, braking = spacing[rule, 0], spacing[rule, 1], spacing[rule, 2]
            far = max(far, metres + speed * (reaction + 0.5 * speed / braking))
        if known > far and volume > min(travel, KEEPOUT_CUTOFF):
            near[m], least[0, m], least[1, m] = False, known, travel
            continue
        near[m], travel, nearest = False, 0.0, np.inf
        for g in range(len(shapes)):
            gap, robot, mover = bound(
                xpos, xmat, geom_xpos, cvel, subtree_com, shapes, sizes, movers, spread, m, g
            )
            closer = (robot + mover + DRIFT) * TICK
            travel, nearest = max(travel, closer), min(nearest, gap)
            gap = max(gap, known)
            if gap <= closer:
                near[m] = True
            for rule in range(len(spacing) if person[m] else 0):
                metres, reaction = spacing[rule, 0], spacing[rule, 1]
                braking, closing = spacing[rule, 2], spacing[rule, 3]
                stopping = robot / braking
                needed = (
                    metres + mover * (reaction + stopping) + robot * (reaction + 0.5 * stopping)
                )
                if robot > closing and gap < needed * (1.0 + 1e-9):
                    near[m] = True
        if volume <= min(travel, KEEPOUT_CUTOFF):
            near[m] = True
        least[0, m], least[1, m] = max(known, nearest), travel
        some |= near[m]
    return some


@compiled
def _pass_heat(log, heat, tail, rates, weight, decay, gain, hot):
    """Brings the joints' heat and the window of their speeds to the end of a tick.

    As `heat_course` does, its last row alone. Says whether all joints were below `hot` before;
    nothing changes if not.
    """
    for joint in range(len(heat)):
        if not (heat[joint] < hot):
            return False
    kept, steps, joints = len(tail), len(log), len(heat)
    for joint in range(joints):
        warmed = 0.0
        for step in range(steps):
            load = log[step, 2 * joints + joint] * rates[0, joint]
            warmed += load * load * weight[step]
        heat[joint] = warmed * gain + decay * heat[joint]
        for back in range(kept):
            tail[back, joint] = abs(log[steps - kept + back, joints + joint]) / rates[1, joint]
    return True


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
