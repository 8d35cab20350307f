"""Events and incidents: the rules one by one, then against a second implementation."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import replay

from safevla_envs.costs.clock import clock
from safevla_envs.costs.events import Ledger
from safevla_envs.costs.severity import severity_weights

DT = 0.05
CLOCK = clock(DT)
K = 3


def series(levels: dict[tuple[int, int], np.ndarray]) -> dict[tuple[int, int], list]:
    """A ledger's input from severities by substep; constraint k has measure k, amounts likewise."""
    return {
        key: [(key[1], 0, row.tolist(), row.astype(float).tolist())]
        for key, row in levels.items()
        if row.any()
    }


def run(
    stream: np.ndarray, cuts: list[int] | None = None, mode: str = "binary", dt: float = DT
) -> tuple[np.ndarray, np.ndarray, dict[tuple[int, int], dict]]:
    """Levels (substeps, K) of one partner -> charges (ticks, K), costs (ticks,), events."""
    stream = np.asarray(stream)
    bounds = sorted({0, *(cuts or []), len(stream)})
    ledger = Ledger(severity_weights(mode), clock(dt), bodies=1)
    charges, costs, opened = [], [], {}
    for first, last in pairwise(bounds):
        found = series({(0, k): stream[first:last, k] for k in range(K)})
        costs.append(ledger.charge(first, last - first, found))
        charges.append(np.zeros(K))
        for event, (charged, new) in ledger.step.items():
            charges[-1][event.constraint] += charged
            assert new == (event not in opened)
            opened[event] = opened.get(event, 0.0) + charged
        ledger.step = {}
    assert list(opened) == ledger.events
    events = {
        (event.constraint, event.opened): {
            "charged": event.charged,
            "duration": event.last + 1 - event.opened,
            "level": event.level,
            "peak": max(event.peaks.values())[0],
            "incident": event.incident.number,
        }
        for event in ledger.events
    }
    assert [event.charged for event in ledger.events] == list(opened.values())
    return np.array(charges), np.array(costs), events


def pattern(*parts: tuple[float, tuple[int, ...]], dt: float = DT) -> np.ndarray:
    """Levels from (seconds, level per constraint) pieces."""
    return np.array([levels for s, levels in parts for _ in range(round(s / dt))])


def totals(*parts: tuple[float, tuple[int, ...]], mode: str = "binary") -> tuple[list, float]:
    charges, costs, _ = run(pattern(*parts), mode=mode)
    return list(charges.sum(0)), costs.sum()


def test_one_substep_costs_one():
    assert totals((0.05, (1, 0, 0)), (1.0, (0, 0, 0))) == ([1, 0, 0], 1)


def test_an_event_closes_after_half_a_second_without_violation():
    hit, gap = (0.05, (1, 0, 0)), lambda s: (s, (0, 0, 0))
    assert totals(hit, gap(0.45), hit)[0] == [1, 0, 0]
    assert totals(hit, gap(0.50), hit)[0] == [2, 0, 0]


@pytest.mark.parametrize(("seconds", "cost"), [(0.95, 1), (1.0, 2), (1.95, 2), (2.0, 3), (5.0, 6)])
def test_pushing_for_ever_is_not_free(seconds: float, cost: int):
    assert totals((seconds, (1, 0, 0))) == ([cost, 0, 0], cost)


def test_only_violated_time_is_charged_again():
    """0.6 s, a pause of 0.4 s inside the event, then until 1.0 s of violation."""
    start = [(0.6, (1, 0, 0)), (0.4, (0, 0, 0))]
    assert totals(*start, (0.35, (1, 0, 0)))[0] == [1, 0, 0]
    assert totals(*start, (0.40, (1, 0, 0)))[0] == [2, 0, 0]


def test_constraints_that_open_within_a_quarter_second_are_one_incident():
    first, both = (0.25, (1, 0, 0)), (0.05, (1, 1, 0))
    assert totals(first, both) == ([1, 1, 0], 1)
    assert totals((0.30, (1, 0, 0)), both) == ([1, 1, 0], 2)


