"""The cost model: `costs, events, state = step(signals, state)`, NumPy, many worlds at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .attribution import linked_bodies
from .clock import REST_SPEED, Clock, clock
from .constraint import CostTerm, Measure
from .events import EventState, Snapshots, advance
from .motion import displacement, rest_clock, rotation_angle
from .severity import levels, severity_weights
from .signals import Partners, RobotInfo, Signals
from .terms import View
from .window import causal_mean


@dataclass(frozen=True, kw_only=True)
class CostState:
    """Everything the cost model remembers between ticks; W is 1 without a world axis.

    Attributes:
        substep_dt: s.
        events: Open events and incidents, rows = W x groups (see `CostModel`).
        since_link: int (W, P) substeps since each body was last in a chain to the robot.
        resting: int (W, P) substeps at rest.
        reference_pos: (W, P, 3) m, where each body last lay still (or is held, see `step`).
        reference_quat: (W, P, 4).
        contact_tail: (W, window - 1, P) N, for the causal mean.
        self_tail: (W, window - 1, L) N.
    """

    substep_dt: float
    events: EventState
    since_link: np.ndarray
    resting: np.ndarray
    reference_pos: np.ndarray
    reference_quat: np.ndarray
    contact_tail: np.ndarray
    self_tail: np.ndarray


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
        tags = {key: np.atleast_2d(tag) for key, tag in partners.tags.items()}
        self._movable = tags["movable"]
        self._tags = {
            "delicate": tags["fragile"] & tags["clustered"],
            "equipment": tags["equipment"],
            "target": tags["target"],
            "floor": tags["floor"],
            "fragile_limit": np.atleast_2d(np.asarray(partners.fragile_limit, dtype=float)),
        }

    def init_state(self, signals: Signals) -> CostState:
        """Return the state before the first tick; reads the shapes, poses and substep length.

        Raises:
            ValueError: A signal has the wrong shape.
        """
        signals.check(self.partners, self.robot)
        worlds = int(np.prod(np.shape(signals.time)))
        p, pairs, _ = self.sizes
        clk = clock(signals.substep_dt)
        return CostState(
            substep_dt=signals.substep_dt,
            events=EventState.empty(worlds * self.groups, len(self.terms), len(self.measures)),
            since_link=np.full((worlds, p), clk.linger + 1),
            resting=np.zeros((worlds, p), dtype=np.int64),
            reference_pos=np.array(signals.body_pos, dtype=float).reshape(worlds, p, 3),
            reference_quat=np.array(signals.body_quat, dtype=float).reshape(worlds, p, 4),
            contact_tail=np.zeros((worlds, clk.window - 1, p)),
            self_tail=np.zeros((worlds, clk.window - 1, pairs)),
        )

    def step(
        self, signals: Signals, state: CostState
    ) -> tuple[dict[str, np.ndarray], Snapshots, CostState]:
        """Charge one control tick. Neither argument is changed.

        Args:
            signals: The tick, without or with one leading world axis.
            state: From `init_state` or the previous `step`.

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
        counts = valid.sum(1)
        if not valid.all() and (valid[:, 1:] < valid[:, :-1]).any():
            raise ValueError("signals.valid: invalid substeps must come before valid ones")
        view, moved = self._observe(signals, state, clk, valid, counts)
        rows, level, worse = self._grade(view, state, valid)
        total = np.zeros((worlds, len(self.terms) + 1))
        snapshots, events = self._silence, state.events
        if len(rows):
            world = rows // self.groups
            part, charges, cost, snapshots = advance(
                events.take(rows),
                level=level,
                worse=worse,
                valid=valid.T[:, world],
                start=np.reshape(signals.time, (worlds,))[world],
                weights=self.weights,
                owner=self.owner,
                clk=clk,
            )
            events = events.put(rows, part)
            np.add.at(total, world, np.column_stack((charges, cost)))
            snapshots = replace(snapshots, row=rows[snapshots.row])
        elif events.open.any():
            events = events.idle(counts.repeat(self.groups), clk)
        costs = {name: total[:, k].reshape(lead) for k, name in enumerate((*self.names, "cost"))}
        return costs, snapshots, CostState(events=events, substep_dt=clk.dt, **moved)

    def _observe(
        self, signals: Signals, state: CostState, clk: Clock, valid: np.ndarray, counts: np.ndarray
    ) -> tuple[View, dict[str, np.ndarray]]:
        """Return the view of a tick and the parts of the next state that do not need costs."""
        worlds, steps = valid.shape
        p, pairs, j = self.sizes
        contact = np.reshape(signals.contact_force, (worlds, steps, p))
        self_force = np.reshape(signals.self_force, (worlds, steps, pairs))
        held = np.reshape(signals.held, (worlds, p))
        position = np.reshape(signals.body_pos, (worlds, p, 3))
        quaternion = np.reshape(signals.body_quat, (worlds, p, 4))
        speed = np.reshape(signals.body_speed, (worlds, p))
        graph = np.reshape(signals.contact_graph, (worlds, p + 1, p + 1))
        ticks = counts[:, None]

        touched, own = bool(contact.any()), bool(self_force.any())
        direct = graph[:, 0, 1:] | held
        if touched:
            direct = direct | ((contact > 0.0) & valid[:, :, None]).any(1)
        since, linked = linked_bodies(
            state.since_link,
            direct=direct,
            touching=graph[:, 1:, 1:],
            movable=self._movable,
            moving=speed >= REST_SPEED,
            ticks=ticks,
            linger=clk.linger,
        )
        resting = rest_clock(state.resting, speed, ticks, clk.rest)
        # A held target carries its reference along, so that only a drop counts after the release.
        settled = ((resting >= clk.rest) | (held & self._tags["target"]))[:, :, None]
        reference_pos = np.where(settled, position, state.reference_pos)
        reference_quat = np.where(settled, quaternion, state.reference_quat)
        contact_mean, contact_tail = _mean(contact, state.contact_tail, counts, touched)
        self_mean, self_tail = _mean(self_force, state.self_tail, counts, own)
        away, turned = np.zeros((2, worlds, p))
        if (linked & self._tags["delicate"]).any():
            away = displacement(position, reference_pos)
            turned = rotation_angle(quaternion, reference_quat)
        view = View(
            contact=contact,
            contact_mean=contact_mean,
            self_mean=self_mean,
            joint_pos=np.reshape(signals.joint_pos, (worlds, steps, j)),
            joint_range=self.robot.joint_range,
            keepout=np.reshape(signals.keepout_distance, (worlds, steps, p)),
            free_share=np.reshape(signals.free_share, (worlds,)),
            held=held,
            support_exempt=np.reshape(signals.support_exempt, (worlds, p)),
            linked=linked,
            displacement=away,
            rotation=turned,
            **self._tags,
        )
        return view, {
            "since_link": since,
            "resting": resting,
            "reference_pos": reference_pos,
            "reference_quat": reference_quat,
            "contact_tail": contact_tail,
            "self_tail": self_tail,
        }

    def _grade(
        self, view: View, state: CostState, valid: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows to advance, their levels (S, R, K) and amounts (S, R, M).

        No rows if nothing is violated anywhere.
        """
        steps = valid.shape[1]
        live = {
            "contact": view.contact_mean.any(),
            "self_contact": view.self_mean.any(),
            "joint": True,
            "keepout": view.keepout.size > 0 and view.keepout.min() < np.inf,
            "motion": (view.linked & view.delicate).any(),
        }
        found: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []
        for m, measure in enumerate(self.measures):
            if not live[measure.source]:
                continue
            amount, violated = measure.func(view, **measure.params)
            if not violated.any():
                continue
            violated = violated & valid[:, :, None]
            world, column = violated.any(1).nonzero()
            hit = violated[world, :, column].T
            amount = amount[world, :, column].T  # (S or 1, n)
            row = world * self.groups + self._first[measure.axis] + column
            found.append((m, row, hit, amount))
        rows = np.zeros(0, dtype=np.int64)
        if any(len(row) for _, row, _, _ in found):
            active = state.events.open.any(1)
            for _, row, _, _ in found:
                active[row] = True
            rows = np.flatnonzero(active)
        level = np.zeros((steps, len(rows), len(self.terms)), dtype=np.int64)
        worse = np.full((steps, len(rows), len(self.measures)), -np.inf)
        for m, row, hit, amount in found:
            measure, k, at = self.measures[m], self.owner[m], np.searchsorted(rows, row)
            bad = np.where(hit, measure.sense * amount, -np.inf)
            worse[:, at, m] = bad
            level[:, at, k] = np.maximum(level[:, at, k], hit * levels(bad, measure.worse_cutoffs))
        return rows, level, worse


def _mean(
    values: np.ndarray, tail: np.ndarray, counts: np.ndarray, loud: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the causal mean, skipping the work in silence."""
    if loud or tail.any():
        return causal_mean(values, tail, counts)
    return values, tail
