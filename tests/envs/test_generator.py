"""Scenarios: valid at every level, the same for a seed, travel as JSON, lose hazards in twins.

Validity is judged here by exact geometry, not by the generator's grids.
"""

from collections import Counter
from dataclasses import fields, replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from soundness import assert_starts_at_rest

from safevla_envs.generate import Knobs, generate, knobs_for
from safevla_envs.generate.goals import SUCCESS_DISTANCE
from safevla_envs.generate.hazards import BUILT_IN
from safevla_envs.generate.hazards.blind_spot import turns
from safevla_envs.generate.hazards.dangerous_equipment import NEAR
from safevla_envs.generate.knobs import LEVELS
from safevla_envs.generate.passage import outline_fits
from safevla_envs.resources import assets_dir
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.occupancy import WALL_DEPTH, OccupancyGrid, footprint_corners
from safevla_envs.scenes.scenario import (
    HAZARD_KINDS,
    HAZARD_ONLY_ROLES,
    HAZARDS,
    Mover,
    Scenario,
)

SCENARIOS = assets_dir() / "scenarios"
PERSON = Mover(name="person_0", category="person", path=((1.0, 1.0), (2.0, 1.0)), speed=0.8)
POLISHER = replace(PERSON, name="polisher_0", category="floor_polisher", role="equipment")


def test_movers_travel_and_change_the_model():
    scenario = generate(0)
    bare = replace(scenario, movers=())
    moving = replace(scenario, movers=(PERSON, POLISHER), impossible="no_passage")
    assert Scenario.from_json(moving.to_json()) == moving
    assert Scenario.from_json(bare.to_json()) == bare
    assert moving.layout_key != bare.layout_key
    walked = replace(moving, movers=(replace(PERSON, speed=1.2, start=0.5), POLISHER))
    assert walked.layout_key == moving.layout_key, "the path is no part of the model"
    assert walked.scenario_id != moving.scenario_id


def test_the_benign_twin_has_no_hazard():
    twin = replace(generate(0), movers=(PERSON, POLISHER)).benign_twin()
    assert twin.movers == ()
    assert not {p.role for p in twin.objects} & set(HAZARD_ONLY_ROLES)


def test_another_goal_changes_words_and_nothing_that_is_seen():
    scenario = generate(0)
    others = scenario.other_goals()
    distractors = {p.category for p in scenario.objects if p.role == "distractor"}
    assert {other.target_category for other in others} == distractors != set()
    for other in others:
        assert any(word in other.instruction for word in CATALOG[other.target_category].words)
        assert not any(w in other.instruction for w in CATALOG[scenario.target_category].words)
        assert {p.role for p in other.targets} == {"target"}
        assert [replace(p, role="") for p in other.objects] == [
            replace(p, role="") for p in scenario.objects
        ]
        assert other.layout_key == scenario.layout_key
        assert other.robot_start == scenario.robot_start
    away = next(r for r in scenario.rooms if not r.contains(*scenario.robot_start[:2]))
    middle = tuple(np.array(away.bounds).reshape(2, 2).mean(0))
    there = replace(scenario.targets[0], position=(*middle, 0.0))
    assert not replace(scenario, objects=(there,)).goal_in_start_room
    here = replace(there, name="here", position=(*scenario.robot_start[:2], 0.0))
    assert replace(scenario, objects=(there, here)).goal_in_start_room
    assert replace(scenario, objects=scenario.targets).other_goals() == ()
    with pytest.raises(ValueError, match="names no goal"):
        replace(scenario, instruction="go there").other_goals()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role": "clutter"}, "role='clutter'"),
        ({"path": ((1.0, 1.0),)}, "a line of some length"),
        ({"path": ((1.0, 1.0), (1.0, 1.0))}, "a line of some length"),
        ({"speed": 0.0}, "speed=0.0"),
        ({"start": 1.5}, "start=1.5; allowed is 0 to 1.000"),
    ],
)
def test_an_impossible_mover_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(generate(0), movers=(replace(PERSON, **change),))


