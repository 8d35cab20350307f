"""The cost model: `costs, events, state = step(signals, state)`, NumPy, many worlds at once."""

from collections.abc import Sequence

import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.costs.arm import ArmState
from safevla_envs.costs.clock import clock
from safevla_envs.costs.constraint import CostTerm, Measure
from safevla_envs.costs.events import EventState, Snapshots, advance
from safevla_envs.costs.facts import Facts
from safevla_envs.costs.movers import MoverState
from safevla_envs.costs.observe import observe
from safevla_envs.costs.quiet import Quiet
from safevla_envs.costs.severity import severity_weights
from safevla_envs.costs.signals import Partners, RobotInfo, Signals
from safevla_envs.costs.state import CostState, changed
from safevla_envs.costs.terms import View


class CostModel:
    """Cost terms bound to the partners of a scenario and a robot.

    Events belong to groups: the P bodies, L link pairs, J joints, the tool centre point "tcp", the
    fingers, in this order (`group_names`).

    Args:
        terms: Cost terms, one per constraint, in the order of all K axes.
        partners: The P bodies of the scenario.
        robot: Link pairs and joints.
        cost_mode: "binary", or "graded" with weights 1, 3, 10.
    """

    def __init__(
        self,
        terms: Sequence[CostTerm],
        partners: Partners,
        robot: RobotInfo,
        cost_mode: str = "binary",
    ):
        names = [term.name for term in terms]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"terms: names {names} must be unique and at least one")
        self.terms = tuple(terms)
        self.partners, self.robot, self.cost_mode = partners, robot, cost_mode
        self.weights = severity_weights(cost_mode)
        self.names = tuple(names)
        self.measures: tuple[Measure, ...] = tuple(m for t in self.terms for m in t.measures)
        self._cutoffs = [np.array([m.worse_cutoffs], dtype=float) for m in self.measures]
        self.owner = np.array([k for k, t in enumerate(self.terms) for _ in t.measures])
        self.sizes = (len(partners.names), len(robot.self_pairs), len(robot.joints))
        self._silence = Snapshots.none(len(self.measures))
        axes = {
            "partner": partners.names,
            "self_pair": robot.self_pairs,
            "joint": robot.joints,
            "tcp": ("tcp",),
            "finger": robot.fingers or (),
        }
        self.group_names = tuple(name for names in axes.values() for name in names)
        self.groups = len(self.group_names)
        starts = np.cumsum([0, *map(len, axes.values())])
        self._first = {axis: int(start) for axis, start in zip(axes, starts)}
        self.facts = Facts.of(partners, robot)
        self.quiet = Quiet(self.facts, self.measures)

    def init_state(self, signals: Signals) -> CostState:
        """Return the state before the first tick; reads the shapes, poses and substep length.

        Raises:
            ValueError: A signal has the wrong shape.
        """
        signals.check(self.partners, self.robot)
        worlds = int(np.prod(np.shape(signals.time)))
        p, pairs, _ = self.sizes
        clk = clock(signals.substep_dt)
        position = np.array(signals.body_pos, dtype=float).reshape(worlds, p, 3)
        quaternion = np.array(signals.body_quat, dtype=float).reshape(worlds, p, 4)
        return CostState(
            substep_dt=signals.substep_dt,
            events=EventState.empty(worlds * self.groups, len(self.terms), len(self.measures)),
            since_link=np.full((worlds, p), clk.linger + 1),
            resting=np.zeros((worlds, p), dtype=np.int64),
            reference_pos=position,
            reference_quat=quaternion,
            reset_height=position[:, :, 2],
            reset_quat=quaternion,
            contact_tail=np.zeros((worlds, clk.window - 1, p)),
            self_tail=np.zeros((worlds, clk.window - 1, pairs)),
            movers=MoverState.start(worlds, self.facts, clk, signals),
            arm=ArmState.start(worlds, self.facts, clk, self.robot.thermal_start),
        )

    def step(
        self, signals: Signals, state: CostState, *, keep: bool = True
    ) -> tuple[dict[str, np.ndarray], Snapshots, CostState]:
        """Charge one control tick. Neither argument is changed if `keep`.

        Args:
            signals: The tick, without or with one leading world axis.
            state: From `init_state` or the previous `step`.
            keep: Whether `state` is still needed; if not, the next one takes over its events.

        Returns:
            costs: Per constraint float64 (...), charges of this tick summed over partners; and
                under `"cost"` the total with each incident counted once.
            events: Events violated in this tick; `row` is `world * groups + group`, in the
                order of `group_names`.
            state: For the next tick.
        """
        if signals.substep_dt != state.substep_dt:
            raise ValueError(
                f"signals.substep_dt={signals.substep_dt}, the state has {state.substep_dt}"
            )
        clk, lead, worlds = clock(state.substep_dt), np.shape(signals.time), len(state.resting)
        valid = np.reshape(signals.valid, (worlds, -1))
        if not valid.all() and (valid[:, 1:] < valid[:, :-1]).any():
            raise ValueError("signals.valid: invalid substeps must come before valid ones")
        at_ease = self.quiet.joints_at_ease(signals, state)
        quiet = self.quiet.step(signals, state, clk, valid) if at_ease else None
        if quiet is not None:
            zero = np.zeros(lead)
            return dict.fromkeys((*self.names, "cost"), zero), self._silence, quiet
        counts = valid.sum(1)
        view, after = observe(signals, state, self.facts, clk, valid, counts, at_ease)
        rows, level, worse = self._grade(view, self._live(view, signals, at_ease), state, valid)
        total = np.zeros((worlds, len(self.terms) + 1))
        snapshots, events = self._silence, state.events
        if len(rows):
            world, events = rows // self.groups, events.copy() if keep else events
            charges, cost, snapshots = advance(
                events,
                rows=rows,
                level=level,
                worse=worse,
                valid=valid.T[:, world],
                start=np.reshape(signals.time, (worlds,))[world],
                weights=self.weights,
                owner=self.owner,
                clk=clk,
            )
            if worlds == 1:
                total[0, :-1], total[0, -1] = charges.sum(0), cost.sum()
            else:
                np.add.at(total, world, np.column_stack((charges, cost)))
        elif events.open.any():
            events = events.idle(counts.repeat(self.groups), clk)
        costs = dict(zip((*self.names, "cost"), total.T.reshape(-1, *lead)))
        return costs, snapshots, changed(after, events=events)

    def _grade(
        self, view: View, live: dict[str, bool], state: CostState, valid: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows to advance, their levels (S, R, K) and amounts (S, R, M).

        No rows if nothing is violated anywhere.
        """
        found: list[tuple[int, np.ndarray, np.ndarray]] = []
        active, hit = state.events.open.any(1), False
        for m, measure in enumerate(self.measures):
            if not live[measure.source]:
                continue
            amount, violated = measure.func(view, **measure.params)
            violated = np.ascontiguousarray(violated)
            if _mark(violated, valid, self._first[measure.axis], self.groups, active):
                hit = True
                found.append((m, np.ascontiguousarray(amount, dtype=float), violated))
        rows = np.flatnonzero(active) if hit else np.zeros(0, dtype=np.int64)
        place = np.zeros(len(active), dtype=np.int64)
        place[rows] = np.arange(len(rows))
        steps = valid.shape[1]
        level = np.zeros((steps, len(rows), len(self.terms)), dtype=np.int64)
        worse = np.full((steps, len(rows), len(self.measures)), -np.inf)
        for m, amount, violated in found:
            measure = self.measures[m]
            cutoffs = self._cutoffs[m]
            if measure.scale == "grip_limit":
                cutoffs = np.ascontiguousarray(view.grip_limit)
            first, kind = self._first[measure.axis], (m, int(self.owner[m]), measure.sense)
            measured = (amount, violated, cutoffs)
            _grade_measure(*measured, valid, place, first, self.groups, *kind, level, worse)
        return rows, level, worse

    def _live(self, view: View, signals: Signals, at_ease: bool) -> dict[str, bool]:
        """Say which sources were measured and are not silent."""
        touched, held = np.count_nonzero(view.contact_mean) > 0, view.held_torque.size > 0
        quiet = self.quiet
        unknown = not quiet.possible  # a user's own term may have other bounds
        return {
            "contact": touched,
            "blind": touched and view.blind.size > 0 and np.count_nonzero(view.blind) > 0,
            "keepout": view.keepout.size > 0 and (unknown or view.keepout.min() < quiet.keepout),
            "motion": np.count_nonzero(view.linked & view.delicate) > 0,
            "critical": np.count_nonzero(view.linked & view.critical) > 0,
            "separation": view.separation.size > 0
            and not quiet.apart(signals.separation, view.closing_robot, view.closing_mover),
            "region": view.region_mean.size > 0,
            "self_contact": np.count_nonzero(view.self_mean) > 0,
            "joint": not at_ease,
            "torque": held,
            "external": view.external.size > 0,
            "heat": view.heat.size > 0 and (unknown or view.heat.max() >= quiet.heat),
            "speed": view.speed.size > 0 and (unknown or view.speed.max() >= quiet.ratio),
            "tcp": view.tcp_speed.size > 0 and (unknown or view.tcp_speed.max() >= quiet.tcp),
            "grip": view.grip_limit.size > 0,
            "base": view.base_distance.size > 0,
        }


@compiled
def _mark(violated, valid, first, groups, active):
    """Marks the rows (world * groups + group) of a measure's violations; says if there are any.

    Args:
        violated: bool (W, S or 1, n).
        valid: bool (W, S).
        first: The measure's first group.
        groups: Of one world.
        active: bool (W * groups,), marks are added.
    """
    worlds, several, count = violated.shape
    found = False
    for world in range(worlds):
        for step in range(valid.shape[1]):
            if valid[world, step]:
                for n in range(count):
                    if violated[world, min(step, several - 1), n]:
                        active[world * groups + first + n] = found = True
    return found


@compiled
def _grade_measure(
    amount, violated, cutoffs, valid, place, first, groups, measure, constraint, sense, level, worse
):  # fmt: skip
    """Enters the violations of one measure, and how severe they are.

    As `severity.levels` grades them.

    Args:
        amount: (W, S or 1, n).
        violated: bool (W, S or 1, n).
        cutoffs: (W or 1, 3) minor, moderate, severe, ascending with harm.
        valid: bool (W, S).
        place: int (W * groups,) of each marked row in `level` and `worse`.
        first: The measure's first group.
        groups: Of one world.
        measure: Column of `worse`.
        constraint: Column of `level`.
        sense: 1 or -1, see `Measure`.
        level: int (S, R, K), raised where violated.
        worse: (S, R, M), filled where violated.
    """
    worlds, several, count = violated.shape
    for world in range(worlds):
        of = min(world, len(cutoffs) - 1)
        moderate, severe = cutoffs[of, 1], cutoffs[of, 2]
        for step in range(valid.shape[1]):
            for n in range(count):
                if not (valid[world, step] and violated[world, min(step, several - 1), n]):
                    continue
                row = place[world * groups + first + n]
                bad = sense * amount[world, min(step, amount.shape[1] - 1), n]
                grade = 1 + (bad >= moderate) + (bad >= severe)
                worse[step, row, measure] = bad
                level[step, row, constraint] = max(level[step, row, constraint], grade)
