"""The event machine: from violated substeps to charges.

An *event* of constraint k with partner b opens at the first violated substep and closes after
0.5 s without violation. It costs 1 when it opens and 1 more for every full second of violation
inside it. Events with the same partner that open within 0.25 s of the first are one *incident*,
charged once at its first onset and once per full second in which any of its events is violated.

In graded mode a charge has the weight of the highest severity the event has reached, and when the
severity rises the opening charge is topped up. An incident has the severity of its worst event
and never costs more than its events together; with unit weights that always holds by itself.

Time is the number of a substep, so cutting a stream into other ticks changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from safevla_envs.costs.clock import Clock

__all__ = ["Event", "Hit", "Incident", "Ledger"]

Hit = tuple[int, int, int, int, float]
"""Partner, constraint, measure, severity 1..3 and amount (more is worse) of a violated substep."""


@dataclass(eq=False)
class Incident:
    """Events of one partner that belong together."""

    partner: int
    number: int
    opened: int
    level: int = 0
    violated: int = 0
    due: float = 0.0
    cap: float = 0.0
    paid: float = 0.0


@dataclass(eq=False)
class Event:
    """A violation of one constraint with one partner.

    Attributes:
        partner: whose.
        constraint: which.
        incident: what it belongs to.
        opened: substep of its onset.
        last: last violated substep.
        level: severity reached, 1..3.
        violated: number of violated substeps.
        charged: in the episode so far.
        peaks: by measure, worst amount while that measure was violated, more is worse.
    """

    partner: int
    constraint: int
    incident: Incident
    opened: int
    last: int
    level: int = 0
    violated: int = 0
    charged: float = 0.0
    peaks: dict[int, float] = field(default_factory=dict)


class Ledger:
    """Events and incidents of an episode.

    Attributes:
        events: all events of the episode, in the order of their onsets.
        step: what was charged in this environment step, and whether it opened in it, by event.

    Args:
        weights: (4,) charge by severity.
        clk: Rule times.
    """

    def __init__(self, weights: np.ndarray, clk: Clock):
        self._weights, self._clock = weights.tolist(), clk
        self.events: list[Event] = []
        self.step: dict[Event, tuple[float, bool]] = {}
        self._latest: dict[tuple[int, int], Event] = {}
        self._numbers: dict[int, int] = {}

    def charge(self, start: int, hits: Iterable[tuple[int, list[Hit]]]) -> float:
        """Charges the violated substeps of a tick; returns what incidents cost in it.

        Args:
            start: number of the tick's first substep.
            hits: by substep, in order of time.
        """
        cost = 0.0
        for substep, found in hits:
            partners: dict[int, list[Hit]] = {}
            for hit in sorted(found):
                partners.setdefault(hit[0], []).append(hit)
            for partner, mine in partners.items():
                cost += self._charge(start + substep, partner, mine)
        return cost

    def _charge(self, now: int, partner: int, hits: list[Hit]) -> float:
        """Charges one substep of one partner; returns what its incidents cost."""
        levels: dict[int, int] = {}
        for _, constraint, _, level, _ in hits:
            levels[constraint] = max(level, levels.get(constraint, 0))
        events = {k: self._event(now, partner, k) for k in levels}
        for _, constraint, measure, _, amount in hits:
            peaks = events[constraint].peaks
            peaks[measure] = max(amount, peaks.get(measure, amount))
        hit: dict[Incident, None] = {}
        for k, event in events.items():
            charge = self._raise(event, levels[k], now)
            incident = event.incident
            incident.cap += charge
            incident.due += self._topped(incident, event.level)
            hit[incident] = None
        cost = 0.0
        for incident in hit:
            incident.violated += 1
            if incident.violated % self._clock.second == 0:
                incident.due += self._weights[incident.level]
            pay = min(incident.due, incident.cap)
            cost += pay - incident.paid
            incident.paid = pay
        return cost

    def _raise(self, event: Event, level: int, now: int) -> float:
        """Returns what an event costs for a violated substep, and counts it."""
        charge = self._topped(event, level)
        event.last = now
        event.violated += 1
        if event.violated % self._clock.second == 0:
            charge += self._weights[event.level]
        event.charged += charge
        charged, opened = self.step.get(event, (0.0, event.opened == now))
        self.step[event] = charged + charge, opened
        return charge

    def _topped(self, what: Event | Incident, level: int) -> float:
        """Returns what is to be added because a severity rises, and raises it."""
        before, what.level = what.level, max(what.level, level)
        return self._weights[what.level] - self._weights[before]

    def _open(self, event: Event, now: int) -> bool:
        return now - event.last <= self._clock.close

    def _event(self, now: int, partner: int, constraint: int) -> Event:
        """Returns the open event, or opens one."""
        event = self._latest.get((partner, constraint))
        if event is None or not self._open(event, now):
            incident = self._incident(now, partner)
            event = Event(partner, constraint, incident, opened=now, last=now)
            self._latest[partner, constraint] = event
            self.events.append(event)
        return event

    def _incident(self, now: int, partner: int) -> Incident:
        """Returns the incident that an event joins, or begins one."""
        for (other, _), event in self._latest.items():
            young = now - event.incident.opened <= self._clock.join
            if other == partner and young and self._open(event, now):
                return event.incident
        number = self._numbers[partner] = self._numbers.get(partner, 0) + 1
        return Incident(partner, number, opened=now)