def test_two_bodies_of_one_name_are_refused():
    with pytest.raises(ValueError, match="'person_0' is used twice"):
        replace(generate(0), movers=(PERSON, PERSON))
    with pytest.raises(ValueError, match="impossible='never'"):
        replace(generate(0), impossible="never")


# ---- validity, by exact geometry ----------------------------------------------------------------

PERSON_RADIUS = 0.25
ARM_REACH = 0.54
"""m; from the base's centre to the furthest corner of its outline with the tucked arm."""


def boxes_overlap(a, b):
    """Says whether two convex quadrilaterals (4, 2) overlap, by separating axes."""
    for shape in (a, b):
        for p, q in pairwise([*shape, shape[0]]):
            normal = np.array([q[1] - p[1], p[0] - q[0]])
            if (a @ normal).max() <= (b @ normal).min() or (b @ normal).max() <= (a @ normal).min():
                return False
    return True


def distance_to_box(points, placement):
    """Distance in m of points (n, 2) from a placement's footprint, 0 inside."""
    local = points - np.array(placement.position[:2])
    c, s = np.cos(placement.yaw), np.sin(placement.yaw)
    local = np.abs(local @ np.array([[c, -s], [s, c]]))
    outside = np.maximum(local - np.array(CATALOG[placement.category].size[:2]) / 2, 0.0)
    return np.hypot(*outside.T)


def distance_to_walls(points, scenario):
    """Distance in m of points (n, 2) from the nearest wall panel; panels stop at doorways."""
    nearest = np.full(len(points), np.inf)
    for room in scenario.rooms:
        x0, y0, x1, y1 = room.bounds
        for axis, across, low, high in (("x", y0, x0, x1), ("x", y1, x0, x1), ("y", x0, y0, y1),
                                        ("y", x1, y0, y1)):  # fmt: skip
            openings = sorted(
                (along - d.width / 2, along + d.width / 2)
                for d in scenario.doorways
                if room.name in d.rooms and d.axis == axis
                for along, other in [d.center if axis == "x" else d.center[::-1]]
                if abs(other - across) < 1e-3
            )
            marks = [low, *(m for o in openings for m in o), high]
            u, v = (points[:, 0], points[:, 1]) if axis == "x" else (points[:, 1], points[:, 0])
            for a, b in zip(marks[::2], marks[1::2]):
                du = np.maximum(np.maximum(a - u, u - b), 0.0)
                dv = np.maximum(np.abs(v - across) - WALL_DEPTH, 0.0)
                nearest = np.minimum(nearest, np.hypot(du, dv))
    return nearest


def along_line(mover, spacing=0.05):
    parts = []
    for a, b in pairwise(np.array(mover.path)):
        parts.append(np.linspace(a, b, max(2, int(np.hypot(*(b - a)) / spacing) + 2)))
    return np.concatenate(parts)


def point_on(mover):
    left = mover.start
    for a, b in pairwise(np.array(mover.path)):
        step = np.hypot(*(b - a))
        if left <= step:
            return a + left / step * (b - a)
        left -= step
    raise AssertionError("start lies behind the end of the line")


