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

from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np

from .clock import Clock


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

    def take(self, rows: np.ndarray) -> "EventState":
        """Return a copy of the given rows."""
        return EventState(**{name: array[rows] for name, array in vars(self).items()})

    def put(self, rows: np.ndarray, part: "EventState") -> "EventState":
        """Return a copy of this state with the given rows replaced."""
        whole = {name: array.copy() for name, array in vars(self).items()}
        for name, array in whole.items():
            array[rows] = getattr(part, name)
        return EventState(**whole)

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

    @classmethod
    def join(cls, parts: list["Snapshots"]) -> "Snapshots":
        """Return all entries of `parts` (at least one), in order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        )


class _Tick:
    """One tick of some rows; mutates its own copy of their state."""

    def __init__(self, state: EventState, weights: np.ndarray, owner: np.ndarray, clk: Clock):
        self.s, self.weights, self.owner, self.clk = state, weights, owner, clk
        shape = state.open.shape
        self.slots = np.arange(shape[1])
        self.cost = np.zeros(shape[0])
        self.charges = np.zeros(shape)
        self.reported = np.zeros(shape)
        self.seen = np.zeros(shape, dtype=bool)
        self.opened = np.zeros(shape, dtype=bool)
        self.snapshots: list[Snapshots] = []
        self._find_members()

    def _find_members(self) -> None:
        """Which event (R, K, 1) belongs to which incident (R, 1, K), while it is open."""
        self.member = self.s.open[:, :, None] & (self.s.slot[:, :, None] == self.slots)

    def open(self, new: np.ndarray, time: np.ndarray) -> None:
        s = self.s
        used = self.member.any(1)
        joinable = used & (s.incident_age <= self.clk.join)
        join = joinable.any(1)
        slot = np.where(join, joinable.argmax(1), used.argmin(1))
        fresh = new.any(1) & ~join
        r, c = np.nonzero(fresh)[0], slot[fresh]
        s.ordinal[r] += 1
        s.incident_number[r, c] = s.ordinal[r]
        for array in (s.incident_age, s.incident_violated, s.incident_level):
            array[r, c] = 0
        for array in (s.incident_due, s.incident_cap, s.incident_paid):
            array[r, c] = 0.0
        for array in (s.age, s.span, s.violated, s.level, s.quiet):
            array[new] = 0
        s.slot = np.where(new, slot[:, None], s.slot)
        s.onset = np.where(new, time[:, None], s.onset)
        s.peak[new[:, self.owner]] = -np.inf
        s.open |= new
        self.opened |= new
        self._find_members()

    def run(self, level: np.ndarray, worst: np.ndarray, count: np.ndarray) -> None:
        """Advance by a stretch in which what is violated does not change.

        `level` (R, K) highest of the stretch, `worst` (R, M) likewise, `count` (R, 1) substeps.
        """
        s, second = self.s, self.clk.second
        v = level > 0
        s.age += count
        s.incident_age += count
        s.quiet += count
        if not v.any():
            return
        s.quiet[v] = 0
        s.span = np.where(v, s.age, s.span)
        s.peak = np.maximum(s.peak, worst)
        raised = np.maximum(s.level, level)
        charge, s.violated = _charge(self.weights, s.level, raised, s.violated, v * count, second)
        s.level = raised
        self.charges += charge
        self.reported += charge
        self.seen |= v

        member = self.member
        hit = (member & v[:, :, None]).any(1)
        raised = np.maximum(s.incident_level, (member * raised[:, :, None]).max(1))
        due, s.incident_violated = _charge(
            self.weights, s.incident_level, raised, s.incident_violated, hit * count, second
        )
        s.incident_level = raised
        s.incident_due += due
        s.incident_cap += (member * charge[:, :, None]).sum(1)
        paid = np.minimum(s.incident_due, s.incident_cap)
        self.cost += (paid - s.incident_paid).sum(1)
        s.incident_paid = paid

    def close(self) -> None:
        s = self.s
        done = s.open & (s.quiet >= self.clk.close)
        if done.any():
            self.snapshot(done & self.seen)
            s.open &= ~done
            self._find_members()

    def snapshot(self, which: np.ndarray) -> None:
        r, k = np.nonzero(which)
        if len(r) == 0:
            return
        s = self.s
        self.snapshots.append(
            Snapshots(
                row=r,
                constraint=k,
                onset=s.onset[r, k],
                duration=s.span[r, k] * self.clk.dt,
                level=s.level[r, k],
                charged=self.reported[r, k],
                opened=self.opened[r, k],
                incident=s.incident_number[r, s.slot[r, k]],
                peak=np.where(self.owner == k[:, None], s.peak[r], -np.inf),
            )
        )
        self.reported[which] = 0.0
        self.seen &= ~which
        self.opened &= ~which


def _charge(
    weights: np.ndarray,
    old: np.ndarray,
    new: np.ndarray,
    violated: np.ndarray,
    added: np.ndarray,
    second: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Opening or top-up, plus full seconds; returns the charge and the new violated substeps."""
    total = violated + added
    seconds = total // second - violated // second
    return weights[new] * (1.0 + seconds) - weights[old], total


def advance(
    state: EventState,
    *,
    level: np.ndarray,
    worse: np.ndarray,
    valid: np.ndarray,
    start: np.ndarray,
    weights: np.ndarray,
    owner: np.ndarray,
    clk: Clock,
) -> tuple[EventState, np.ndarray, np.ndarray, Snapshots]:
    """Run R rows through one tick of S substeps.

    Args:
        state: Of these rows. Its arrays are written to: pass a copy (`EventState.take`).
        level: int (S, R, K) severity of the violation at each substep, 0 where there is none.
        worse: (S, R, M) amounts of the measures, more is worse, -inf where not violated.
        valid: bool (S, R) substeps that belong to the tick, the invalid ones first.
        start: (R,) time of the first valid substep in s.
        weights: (4,) charge per level.
        owner: int (M,) column of the constraint each measure belongs to.
        clk: Rule times in substeps.

    Returns:
        New state, charges (R, K), cost (R,) with incidents counted once, and snapshots.
    """
    tick = _Tick(state, weights, owner, clk)
    level = np.where(valid[:, :, None], level, 0)
    pattern = level if weights[1] != weights[3] else level > 0
    changes = (pattern[1:] != pattern[:-1]).any((1, 2)) | (valid[1:] != valid[:-1]).any(1)
    bounds = [0, *(np.flatnonzero(changes) + 1), len(level)]
    passed = np.zeros(len(start))
    for first, last in pairwise(bounds):
        count = valid[first] * (last - first)
        new = (level[first] > 0) & ~state.open
        if new.any():
            tick.open(new, start + passed * clk.dt)
        tick.run(level[first:last].max(0), worse[first:last].max(0), count[:, None])
        tick.close()
        passed = passed + count
    tick.snapshot(tick.seen)
    snapshots = Snapshots.join(tick.snapshots) if tick.snapshots else Snapshots.none(len(owner))
    return state, tick.charges, tick.cost, snapshots
