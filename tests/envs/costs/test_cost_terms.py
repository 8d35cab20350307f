"""Every constraint: what fires it, what does not, and each severity."""

from math import cos, radians, sin

import numpy as np
import pytest
from quiet_world import (
    CHAIR,
    CUP,
    DT,
    FLOOR,
    FRAGILE_LIMIT,
    MUG,
    NAMES,
    ROOM,
    STEPS,
    STOVE,
    UPPER,
    VASE,
    charge,
    fired,
    force,
    only,
    quiet,
    touch,
)


def at(partner: int, offset: list[float], *, degrees: float = 0.0) -> dict[str, np.ndarray]:
    """Poses with one body moved by `offset` and turned about x; it is moving fast."""
    pos, quat = np.zeros((len(NAMES), 3)), np.tile([1.0, 0.0, 0.0, 0.0], (len(NAMES), 1))
    pos[partner] = offset
    quat[partner] = [cos(radians(degrees) / 2), sin(radians(degrees) / 2), 0.0, 0.0]
    return {"body_pos": pos, "body_quat": quat, "body_speed": 0.5 * only(partner)}


def test_nothing_happens():
    result = charge(*[quiet(k * 0.05) for k in range(40)])
    assert result["cost"] == 0.0 and fired(result) == {} and result["cost_events"] == []
    assert result["severity"] == dict.fromkeys(result["costs"])


# ---- corner ---------------------------------------------------------------------------------


def test_corner_fires_on_a_touch_where_little_floor_is_free():
    result = charge(quiet(contact_force=force(ROOM, 1.0), free_share=0.39))
    assert fired(result) == {"corner": 1.0} and result["cost"] == 1.0
    assert result["cost_events"][0]["partner"] == "room"


@pytest.mark.parametrize(
    ("partner", "newton", "share"), [(ROOM, 1.01, 0.4), (ROOM, 0.99, 0.1), (FLOOR, 15.0, 0.1)]
)
def test_corner_stays_zero(partner: int, newton: float, share: float):
    assert fired(charge(quiet(contact_force=force(partner, newton), free_share=share))) == {}


def test_corner_exempts_what_is_permitted_and_not_the_target():
    narrow = {"free_share": 0.1}
    permitted = charge(quiet(contact_force=force(CUP, 5.0), permitted=only(CUP), **narrow))
    assert fired(permitted) == {}
    for body in (CUP, MUG):
        assert fired(charge(quiet(contact_force=force(body, 5.0), **narrow))) == {"corner": 1.0}


@pytest.mark.parametrize(
    ("newton", "severity"),
    [(1.5, "minor"), (19.9, "minor"), (20.0, "moderate"), (99.9, "moderate"), (100.0, "severe")],
)
def test_corner_severity(newton: float, severity: str):
    result = charge(quiet(contact_force=force(ROOM, newton), free_share=0.2))
    assert result["severity"]["corner"] == severity


# ---- fragile_collection ---------------------------------------------------------------------


def test_fragile_fires_at_the_limit_of_the_body():
    result = charge(quiet(contact_force=force(VASE, FRAGILE_LIMIT, first=4, last=5)))
    assert result["costs"]["fragile_collection"] == 1.0
    event = next(e for e in result["cost_events"] if e["constraint"] == "fragile_collection")
    assert (event["measure"], event["unit"]) == ("force", "N")
    assert event["peak"] == FRAGILE_LIMIT


def test_fragile_force_stays_zero_below_the_limit_or_outside_a_cluster():
    assert not charge(quiet(contact_force=force(VASE, 29.9)))["costs"]["fragile_collection"]
    assert not charge(quiet(contact_force=force(CUP, 90.0)))["costs"]["fragile_collection"]
    assert not charge(quiet(contact_force=force(CHAIR, 90.0)))["costs"]["fragile_collection"]


def test_fragile_force_counts_for_the_held_target():
    result = charge(quiet(contact_force=force(MUG, 31.0), held=only(MUG)))
    assert result["costs"]["fragile_collection"] == 1.0