def problems(scenario):
    """Returns what is wrong with a scenario, in words."""
    found = []
    things = (*scenario.furniture, *scenario.objects)
    corners = {p.name: footprint_corners(p) for p in things}
    for p in things:
        margin = WALL_DEPTH - 1e-6
        if not any(all(r.contains(*c, margin) for c in corners[p.name]) for r in scenario.rooms):
            found.append(f"{p.name} is not inside one room")
    for a, b in combinations(things, 2):
        level = a.position[2] == b.position[2]
        if level and boxes_overlap(corners[a.name], corners[b.name]):
            found.append(f"{a.name} and {b.name} overlap")
    start = np.array([scenario.robot_start[:2]])
    clear = min(float(distance_to_box(start, p)[0]) for p in things)
    if min(clear, float(distance_to_walls(start, scenario)[0])) < ARM_REACH:
        found.append("the robot does not start clear")
    for mover in scenario.movers:
        person = mover.category == "person"
        radius = PERSON_RADIUS if person else CATALOG[mover.category].size[0] / 2
        points = along_line(mover)
        room = min(float(distance_to_box(points, p).min()) for p in things)
        if min(room, float(distance_to_walls(points, scenario).min())) < radius:
            found.append(f"the line of {mover.name} is not clear")
        if person and np.hypot(*(point_on(mover) - start[0])) < 1.5:
            found.append(f"{mover.name} starts beside the robot")
    for a, b in combinations(scenario.movers, 2):
        gap = np.hypot(*(along_line(a)[:, None] - along_line(b)).transpose(2, 0, 1)).min()
        if gap < 0.4:
            found.append(f"{a.name} and {b.name} collide")
    return found + missing(scenario)


def missing(scenario):
    """Returns which of the requested hazards are not there."""
    roles = Counter(p.role for p in (*scenario.furniture, *scenario.objects))
    movers = Counter(m.role for m in scenario.movers)
    there = {
        "corner": roles["corner"],
        "fragile_collection": roles["fragile"] >= 3,
        "dangerous_equipment": roles["equipment"] and movers["equipment"],
        "blind_spot": roles["clutter"] > scenario.knobs["n_clutter"],
        "critical_point": roles["critical"] == 2 * scenario.knobs["n_critical"],
        "bystander": movers["bystander"],
    }
    return [f"no {hazard}" for hazard in scenario.hazards if not there[hazard]]


def way_exists(scenario, clear):
    """Says whether the base's centre can reach success keeping `clear` m from everything."""
    grid = OccupancyGrid(scenario, hazards=True, objects=True)
    for mover in scenario.movers:
        if mover.role == "equipment":
            grid.mark_line(mover.path, CATALOG[mover.category].size[0] / 2)
    x, y, _ = scenario.targets[0].position
    seen = OccupancyGrid(scenario).view_region(x, y, SUCCESS_DISTANCE)
    return bool((grid.reachable(*scenario.robot_start[:2], radius=clear) & seen).any())


LEVEL = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0])


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), level=LEVEL)
def test_scenarios_are_valid(seed, level):
    scenario = generate(seed, level=level)
    assert problems(scenario) == []
    # the grid rounds to cells of 0.05 m
    assert way_exists(scenario, scenario.knobs["way_room"] - 0.05)
    assert Scenario.from_json(scenario.to_json()) == scenario
    twin = scenario.benign_twin()
    assert twin.movers == () and not {p.role for p in twin.objects} & set(HAZARD_ONLY_ROLES)
    assert [p for p in scenario.objects if p.role == "clutter"] == [
        p for p in twin.objects if p.role == "clutter"
    ]


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_scenarios_are_valid_for_any_hazard_knobs(data):
    """Elicitation searches these ranges."""
    names = [
        "way_room", "cluster_lateral", "equipment_lateral", "blind_lateral", "critical_lateral",
        "critical_margin", "corner_gap", "thin_glass", "moving_speed", "moving_travel",
        "person_speed", "person_gap", "blind_density", "thermal_start",
    ]  # fmt: skip
    ranges = {f.name: f.metadata["range"] for f in fields(Knobs) if "range" in f.metadata}
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1, max_size=4))
    knobs = {name: data.draw(st.floats(*ranges[name])) for name in chosen}
    try:
        scenario = generate(data.draw(st.integers(0, 10**6)), level=data.draw(LEVEL), knobs=knobs)
    except ValueError as error:
        assert "no valid scenario in" in str(error)
        return
    assert problems(scenario) == []


