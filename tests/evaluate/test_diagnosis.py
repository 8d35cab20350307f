import dataclasses

import pytest
from test_claims import record

from safevla.evaluate.diagnosis import (
    MODES_OF_FAILURE,
    diagnose,
    failure_mode,
    partner_category,
    run_in_speed,
)
from safevla_envs.control.actions import PRIMITIVES, TORSO

NUMBER = {primitive.name: i for i, primitive in enumerate(PRIMITIVES)}


def event(step, partner="vase_1", *, charged=1.0, severity="minor", constraint="impact", last=None):
    return {
        "step": step,
        "last_step": last or step,
        "partner": partner,
        "constraint": constraint,
        "charged": charged,
        "severity": severity,
    }


def played(actions, *events):
    numbers = [NUMBER.get(a, a) if isinstance(a, str) else a for a in actions]
    return dataclasses.replace(record(0), actions=numbers, events=list(events))


@pytest.mark.parametrize(
    ("action", "mode"),
    [
        ("move_ahead", "drives into"),
        ("move_back", "drives into"),
        (len(PRIMITIVES), "drives into"),  # a side-step
        ("rotate_left_small", "turns into"),
        ("arm_out", "reaches into"),
        ("pick_up", "reaches into"),
        ("sub_task_done", "comes to harm"),
        ([0.5, 0.0, 0.0, 0.0], "drives into"),
        ([0.0, 0.0, -1.0, 0.0], "turns into"),
        ([0.0, 0.0, 0.0, 0.0], "comes to harm"),
        ([0.0, 0.0, 0.0, -1.0], "comes to harm"),
        ([0.0, 0.0, 0.0, -1.0] + [0.0] * 8, "reaches into"),
        ([0.0] * 12, "comes to harm"),
    ],
)
def test_the_action_under_way_says_how_it_came_about(action, mode):
    episode = played(["move_ahead" if mode == "turns into" else "rotate_left", action], event(2))
    if isinstance(action, list):
        episode = dataclasses.replace(episode, actions=[[0.0, 0.0, 1.0, 0.0], action])
    assert failure_mode(episode, episode.events[0]) == mode


def test_what_a_number_means_depends_on_the_task():
    names = [p.name for p in (*PRIMITIVES, *TORSO)]
    episode = played([len(PRIMITIVES)], event(1))
    assert failure_mode(episode, episode.events[0]) == "drives into"
    assert failure_mode(episode, episode.events[0], names) == "reaches into"


def test_the_same_thing_again_and_soon_is_pressing_on():
    first, again, late = event(1), event(4), event(30)
    episode = played(["move_ahead"] * 30, first, again, late, event(5, "wall"))
    modes = [failure_mode(episode, e) for e in episode.events]
    assert modes == ["drives into", "presses on", "drives into", "drives into"]
    held = played(["move_ahead"] * 30, event(1, last=28), late)
    assert failure_mode(held, late) == "presses on"


def test_kinds_are_counted_and_the_costliest_come_first():
    one = played(
        ["move_ahead"] * 9,
        event(1, "glass_bottle_3", charged=2.0, severity="severe"),
        event(2, "wall_1", charged=0.0),
        event(9, "sofa_0", charged=5.0),
    )
    two = played(["move_ahead"], event(1, "glass_bottle_8", charged=1.0))
    lost = dataclasses.replace(two, sim_error="BADQACC", ended_by="sim_error", success=False)
    found = diagnose([one, two, lost])
    assert [(f.touched, f.events, f.episodes, f.charged, f.severe) for f in found] == [
        ("sofa", 1, 1, 5.0, 0),
        ("glass bottle", 2, 2, 3.0, 1),
    ]
    assert {f.mode for f in found} <= set(MODES_OF_FAILURE) and diagnose([]) == []


def test_a_finding_says_whether_it_was_seen_how_fast_and_what_became_of_it():
    def told(step, **more):
        return event(step, "vase_1", constraint="fragile_collection") | more

    one = played(
        ["move_ahead"] * 30,
        told(1, seen=True, moved=0.4, tilted=1.2, incident="vase_1/1"),
        event(1, "vase_1") | {"incident": "vase_1/1", "peaks": {"speed": 0.4, "force": 30.0}},
        told(20, seen=False, moved=0.2, tilted=0.1, incident="vase_1/2"),
    )
    two = played(["move_ahead"], told(1, seen=None, moved=0.01, tilted=0.0, incident="vase_1/1"))
    found = {f.constraint: f for f in diagnose([one, two])}
    fragile = found["fragile_collection"]
    assert (fragile.events, fragile.episodes) == (3, 2)
    assert (fragile.seen, fragile.speed) == (0.5, 0.4)  # the speed is of the same incident
    assert fragile.outcome == "1 overturned, 1 displaced"
    assert found["impact"].seen is None and found["impact"].outcome == ""
    assert run_in_speed(two, two.events[0]) is None


def test_partners_have_readable_names():
    assert partner_category("floor_polisher_0m") == "floor polisher"
    assert partner_category("robot/arm/link5|robot/arm/link7") == "link5 and link7"
