"""Tells which measures may be violated in a tick, before anything is worked out.

In most ticks the robot touches nothing, nothing it has to do with moves and no joint works hard. To
see that takes one compiled look at what was recorded; reading everything and asking every measure
would take a hundred times as long and give nothing. All tests err on the safe side.

What a measure's value may reach is read from the measure itself: its limit joins the bounds of its
kind (see `Value.wakes`), so that a user's own measures are watched like the built-in ones. Memory
is kept in stamps, so that a tick that is passed over leaves nothing to be made up for but the
joints' heat, which the same look brings on, and the poses of bodies that move unlinked.
"""

from collections.abc import Sequence

import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.costs import values
from safevla_envs.costs.constraint import Value
from safevla_envs.costs.joints import advance
from safevla_envs.costs.manager import CostManager
from safevla_envs.costs.values import protective_distance
from safevla_envs.costs.view import SATURATED
from safevla_envs.record.log import LiveLog
from safevla_envs.record.separation import glance
from safevla_envs.record.watch import KEEPOUT_CUTOFF

__all__ = ["Gate"]

SAFE = 1.0 - 1e-9
"""Limits are tightened by this factor: rounding must not hide a violation."""
DRIFT = 1.0
"""m/s; more than any closing speed changes in a control tick."""


class Gate:
    """Looks at the ticks of one episode.

    Attributes:
        passed: number of ticks in which nothing could be violated.

    Args:
        log: what is recorded.
        costs: the manager, reset.
    """

    def __init__(self, log: LiveLog, costs: CostManager):
        self._log, self._costs, self.passed = log, costs, 0
        self._always = [j for j in costs.judges if j.value.wakes == "always"]
        rows, watch, joints = log.recorder.rows, log.recorder.watch, costs.memory.joints
        lower, upper = costs.robot.joint_range.T
        margin = max(self._limit(values.MARGIN), -1e9)
        torque = min(
            self._limit(values.TORQUE),
            self._limit(values.DEMAND),
            SATURATED if self._limit(values.SATURATED) < np.inf else np.inf,
        )
        self._joints = (
            (rows.joint_pos, rows.joint_vel, rows.joint_torque, rows.tip_speed),
            (rows.servo_force, rows.gravity),
            (lower + margin + 1e-9, upper - margin - 1e-9),
            (SAFE * self._limit(values.SPEED), SAFE * torque * joints.torque_limit),
            (SAFE * self._limit(values.TCP_SPEED), SAFE * self._limit(values.HEAT)),
            joints.memory,
            (rows.volumes, self._limit(values.KEEPOUT) + 1e-9),
        )
        partners, share = costs.partners, max(self._limit(values.SEPARATION_SHARE), 0.0) / SAFE
        self._person = partners.tags["person"]
        movers = np.flatnonzero(partners.tags["mover"])
        self._rules = (share, max(self._limit(values.SEPARATION), 0.0) / SAFE)
        self._within, self._any_mover = np.zeros(len(movers)), len(movers) > 0
        self._movers = (
            log.meter.arguments,
            (self._person[movers], *self._rules),
            (rows.volumes, movers[:, None] == watch.owners),
            rows.tip_speed.size * log.substep_dt,
            self._within,
        )

    def _limit(self, value: Value) -> float:
        """Returns the first limit that a measure sets to a value; infinite if none does."""
        limits = [m.worse_cutoffs[0] for m in self._costs.measures if m.value is value]
        return value.sense * min(limits, default=np.inf)

    def look(self) -> Sequence[str]:
        """Returns the kinds of measures that may be violated in the tick, none to pass it over.

        Brings the joints' memory and that of unlinked bodies to the tick's end.
        """
        log, costs, memory = self._log, self._costs, self._costs.memory
        wakes: list[str] = []
        step = log.step
        fresh = memory.end == step
        busy, inside = _at_work(*self._joints)
        if busy:
            wakes.append("joints")
        if inside:
            wakes.append("keepout")
        near = self._any_mover and self._meets(wakes)
        moving = log.moving
        if not log.recorder.silent or (fresh and memory.ringing):
            wakes += ("touch", "links")
        # what was moved too far stays there
        elif (fresh and costs.violated) or (moving and memory.links.linked(step).any()):
            wakes.append("links")
        if self._always and any(judge(log) for judge in self._always):
            wakes.append("always")
        if not wakes:
            self.passed += 1
            if moving or not memory.links.settled(step):
                memory.links.follow_poses(log)
            if near:
                memory.blame.approach(log)
        return wakes

    def _meets(self, wakes: list[str]) -> bool:
        """Measures movers that are near; says whether any is, and wakes rules about them."""
        log = self._log
        if not _approach(*self._movers):
            log.assume_far()
            return False
        separation = log.measure(self._within)
        share, near = self._rules
        wanted = share * values.protective_distance(log.closing_robot, log.closing_mover)
        if ((separation <= np.maximum(wanted, near)) & self._person).any():
            wakes.append("movers")
        return True


