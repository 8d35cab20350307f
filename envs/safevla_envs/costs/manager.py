"""The cost manager of one environment: sums terms over ticks, keeps episode sums and events."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from safevla_envs.costs.constraint import Constraint, CostTerm
from safevla_envs.costs.events import Snapshots
from safevla_envs.costs.model import CostModel
from safevla_envs.costs.movers import MoverState
from safevla_envs.costs.severity import SEVERITIES, cost_semantics, levels, severity_name
from safevla_envs.costs.signals import Partners, RobotInfo, Signals
from safevla_envs.costs.state import CostState

CAUSE = "robot"
"""`caused_by` of every event that is charged; what movers do to the robot is not."""


_Key = tuple[int, int, float]
_Entry = tuple[Snapshots, int, float, bool]


class CostManager:
    """Costs of one environment, step by step.

    Attributes:
        state: What the model remembers, None before the first reset; see `pause` for ticks that
            are passed over.
        violated: Whether any constraint was violated in the last tick that was charged.

    Call `reset(signals)`, then per environment step `update(signals)` once per control tick and
    `end_step()` once. All numbers handed out are Python floats.

    Args:
        terms: Cost terms, e.g. `default_terms()`.
        partners: The bodies of the scenario.
        robot: Link pairs and joints.
        cost_mode: "binary" or "graded".
    """

    def __init__(
        self,
        terms: Sequence[CostTerm],
        partners: Partners,
        robot: RobotInfo,
        cost_mode: str = "binary",
    ):
        self.model = CostModel(terms, partners, robot, cost_mode)
        self.cost_semantics = cost_semantics(cost_mode)
        self.state: CostState | None = None
        self._clear()

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The K constraints, in the order of `costs`."""
        return tuple(term.constraint for term in self.model.terms)

    @property
    def episode_events(self) -> list[dict[str, Any]]:
        """Every event of the episode so far with its final numbers, by onset; `charged` in all."""
        events = [self._describe(*entry) for entry in self._episode.values()]
        return sorted(events, key=lambda event: event["onset_time"])

    def reset(self, signals: Signals) -> dict[str, Any]:
        """Forget everything and take reference poses from `signals`; returns zeros.

        Returns:
            The dictionary of `end_step`, all costs 0.0.

        Raises:
            ValueError: A signal has a shape that does not fit the partners or the robot.
        """
        if np.ndim(signals.time):
            raise ValueError("signals: the manager takes one world, see CostModel for many")
        self._clear()
        self.state = self.model.init_state(signals)
        return self.end_step()

    def update(self, signals: Signals) -> None:
        """Charge one control tick to the current environment step."""
        if self.state is None:
            raise ValueError("CostManager.update: call reset(signals) first")
        costs, snapshots, self.state = self.model.step(signals, self.state, keep=False)
        self.violated = len(snapshots) > 0
        if self.violated:
            for name, charge in costs.items():
                self._step[name] += float(charge)
            self._record(snapshots)
        if self.model.facts.any_mover:
            self._note_uncharged(self.state.movers)

    def end_step(self) -> dict[str, Any]:
        """Close the current environment step.

        Returns:
            `cost`: float, incidents counted once. `costs`: float per constraint, always all K.
            `cost_return`: their sums over the episode, with `"cost"`. `severity`: per constraint
            the highest level of the events violated in this step, or `None`. `cost_events`: these
            events as dicts of `constraint`, `partner`, `onset_time` (s), `duration` (s, first to
            last violation so far), `measure`, `peak`, `unit`, `peaks` (all measures passed),
            `severity`, `charged` (in this step; sums to `costs`), `opened` (in this step),
            `incident` (`"<partner>/<n>"`) and `caused_by`. `uncharged_events`: contacts of this
            step that nobody charges, because a mover ran into a robot that did not close on it, as
            dicts of `partner`, `onset_time` (s), `duration` (s), `peak` (N), `unit` and
            `caused_by`, which names the mover.
        """
        step, self._step = self._step, dict(self._zero)
        if self._events:  # no charge without an event
            self._return = {name: total + step[name] for name, total in self._return.items()}
        cost = step.pop("cost")
        events = [self._describe(*entry) for entry in self._events.values()]
        severity = dict.fromkeys(self.model.names)
        for event in sorted(events, key=lambda event: SEVERITIES.index(event["severity"])):
            severity[event["constraint"]] = event["severity"]  # the worst comes last
        result = {
            "cost": cost,
            "costs": step,
            "cost_return": dict(self._return),
            "severity": severity,
            "cost_events": events,
            "uncharged_events": [
                {"partner": name, "onset_time": onset, **entry, "unit": "N", "caused_by": name}
                for (name, onset), entry in self._uncharged.items()
            ],
        }
        self._uncharged = {}
        self._events = {}
        return result

    def __str__(self) -> str:
        """Return a plain-text table of the constraints."""
        head = ("constraint", "kind", "threshold", "unit", "minor / moderate / severe", "budget")
        rows: list[tuple[str, ...]] = [head]
        for term in self.model.terms:
            c = term.constraint
            cutoffs = " / ".join(f"{v:.3g}" for v in c.severity)
            cutoffs += " x limit" if term.measures[0].scale == "fragile_limit" else ""
            rows.append((c.name, c.kind, str(c.threshold), c.unit, cutoffs, f"{c.budget:g}"))
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        rule = "+".join("-" * (w + 2) for w in widths)
        lines = [f"costs, semantics {self.cost_semantics}: charges per episode against budget"]
        for i, row in enumerate(rows):
            lines.append(" | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)))
            if i == 0:
                lines.append(rule[1:-1])
        return "\n".join(line.rstrip() for line in lines)

    def _clear(self) -> None:
        self._zero = dict.fromkeys((*self.model.names, "cost"), 0.0)
        self._step, self._return = dict(self._zero), dict(self._zero)
        self.violated = False
        self._events: dict[_Key, _Entry] = {}
        self._uncharged: dict[tuple[str, float], dict[str, float]] = {}
        self._episode: dict[_Key, _Entry] = {}

    def _record(self, snapshots: Snapshots) -> None:
        """Merge the snapshots of a tick into the events of the step and of the episode."""
        for i in range(len(snapshots)):
            key = (int(snapshots.row[i]), int(snapshots.constraint[i]), float(snapshots.onset[i]))
            charge, new = float(snapshots.charged[i]), bool(snapshots.opened[i])
            for log in (self._events, self._episode):
                _, _, charged, opened = log.get(key, (None, 0, 0.0, False))
                log[key] = (snapshots, i, charged + charge, opened or new)

    def _note_uncharged(self, movers: MoverState) -> None:
        """Merge the contacts of a tick that nobody is charged for into those of the step."""
        if not np.count_nonzero(movers.peak):
            return
        for body in np.flatnonzero(movers.peak[0]):
            key = (self.model.partners.names[body], round(float(movers.onset[0, body]), 6))
            entry = self._uncharged.setdefault(key, {"duration": 0.0, "peak": 0.0})
            entry["duration"] = round(float(movers.span[0, body]), 6)
            entry["peak"] = max(entry["peak"], float(movers.peak[0, body]))

    def _describe(
        self, snapshots: Snapshots, i: int, charged: float, opened: bool
    ) -> dict[str, Any]:
        """Return one event as a dictionary of plain Python values."""
        model = self.model
        row, k = int(snapshots.row[i]), int(snapshots.constraint[i])
        partner = model.group_names[row]
        peaks: dict[str, float] = {}
        best = (0, "", "")
        for m in np.flatnonzero(snapshots.peak[i] > -np.inf):
            measure = model.measures[m]
            worst = snapshots.peak[i, m]
            level = int(levels(worst[None], measure.worse_cutoffs)[0])
            value = float(measure.sense * worst)
            if measure.scale == "fragile_limit":
                value *= float(np.atleast_2d(model.partners.fragile_limit)[0, row])
            peaks[measure.name] = value
            if level > best[0]:
                best = (level, measure.name, measure.unit)
        return {
            "constraint": model.names[k],
            "partner": partner,
            "onset_time": round(float(snapshots.onset[i]), 6),
            "duration": round(float(snapshots.duration[i]), 6),
            "measure": best[1],
            "peak": peaks[best[1]],
            "unit": best[2],
            "peaks": peaks,
            "severity": severity_name(int(snapshots.level[i])),
            "charged": charged,
            "opened": opened,
            "incident": f"{partner}/{int(snapshots.incident[i])}",
            "caused_by": CAUSE,
        }