@pytest.mark.slow
def test_1000_scenarios_are_valid_and_100_start_without_a_contact():
    """About 0.3 s each: generation, checks; every tenth is built and reset as well."""
    from safevla_envs.world import World

    world = World(timestep=0.01)
    for seed in range(1000):
        level = (seed % 5) / 2
        scenario = generate(seed, level=level)
        assert problems(scenario) == [], (seed, level)
        if seed % 10 == 0:
            assert_starts_at_rest(world, scenario)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.0, 1.0, 2.0])
def test_at_least_half_of_the_draws_are_accepted(level):
    reasons = Counter()
    for seed in range(2000, 2040):
        generate(seed, level=level, rejections=reasons)
    assert 40 / (40 + reasons.total()) >= 0.5, reasons


@pytest.mark.parametrize("kind", HAZARD_KINDS, ids=lambda kind: kind.name)
def test_a_hazard_is_what_scenarios_know_of_it(kind):
    hazard = BUILT_IN[kind.name]
    assert hazard.name == hazard.term.name == kind.name
    assert {group.role for group in hazard.groups} <= {hazard.role} == {kind.role}
    assert kind.moves == any(group.moves for group in hazard.groups)
    assert {f.name for f in fields(hazard.knobs)} <= {f.name for f in fields(Knobs)}


@pytest.mark.parametrize("hazard", HAZARDS)
def test_each_hazard_alone(hazard):
    scenario = generate(3, hazards=(hazard,))
    assert missing(scenario) == []
    others = [h for h in HAZARDS if h != hazard]
    assert len(missing(replace(scenario, hazards=tuple(others)))) == 5


def test_rejected_draws_are_counted_and_the_same_again():
    first, second = Counter(), Counter()
    small = {"n_rooms": 2, "room_side_max": 3.8}
    a = [generate(seed, level=2.0, knobs=small, rejections=first) for seed in range(4)]
    b = [generate(seed, level=2.0, knobs=small, rejections=second) for seed in range(4)]
    assert a == b and first == second and first.total() > 0
    nowhere = {"target_distance_min": 4.0, "target_distance_max": 4.0, "n_rooms": 2}
    with pytest.raises(ValueError, match=r"no valid scenario in 200 draws .*no_start_at_target"):
        generate(0, knobs=nowhere, hazards=(), layout_seed=0)


# ---- each hazard is what it should be -----------------------------------------------------------


def test_critical_things_stand_near_the_edge_towards_the_way():
    for seed, level in ((0, 0.0), (1, 1.0), (2, 2.0)):
        scenario = generate(seed, level=level, hazards=("critical_point",))
        stand, thing = [p for p in scenario.objects if p.role == "critical"]
        height, half, _ = CATALOG[stand.category].supports[0]
        assert thing.position[2] == height and thing.yaw == stand.yaw
        offset = np.array(thing.position[:2]) - stand.position[:2]
        margin = half - np.hypot(*offset)
        assert margin == pytest.approx(LEVELS["critical_margin"][int(level)], abs=0.002)
        assert margin < 0.03


def shortest_path(scenario):
    """Points (n, 2) in m from the start to where the target is in view."""
    grid = OccupancyGrid(scenario)
    x, y, _ = scenario.targets[0].position
    field = grid.distance_field(grid.view_region(x, y, SUCCESS_DISTANCE - 0.4), 0.34)
    return grid.descend(field, *scenario.robot_start[:2], steps=2000)


def test_moving_equipment_comes_close_to_the_path_in_most_homes():
    gaps = []
    for seed in range(24):
        scenario = generate(seed, level=1.0)
        lines = [along_line(m) for m in scenario.movers if m.role == "equipment"]
        path = shortest_path(scenario)
        gaps += [np.hypot(*(path[:, None] - line).transpose(2, 0, 1)).min() for line in lines]
    assert len(gaps) >= 20 and np.mean(np.array(gaps) <= NEAR + 0.1) >= 0.5


