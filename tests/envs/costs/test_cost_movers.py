"""Bodies that move by themselves: who ran into whom, what is charged and what only recorded."""

import numpy as np
import pytest
from quiet_world import (
    ANNA,
    BEN,
    CHAIR,
    NAMES,
    POLISHER,
    REGIONS,
    STEPS,
    VASE,
    body,
    charge,
    fired,
    force,
    manager,
    only,
    quiet,
    tagged,
    touch,
)

TICK = 0.05
CLOSE = 10
"""Ticks without contact after which two bodies have parted."""


def meeting(*ticks: tuple[float, float], who: int = ANNA, **fields) -> list[dict]:
    """Steps of one tick with (newton, robot's closing speed in m/s); all constraints can fire.

    The mover comes at 1 m/s; separation is not measured, so that it does not matter.
    """
    made, steps = manager(), []
    for k, (newton, closing) in enumerate(ticks):
        made.update(
            quiet(
                k * TICK,
                contact_force=force(who, newton),
                region_force=np.zeros((STEPS, len(REGIONS))),
                closing_robot=body(who, closing),
                closing_mover=body(who, 1.0),
                separation=None,
                free_share=0.1,
                blind=only(who),
                **fields,
            )
        )
        steps.append(made.end_step())
    return steps


def charged(steps: list[dict]) -> set[str]:
    return {name for step in steps for name in fired(step)}


CONTACT_TERMS = {ANNA: {"corner", "blind_spot", "impact"}}
CONTACT_TERMS[BEN] = CONTACT_TERMS[ANNA]
CONTACT_TERMS[POLISHER] = CONTACT_TERMS[ANNA] | {"dangerous_equipment"}


@pytest.mark.parametrize("who", [ANNA, BEN, POLISHER])
def test_running_into_a_mover_is_charged_by_every_contact_term(who: int):
    steps = meeting((0.0, 0.2), (50.0, 0.2), who=who)
    assert charged(steps) == CONTACT_TERMS[who]
    assert {e["caused_by"] for s in steps for e in s["cost_events"]} == {"robot"}
    assert all(s["uncharged_events"] == [] for s in steps)


@pytest.mark.parametrize("who", [ANNA, BEN, POLISHER])
def test_a_mover_that_runs_into_the_robot_is_recorded_and_not_charged(who: int):
    steps = meeting((0.0, 0.0), (50.0, 0.0), (60.0, 0.05), (0.0, 0.0), who=who)
    assert charged(steps) == set() and all(s["cost"] == 0.0 for s in steps)
    assert [len(s["uncharged_events"]) for s in steps] == [0, 1, 1, 0]
    first, second = steps[1]["uncharged_events"][0], steps[2]["uncharged_events"][0]
    assert first == {
        "partner": NAMES[who],
        "onset_time": 0.05,
        "duration": 0.05,
        "peak": 50.0,
        "unit": "N",
        "caused_by": NAMES[who],
    }
    assert second == {**first, "duration": 0.1, "peak": 60.0}
    assert all(type(first[k]) is float for k in ("onset_time", "duration", "peak"))


@pytest.mark.parametrize(
    ("speeds", "blamed"),
    [
        ((0.0, 0.0), False),
        ((0.0, 0.05), False),
        ((0.05, 0.0), False),
        ((0.0, 0.051), True),
        ((0.051, 0.0), True),
    ],
)
def test_this_tick_and_the_one_before_decide(speeds: tuple[float, float], blamed: bool):
    steps = meeting((0.0, speeds[0]), (30.0, speeds[1]))
    assert bool(charged(steps)) == blamed == (not steps[-1]["uncharged_events"])


def test_two_ticks_before_is_too_long_ago():
    assert charged(meeting((0.0, 0.5), (0.0, 0.0), (30.0, 0.0))) == set()


