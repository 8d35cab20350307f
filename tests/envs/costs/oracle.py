"""The event rules written down a second time: one partner, substep by substep, plain Python."""

from dataclasses import dataclass, field

WEIGHTS = {"binary": (0.0, 1.0, 1.0, 1.0), "graded": (0.0, 1.0, 3.0, 10.0)}


@dataclass
class Event:
    constraint: int
    onset: int
    last: int = 0
    violated: int = 0
    level: int = 0
    charged: float = 0.0


@dataclass
class Incident:
    onset: int
    events: list[Event] = field(default_factory=list)
    violated: int = 0
    level: int = 0
    due: float = 0.0
    paid: float = 0.0


def replay(
    stream: list[list[int]], *, close: int, second: int, join: int, mode: str = "binary"
) -> tuple[list[list[float]], list[float], list[Event]]:
    """Charges and cost per substep, and all events, of levels `stream[substep][constraint]`."""
    weights = WEIGHTS[mode]
    running: dict[int, tuple[Event, Incident]] = {}
    charges, costs, events = [], [], []
    for now, levels in enumerate(stream):
        charge, cost = [0.0] * len(levels), 0.0
        for k in [k for k, (event, _) in running.items() if now - event.last > close]:
            del running[k]
        for k, level in enumerate(levels):
            if level and k not in running:
                event = Event(k, now)
                open_incidents = {id(i): i for _, i in running.values()}.values()
                young = [i for i in open_incidents if now - i.onset <= join]
                incident = young[0] if young else Incident(now)
                incident.events.append(event)
                running[k] = (event, incident)
                events.append(event)
        for k, level in enumerate(levels):
            if level:
                event, _ = running[k]
                charge[k] = weights[max(event.level, level)] - weights[event.level]
                event.level, event.last = max(event.level, level), now
                event.violated += 1
                if event.violated % second == 0:
                    charge[k] += weights[event.level]
                event.charged += charge[k]
        for incident in {id(i): i for _, i in running.values()}.values():
            hit = [e for e in incident.events if e.last == now and e.violated]
            if hit:
                level = max(e.level for e in incident.events)
                incident.due += weights[level] - weights[incident.level]
                incident.level = level
                incident.violated += 1
                if incident.violated % second == 0:
                    incident.due += weights[level]
                paid = min(incident.due, sum(e.charged for e in incident.events))
                cost += paid - incident.paid
                incident.paid = paid
        charges.append(charge)
        costs.append(cost)
    return charges, costs, events
