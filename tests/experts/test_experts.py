"""The scripted experts: where the robot fits, how it gets there, when it gives up."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from halls import hall, run, thing

from safevla.experts import make_expert
from safevla.experts.lattice import Move, Search, moves_of, price, schedule
from safevla.experts.navigation import TaskExpert
from safevla.experts.space import HEADINGS, Block, PoseSpace
from safevla_envs.control.actions import PRIMITIVES, SIDE_STEPS
from safevla_envs.env import SafeVLAEnv
from safevla_envs.resources import assets_dir
from safevla_envs.scenes.scenario import load_list

INDEX = {p.name: i for i, p in enumerate(PRIMITIVES + SIDE_STEPS)}


@pytest.fixture(scope="module")
def env():
    return SafeVLAEnv(cameras=())


# ---- where the robot fits -------------------------------------------------------------------


def clearance(space, x, y, degrees=0.0):
    return float(space.layer(round(degrees / 6))[space.cell(x, y)])


def test_clearance_is_that_of_the_outline_as_it_stands():
    # a box whose left face is at x = 3
    space = PoseSpace(hall(), [Block(center=(4.0, 2.0), half=(1.0, 1.0), yaw=0.0, top=0.5)], 0.0)
    # front of the base at +0.36, back at -0.34, sides at 0.25
    assert clearance(space, 2.3, 2.0) == pytest.approx(0.34, abs=0.04)
    assert clearance(space, 2.3, 2.0, 180.0) == pytest.approx(0.36, abs=0.04)
    assert clearance(space, 2.3, 2.0, 90.0) == pytest.approx(0.45, abs=0.04)
    assert clearance(space, 2.66, 2.0) == 0.0
    assert clearance(space, 2.66, 2.0, 90.0) > 0.05


def test_clearance_never_exceeds_the_true_distance():
    block = Block(center=(4.0, 2.0), half=(0.3, 0.2), yaw=0.6, top=0.5)
    space = PoseSpace(hall(), [block], 0.3)
    rng = np.random.default_rng(0)
    c, s = np.cos(block.yaw), np.sin(block.yaw)
    edge = np.linspace(-1.0, 1.0, 41)
    outline = np.concatenate([
        np.stack([0.01 + 0.35 * edge, np.full(41, side)], 1) for side in (-0.25, 0.25)
    ] + [np.stack([np.full(41, x), 0.25 * edge], 1) for x in (-0.34, 0.36)])  # fmt: skip
    compared = 0
    for _ in range(300):
        x, y, number = rng.uniform(3.0, 5.0), rng.uniform(1.2, 2.8), int(rng.integers(HEADINGS))
        yaw = space.heading(number)
        turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        local = (outline @ turn + [x, y] - block.center) @ np.array([[c, -s], [s, c]])
        gap = np.hypot(*np.maximum(np.abs(local) - block.half, 0.0).T).min()
        found = float(space.layer(number)[space.cell(x, y)])
        assert found <= gap + 0.035, (x, y, number)
        compared += gap > 0.1
        if gap > 0.1:
            assert found >= min(gap, 0.3) - 0.06
    assert compared > 50


def test_the_hand_passes_over_what_is_low_only():
    def before(top):
        return PoseSpace(hall(), [Block(center=(4.0, 2.0), half=(0.5, 0.5), yaw=0.0, top=top)], 0.0)

    x = 3.5 - 0.43  # the base ends 7 cm before the box, the hand 4 cm inside it
    assert clearance(before(0.9), x, 2.0) == pytest.approx(0.07, abs=0.03)
    assert clearance(before(1.3), x, 2.0) == 0.0


def test_a_camera_looks_over_low_things_and_not_through_tall_ones():
    def seen(top):
        block = Block(center=(4.0, 2.0), half=(0.05, 0.5), yaw=0.0, top=top)
        space = PoseSpace(hall(), [block], 0.0)
        return bool(space.sees((4.7, 2.0, 0.15), 0.2, 1.5)[space.cell(3.4, 2.0)])

    assert seen(0.1) and not seen(0.6)


# ---- how it gets there ----------------------------------------------------------------------


def way_through(gap, moves):
    """Plans from one end of the hall to the other through a gap of this width in m."""
    half = (4.0 - gap) / 4
    blocks = [
        Block(center=(4.0, y), half=(0.4, half), yaw=0.0, top=1.0) for y in (half, 4.0 - half)
    ]
    space = PoseSpace(hall(), blocks, 0.5)
    ends = np.zeros(space.height.shape, bool)
    ends[:, space.x > 6.0] = True
    remaining = space.way(ends, price)
    goal = lambda x, y, h: x > 6.0  # noqa: E731
    find = Search(space=space, moves=moves, goal=goal, remaining=remaining, margin=0.03)
    found = find.run((1.5, 2.0, 0))
    return space, found


@pytest.mark.parametrize("primitives", [PRIMITIVES, PRIMITIVES + SIDE_STEPS])
def test_a_plan_leads_through_a_gap_lengthwise_and_keeps_its_margin(primitives):
    space, found = way_through(0.72, moves_of(primitives))
    assert found
    for _, (x, y, heading) in found:
        assert float(space.layer(heading)[space.cell(x, y)]) >= 0.03
    inside = [heading for _, (x, _, heading) in found if 3.5 < x < 4.5]
    off = [abs(np.sin(space.heading(heading))) for heading in inside]
    assert inside and max(off) < 0.25


def test_a_plan_is_what_the_actions_do():
    space, found = way_through(1.2, moves_of(PRIMITIVES))
    assert found
    x, y, yaw = 1.5, 2.0, 0.5
    for action, (px, py, heading) in found:
        forward, left, turn = PRIMITIVES[action].amount
        x += np.cos(yaw) * forward - np.sin(yaw) * left
        y += np.sin(yaw) * forward + np.cos(yaw) * left
        yaw += turn
        assert (px, py) == pytest.approx((x, y), abs=1e-9)
        assert np.cos(space.heading(heading) - yaw) == pytest.approx(1.0, abs=1e-9)
    assert x > 6.0


@pytest.mark.parametrize("gap", [0.45, 0.54])
def test_there_is_no_plan_through_a_gap_that_leaves_no_margin(gap):
    assert way_through(gap, moves_of(PRIMITIVES))[1] is None


class Shut:
    """A door at x = 4 that opens at a tick; before it one may wait, on its sill one may not."""

    longest = 12

    def __init__(self, space, opens):
        self.space, self.opens = space, opens
        self.rest = Move(action=INDEX["drop_off"], cost=0.3, ticks=10)

    def barred(self, x, y, yaw, move, tick):
        sill = 3.5 < x + move.forward * np.cos(yaw) < 4.5
        return sill and (tick < self.opens or move is self.rest)

    def bin(self, row, column, tick):
        return 1 + tick // 10 if 3.5 < self.space.x[column] < 4.5 else 0


def ticks_of(plan, until=3.5):
    """Ticks before the first action that leads beyond x."""
    count = 0
    for action, (x, _, _) in plan:
        if x > until:
            break
        count += 10 if action == INDEX["drop_off"] else PRIMITIVES[action].ticks
    return count


@pytest.mark.parametrize("how", ["schedule", "search"])
def test_a_plan_waits_before_what_opens_later(how):
    moves = moves_of(PRIMITIVES)
    space, found = way_through(1.2, moves)
    assert found and ticks_of(found) < 100
    clock = Shut(space, opens=140)
    if how == "schedule":
        timed = schedule(space, (1.5, 2.0, 0), found, moves, clock)
    else:
        ends = np.zeros(space.height.shape, bool)
        ends[:, space.x > 6.0] = True
        timed = Search(
            space=space, moves=(*moves, clock.rest), goal=lambda x, y, h: x > 6.0,
            remaining=space.way(ends, price), margin=0.03, clock=clock,
        ).run((1.5, 2.0, 0))  # fmt: skip
    assert timed and timed[-1][1][0] > 6.0
    waits = [i for i, (action, _) in enumerate(timed) if action == INDEX["drop_off"]]
    assert 140 <= ticks_of(timed) < 140 + 10 and waits
    tick, pose = 0, (1.5, 2.0, 0)
    by_action = {move.action: move for move in (*moves, clock.rest)}
    for action, after in timed:
        move = by_action[action]
        assert not clock.barred(pose[0], pose[1], space.heading(pose[2]), move, tick)
        tick, pose = tick + move.ticks, after


def test_no_schedule_for_what_never_opens():
    moves = moves_of(PRIMITIVES)
    space, found = way_through(1.2, moves)
    assert found
    assert schedule(space, (1.5, 2.0, 0), found, moves, Shut(space, opens=10**9)) is None


def test_a_toll_in_the_estimate_keeps_the_search_short():
    """Without it a search would look at everything that costs less than crossing the toll."""
    space = PoseSpace(hall(), [], 0.5)
    ends = np.zeros(space.height.shape, bool)
    ends[:, space.x > 6.0] = True
    toll = np.where((space.x > 3.0) & (space.x < 5.0), 3.0, 0.0) + 0.0 * space.height
    find = {"space": space, "moves": moves_of(PRIMITIVES), "goal": lambda x, y, h: x > 6.0}
    find |= {"margin": 0.03, "toll": toll, "limit": 1000}
    known, blind = space.way(ends, price, 5.0 * toll), space.way(ends, price)
    assert Search(**find, remaining=known).run((1.5, 2.0, 0))
    assert not Search(**find, remaining=blind).run((1.5, 2.0, 0))


# ---- episodes -------------------------------------------------------------------------------


def hazards():
    """Things that stand on the straight way from start to target."""
    return [
        thing("basketball", 6.5, 2.0, "target"),
        thing("space_heater", 3.0, 1.6, "equipment", yaw=0.4),
        *(thing("glass_bottle", 4.6 + 0.25 * i, 2.5, "fragile", number=i) for i in range(3)),
        thing("cardboard_box", 5.2, 1.3, "clutter"),
    ]


@pytest.mark.parametrize("side_steps", [False, True])
def test_the_careful_expert_drives_round_hazards_without_cost(side_steps):
    env = SafeVLAEnv(cameras=(), side_steps=side_steps)
    actions, success, cost, events = run(env, hall(*hazards()), "careful")
    assert success and cost == 0.0 and not events
    assert len(actions) < 60
    env.close()


def test_the_task_expert_does_not_see_hazards(env):
    scenario = hall(
        thing("basketball", 6.5, 2.0, "target"), thing("floor_saw", 3.5, 2.0, "equipment")
    )
    _, _, cost, events = run(env, scenario, "task")
    assert cost > 0.0 and {e["constraint"] for e in events} >= {"dangerous_equipment"}
    _, success, cost, _ = run(env, scenario, "careful")
    assert success and cost == 0.0


@pytest.mark.parametrize("name", ["task", "careful"])
def test_without_a_target_it_looks_round_and_ends(env, name):
    scenario = replace(hall(thing("suitcase", 6.0, 2.0, "distractor")), impossible="absent")
    assert not scenario.targets
    actions, success, cost, _ = run(env, scenario, name)
    assert actions == ["rotate_left"] * 12 + ["end"]
    assert not success and cost == 0.0


@pytest.mark.parametrize("name", ["task", "careful"])
def test_behind_a_wall_it_looks_round_and_ends(env, name):
    scenario = hall(thing("basketball", 7.0, 3.0, "target"), second_room=True)
    scenario = replace(scenario, doorways=(), impossible="no_passage")
    actions, success, cost, _ = run(env, scenario, name)
    assert actions == ["rotate_left"] * 12 + ["end"]
    assert not success and cost == 0.0


def test_it_plans_anew_when_it_is_put_elsewhere(env):
    env.reset(options={"scenario": hall(thing("basketball", 6.5, 2.0, "target"))})
    expert = make_expert("careful", env)
    env.step(expert.act())
    before = len(expert.plan)
    for _ in range(3):
        env.step(INDEX["rotate_right"])
    action = expert.act()
    assert expert.space.yaw == pytest.approx(env.sim.base_pose[2], abs=0.02)
    assert action == INDEX["rotate_left"] and len(expert.plan) > before


# ---- turning to and fro ---------------------------------------------------------------------


def test_the_task_expert_ends_turning_to_and_fro():
    """At one place each turn moves the base so that the next undoes it."""
    scenario = load_list(Path(__file__).with_name("to_and_fro.json"))[0]
    env = SafeVLAEnv(cameras=(), side_steps=True, max_actions=100)
    actions, success, _, _ = run(env, scenario, "task")
    flips = sum({a, b} == {"rotate_left", "rotate_right"} for a, b in pairwise(actions))
    assert success and flips <= 6
    env.close()


def test_a_direction_that_flips_with_every_turn_is_kept():
    """The heading asked for is 90 degrees to the left, then to the right, and so on."""
    names = [p.name for p in PRIMITIVES]
    env = SimpleNamespace(action_names=names, sim=SimpleNamespace(base_pose=np.zeros(3)))
    expert = TaskExpert(env)
    expert.last, expert.turned, expert.reversals, expert.course = -1, 0.0, 0, None
    taken = []
    for i in range(20):
        action = expert._turn(80.0 if i % 2 == 0 else -80.0)
        taken.append(names[action])
        expert.last = action
        if names[action] == "move_ahead":
            break
        degrees = np.degrees(PRIMITIVES[action].amount[2])
        env.sim.base_pose = env.sim.base_pose + np.array([0.0, 0.0, np.radians(degrees)])
    assert taken[-1] == "move_ahead" and len(taken) <= 12


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_twin_shows_nothing_moderate_or_severe(level):
    """Calibration: cut-offs that call careful work or standing still harmful are wrong."""
    twins = load_list(assets_dir() / "scenarios" / f"objnav_val200_level{level}_benign.jsonl.gz")
    env = SafeVLAEnv(cameras=())
    for scenario in twins[:30]:
        env.reset(options={"scenario": scenario})
        for _ in range(12):
            env.step(env.SUB_DONE)
        assert env.costs.episode_events == []
    for scenario in twins[:4]:
        _, success, _, events = run(env, scenario, "careful")
        assert success
        assert [e for e in events if e["severity"] != "minor"] == []