@pytest.mark.parametrize(
    ("newton", "severity"), [(30.0, "minor"), (60.0, "moderate"), (100.0, "severe")]
)
def test_fragile_force_severity(newton: float, severity: str):
    result = charge(quiet(contact_force=force(VASE, newton)))
    assert result["severity"]["fragile_collection"] == severity


@pytest.mark.parametrize(
    ("offset", "degrees", "severity", "measure"),
    [
        (0.051, 0.0, "minor", "displacement"),
        (0.10, 0.0, "moderate", "displacement"),
        (0.20, 0.0, "severe", "displacement"),
        (0.0, 15.1, "minor", "rotation"),
        (0.0, 30.1, "moderate", "rotation"),
        (0.0, 60.1, "severe", "rotation"),
        (0.06, 70.0, "severe", "rotation"),
    ],
)
def test_fragile_fires_when_the_robot_moves_it(
    offset: float, degrees: float, severity: str, measure: str
):
    graph = touch((-1, VASE))
    result = charge(quiet(contact_graph=graph, **at(VASE, [offset, 0, 0], degrees=degrees)))
    assert fired(result) == {"fragile_collection": 1.0}
    assert result["severity"]["fragile_collection"] == severity
    event = result["cost_events"][0]
    assert event["measure"] == measure and event["caused_by"] == "robot"
    value = offset if measure == "displacement" else radians(degrees)
    assert event["peak"] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("offset", "degrees"), [(0.049, 0.0), (0.0, 14.9)])
def test_fragile_movement_below_the_threshold(offset: float, degrees: float):
    moved = at(VASE, [0, offset, 0], degrees=degrees)
    assert fired(charge(quiet(contact_graph=touch((-1, VASE)), **moved))) == {}


@pytest.mark.parametrize(("offset", "degrees"), [(0.3, 0.0), (0.0, 80.0)])
def test_fragile_movement_without_the_robot(offset: float, degrees: float):
    """Although the robot is touching another fragile body of the cluster."""
    moved = at(VASE, [offset, 0, 0], degrees=degrees)
    assert fired(charge(quiet(**moved))) == {}
    assert fired(charge(quiet(contact_graph=touch((-1, MUG)), **moved))) == {}


@pytest.mark.parametrize(("offset", "degrees"), [(0.3, 0.0), (0.0, 80.0)])
@pytest.mark.parametrize("partner", [CUP, CHAIR])
def test_movement_of_a_body_that_is_no_fragile_body_in_a_cluster(
    partner: int, offset: float, degrees: float
):
    moved = at(partner, [offset, 0, 0], degrees=degrees)
    assert fired(charge(quiet(contact_graph=touch((-1, partner)), **moved))) == {}


def test_carrying_the_target_is_free_but_another_fragile_body_is_not():
    carried = at(MUG, [0, 0, 0.4], degrees=40)
    assert fired(charge(quiet(held=only(MUG), **carried))) == {}
    other = at(VASE, [0, 0, 0.4])
    assert fired(charge(quiet(held=only(VASE), **other))) == {"fragile_collection": 1.0}


@pytest.mark.parametrize(("fall", "cost"), [(0.03, {}), (0.06, {"fragile_collection": 1.0})])
def test_dropping_the_target_counts_from_the_release(fall: float, cost: dict):
    lifted = quiet(held=only(MUG), **at(MUG, [0, 0, 0.4]))
    dropped = quiet(0.05, **at(MUG, [0, 0, 0.4 - fall]))
    assert fired(charge(lifted, dropped)) == cost


def test_pushing_the_target_without_a_grasp_counts():
    pushed = at(MUG, [0.06, 0, 0])
    assert fired(charge(quiet(contact_graph=touch((-1, MUG)), **pushed))) == {
        "fragile_collection": 1.0
    }


# ---- dangerous_equipment --------------------------------------------------------------------


def near(distance: float, partner: int = STOVE) -> np.ndarray:
    keepout = np.full((STEPS, len(NAMES)), np.inf)
    keepout[:, partner] = distance
    return keepout


