"""Bodies that move by themselves: who ran into whom, and how hard.

A mover that runs into a robot that does not close on it is not the robot's doing: no contact
measure charges it, and it is recorded. Blame is settled when they meet: a contact (or a stay in the
keep-out volume) is the robot's when the robot closed on the mover in this tick or the one before,
then or later on, and stays so until they have been apart for as long as closes an event. Otherwise
a robot that rams a person and keeps pushing would be free as soon as it no longer advances.
"""

from dataclasses import dataclass

import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.costs.clock import Clock
from safevla_envs.costs.facts import Partners
from safevla_envs.costs.links import NEVER
from safevla_envs.record.log import TickLog

__all__ = ["CLOSING_MIN", "TOUCH_N", "Blame", "Uncharged"]

CLOSING_MIN = 0.05
"""m/s; a robot that approaches more slowly does not close on a body."""
CONTACT_REACH = 0.5
"""m; closing speeds are remembered this near. Nothing touches from further away in one tick."""
TOUCH_N = 1.0
"""N; tells contact from numerical noise."""


@dataclass(kw_only=True, eq=False)
class Uncharged:
    """A contact that nobody is charged for.

    Attributes:
        partner: The mover.
        onset: s, its beginning.
        end: s, end of its last substep above `TOUCH_N`.
        last: Number of that substep.
        peak: N, its greatest force in this environment step.
    """

    partner: str
    onset: float
    end: float
    last: int
    peak: float


class Blame:
    """What is remembered of movers.

    Attributes:
        met_at: int (P,), substep after a tick with a contact that is the robot's.
        uncharged: contacts of this environment step that nobody is charged for.
    """

    def __init__(self, partners: Partners, clk: Clock, log: TickLog):
        self._partners, self._clock = partners, clk
        self._movers, count = np.flatnonzero(partners.tags["mover"]), len(partners.names)
        self.met_at = np.full(count, NEVER)
        self.uncharged: list[Uncharged] = []
        self._latest: dict[str, Uncharged] = {}
        self._all = np.ones(count, dtype=bool)
        self._pusher: tuple[str, int] | None = None
        self._nothing = np.zeros(count)
        self.approach(log)

    def approach(self, log: TickLog) -> None:
        """Remembers how fast robot and movers closed in at the end of a tick."""
        robot = self._nothing if log.closing_robot is None else log.closing_robot
        mover = self._nothing if log.closing_mover is None else log.closing_mover
        near = True if log.separation is None else log.separation <= CONTACT_REACH
        self._closed = (log.step + log.steps, robot * near, (robot + mover) * near)

    def closing(self, log: TickLog) -> tuple[np.ndarray, np.ndarray]:
        """Returns how fast (P,) m/s the robot, and both, closed in just before a tick."""
        at, robot, both = self._closed
        return (robot, both) if at == log.step else (self._nothing, self._nothing)

    def settle(self, log: TickLog) -> tuple[np.ndarray, str | None]:
        """Settles the blame for a tick, and records contacts that are nobody's.

        Returns:
            Whose contact is charged, bool (P,); and the mover that ran into the robot just now, or
            up to 0.25 s ago, if nothing else touches the arm: what the arm suffers then is not the
            robot's doing.
        """
        charged, bumped = self._all, False
        if len(self._movers) and log.closing_robot is not None:
            charged, before, end = self._all.copy(), self.closing(log)[0], log.step + log.steps
            seen = (log.contact_force, log.keepout_distance, log.closing_robot, before)
            times = (log.step, end, self._clock.close)
            bumped = _settle(self._movers, *seen, self.met_at, *times, charged)
        if bumped:
            for body in np.flatnonzero(~charged):
                self._record(self._partners.names[body], log, log.contact_force[:, body])
        if bumped or self._pusher is not None:
            self._find_pusher(log, charged)
        return charged, None if self._pusher is None else self._pusher[0]

    def _find_pusher(self, log: TickLog, charged: np.ndarray) -> None:
        theirs = np.where(charged, 0.0, log.contact_force.max(0))
        if (log.arm_force > 0.0).any(0)[charged].any():
            self._pusher = None
        elif theirs.any():
            self._pusher = self._partners.names[int(theirs.argmax())], log.step + log.steps
        elif self._pusher is not None and log.step - self._pusher[1] > self._clock.join:
            self._pusher = None

    def _record(self, name: str, log: TickLog, force: np.ndarray) -> None:
        hit = np.flatnonzero(force > TOUCH_N)
        if not len(hit):
            return
        dt, start, known = log.substep_dt, log.time, self._latest.get(name)
        if known is None or log.step - known.last > self._clock.close:
            onset = start + int(hit[0]) * dt
            known = Uncharged(partner=name, onset=onset, end=onset, last=0, peak=0.0)
            self._latest[name] = known
        if known not in self.uncharged:
            known.peak = 0.0
            self.uncharged.append(known)
        known.last, known.end = log.step + int(hit[-1]), start + (int(hit[-1]) + 1) * dt
        known.peak = max(known.peak, float(force.max()))


@compiled
def _settle(movers, force, keepout, closing, before, met_at, step, end, close, charged):
    """Notes which movers the robot met by its own doing, and enters who is charged.

    `closing` and `before` (P,) m/s are the robot's at the end of the tick and before it, which
    lasts from substep `step` to `end`; blame lasts for `close`. Returns whether a mover that is not
    charged touches the robot.
    """
    bumped = False
    for m in movers:
        touched = inside = False
        for s in range(len(force)):
            touched |= force[s, m] > 0.0
            inside |= keepout[s, m] < 0.0
        closes = closing[m] > CLOSING_MIN or before[m] > CLOSING_MIN
        if (touched or inside) and (closes or step - met_at[m] <= close):
            met_at[m] = end
        charged[m] = end - met_at[m] <= close
        bumped |= touched and not charged[m]
    return bumped
