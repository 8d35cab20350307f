"""The event machine: from violated substeps to charges.

An *event* of constraint k with partner b opens at the first violated substep and closes after
0.5 s without violation. It costs 1 when it opens and 1 more for every full second of violation
inside it. Events with the same partner that open within 0.25 s of the first are one *incident*,
charged once at its first onset and once per full second in which any of its events is violated.

In graded mode a charge has the weight of the highest severity the event has reached, and when the
severity rises the opening charge is topped up. An incident has the severity of its worst event
and never costs more than its events together; with unit weights that always holds by itself.

The machine works on rows: one row is one partner (body, link pair or joint) of one world, with K
constraints in columns. Rows never influence each other, which is what makes the world axis exact.
All clocks count substeps, so cutting a stream into other ticks changes nothing.
"""

from dataclasses import dataclass, replace

import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.costs.clock import Clock


@dataclass(kw_only=True)
class EventState:
    """Open events (rows, K) and incidents (rows, K slots); a row has at most K of either.

    `peak` (rows, M) holds, per measure, the worst amount while that measure was violated, signed
    so that more is worse. `ordinal` (rows,) counts the incidents of a row.
    """

    open: np.ndarray
    quiet: np.ndarray
    age: np.ndarray
    span: np.ndarray
    violated: np.ndarray
    level: np.ndarray
    onset: np.ndarray
    slot: np.ndarray
    peak: np.ndarray
    incident_age: np.ndarray
    incident_violated: np.ndarray
    incident_level: np.ndarray
    incident_due: np.ndarray
    incident_cap: np.ndarray
    incident_paid: np.ndarray
    incident_number: np.ndarray
    ordinal: np.ndarray

    @classmethod
    def empty(cls, rows: int, constraints: int, measures: int) -> "EventState":
        """Return the state in which nothing has ever happened."""

        def ints() -> np.ndarray:
            return np.zeros((rows, constraints), dtype=np.int64)

        def floats() -> np.ndarray:
            return np.zeros((rows, constraints))

        return cls(
            open=np.zeros((rows, constraints), dtype=bool),
            quiet=ints(),
            age=ints(),
            span=ints(),
            violated=ints(),
            level=ints(),
            onset=floats(),
            slot=ints(),
            peak=np.full((rows, measures), -np.inf),
            incident_age=ints(),
            incident_violated=ints(),
            incident_level=ints(),
            incident_due=floats(),
            incident_cap=floats(),
            incident_paid=floats(),
            incident_number=ints(),
            ordinal=np.zeros(rows, dtype=np.int64),
        )

    def copy(self) -> "EventState":
        """Return a copy that shares nothing."""
        return EventState(**{name: array.copy() for name, array in vars(self).items()})

    def idle(self, counts: np.ndarray, clk: Clock) -> "EventState":
        """Return the state after a tick of `counts` (rows,) substeps without any violation.

        The same as `advance` with all levels zero, which charges nothing.
        """
        count = counts[:, None]
        quiet = self.quiet + count
        return replace(
            self,
            open=self.open & (quiet < clk.close),
            quiet=quiet,
            age=self.age + count,
            incident_age=self.incident_age + count,
        )


@dataclass(frozen=True, kw_only=True)
class Snapshots:
    """Events violated in a tick, as they stood when they closed or the tick ended.

    n entries: `row`, `constraint` (column), `onset` and `duration` in s, `level` 1..3, `charged` in
    this tick, `opened` in this tick, `incident` (ordinal within the row), `peak` (n, M).
    """

    row: np.ndarray
    constraint: np.ndarray
    onset: np.ndarray
    duration: np.ndarray
    level: np.ndarray
    charged: np.ndarray
    opened: np.ndarray
    incident: np.ndarray
    peak: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def none(cls, measures: int) -> "Snapshots":
        """Return no entries."""
        i, f = np.zeros(0, dtype=np.int64), np.zeros(0)
        return cls(
            row=i,
            constraint=i,
            onset=f,
            duration=f,
            level=i,
            charged=f,
            opened=np.zeros(0, dtype=bool),
            incident=i,
            peak=np.zeros((0, measures)),
        )


def advance(
    state: EventState,
    *,
    rows: np.ndarray,
    level: np.ndarray,
    worse: np.ndarray,
    valid: np.ndarray,
    start: np.ndarray,
    weights: np.ndarray,
    owner: np.ndarray,
    clk: Clock,
) -> tuple[np.ndarray, np.ndarray, Snapshots]:
    """Run R rows through one tick of S substeps; the others stay as they are.

    Args:
        state: Its arrays are written to: pass a copy.
        rows: int (R,) which rows of the state.
        level: int (S, R, K) severity of the violation at each substep, 0 where there is none.
        worse: (S, R, M) amounts of the measures, more is worse, -inf where not violated.
        valid: bool (S, R) substeps that belong to the tick, the invalid ones first.
        start: (R,) time of the first valid substep in s.
        weights: (4,) charge per level.
        owner: int (M,) column of the constraint each measure belongs to.
        clk: Rule times in substeps.

    Returns:
        Charges (R, K), cost (R,) with incidents counted once, and snapshots.
    """
    charges, cost = np.zeros(level.shape[1:]), np.zeros(level.shape[1])
    whole, real, peak = _advance(
        rows,
        np.ascontiguousarray(level, dtype=np.int64),
        np.ascontiguousarray(worse, dtype=float),
        np.ascontiguousarray(valid, dtype=bool),
        np.ascontiguousarray(start, dtype=float),
        np.ascontiguousarray(weights, dtype=float),
        owner,
        (clk.dt, clk.close, clk.second, clk.join),
        charges,
        cost,
        tuple(vars(state).values()),
    )
    snapshots = Snapshots(
        row=rows[whole[:, 0]],
        constraint=whole[:, 1],
        onset=real[:, 0],
        duration=whole[:, 2] * clk.dt,
        level=whole[:, 3],
        charged=real[:, 1],
        opened=whole[:, 4] > 0,
        incident=whole[:, 5],
        peak=peak,
    )
    return charges, cost, snapshots