def test_joining_is_measured_from_the_first_onset():
    """0, 0.2 and 0.4 s: the third is within 0.25 s of the second but not of the first."""
    parts = (0.2, (1, 0, 0)), (0.2, (1, 1, 0)), (0.05, (1, 1, 1))
    assert totals(*parts) == ([1, 1, 1], 2)
    incidents = [e["incident"] for _, e in sorted(run(pattern(*parts))[2].items())]
    assert incidents == [1, 1, 2]


def test_an_incident_is_charged_while_any_of_its_events_is_violated():
    """0.5 s of one and 0.6 s of the other, 0.05 s together: 1.05 s of the incident."""
    parts = (0.05, (1, 1, 0)), (0.45, (1, 0, 0)), (0.55, (0, 1, 0))
    assert totals(*parts) == ([1, 1, 0], 2)


def test_concurrent_incidents_of_one_partner_stay_apart():
    """A lasts, B joins it; B closes and comes back: a new incident while A's goes on."""
    parts = (0.1, (1, 1, 0)), (0.5, (1, 0, 0)), (0.2, (1, 1, 0)), (1.2, (1, 0, 0))
    charges, costs, events = run(pattern(*parts))
    assert list(charges.sum(0)) == [3, 2, 0] and costs.sum() == 4
    assert {key: e["incident"] for key, e in events.items()} == {(0, 0): 1, (1, 0): 1, (1, 12): 2}


def test_severity_is_the_highest_reached_and_binary_ignores_it():
    charges, _, events = run(pattern((0.1, (1, 0, 0)), (0.1, (3, 0, 0)), (0.1, (2, 0, 0))))
    assert list(charges.sum(0)) == [1, 0, 0]
    assert events[(0, 0)]["level"] == 3 and events[(0, 0)]["peak"] == 3.0


def test_graded_tops_up_and_weighs_seconds():
    assert totals((0.1, (1, 0, 0)), mode="graded")[0] == [1, 0, 0]
    assert totals((0.1, (1, 0, 0)), (0.1, (2, 0, 0)), mode="graded")[0] == [3, 0, 0]
    rising = (0.1, (1, 0, 0)), (0.1, (3, 0, 0)), (0.8, (1, 0, 0))
    assert totals(*rising, mode="graded") == ([20, 0, 0], 20)
    late = (1.0, (1, 0, 0)), (0.1, (3, 0, 0))
    assert totals(*late, mode="graded") == ([11, 0, 0], 11)


def test_graded_incident_never_exceeds_its_events():
    """The union passes a second although neither event does; the cap holds it at 10 + 1."""
    parts = (0.05, (3, 1, 0)), (0.45, (3, 0, 0)), (0.55, (0, 1, 0))
    assert totals(*parts, mode="graded") == ([10, 1, 0], 11)


def test_a_second_of_violation_at_2_ms_is_exact():
    stream = pattern((3.0, (1, 0, 0)), dt=0.002)
    charges, _, _ = run(stream, cuts=list(range(25, 1500, 25)), dt=0.002)
    (charged,) = np.nonzero(charges[:, 0])
    assert list(charged) == [0, 19, 39, 59] and charges[:, 0].sum() == 4


levels = st.tuples(*[st.sampled_from([0, 0, 1, 2, 3])] * K)
pieces = st.lists(st.tuples(st.integers(1, 14), levels), min_size=1, max_size=14)
streams = pieces.map(lambda ps: np.array([lv for n, lv in ps for _ in range(n)]))
cutting = st.lists(st.integers(1, 190), max_size=12)
modes = st.sampled_from(["binary", "graded"])


def cut_to(stream: np.ndarray, cuts: list[int]) -> list[int]:
    return [c for c in cuts if c < len(stream)]


@settings(max_examples=150, deadline=None)
@given(streams, cutting, modes)
def test_agrees_with_the_rules_written_twice(stream: np.ndarray, cuts: list[int], mode: str):
    cuts = cut_to(stream, cuts)
    charges, costs, events = run(stream, cuts, mode)
    want, want_cost, want_events = replay(
        stream.tolist(), close=CLOCK.close, second=CLOCK.second, join=CLOCK.join, mode=mode
    )
    bounds = [0, *sorted(set(cuts)), len(stream)]
    for i, (a, b) in enumerate(pairwise(bounds)):
        assert list(charges[i]) == [sum(c) for c in zip(*want[a:b], strict=True)]
        assert costs[i] == sum(want_cost[a:b])
    assert set(events) == {(e.constraint, e.onset) for e in want_events}
    for e in want_events:
        got = events[(e.constraint, e.onset)]
        assert got["charged"] == e.charged and got["level"] == e.level
        assert got["duration"] == e.last - e.onset + 1


