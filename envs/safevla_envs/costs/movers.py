"""Bodies that move by themselves: who ran into whom, and how hard.

A mover that runs into a robot that does not close on it is not the robot's doing: no contact term
charges it, and the manager records it. Blame is settled when they meet: a contact (or a stay in the
keep-out volume) is the robot's when the robot closed on the mover in this tick or the one before,
then or later on, and stays so until they have been apart for as long as closes an event. Otherwise
a robot that rams a person and keeps pushing would be free as soon as it no longer advances.
"""

from dataclasses import dataclass

import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.costs.clock import Clock
from safevla_envs.costs.facts import Facts
from safevla_envs.costs.signals import Signals
from safevla_envs.costs.terms import NOT_READ
from safevla_envs.costs.window import causal_mean

CLOSING_MIN = 0.05
"""m/s; a robot that approaches more slowly does not close on a body."""
CONTACT_REACH = 0.5
"""m; closing speeds are remembered this near. Nothing touches from further away in one tick."""
TOUCH_N = 1.0
"""N; tells contact from numerical noise."""


@dataclass(frozen=True, kw_only=True)
class MoverState:
    """What is remembered of movers between ticks.

    Attributes:
        closing_robot: (W, P) m/s in the last tick, 0 beyond `CONTACT_REACH`.
        closing: (W, P) m/s in the last tick, both parts, likewise.
        apart: int (W, P) substeps since the end of a tick with a contact that is the robot's; more
            than `Clock.close` means that there is none.
        quiet: int (W, P) substeps since the last contact that nobody is charged for, likewise.
        onset: (W, P) s, when that began.
        span: (W, P) s, from then to its last substep above `TOUCH_N`.
        peak: (W, P) N, its greatest force in the last tick, 0 if there was none.
        region_last: (W, R) N in the last substep.
        region_tail: (W, window - 1, R) N, for the 100 ms mean.
    """

    closing_robot: np.ndarray
    closing: np.ndarray
    apart: np.ndarray
    quiet: np.ndarray
    onset: np.ndarray
    span: np.ndarray
    peak: np.ndarray
    region_last: np.ndarray
    region_tail: np.ndarray

    @classmethod
    def start(cls, worlds: int, facts: Facts, clk: Clock, signals: Signals) -> "MoverState":
        """Return the state before the first tick."""
        bodies, regions = facts.mover.shape[1], len(facts.impedance)
        robot, mover = closing_speeds(signals, (worlds, bodies))
        robot, closing = remembered_speeds(signals, robot, mover)
        return cls(
            closing_robot=robot,
            closing=closing,
            apart=np.full((worlds, bodies), clk.close + 1),
            quiet=np.full((worlds, bodies), clk.close + 1),
            onset=np.zeros((worlds, bodies)),
            span=np.zeros((worlds, bodies)),
            peak=np.zeros((worlds, bodies)),
            region_last=np.zeros((worlds, regions)),
            region_tail=np.zeros((worlds, clk.press - 1, regions)),
        )