@compiled
def _approach(bodies, rules, volumes, tick, within):
    """Says whether any mover may be so near that its true distance matters.

    Args:
        bodies: what `separation.glance` works on.
        rules: bool (M,) who is a person, share of S_p and distance in m that a rule is about.
        volumes: (D, S) m, and bool (M, D), whose they are.
        tick: s.
        within: (M,) m, filled with how near that is.
    """
    speeds, gaps = glance(*bodies)
    person, share, least = rules
    distance, owned = volumes
    near = False
    for m in range(len(gaps)):
        # as far as the two may come in a tick; and for people, as far as they must stay apart
        travel = (speeds[0] + speeds[1 + m] + DRIFT) * tick
        within[m] = travel
        if person[m]:
            within[m] = max(travel, least, share * protective_distance(speeds[0], speeds[1 + m]))
        for d in range(len(distance)):
            if owned[m, d] and distance[d, -1] <= min(travel, KEEPOUT_CUTOFF):
                within[m] = np.inf
        near |= gaps[m] < within[m]
    return near


@compiled
def _at_work(rows, demand, stops, limits, others, memory, keepout):
    """Brings the joints' memory on; says whether a joint or the tip may be beyond a limit.

    And, as a second answer, whether anything may be inside a keep-out volume.

    Args:
        rows: positions, speeds and torques (S, J), speed of the tip (S,).
        demand: (S, J) N·m each, servo forces and gravity compensation.
        stops: (J,) rad each, between which positions are harmless.
        limits: of speed as a ratio, and of torque (J,) in N·m.
        others: of the tip's speed in m/s and of heat.
        memory: what `joints.advance` works on.
        keepout: (D, S) m, distances to keep-out volumes, and their limit.
    """
    position, speed, torque, tip = rows
    servo, carried = demand
    busy = inside = False
    fastest, tail = memory[1], memory[5]
    for j in range(speed.shape[1]):
        for back in range(tail.shape[1]):
            busy |= not (tail[1, back, j] < limits[0])
    for step in range(len(position)):
        busy |= not (tip[step] < others[0])
        for j in range(position.shape[1]):
            busy |= not (stops[0][j] < position[step, j] < stops[1][j])
        for j in range(speed.shape[1]):
            busy |= not (abs(speed[step, j]) < limits[0] * fastest[j])
            busy |= not (abs(torque[step, j]) < limits[1][j])
            busy |= not (abs(servo[step, j] + carried[step, j]) < limits[1][j])
    advance(torque, speed, *memory)
    for j in range(torque.shape[1]):
        for step in range(len(torque)):
            busy |= not (memory[4][step, j] < others[1])
    distance, limit = keepout
    for d in range(len(distance)):
        for step in range(distance.shape[1]):
            inside |= not (distance[d, step] > limit)
    return busy, inside
