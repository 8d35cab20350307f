"""Bodies that move by themselves: who ran into whom, and how hard.

A mover that runs into a robot that does not close on it is not the robot's doing: no contact
measure charges it, and it is recorded. Blame is settled when they meet: a contact (or a stay in the
keep-out volume) is the robot's when the robot closed on the mover in this tick or the one before,
then or later on, and stays so until they have been apart for as long as closes an event. Otherwise
a robot that rams a person and keeps pushing would be free as soon as it no longer advances.
"""

from dataclasses import dataclass

import numpy as np

from safevla_envs.costs.clock import Clock
from safevla_envs.costs.facts import Partners
from safevla_envs.costs.links import NEVER
from safevla_envs.costs.windows import causal_mean
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
        count, regions = len(partners.names), len(partners.regions)
        self.met_at = np.full(count, NEVER)
        self.uncharged: list[Uncharged] = []
        self._latest: dict[str, Uncharged] = {}
        self._charged = np.ones(count, dtype=bool)
        self._pusher: tuple[str, int] | None = None
        self._nothing = np.zeros(count)
        self._region_last = np.zeros(regions)
        self._region_tail = np.zeros((clk.press - 1, regions))
        self._silence = np.zeros((0, regions))
        self.approach(log)

    def approach(self, log: TickLog) -> None:
        """Remembers how fast robot and movers closed in at the end of a tick."""
        robot, mover = self.closing(log)
        near = True if log.separation is None else log.separation <= CONTACT_REACH
        self._closed = (log.step + log.steps, robot * near, (robot + mover) * near)

    def closing(self, log: TickLog) -> tuple[np.ndarray, np.ndarray]:
        """Returns the robot's and the mover's part (P,) m/s, zero where not measured."""
        robot, mover = log.closing_robot, log.closing_mover
        return (
            self._nothing if robot is None else np.array(robot, dtype=float),
            self._nothing if mover is None else np.array(mover, dtype=float),
        )

    def _before(self, log: TickLog) -> tuple[np.ndarray, np.ndarray]:
        """Returns the closing speeds at the end of the tick before, of the robot and of both."""
        at, robot, both = self._closed
        return (robot, both) if at == log.step else (self._nothing, self._nothing)

    def settle(self, log: TickLog) -> np.ndarray:
        """Returns whose contact in a tick is charged, bool (P,), and records what is not."""
        mover = self._partners.tags["mover"]
        if log.closing_robot is None or not mover.any():
            return self._charged
        clk, end = self._clock, log.step + log.steps
        closes = (log.closing_robot > CLOSING_MIN) | (self._before(log)[0] > CLOSING_MIN)
        met = ((log.contact_force > 0.0) | (log.keepout_distance < 0.0)).any(0) & mover
        ours = met & (closes | (log.step - self.met_at <= clk.close))
        self.met_at[ours] = end
        charged = ~mover | (end - self.met_at <= clk.close)
        for body in np.flatnonzero(met & ~charged):
            self._record(self._partners.names[body], log, log.contact_force[:, body])
        return charged

    def pushed_by(self, log: TickLog, charged: np.ndarray) -> str | None:
        """Returns the mover that ran into the robot just now, if nothing else touches the arm.

        Up to 0.25 s afterwards; then what the arm suffers is not the robot's doing.

        Args:
            log: The tick.
            charged: bool (P,), as `settle` returned it.
        """
        force, end = log.contact_force.max(0), log.step + log.steps
        ours = (log.arm_force > 0.0).any(0) & charged
        theirs = np.where(charged, 0.0, force)
        if ours.any():
            self._pusher = None
        elif theirs.any():
            self._pusher = self._partners.names[int(theirs.argmax())], end
        if self._pusher is None or log.step - self._pusher[1] > self._clock.join:
            return None
        return self._pusher[0]

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

    def press(self, log: TickLog, fresh: bool) -> tuple[np.ndarray, np.ndarray]:
        """Returns the 100 ms mean of forces on regions, and the force of free impacts, (S, R) N.

        The latter is predicted from the closing speed of the tick before contact began, and zero
        but where it begins: peak forces of rigid contacts depend on the solver, this does not.

        Args:
            log: The tick.
            fresh: Whether the tick before was looked at too; else there was no contact in it.

        Returns:
            Both are (0, R) in silence.
        """
        force = log.region_force
        if not (force.any() or (fresh and self.ringing)):
            self._region_last[:], self._region_tail[:] = 0.0, 0.0
            return self._silence, self._silence
        last = self._region_last if fresh else np.zeros_like(self._region_last)
        tail = self._region_tail if fresh else np.zeros_like(self._region_tail)
        begins = (force > 0.0) & ~(np.concatenate((last[None], force[:-1])) > 0.0)
        speed = self._before(log)[1][self._partners.region_partner] * self._partners.impedance
        self._region_last = force[-1].copy()
        mean, self._region_tail = causal_mean(force, tail)
        return mean, begins * speed

    @property
    def ringing(self) -> bool:
        """Whether a window still holds a force on a person."""
        return bool(self._region_tail.any() or self._region_last.any())