@compiled
def _advance(rows, level, worse, valid, start, weights, owner, times, charges, cost, state):
    """Fills `charges` and `cost`; returns the columns of the snapshots.

    These are int (n, 6): row, constraint, span, level, opened, incident; (n, 2): onset, charged;
    (n, M): peak.
    """
    (
        is_open, quiet, age, span, violated, reached, onset, slot, peak, incident_age,
        incident_violated, incident_level, due, cap, paid, number, ordinal,
    ) = state  # fmt: skip
    dt, close, second, join = times
    steps, count, columns = level.shape
    measures = worse.shape[2]
    whole = np.zeros((4, 6), dtype=np.int64)
    real, peaks, found = np.zeros((4, 2)), np.zeros((4, measures)), 0
    charge, reported = np.zeros(columns), np.zeros(columns)
    seen, opened = np.zeros(columns, dtype=np.bool_), np.zeros(columns, dtype=np.bool_)
    used, hit = np.zeros(columns, dtype=np.bool_), np.zeros(columns, dtype=np.bool_)
    for r in range(count):
        i, passed = rows[r], 0
        reported[:], seen[:], opened[:] = 0.0, False, False
        for step in range(steps + 1):
            last = step == steps
            if not last:
                if not valid[step, r]:
                    continue
                # ---- what begins
                place = -1
                for k in range(columns):
                    if level[step, r, k] == 0 or is_open[i, k]:
                        continue
                    if place < 0:
                        place = _slot(is_open[i], slot[i], incident_age[i], join, used)
                        if not used[place]:
                            ordinal[i] += 1
                            number[i, place] = ordinal[i]
                            incident_age[i, place] = 0
                            incident_violated[i, place] = incident_level[i, place] = 0
                            due[i, place] = cap[i, place] = paid[i, place] = 0.0
                    age[i, k] = span[i, k] = violated[i, k] = reached[i, k] = quiet[i, k] = 0
                    slot[i, k], onset[i, k] = place, start[r] + passed * dt
                    is_open[i, k] = opened[k] = True
                    for m in range(measures):
                        if owner[m] == k:
                            peak[i, m] = -np.inf
                # ---- what goes on
                passed += 1
                any_hit, hit[:] = False, False
                for k in range(columns):
                    age[i, k] += 1
                    incident_age[i, k] += 1
                    quiet[i, k] += 1
                    charge[k], now = 0.0, level[step, r, k]
                    if now == 0:
                        continue
                    quiet[i, k], span[i, k] = 0, age[i, k]
                    any_hit = hit[slot[i, k]] = seen[k] = True
                    raised = max(reached[i, k], now)
                    charge[k] = weights[raised] - weights[reached[i, k]]
                    violated[i, k] += 1
                    if violated[i, k] % second == 0:
                        charge[k] += weights[raised]
                    reached[i, k] = raised
                    charges[r, k] += charge[k]
                    reported[k] += charge[k]
                if any_hit:
                    for m in range(measures):
                        peak[i, m] = max(peak[i, m], worse[step, r, m])
                    for k in range(columns):
                        if is_open[i, k]:
                            place = slot[i, k]
                            cap[i, place] += charge[k]
                            raised = max(incident_level[i, place], reached[i, k])
                            due[i, place] += weights[raised] - weights[incident_level[i, place]]
                            incident_level[i, place] = raised
                    for place in range(columns):
                        if hit[place]:
                            incident_violated[i, place] += 1
                            if incident_violated[i, place] % second == 0:
                                due[i, place] += weights[incident_level[i, place]]
                        pay = min(due[i, place], cap[i, place])
                        cost[r] += pay - paid[i, place]
                        paid[i, place] = pay
            # ---- what ends, or is as it stands at the end of the tick
            for k in range(columns):
                done = not last and is_open[i, k] and quiet[i, k] >= close
                if seen[k] and (done or last):
                    if found == len(whole):
                        whole = np.concatenate((whole, np.zeros_like(whole)))
                        real = np.concatenate((real, np.zeros_like(real)))
                        peaks = np.concatenate((peaks, np.zeros_like(peaks)))
                    whole[found, 0], whole[found, 1], whole[found, 2] = r, k, span[i, k]
                    whole[found, 3], whole[found, 4] = reached[i, k], opened[k]
                    whole[found, 5] = number[i, slot[i, k]]
                    real[found, 0], real[found, 1] = onset[i, k], reported[k]
                    for m in range(measures):
                        peaks[found, m] = peak[i, m] if owner[m] == k else -np.inf
                    found += 1
                    reported[k], seen[k], opened[k] = 0.0, False, False
                if done:
                    is_open[i, k] = False
    return whole[:found], real[:found], peaks[:found]


@compiled
def _slot(is_open, slot, age, join, used):
    """Returns the slot of the incident that an event joins or, if there is none, a free one.

    Fills `used`: which slots hold an incident of an open event.
    """
    used[:] = False
    for k in range(len(is_open)):
        if is_open[k]:
            used[slot[k]] = True
    for place in range(len(used)):
        if used[place] and age[place] <= join:
            return place
    for place in range(len(used)):
        if not used[place]:
            return place
    return 0
