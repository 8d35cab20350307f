"""The cost manager of one environment: charges ticks, keeps episode sums and events."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from safevla_envs.costs.clock import clock
from safevla_envs.costs.constraint import Constraint, CostTerm, Measure
from safevla_envs.costs.events import Event, Key, Ledger, Series
from safevla_envs.costs.facts import Partners, RobotInfo
from safevla_envs.costs.severity import SEVERITIES, cost_semantics, levels, severity_weights
from safevla_envs.costs.view import Memory, View
from safevla_envs.record.log import TickLog

__all__ = ["CostManager", "Judge"]

ARM = "arm"
"""Partner of events about joints and the tool centre point."""
CAUSE = "robot"
"""`caused_by` of every event that is charged; what movers do to the robot is not."""


class Judge:
    """A measure bound to the bodies and the robot of a scenario."""

    def __init__(
        self,
        measure: Measure,
        index: tuple[int, int],
        groups: Sequence[int],
        partners: Partners,
        dt: float,
    ):
        self.measure, self.value, self._dt = measure, measure.value, dt
        self.constraint, self.index = index
        self._groups = groups
        self._cutoffs = np.array(measure.worse_cutoffs, dtype=float)[:, None]
        if measure.scale == "fragile_limit":
            self._cutoffs = self._cutoffs * np.asarray(partners.fragile_limit, dtype=float)
        self._among = None if measure.among is None else partners.among(measure.among)
        self.possible = self._among is None or bool(self._among.any())

    def level(self, worse: float, partner: int) -> int:
        """Returns how severe an amount is, 1..3; of what is held, as if it were rugged."""
        column = self._groups.index(partner) if self._cutoffs.shape[1] > 1 else 0
        return int(levels(np.array(worse), self._cutoffs[:, column]))

    def __call__(self, view: Any) -> list[tuple[Key, Series]]:
        """Returns what is violated in a tick."""
        where = self._among
        if self.measure.where is not None:
            where = self.measure.where(view)
            if self._among is not None:
                where = where & self._among
        if where is not None and not np.count_nonzero(where):
            return []
        amount = self.value.read(view)
        if amount is None or not amount.size:
            return []
        worse = amount if self.value.sense > 0 else -amount
        if worse.ndim == 1:
            worse = worse[None]
        cutoffs = self._cutoffs
        if self.measure.scale == "grip_limit":
            cutoffs = view.grip_limit[:, None]
        beyond = worse > cutoffs[0] if self.measure.strict else worse >= cutoffs[0]
        if self.measure.lasting:
            held = view.lasting(f"{self.constraint}/{self.measure.name}", beyond)
            beyond = np.round(held * self._dt, 9) >= self.measure.lasting
        if where is not None:
            beyond = beyond & where
        if not np.count_nonzero(beyond):
            return []
        level = levels(worse, cutoffs) * beyond
        times = view.steps // len(worse)
        return [
            (
                (self._groups[column], self.constraint),
                (
                    self.index,
                    column,
                    level[:, column].tolist() * times,
                    worse[:, column].tolist() * times,
                ),
            )
            for column in np.flatnonzero(beyond.any(0)).tolist()
        ]


class CostManager:
    """Costs of one environment, step by step.

    Call `reset(log)`, then per environment step `update(log)` once per control tick and
    `end_step()` once. All numbers handed out are Python floats.

    Attributes:
        memory: What is remembered between ticks.
        judges: The measures, bound to what they judge.
        violated: Whether any constraint was violated in the last tick that was looked at.
        group_names: Partners of events: bodies, link pairs, the arm, fingers.

    Args:
        terms: Cost terms, e.g. `default_terms()`.
        partners: The bodies of the scenario.
        robot: Link pairs and joints.
        cost_mode: "binary" or "graded".

    Raises:
        ValueError: Two terms have one name, or there is none.
    """

    memory: Memory

    def __init__(
        self,
        terms: Sequence[CostTerm],
        partners: Partners,
        robot: RobotInfo,
        cost_mode: str = "binary",
    ):
        self.terms, self.partners, self.robot = tuple(terms), partners, robot
        self.names = tuple(term.name for term in self.terms)
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"terms: names {list(self.names)} must be unique and at least one")
        self.measures = tuple(m for term in self.terms for m in term.measures)
        self.cost_semantics = cost_semantics(cost_mode)
        self._weights = severity_weights(cost_mode)
        self.group_names = (*partners.names, *robot.self_pairs, ARM, *robot.fingers)
        bodies, arm = len(partners.names), len(partners.names) + len(robot.self_pairs)
        self._first = {
            "partner": range(bodies),
            "self_pair": range(bodies, arm),
            "joint": [arm] * len(robot.joints),
            "tcp": [arm],
            "finger": range(arm + 1, arm + 1 + len(robot.fingers)),
        }
        self._parts = {"joint": robot.joints, "tcp": ("tcp",)}

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The K constraints, in the order of `costs`."""
        return tuple(term.constraint for term in self.terms)

    @property
    def episode_events(self) -> list[dict[str, Any]]:
        """Every event of the episode so far with its final numbers, by onset; `charged` in all."""
        return [self._describe(event, event.charged, True) for event in self._ledger.events]

    def reset(self, log: TickLog) -> dict[str, Any]:
        """Forgets everything and takes reference poses from `log`.

        Returns:
            The dictionary of `end_step`, all costs 0.0.
        """
        self._clock = clock(log.substep_dt)
        self.memory = Memory(self.partners, self.robot, self._clock, log)
        # what is charged, and what movers do to the arm
        self._ledger, self._theirs = (
            Ledger(self._weights, self._clock, len(self.partners.names)) for _ in range(2)
        )
        self._causes: dict[Event, str] = {}
        owners = [(k, m) for k, term in enumerate(self.terms) for m in term.measures]
        self.judges = tuple(
            Judge(m, (k, i), self._first[m.value.axis], self.partners, log.substep_dt)
            for i, (k, m) in enumerate(owners)
        )
        self._asked = [judge for judge in self.judges if judge.possible]
        self._return = dict.fromkeys((*self.names, "cost"), 0.0)
        self._cost, self.violated = 0.0, False
        return self.end_step()

    def update(self, log: TickLog, wakes: Sequence[str] | None = None) -> None:
        """Charges one control tick to the current environment step.

        Args:
            log: The tick.
            wakes: Which kinds of measures may be violated in it (see `Value`), all if None; joints'
                memory is then brought on too.
        """
        memory = self.memory
        if wakes is None:
            memory.joints.advance(log)
        view = View(log, memory, self.partners, self.robot, self._clock)
        ours: dict[Key, list[Series]] = {}
        theirs: dict[Key, list[Series]] = {}
        for judge in self._asked:
            if wakes is None or judge.value.wakes in wakes:
                pushed = judge.value.axis in self._parts and view.pushed_by is not None
                for key, series in judge(view):
                    (theirs if pushed else ours).setdefault(key, []).append(series)
        self.violated = bool(ours or theirs)
        if ours:
            self._cost += self._ledger.charge(log.step, log.steps, ours)
        if theirs:
            self._theirs.charge(log.step, log.steps, theirs)
            for event in self._theirs.step:
                self._causes.setdefault(event, str(view.pushed_by))

    def end_step(self) -> dict[str, Any]:
        """Closes the current environment step.

        Returns:
            `cost`: float, incidents counted once. `costs`: float per constraint, always all K.
            `cost_return`: their sums over the episode, with `"cost"`. `severity`: per constraint
            the highest level of the events violated in this step, or `None`. `cost_events`: these
            events as dicts of `constraint`, `partner`, `part` (which joint of the arm, else empty),
            `onset_time` (s), `duration` (s, first to last violation so far), `measure`, `peak`,
            `unit`, `peaks` (all measures passed), `severity`, `charged` (in this step; sums to
            `costs`), `opened` (in this step), `incident` (`"<partner>/<n>"`) and `caused_by`.
            `uncharged_events`: what a mover did in this step that ran into a robot that did not
            close on it: contacts as dicts of `partner`, `onset_time` (s), `duration` (s), `peak`
            (N), `unit` and `caused_by`, which names the mover; and what joints suffered from it, as
            events are described.
        """
        costs: dict[str, float] = dict.fromkeys(self.names, 0.0)
        severity: dict[str, Any] = dict.fromkeys(self.names)
        worst = [0] * len(self.names)
        for event, (charged, _) in self._ledger.step.items():
            k = event.constraint
            costs[self.names[k]] += charged
            if event.level > worst[k]:
                worst[k] = event.level
                severity[self.names[k]] = SEVERITIES[event.level - 1]
        for name, value in (*costs.items(), ("cost", self._cost)):
            self._return[name] += value
        result = {
            "cost": self._cost,
            "costs": costs,
            "cost_return": dict(self._return),
            "severity": severity,
            "cost_events": [self._describe(e, *how) for e, how in self._ledger.step.items()],
            "uncharged_events": [
                {
                    "partner": contact.partner,
                    "onset_time": round(contact.onset, 6),
                    "duration": round(contact.end - contact.onset, 6),
                    "peak": contact.peak,
                    "unit": "N",
                    "caused_by": contact.partner,
                }
                for contact in self.memory.blame.uncharged
            ]
            + [
                self._describe(event, 0.0, opened) | {"caused_by": self._causes[event]}
                for event, (_, opened) in self._theirs.step.items()
            ],
        }
        self._cost, self._ledger.step, self._theirs.step = 0.0, {}, {}
        self.memory.blame.uncharged.clear()
        return result

    def __str__(self) -> str:
        """Returns a plain-text table of the constraints."""
        head = ("constraint", "kind", "threshold", "unit", "minor / moderate / severe", "budget")
        rows: list[tuple[str, ...]] = [head]
        for term in self.terms:
            c = term.constraint
            cutoffs = " / ".join(f"{v:.3g}" for v in c.severity)
            cutoffs += " x limit" if term.measures[0].scale == "fragile_limit" else ""
            rows.append((c.name, c.kind, str(c.threshold), c.unit, cutoffs, f"{c.budget:g}"))
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [f"costs, semantics {self.cost_semantics}: charges per episode against budget"]
        for i, row in enumerate(rows):
            lines.append(" | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)))
            if i == 0:
                lines.append("+".join("-" * (w + 2) for w in widths)[1:-1])
        return "\n".join(line.rstrip() for line in lines)

    def _describe(self, event: Event, charged: float, opened: bool) -> dict[str, Any]:
        """Returns one event as a dictionary of plain Python values."""
        partner, dt = self.group_names[event.partner], self._clock.dt
        peaks: dict[str, float] = {}
        best = (0, "", "")
        part = ""
        for m, (worst, column) in sorted(event.peaks.items()):
            measure = self.measures[m]
            level = self.judges[m].level(worst, event.partner)
            peaks[measure.name] = float(measure.value.sense * worst)
            if level > best[0]:
                best = (level, measure.name, measure.value.unit)
                part = self._parts.get(measure.value.axis, ("",) * (column + 1))[column]
        incident = event.incident
        return {
            "constraint": self.names[event.constraint],
            "partner": partner,
            "part": part,
            "onset_time": round(event.opened * dt, 6),
            "duration": round((event.last + 1 - event.opened) * dt, 6),
            "measure": best[1],
            "peak": peaks[best[1]],
            "unit": best[2],
            "peaks": peaks,
            "severity": SEVERITIES[event.level - 1],
            "charged": charged,
            "opened": opened,
            "incident": f"{self.group_names[incident.partner]}/{incident.number}",
            "caused_by": CAUSE,
        }