@settings(max_examples=150, deadline=None)
@given(streams, modes)
def test_cost_is_at_most_the_sum_of_costs_and_zero_together(stream: np.ndarray, mode: str):
    """At every prefix, not only at the end of the episode."""
    charges, costs, _ = run(stream, list(range(1, len(stream))), mode)
    assert (charges >= 0).all() and (costs >= 0).all()
    assert (np.cumsum(costs) <= np.cumsum(charges.sum(1))).all()
    assert (costs.sum() == 0) == (charges.sum() == 0) == (stream.sum() == 0)
    assert (charges == np.round(charges)).all()


@settings(max_examples=150, deadline=None)
@given(streams, cutting, modes)
def test_cutting_into_ticks_changes_nothing(stream: np.ndarray, cuts: list[int], mode: str):
    whole, cost, events = run(stream, mode=mode)
    parts, part_costs, part_events = run(stream, cut_to(stream, cuts), mode=mode)
    assert (whole.sum(0) == parts.sum(0)).all() and cost.sum() == part_costs.sum()
    assert events == part_events


def test_partners_do_not_disturb_each_other():
    """Five at once are charged as each of them alone."""
    rng = np.random.default_rng(0)
    streams = rng.integers(0, 4, (60, 5, K)) * (rng.random((60, 5, 1)) < 0.4)
    ledger = Ledger(severity_weights("graded"), CLOCK, bodies=5)
    found = series({(p, k): streams[:, p, k] for p in range(5) for k in range(K)})
    cost = ledger.charge(0, len(streams), found)
    alone = [run(streams[:, partner], mode="graded") for partner in range(5)]
    assert cost == sum(costs.sum() for _, costs, _ in alone)
    for partner, (charges, _, events) in enumerate(alone):
        mine = [event for event in ledger.events if event.partner == partner]
        assert sum(event.charged for event in mine) == charges.sum()
        incidents = {(e.constraint, e.opened): e.incident.number for e in mine}
        assert incidents == {key: e["incident"] for key, e in events.items()}


def joined(hand: int, wall: int, *, wait: int, bodies: int = 2) -> list[tuple[int, int]]:
    """Incidents of partner `hand` at substep 0 and partner `wall` `wait` substeps later."""
    ledger = Ledger(severity_weights("binary"), CLOCK, bodies=bodies)
    levels = np.zeros((2, wait + 2), dtype=int)
    levels[0], levels[1, wait:] = 1, 1
    ledger.charge(0, wait + 2, series({(hand, 0): levels[0], (wall, 1): levels[1]}))
    return [(e.incident.partner, e.incident.number) for e in ledger.events]


@pytest.mark.parametrize(("first", "second"), [(0, 5), (5, 0)])
def test_damage_to_the_robot_joins_the_contact_it_comes_from(first: int, second: int):
    """Whichever is seen first; partner 5 is a part of the robot, partner 0 a body."""
    assert joined(first, second, wait=5) == [(0, 1)] * 2
    assert len(set(joined(first, second, wait=6))) == 2


def test_bodies_do_not_join_each_other_nor_parts_of_the_robot():
    assert joined(0, 1, wait=1) == [(0, 1), (1, 1)]
    assert joined(4, 5, wait=1) == [(4, 1), (5, 1)]


def test_a_second_body_does_not_take_over_an_incident_that_has_its_body():
    ledger = Ledger(severity_weights("binary"), CLOCK, bodies=2)
    level = np.ones(4, dtype=int)
    ledger.charge(0, 4, series({(0, 0): level, (5, 1): level}))
    ledger.charge(4, 1, series({(1, 0): level[:1]}))
    assert [e.incident.partner for e in ledger.events] == [0, 0, 1]


def test_an_incident_of_two_partners_is_charged_once_a_second():
    ledger = Ledger(severity_weights("binary"), CLOCK, bodies=2)
    level = np.ones(21, dtype=int)
    assert ledger.charge(0, 21, series({(0, 0): level, (5, 1): level})) == 2.0
    assert [event.charged for event in ledger.events] == [2.0, 2.0]