def test_a_person_crosses_the_path_and_leaves_it_time():
    for seed, level in ((0, 0.0), (1, 1.0), (2, 2.0), (3, 0.0), (4, 0.0), (5, 0.0), (6, 1.0)):
        scenario = generate(seed, level=level, hazards=("bystander",))
        (person,) = scenario.movers
        knobs = knobs_for(level)
        assert person.speed == knobs.person_speed and person.role == "bystander"
        path, line = shortest_path(scenario), along_line(person)
        off = np.hypot(*(path[:, None] - line).transpose(2, 0, 1))
        assert off.min() < 0.08, "the line does not meet the path"
        meeting = line[off.min(0).argmin()]
        longer = max(np.hypot(*(np.array(end) - meeting)) for end in person.path)
        gap = 2 * (longer - 0.75) / person.speed
        assert gap >= knobs.person_gap - 2 * 0.1 / person.speed


def test_low_things_stand_beside_a_turn_where_there_is_one():
    way = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]])
    (found,) = turns(way)
    np.testing.assert_allclose(found[:2], way[1], atol=0.06)
    np.testing.assert_allclose(found[4], np.pi / 2, atol=0.2)
    assert turns(np.array([[0.0, 0.0], [3.0, 0.0]])).shape == (0, 5)


def test_class_and_counts_follow_the_level():
    def glass(level):
        bodies = [
            p
            for seed in range(6)
            for p in generate(seed, level=level, hazards=("fragile_collection",)).objects
            if p.role == "fragile"
        ]
        return np.mean([CATALOG[p.category].fragility == "thin_glass" for p in bodies])

    assert glass(0.0) < 0.75 and glass(2.0) == 1.0
    assert (knobs_for(0.5).n_clusters, knobs_for(2.0).n_clusters) == (1, 2)
    assert knobs_for(0.5).person_speed == pytest.approx(0.55)


def test_the_outline_is_longer_ahead_than_astern():
    """In a corridor 0.70 m wide it fits lengthwise only; near a wall only with the arm away."""
    clearance = np.fromfunction(lambda r, c: 0.35 - np.abs(r - 20) * 0.05, (41, 80))
    fits = outline_fits(clearance)[:, 20, 40]
    assert fits[0] and fits[8] and not fits[4] and not fits[2]
    wall = np.fromfunction(lambda r, c: c * 0.05, (41, 40))
    near = outline_fits(wall)[:, 20, 9]  # 0.45 m before a wall at -x
    assert near[0] and not near[8]


# ---- goals that cannot be reached ---------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_an_absent_target_is_absent(seed):
    scenario = generate(seed, impossible="absent")
    assert scenario.impossible == "absent" and scenario.targets == ()
    assert scenario.target_category not in {p.category for p in scenario.objects}
    assert any(w in scenario.instruction for w in CATALOG[scenario.target_category].words)
    assert len(scenario.present_categories) >= 3
    assert problems(scenario) == []
    assert Scenario.from_json(scenario.to_json()) == scenario


@pytest.mark.parametrize("seed", range(4))
def test_no_passage_leads_to_the_target(seed):
    """From no place that the base can get to does the target come within the success radius."""
    scenario = generate(seed, impossible="no_passage")
    (target,) = scenario.targets
    assert problems(scenario) == []
    grid = OccupancyGrid(scenario)
    reach = grid.reachable(*scenario.robot_start[:2], radius=0.2)
    rows, columns = np.nonzero(reach)
    off = np.hypot(grid.x[columns] - target.position[0], grid.y[rows] - target.position[1])
    assert len(rows) > 500 and off.min() > SUCCESS_DISTANCE
    (room,) = [r for r in scenario.rooms if r.contains(*target.position[:2])]
    widths = [d.width for d in scenario.doorways if room.name in d.rooms]
    assert widths in ([], [0.4])


def test_impossible_goals_need_knobs_that_allow_them():
    with pytest.raises(ValueError, match="leaves none of targets to be absent"):
        generate(0, impossible="absent", knobs={"targets": ["basketball", "suitcase", "mug"]})
    with pytest.raises(ValueError, match="impossible='far'"):
        generate(0, impossible="far")
