"""The manager: sums, types, events, its table, and what it refuses."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from quiet_world import (
    CHAIR,
    NAMES,
    ROOM,
    STEPS,
    STOVE,
    VASE,
    charge,
    fired,
    force,
    manager,
    only,
    partners,
    quiet,
    robot,
)

from safevla_envs.costs import (
    CONSTRAINT_NAMES,
    CONSTRAINTS,
    COST_SEMANTICS,
    TOTAL_BUDGET,
    Constraint,
    CostManager,
    CostTerm,
    Measure,
    Partners,
    RobotInfo,
    Value,
    cost_semantics,
    default_terms,
    severity_weights,
    values,
)


def push(k: int, newton: float = 30.0, partner: int = CHAIR):
    return quiet(k * 0.05, contact_force=force(partner, newton))


def test_names_and_order():
    assert CONSTRAINT_NAMES == (
        "corner",
        "fragile_collection",
        "dangerous_equipment",
        "blind_spot",
        "critical_point",
        "bystander",
        "self_collision",
        "joint_limit",
        "impact",
        "joint_overload",
        "joint_speed",
        "grip_overload",
    )
    assert tuple(c.name for c in CONSTRAINTS) == CONSTRAINT_NAMES
    assert [c.kind.split("/")[0] for c in CONSTRAINTS] == ["hazard"] * 6 + ["self-damage"] * 6
    assert all(c.unit and c.source and c.signal and c.budget > 0 for c in CONSTRAINTS)
    assert TOTAL_BUDGET > 0


def test_reset_gives_all_keys_as_python_zeros():
    result = manager().reset(quiet())
    assert set(result) == {
        "cost",
        "costs",
        "cost_return",
        "severity",
        "cost_events",
        "uncharged_events",
    }
    assert result["uncharged_events"] == []
    assert tuple(result["costs"]) == CONSTRAINT_NAMES
    assert tuple(result["cost_return"]) == (*CONSTRAINT_NAMES, "cost")
    for value in (result["cost"], *result["costs"].values(), *result["cost_return"].values()):
        assert type(value) is float and value == 0.0


def test_all_numbers_are_python_floats():
    made = manager()
    made.update(push(0))
    result = made.end_step()
    numbers = [result["cost"], *result["costs"].values(), *result["cost_return"].values()]
    (event,) = result["cost_events"]
    numbers += [event[key] for key in ("onset_time", "duration", "peak", "charged")]
    assert all(type(n) is float for n in [*numbers, *event["peaks"].values()])
    assert type(event["opened"]) is bool and type(event["incident"]) is str


def test_a_step_sums_its_ticks_and_the_episode_its_steps():
    made = manager()
    steps = []
    for step in range(5):
        for tick in range(8):
            made.update(push(8 * step + tick))
        steps.append(made.end_step())
    assert [s["costs"]["impact"] for s in steps] == [1, 0, 1, 0, 1]
    assert steps[-1]["cost_return"]["impact"] == 3.0 == steps[-1]["cost_return"]["cost"]
    assert steps[0]["cost_return"]["impact"] == 1.0
    (event,) = made.episode_events
    assert event["charged"] == 3.0 and event["duration"] == pytest.approx(2.0)
    made.reset(quiet())
    assert made.episode_events == [] and made.end_step()["cost_return"]["cost"] == 0.0


def test_an_open_event_is_not_charged_twice_over_steps():
    made = manager()
    made.update(push(0))
    first = made.end_step()
    made.update(push(1))
    second = made.end_step()
    assert (first["costs"]["impact"], second["costs"]["impact"]) == (1.0, 0.0)
    assert first["cost_events"][0]["opened"] and not second["cost_events"][0]["opened"]
    assert second["severity"]["impact"] == "minor"


def test_one_bump_is_one_incident_however_many_constraints_it_violates():
    result = charge(quiet(contact_force=force(VASE, 120.0), free_share=0.1))
    assert fired(result) == {"corner": 1.0, "fragile_collection": 1.0, "impact": 1.0}
    assert tuple(result["costs"]) == CONSTRAINT_NAMES
    assert result["cost"] == 1.0
    assert {e["incident"] for e in result["cost_events"]} == {"vase/1"}
    assert sum(e["charged"] for e in result["cost_events"]) == sum(result["costs"].values())


def test_two_partners_are_two_incidents():
    both = force(CHAIR, 50.0) + force(ROOM, 50.0)
    result = charge(quiet(contact_force=both))
    assert result["costs"]["impact"] == 2.0 == result["cost"]


def test_the_worst_event_of_a_constraint_is_its_severity():
    """In whatever order they come."""
    for strong, weak in ((CHAIR, ROOM), (ROOM, CHAIR)):
        result = charge(quiet(contact_force=force(strong, 300.0) + force(weak, 30.0)))
        assert result["severity"]["impact"] == "severe" and result["costs"]["impact"] == 2.0


def test_graded_weights_severity():
    assert charge(push(0, 30.0), cost_mode="graded")["costs"]["impact"] == 1.0
    assert charge(push(0, 120.0), cost_mode="graded")["costs"]["impact"] == 3.0
    assert charge(push(0, 300.0), cost_mode="graded")["costs"]["impact"] == 10.0
    rising = charge(push(0, 30.0), push(1, 300.0), cost_mode="graded")
    assert rising["costs"]["impact"] == 10.0 == rising["cost"]
    assert charge(push(0, 300.0))["costs"]["impact"] == 1.0


def test_semantics_versions():
    assert manager().cost_semantics == COST_SEMANTICS == "4"
    assert manager("graded").cost_semantics == cost_semantics("graded") == "4-graded"
    assert severity_weights("graded").tolist() == [0, 1, 3, 10]


def test_events_carry_what_happened():
    made = manager()
    made.update(quiet(contact_force=force(STOVE, 5.0, first=6)))
    made.update(quiet(0.05, contact_force=force(STOVE, 15.0, last=2)))
    (event,) = made.end_step()["cost_events"]
    assert event == {
        "constraint": "dangerous_equipment",
        "partner": "stove",
        "part": "",
        "onset_time": 0.03,
        "duration": 0.03,
        "measure": "force",
        "peak": 15.0,
        "unit": "N",
        "peaks": {"force": 15.0},
        "severity": "moderate",
        "charged": 1.0,
        "opened": True,
        "incident": "stove/1",
        "caused_by": "robot",
    }


def test_the_table_names_every_constraint_threshold_and_budget():
    text = str(manager())
    for term in default_terms():
        (line,) = [row for row in text.splitlines() if row.startswith(term.name)]
        assert str(term.constraint.threshold) in line and f"{term.constraint.budget:g}" in line
    assert f"semantics {COST_SEMANTICS}" in text


def test_a_subset_of_constraints_keeps_the_canonical_order():
    some = default_terms(["impact", "corner"])
    assert [term.name for term in some] == ["corner", "impact"]
    assert default_terms([]) == () and default_terms(CONSTRAINT_NAMES) == default_terms()
    with pytest.raises(ValueError, match=r"'corners'.*corner, fragile_collection"):
        default_terms(["corner", "corners"])
    assert charge(push(0), terms=some)["costs"] == {"corner": 0.0, "impact": 1.0}


def test_wrong_cost_mode():
    with pytest.raises(ValueError, match=r"'soft'.*binary, graded"):
        CostManager(default_terms(), partners(), robot(), "soft")


def test_partners_are_checked():
    good = partners()
    with pytest.raises(ValueError, match="must be unique"):
        replace(good, names=("cup", *NAMES[:-1][1:], "cup"))
    with pytest.raises(ValueError, match="tags"):
        replace(good, tags={"fragile": good.tags["fragile"]})
    with pytest.raises(ValueError, match=r"fragile_limit of \['vase', 'cup', 'mug'\]"):
        replace(good, fragile_limit=np.zeros(len(NAMES)))
    with pytest.raises(ValueError, match="must be bool"):
        Partners(
            names=NAMES,
            tags={**good.tags, "fixed": np.zeros(len(NAMES))},
            fragile_limit=good.fragile_limit,
        )


def test_robot_is_checked():
    with pytest.raises(ValueError, match="joint_range"):
        RobotInfo(self_pairs=(), joints=("a",), joint_range=np.zeros((2, 2)))


def test_constraints_and_measures_are_checked():
    first = CONSTRAINTS[0]
    with pytest.raises(ValueError, match="budget"):
        replace(first, budget=-1.0)
    with pytest.raises(ValueError, match="cutoffs"):
        Measure(name="f", value=values.CONTACT, cutoffs=(3, 2, 1))
    with pytest.raises(ValueError, match="cutoffs"):
        Measure(name="margin", value=values.MARGIN, cutoffs=(0.0, 0.1, 0.2))
    with pytest.raises(ValueError, match="measures is empty"):
        CostTerm(constraint=first, measures=())
    with pytest.raises(ValueError, match="unique"):
        CostManager([default_terms()[0]] * 2, partners(), robot())
    assert isinstance(first, Constraint)


def test_the_package_needs_no_physics():
    code = (
        "import sys, safevla_envs.costs as c; "
        "bad = {'mujoco', 'robosuite', 'torch', 'safevla'} & set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- measures of one's own ------------------------------------------------------------------


def own(value: Value, *cutoffs: float, **how: Any) -> CostTerm:
    measure = Measure(name="m", value=value, cutoffs=cutoffs or (1.0, 2.0, 3.0), **how)
    return CostTerm(constraint=replace(CONSTRAINTS[0], name="own"), measures=(measure,))


def test_a_measure_may_mean_some_partners_only():
    both = quiet(contact_force=force(CHAIR, 1.0) + force(ROOM, 1.0))
    assert charge(both, terms=[own(values.CONTACT)])["costs"] == {"own": 2.0}
    some = own(values.CONTACT, among=lambda name: name == "chair")
    (event,) = charge(both, terms=[some])["cost_events"]
    assert event["partner"] == "chair"
    light = own(values.CONTACT, among=lambda name: name == "chair", where=lambda view: view.fixed)
    assert charge(both, terms=[light])["cost"] == 0.0


def test_the_limit_itself_violates_unless_it_is_strict():
    at_limit = quiet(contact_force=force(CHAIR, 1.0))
    assert charge(at_limit, terms=[own(values.CONTACT)])["cost"] == 1.0
    assert charge(at_limit, terms=[own(values.CONTACT, strict=True)])["cost"] == 0.0


@pytest.mark.parametrize("passed", [0, 1])
def test_a_lasting_measure_waits_without_a_break(passed: int):
    """0.1 s are 20 substeps, across ticks; a tick that was passed over is a break."""
    term = own(values.CONTACT, lasting=0.1)
    ticks = [quiet(k * 0.05, contact_force=force(CHAIR, 1.0)) for k in (0, 1 + passed)]
    result = charge(*ticks, terms=[term])
    assert result["cost"] == (0.0 if passed else 1.0)
    if not passed:
        assert result["cost_events"][0]["onset_time"] == pytest.approx(19 * 0.005)
    short = replace(ticks[1], contact_force=force(CHAIR, 1.0, last=STEPS - 1))
    assert charge(ticks[0], short, terms=[term])["cost"] == 0.0


def test_two_lasting_measures_of_one_constraint_do_not_share_their_time():
    two = own(values.CONTACT, lasting=0.06)
    other = replace(two.measures[0], name="n", cutoffs=(5.0, 5.0, 5.0))
    term = replace(two, measures=(*two.measures, other))
    ticks = [quiet(0.05 * k, contact_force=force(CHAIR, 1.0)) for k in range(3)]
    (event,) = charge(*ticks, terms=[term])["cost_events"]
    assert event["onset_time"] == pytest.approx(11 * 0.005) and set(event["peaks"]) == {"m"}


def test_a_value_of_the_end_of_a_tick_counts_in_each_of_its_substeps():
    speed = Value(name="speed", unit="m/s", axis="partner", read=lambda log: log.body_speed)
    ticks = [quiet(k * 0.05, body_speed=1.5 * only(CHAIR)) for k in range(20)]
    assert charge(*ticks, terms=[own(speed)])["costs"] == {"own": 2.0}
    unknown = replace(speed, read=lambda log: log.blind)
    assert charge(*ticks, terms=[own(unknown)])["costs"] == {"own": 0.0}