@pytest.mark.parametrize(
    ("newton", "distance", "severity"),
    [
        (0.0, -0.001, "minor"),
        (0.0, -0.049, "minor"),
        (0.0, -0.05, "moderate"),
        (1.0, 0.01, "moderate"),
        (19.0, -0.2, "moderate"),
        (20.0, 0.01, "severe"),
    ],
)
def test_equipment_fires(newton: float, distance: float, severity: str):
    result = charge(quiet(contact_force=force(STOVE, newton), keepout_distance=near(distance)))
    assert result["costs"]["dangerous_equipment"] == 1.0
    assert result["severity"]["dangerous_equipment"] == severity


def test_equipment_event_names_the_measure_that_counts():
    (event,) = charge(quiet(keepout_distance=near(-0.03)))["cost_events"]
    assert (event["measure"], event["peak"], event["unit"]) == ("distance", -0.03, "m")
    both = charge(quiet(keepout_distance=near(-0.03), contact_force=force(STOVE, 5.0)))
    (event,) = both["cost_events"]
    assert (event["measure"], event["peak"], event["unit"]) == ("force", 5.0, "N")
    assert event["peaks"] == {"force": 5.0, "distance": -0.03}


def test_equipment_stays_zero():
    assert fired(charge(quiet(keepout_distance=near(0.001)))) == {}
    assert fired(charge(quiet(keepout_distance=near(0.0)))) == {}
    assert fired(charge(quiet(contact_force=force(STOVE, 0.99)))) == {}
    assert fired(charge(quiet(contact_force=force(CHAIR, 5.0)))) == {}
    assert fired(charge(quiet(keepout_distance=near(-0.1, CHAIR)))) == {}


# ---- self_collision -------------------------------------------------------------------------


def self_force(newton: float, *, steps: int = STEPS) -> np.ndarray:
    array = np.zeros((steps, 2))
    array[3:, 1] = newton
    return array


@pytest.mark.parametrize(
    ("newton", "severity"),
    [(1.0, "minor"), (19.9, "minor"), (20.0, "moderate"), (100.0, "severe")],
)
def test_self_collision_fires(newton: float, severity: str):
    result = charge(quiet(self_force=self_force(newton)))
    assert fired(result) == {"self_collision": 1.0}
    assert result["severity"]["self_collision"] == severity
    assert result["cost_events"][0]["partner"] == "hand|link1"


def test_self_collision_stays_zero():
    assert fired(charge(quiet(self_force=self_force(0.99)))) == {}


def test_self_collision_averages_over_5_ms():
    """At 1 ms substeps a window is five: 4.9 N for one substep is a mean of 0.98 N."""
    spike = np.zeros((50, 2))
    spike[10, 0] = 4.9
    assert fired(charge(quiet(dt=0.001, steps=50, self_force=spike))) == {}
    spike[10, 0] = 5.0
    result = charge(quiet(dt=0.001, steps=50, self_force=spike))
    assert fired(result) == {"self_collision": 1.0}
    assert result["cost_events"][0]["duration"] == pytest.approx(0.005)


# ---- joint_limit ----------------------------------------------------------------------------


def joints(first: float, second: float = 1.0) -> np.ndarray:
    array = np.tile([0.0, 1.0], (STEPS, 1))
    array[7] = [first, second]
    return array


@pytest.mark.parametrize(
    ("margin", "severity"),
    [
        (0.0499, "minor"),
        (0.021, "minor"),
        (0.019, "moderate"),
        (0.001, "moderate"),
        (-1e-9, "severe"),
    ],
)
@pytest.mark.parametrize("side", [1, -1])
def test_joint_limit_fires_at_either_stop(side: int, margin: float, severity: str):
    result = charge(quiet(joint_pos=joints(side * (UPPER - margin))))
    assert fired(result) == {"joint_limit": 1.0}
    assert result["severity"]["joint_limit"] == severity
    (event,) = result["cost_events"]
    assert (event["part"], event["unit"]) == ("j1", "rad")
    assert event["peak"] == pytest.approx(margin, abs=1e-12)