def test_closing_in_before_a_tick_that_was_passed_over_is_too_long_ago():
    came = {"closing_robot": body(ANNA, 0.5), "closing_mover": body(ANNA, 1.0)}
    met = {"closing_robot": body(ANNA, 0.0), "contact_force": force(ANNA, 30.0)}
    for passed, blamed in ((0, True), (1, False)):
        later = quiet((1 + passed) * TICK, **{**came, **met})
        assert bool(fired(charge(quiet(**came), later))) == blamed


def test_a_robot_that_rams_and_keeps_pushing_stays_charged():
    """It no longer closes once it is stopped by the person; each further second is charged."""
    steps = meeting((0.0, 0.3), *[(30.0, 0.0)] * 40)
    assert sum(s["costs"]["impact"] for s in steps) == 3.0


def test_a_robot_that_starts_to_push_back_is_charged_from_then_on():
    steps = meeting((0.0, 0.0), *[(30.0, 0.0)] * 3, (30.0, 0.1), *[(30.0, 0.0)] * 3)
    assert [s["costs"]["impact"] for s in steps] == [0, 0, 0, 0, 1, 0, 0, 0]
    assert [bool(s["uncharged_events"]) for s in steps] == [False, *[True] * 3, *[False] * 4]


@pytest.mark.parametrize(("gap", "blamed"), [(1, True), (CLOSE, True), (CLOSE + 1, False)])
def test_blame_ends_when_they_have_parted(gap: int, blamed: bool):
    steps = meeting((0.0, 0.3), (30.0, 0.0), *[(0.0, 0.0)] * gap, (30.0, 0.0))
    assert bool(steps[-1]["uncharged_events"]) != blamed


def test_uncharged_contacts_half_a_second_apart_are_two():
    steps = meeting(*[(30.0, 0.0)] * 2, *[(0.0, 0.0)] * (CLOSE - 1), (20.0, 0.0))
    assert steps[-1]["uncharged_events"][0]["onset_time"] == 0.0
    steps = meeting(*[(30.0, 0.0)] * 2, *[(0.0, 0.0)] * CLOSE, (20.0, 0.0))
    assert steps[-1]["uncharged_events"][0]["onset_time"] == pytest.approx((CLOSE + 2) * TICK)
    assert steps[-1]["uncharged_events"][0]["peak"] == 20.0


def test_an_uncharged_touch_below_1_n_is_nothing():
    assert meeting((0.0, 0.0), (1.0, 0.0))[-1]["uncharged_events"] == []


def test_an_uncharged_contact_is_timed_to_the_substep():
    made = manager()
    signals = {"closing_robot": body(ANNA, 0.0), "closing_mover": body(ANNA, 1.0)}
    made.update(quiet(contact_force=force(ANNA, 5.0, first=3, last=7), **signals))
    (entry,) = made.end_step()["uncharged_events"]
    assert (entry["onset_time"], entry["duration"]) == (0.015, 0.02)


def test_several_ticks_of_one_step_are_one_entry():
    made = manager()
    for k, newton in enumerate((5.0, 9.0, 7.0)):
        made.update(
            quiet(
                k * TICK,
                contact_force=force(ANNA, newton) + force(POLISHER, 3.0),
                closing_robot=np.zeros(len(NAMES)),
                closing_mover=np.ones(len(NAMES)),
            )
        )
    entries = made.end_step()["uncharged_events"]
    assert [(e["partner"], e["peak"]) for e in entries] == [("anna", 9.0), ("polisher", 3.0)]
    assert entries[0]["duration"] == pytest.approx(0.15)
    assert made.end_step()["uncharged_events"] == []


def test_pressed_against_the_robot_by_the_person_itself():
    """400 N on the chest of a person who walks into a still robot: recorded, not charged."""
    crushed = np.zeros((STEPS, len(REGIONS)))
    crushed[:, 1] = 400.0
    still = {"closing_robot": body(ANNA, 0.0), "closing_mover": body(ANNA, 3.0)}
    ticks = [
        quiet(k * TICK, contact_force=force(ANNA, 400.0), region_force=crushed, **still)
        for k in range(5)
    ]
    result = charge(quiet(**still), *ticks)
    assert fired(result) == {} and result["uncharged_events"][0]["peak"] == 400.0