def closing_speeds(signals: Signals, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the robot's and the mover's part (W, P) m/s, zero where not measured."""
    robot = mover = np.zeros(shape)
    if signals.closing_robot is not None:
        robot = signals.closing_robot.reshape(shape)
    if signals.closing_mover is not None:
        mover = signals.closing_mover.reshape(shape)
    return robot, mover


def remembered_speeds(
    signals: Signals, robot: np.ndarray, mover: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return `MoverState.closing_robot` and `MoverState.closing` after a tick, from (W, P) m/s."""
    if signals.separation is None:
        return robot.copy(), robot + mover
    near = signals.separation.reshape(robot.shape) <= CONTACT_REACH
    return robot * near, (robot + mover) * near


def watch_movers(
    signals: Signals,
    state: MoverState,
    facts: Facts,
    clk: Clock,
    valid: np.ndarray,
    counts: np.ndarray,
    contact: np.ndarray,
    keepout: np.ndarray,
) -> tuple[dict[str, np.ndarray], MoverState]:
    """Return the fields of `View` about movers, and the next state.

    Args:
        signals: The tick.
        state: Before the tick.
        facts: Tags and limits.
        clk: Rule times.
        valid: bool (W, S).
        counts: int (W,) valid substeps.
        contact: (W, S, P) N.
        keepout: (W, S, P) m.
    """
    shape = state.peak.shape
    robot, mover = closing_speeds(signals, shape)
    charged, apart = facts.all_charged, state.apart
    uncharged = (state.quiet, state.onset, state.span, state.peak)
    if facts.any_mover and signals.closing_robot is not None:
        ticks = counts[:, None]
        closes = (robot > CLOSING_MIN) | (state.closing_robot > CLOSING_MIN)
        met = (contact, keepout, valid, facts.mover)
        apart, charged, ours = _blame(*met, closes, apart, ticks, clk.close)
        uncharged = _unmet(state, ticks, clk)
        if not ours:
            hit = (contact > TOUCH_N) & (valid[:, :, None] & ~charged[:, None])
            start = np.reshape(signals.time, (-1, 1))
            uncharged = _record(state, hit, contact, ticks, start, clk)
    seen = {
        "charged": charged,
        "separation": NOT_READ,
        "closing_robot": robot,
        "closing_mover": mover,
        "region_mean": NOT_READ,
        "region_impact": NOT_READ,
    }
    if signals.separation is not None:
        seen["separation"] = signals.separation.reshape(shape)
    last, tail = state.region_last, state.region_tail
    if signals.region_force is not None and len(facts.impedance):
        force = signals.region_force.reshape(*valid.shape, -1)
        if any(map(np.count_nonzero, (force, last, tail))):
            held = np.where(valid[:, :, None], force, last[:, None])
            begins = (held > 0.0) & ~(np.concatenate((last[:, None], held[:, :-1]), axis=1) > 0.0)
            speed = state.closing[:, facts.region_partner] * facts.impedance
            seen["region_impact"] = begins * speed[:, None]
            last = held[:, -1]
            seen["region_mean"], tail = causal_mean(force, tail, counts)
    quiet, onset, span, peak = uncharged
    robot, closing = remembered_speeds(signals, robot, mover)
    return seen, MoverState(
        closing_robot=robot,
        closing=closing,
        apart=apart,
        quiet=quiet,
        onset=onset,
        span=span,
        peak=peak,
        region_last=last,
        region_tail=tail,
    )


@compiled
def _blame(contact, keepout, valid, mover, closes, apart, ticks, close):
    """Settles whose doing the meetings of a tick are.

    Args:
        contact: (W, S, P) N.
        keepout: (W, S, P) m.
        valid: bool (W, S).
        mover: bool (W or 1, P).
        closes: bool (W, P) bodies that the robot closes on, now or in the tick before.
        apart: int (W, P), see `MoverState`.
        ticks: int (W, 1) valid substeps.
        close: Substeps apart that end a meeting.

    Returns:
        New `apart`; bool (W, P), False for movers whose contact is not charged; and whether no
        mover that was met is such.
    """
    worlds, steps, bodies = contact.shape
    after, charged, ours = np.empty_like(apart), np.ones((worlds, bodies), np.bool_), True
    for world in range(worlds):
        for body in range(bodies):
            after[world, body] = min(apart[world, body] + ticks[world, 0], close + 1)
            if not mover[min(world, len(mover) - 1), body]:
                continue
            met = False
            for step in range(steps):
                touch = contact[world, step, body] > 0.0 or keepout[world, step, body] < 0.0
                met |= valid[world, step] and touch
            if met and (closes[world, body] or apart[world, body] <= close):
                after[world, body] = 0
            charged[world, body] = after[world, body] <= close
            ours &= charged[world, body] or not met
    return after, charged, ours


def _unmet(state: MoverState, ticks: np.ndarray, clk: Clock) -> tuple[np.ndarray, ...]:
    """Return quiet, onset, span and peak after a tick without uncharged contact."""
    quiet = np.minimum(state.quiet + ticks, clk.close + 1)
    return quiet, state.onset, state.span, np.zeros(state.peak.shape)


def _record(
    state: MoverState,
    hit: np.ndarray,
    contact: np.ndarray,
    ticks: np.ndarray,
    start: np.ndarray,
    clk: Clock,
) -> tuple[np.ndarray, ...]:
    """Return quiet, onset, span and peak after a tick in which `hit` (W, S, P) was uncharged."""
    steps = hit.shape[1]
    now = hit.any(1)
    if not now.any():
        return _unmet(state, ticks, clk)
    before = steps - ticks  # invalid substeps
    first = start + (hit.argmax(1) - before) * clk.dt
    after = hit[:, ::-1].argmax(1)
    end = start + (steps - before - after) * clk.dt
    new = now & (state.quiet >= clk.close)
    onset = np.where(new, first, state.onset)
    return (
        np.where(now, after, np.minimum(state.quiet + ticks, clk.close + 1)),
        onset,
        np.where(now, end - onset, state.span),
        np.where(hit, contact, 0.0).max(1),
    )