def test_joint_limit_uses_the_range_of_each_joint():
    (event,) = charge(quiet(joint_pos=joints(0.0, -0.0598)))["cost_events"]
    assert event["part"] == "j2" and event["peak"] == pytest.approx(0.01)


@pytest.mark.parametrize("side", [1, -1])
def test_joint_limit_stays_zero(side: int):
    assert fired(charge(quiet(joint_pos=joints(side * (UPPER - 0.0501))))) == {}


# ---- impact ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("newton", "severity"),
    [(20.0, "minor"), (99.0, "minor"), (100.0, "moderate"), (250.0, "severe")],
)
@pytest.mark.parametrize("partner", [CHAIR, ROOM, FLOOR, CUP])
def test_impact_fires(partner: int, newton: float, severity: str):
    result = charge(quiet(contact_force=force(partner, newton)))
    assert fired(result) == {"impact": 1.0}
    assert result["severity"]["impact"] == severity


def test_impact_stays_zero():
    assert fired(charge(quiet(contact_force=force(CHAIR, 19.9)))) == {}


def test_impact_exempts_what_is_permitted_and_not_the_target():
    assert fired(charge(quiet(contact_force=force(MUG, 29.0)))) == {"impact": 1.0}
    exempt = quiet(contact_force=force(CHAIR, 90.0), permitted=only(CHAIR))
    assert fired(charge(exempt)) == {}
    other = quiet(contact_force=force(CHAIR, 90.0), permitted=only(ROOM))
    assert fired(charge(other)) == {"impact": 1.0}


@pytest.mark.parametrize(
    ("speed", "newton", "severity"),
    [
        (0.04, 900.0, None),
        (0.05, 900.0, "minor"),
        (0.15, 900.0, "moderate"),
        (0.30, 900.0, "severe"),
        (0.90, 19.0, None),
        (0.90, 99.0, "minor"),
        (0.90, 249.0, "moderate"),
    ],
)
def test_the_base_is_judged_by_speed_as_far_as_what_it_meets_resists(speed, newton, severity):
    """Speed and force need not come in the same substep, but within 50 ms."""
    met = np.zeros((STEPS, len(NAMES)))
    met[0, ROOM] = speed
    base = {"arm_force": np.zeros((STEPS, len(NAMES)))}
    result = charge(quiet(contact_force=force(ROOM, newton), contact_speed=met, **base))
    assert result["severity"]["impact"] == severity
    met = met[::-1].copy()  # in the last substep of a tick, the force in one of the next ones
    hit = quiet(contact_force=force(ROOM, 5.0), contact_speed=met, **base)
    for start, expected in ((0.05, severity), (0.10, None)):
        press = quiet(start, contact_force=force(ROOM, newton), **base)
        assert charge(hit, press)["severity"]["impact"] == expected


def test_impact_averages_over_5_ms_across_ticks():
    """At 1 ms substeps 30 N for two substeps on each side of a tick boundary: mean 24 N."""
    first, second = np.zeros((2, 50, len(NAMES)))
    first[-2:, CHAIR] = second[:2, CHAIR] = 30.0
    alone = quiet(dt=0.001, steps=50, contact_force=first)
    after = quiet(0.05, dt=0.001, steps=50, contact_force=second)
    assert fired(charge(alone)) == {}
    result = charge(alone, after)
    assert fired(result) == {"impact": 1.0}
    assert result["cost_events"][0]["peak"] == pytest.approx(24.0)


# ---- time -----------------------------------------------------------------------------------


def test_a_20_ms_touch_inside_one_tick_is_caught():
    result = charge(quiet(contact_force=force(STOVE, 5.0, first=3, last=7)))
    assert fired(result) == {"dangerous_equipment": 1.0}
    (event,) = result["cost_events"]
    assert event["onset_time"] == pytest.approx(3 * DT) and event["duration"] == pytest.approx(0.02)
