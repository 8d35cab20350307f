"""The event machine: from violated substeps to charges.

An *event* of constraint k with partner b opens at the first violated substep and closes after
0.5 s without violation. It costs 1 when it opens and 1 more for every full second of violation
inside it. An *incident* is what belongs together: events with one partner that open within 0.25 s
of the first, and damage to the robot itself that opens within 0.25 s of a contact. It is charged
once at its first onset and once per full second in which any of its events is violated.

In graded mode a charge has the weight of the highest severity the event has reached, and when the
severity rises the opening charge is topped up. An incident has the severity of its worst event
and never costs more than its events together; with unit weights that always holds by itself.

Time is the number of a substep, so cutting a stream into other ticks changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from safevla_envs.costs.clock import Clock

__all__ = ["Event", "Incident", "Key", "Ledger", "Series"]

NOTHING = (-np.inf, 0)

Key = tuple[int, int]
"""Partner and constraint of an event."""
Series = tuple[int, int, list[int], list[float]]
"""A measure's violations in a tick: measure, column of it (which tells the part of the partner), by
substep severity 1..3, 0 where there is none, and by substep amount, more is worse."""


@dataclass(eq=False)
class Incident:
    """Events that belong together: of one partner, and of the robot itself."""

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
        peaks: by measure, worst amount while that measure was violated (more is worse), and part.
    """

    partner: int
    constraint: int
    incident: Incident
    opened: int
    last: int
    level: int = 0
    violated: int = 0
    charged: float = 0.0
    peaks: dict[int, tuple[float, int]] = field(default_factory=dict)


class Ledger:
    """Events and incidents of an episode.

    Attributes:
        events: all events of the episode, in the order of their onsets.
        step: what was charged in this environment step, and whether it opened in it, by event.

    Args:
        weights: (4,) charge by severity.
        clk: Rule times.
        bodies: Number of partners that are bodies, the first ones; the others are parts of the
            robot.
    """

    def __init__(self, weights: np.ndarray, clk: Clock, bodies: int):
        self._weights, self._clock, self._bodies = weights.tolist(), clk, bodies
        self.events: list[Event] = []
        self.step: dict[Event, tuple[float, bool]] = {}
        self._latest: dict[tuple[int, int], Event] = {}
        self._numbers: dict[int, int] = {}

    def charge(self, start: int, steps: int, found: Mapping[Key, list[Series]]) -> float:
        """Charges a tick; returns what incidents cost in it.

        Args:
            start: number of the tick's first substep.
            steps: number of its substeps.
            found: what was violated.
        """
        cost, keys = 0.0, sorted(found)
        for step in range(steps):
            hit: dict[Incident, None] = {}
            for key in keys:
                level = max(levels[step] for _, _, levels, _ in found[key])
                if not level:
                    continue
                event = self._event(start + step, *key)
                for measure, column, levels, amounts in found[key]:
                    if levels[step] and amounts[step] > event.peaks.get(measure, NOTHING)[0]:
                        event.peaks[measure] = amounts[step], column
                incident = event.incident
                incident.cap += self._raise(event, level, start + step)
                incident.due += self._topped(incident, event.level)
                hit[incident] = None
            for incident in hit:
                cost += self._settle(incident)
        return cost

    def _settle(self, incident: Incident) -> float:
        """Returns what an incident costs for a substep in which one of its events was violated."""
        incident.violated += 1
        if incident.violated % self._clock.second == 0:
            incident.due += self._weights[incident.level]
        pay = min(incident.due, incident.cap)
        cost, incident.paid = pay - incident.paid, pay
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
        join = self._clock.join
        recent = [event for event in self.events if now - event.opened <= join]
        for event in recent:
            if event.partner == partner and now - event.incident.opened <= join:
                return event.incident
        body = partner < self._bodies
        for event in recent:
            incident = event.incident
            if body == (event.partner < self._bodies):
                continue
            if not body:
                return incident
            if incident.partner >= self._bodies:  # the robot's damage was seen before its cause
                incident.partner, incident.number = partner, self._number(partner)
                return incident
        return Incident(partner, self._number(partner), opened=now)

    def _number(self, partner: int) -> int:
        number = self._numbers[partner] = self._numbers.get(partner, 0) + 1
        return number