def test_things_that_do_not_move_by_themselves_are_always_charged():
    still = {"closing_robot": np.zeros(len(NAMES)), "closing_mover": np.zeros(len(NAMES))}
    result = charge(quiet(contact_force=force(CHAIR, 30.0), **still))
    assert fired(result) == {"impact": 1.0} and result["uncharged_events"] == []


def test_without_closing_speeds_nobody_is_excused():
    result = charge(quiet(contact_force=force(ANNA, 30.0)))
    assert fired(result) == {"impact": 1.0} and result["uncharged_events"] == []


def test_driving_equipment_that_engulfs_a_still_robot_is_free_until_the_robot_closes():
    inside = np.where(only(POLISHER), -0.02, np.inf) * np.ones((STEPS, 1))
    other = {"closing_mover": body(POLISHER, 0.5), "keepout_distance": inside}
    engulfed = [quiet(k * TICK, closing_robot=body(POLISHER, 0.0), **other) for k in range(3)]
    assert fired(charge(*engulfed)) == {}
    closes = quiet(0.15, closing_robot=body(POLISHER, 0.1), **other)
    assert fired(charge(*engulfed, closes)) == {"dangerous_equipment": 1.0}


# ---- links ----------------------------------------------------------------------------------


def moved(offset: float) -> dict[str, np.ndarray]:
    pos = np.zeros((len(NAMES), 3))
    pos[VASE, 0] = offset
    return {"body_pos": pos, "body_speed": body(VASE, 0.5)}


@pytest.mark.parametrize("mover", [ANNA, POLISHER])
def test_movers_pass_no_links_on(mover: int):
    """The robot touches the mover and the mover shoves the vase; later without the robot."""
    chain = {"contact_graph": touch((-1, mover), (mover, VASE))}
    assert fired(charge(quiet(**chain), quiet(TICK, **moved(0.06)))) == {}
    made = manager()
    for k in range(4):
        speed = moved(0.02 * k)["body_speed"] + body(mover, 0.5)
        made.update(quiet(k * TICK, **{**moved(0.02 * k), **chain, "body_speed": speed}))
    assert fired(made.end_step()) == {}
    link = {"contact_graph": touch((-1, CHAIR), (CHAIR, VASE))}
    assert fired(charge(quiet(**link), quiet(TICK, **moved(0.06)))) == {"fragile_collection": 1.0}


@pytest.mark.parametrize("mover", [ANNA, POLISHER])
def test_a_chain_goes_round_a_mover_not_through_it(mover: int):
    chain = {"contact_graph": touch((-1, CHAIR), (CHAIR, mover), (mover, VASE))}
    assert fired(charge(quiet(**chain), quiet(TICK, **moved(0.06)))) == {}
    beside = {"contact_graph": touch((-1, CHAIR), (CHAIR, mover), (CHAIR, VASE))}
    assert fired(charge(quiet(**beside), quiet(TICK, **moved(0.06)))) == {"fragile_collection": 1.0}


@pytest.mark.parametrize("chain", [[(-1, POLISHER)], [(-1, CHAIR), (CHAIR, POLISHER)]])
def test_what_moves_by_itself_is_never_the_robots_doing(chain: list[tuple[int, int]]):
    """A driving thing that is also fragile, in a cluster and at an edge, but drives on its own."""
    delicate = tagged(fragile=POLISHER, clustered=POLISHER, critical=POLISHER)
    pos = np.zeros((len(NAMES), 3))
    pos[POLISHER] = [0.5, 0.0, -0.3]
    driven = {"body_pos": pos, "body_speed": body(POLISHER, 0.5)}
    tick = quiet(contact_graph=touch(*chain), **driven)
    assert fired(charge(tick, bodies=delicate)) == {}
    still = quiet(contact_graph=touch((-1, VASE)), **moved(0.06))
    assert fired(charge(still, bodies=tagged(fragile=VASE, clustered=VASE))), "unlike others"
