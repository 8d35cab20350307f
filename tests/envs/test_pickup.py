"""Safety-PickUp: rooms that hold what they say, and a thing that is grasped, lifted and kept."""

import runpy
from dataclasses import replace
from itertools import product
from pathlib import Path

import imageio
import numpy as np
import pytest
from soundness import assert_pickup_is_sound

from safevla.experts import EXPERTS, make_expert
from safevla_envs.control.hand_room import SIDES
from safevla_envs.env import SafeVLAEnv
from safevla_envs.generate.on_support import (
    KEEPOUTS,
    ROOM,
    SUPPORTS,
)
from safevla_envs.generate.on_support import _room as room_for
from safevla_envs.planar import in_axes
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.tasks.pickup import LIFT, PickUp

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def env():
    return SafeVLAEnv(task="PickUp", cameras=(), level=0)


def play(env, seed, name="task", options=None):
    """An expert's episode; returns the names of its actions, its rewards and the last `info`."""
    expert = make_expert(name, env)
    env.reset(seed=seed, options=options)
    actions, rewards, done = [], [], False
    while not done:
        action = expert.act()
        actions.append(env.action_names[action])
        _, reward, terminated, truncated, info = env.step(action)
        rewards.append(reward)
        done = terminated or truncated
    return actions, rewards, info


@pytest.mark.parametrize("level", [0.0, 1.0, 2.0])
def test_scenarios_are_sound(level):
    task, seen = PickUp(), set()
    for seed in range(40):
        scenario = task.generate(seed, level=level)
        if seed < 5:
            assert scenario == task.generate(seed, level=level)
            assert scenario != task.generate(seed, level=level, split="val")
        assert_pickup_is_sound(scenario)
        seen.add(scenario.furniture[0].category)
    assert seen == set(SUPPORTS)


def test_hazards_stand_in_the_way_of_who_comes_straight_on():
    """At level 2 in most rooms that have hazards, at level 0 seldom; another way is always left."""
    blocked = {0.0: 0, 2.0: 0}
    for level, seed in product(blocked, range(30)):
        scenario = PickUp().generate(seed, level=level)
        (target,), (x, y, _) = scenario.targets, scenario.robot_start
        side = np.arctan2(y - target.position[1], x - target.position[0])
        others = [p for p in scenario.objects if p is not target]
        hazards = [p for p in others if p.role in ("fragile", "equipment", "critical")]
        blocked[level] += bool(hazards) and room_for(target, hazards, side, straight=True) < 0.0
        front = scenario.support_of(target).yaw
        assert not others or max(room_for(target, others, front + s) for s in SIDES) >= ROOM
    assert blocked[0.0] <= 3 and blocked[2.0] >= 18


@pytest.mark.parametrize("level", [0.0, 2.0])
def test_the_twin_has_neither_clusters_nor_critical_points(level):
    world, met = SafeVLAEnv(task="PickUp", cameras=(), level=level), set()
    for seed in range(24):
        world.reset(seed=seed)
        tags, names = world.log.partners.tags, world.log.partners.names
        critical = {p.name for p in world.scenario.objects if p.role == "critical"}
        assert {n for n, tag in zip(names, tags["critical"]) if tag} == critical
        met |= {p.role for p in world.scenario.objects}
        world.reset(options={"scenario": world.scenario.benign_twin()})
        tags = world.log.partners.tags
        assert not (tags["fragile"] & tags["clustered"]).any() and not tags["critical"].any()
    assert met == {"target", "distractor", "fragile", "equipment", "critical"}


def test_a_person_works_on_the_robots_side_the_more_often_the_higher_the_level():
    beside = {0.0: 0, 2.0: 0}
    for level, seed in product(beside, range(30)):
        scenario = PickUp().generate(seed, level=level)
        (person,), (target,) = scenario.movers, scenario.targets
        ends = (*person.path, scenario.robot_start[:2])
        _, aside = in_axes(
            np.subtract(ends, target.position[:2]), scenario.support_of(target).yaw
        ).T
        beside[level] += aside[0] * aside[-1] > 0.0
    assert beside[0.0] <= 10 and beside[2.0] >= 20
    alone = PickUp().generate(0, level=2.0, hazards=("fragile_collection",))
    assert not alone.movers


def test_the_person_costs_who_does_not_look_and_not_who_does():
    world = SafeVLAEnv(task="PickUp", cameras=(), level=2)
    assert play(world, 28)[2]["cost_return"]["bystander"] > 0.0
    assert play(world, 28, "careful")[2]["cost_return"]["cost"] == 0.0
    twin = world.scenario.benign_twin()
    assert play(world, 28, options={"scenario": twin})[2]["cost_return"]["bystander"] == 0.0


def test_what_is_hot_has_the_keepout_volume_that_the_generator_reckons_with():
    world, met = SafeVLAEnv(task="PickUp", cameras=(), level=1), set()
    for seed in range(40):
        scenario = PickUp().generate(seed, level=1.0)
        for thing in scenario.objects:
            if thing.role != "equipment" or thing.category in met:
                continue
            met.add(thing.category)
            world.reset(options={"scenario": scenario})
            geom = world.sim.model.geom(f"{thing.name}/keepout")
            radius, half, _ = geom.size
            assert (radius, geom.pos[2] + half) == pytest.approx(KEEPOUTS[thing.category])
    assert met == set(KEEPOUTS)


def test_a_colour_tells_two_of_a_kind_apart():
    twofold, named = 0, 0
    for seed in range(60):
        scenario = PickUp().generate(seed, level=1.0)
        (target,) = scenario.targets
        alike = [p for p in scenario.objects if p.category == target.category]
        colour = CATALOG[target.category].colour(target.variant)
        named += bool(colour) and f"{colour} " in scenario.named
        if len(alike) == 1:
            continue
        twofold += 1
        assert len({p.kind for p in alike}) == 2 and scenario.named.startswith(f"{colour} ")
        other = next(p for p in alike if p is not target)
        (goal,) = (s for s in scenario.other_goals() if s.targets[0].name == other.name)
        assert goal.named.startswith(f"{CATALOG[other.category].colour(other.variant)} ")
        assert goal.named in goal.instruction and goal.target_category == target.category
    assert twofold >= 5 and named > twofold


def test_only_the_named_one_of_two_counts():
    world = SafeVLAEnv(task="PickUp", cameras=(), level=0)
    scenarios = (PickUp().generate(seed, level=0.0) for seed in range(60))
    scenario = next(
        s for s in scenarios if [p.category for p in s.objects].count(s.target_category) == 2
    )
    world.reset(options={"scenario": scenario})
    assert world.goal.bodies == (scenario.targets[0].name,)
    assert world.log.partners.tags["target"].sum() == 1


@pytest.mark.slow
def test_the_careful_expert_pays_less_than_the_blind_one():
    world = SafeVLAEnv(task="PickUp", cameras=(), level=2)
    outcomes = {
        name: [play(world, seed, name)[2] for seed in range(8)] for name in EXPERTS["PickUp"]
    }
    paid = {name: sum(i["cost_return"]["cost"] for i in some) for name, some in outcomes.items()}
    assert paid["careful"] < paid["task"]
    assert sum(info["success"] for info in outcomes["careful"]) >= 7


def test_a_layout_holds_the_same_things_in_other_places():
    one, other = (PickUp().generate(seed, layout_seed=3) for seed in (1, 2))
    assert one.layout_key == other.layout_key
    assert one.robot_start != other.robot_start
    goals = {PickUp().generate(seed, layout_seed=5).target_category for seed in range(12)}
    assert len(goals) > 1, "what is asked for differs"


def test_there_are_no_knobs():
    with pytest.raises(ValueError, match=r"knobs=\{'n_rooms': 2\}: PickUp has none"):
        SafeVLAEnv(task="PickUp", knobs={"n_rooms": 2})


def test_without_hazards_there_are_none():
    scenario = PickUp().generate(3, level=2.0, hazards=())
    assert {p.role for p in scenario.objects} <= {"target", "distractor"}


def test_the_target_is_in_view_at_the_start(env):
    for seed in range(12):
        env.reset(seed=seed)
        assert env.sim.visible(env.goal.bodies).all(), env.scenario.instruction


def test_the_expert_grasps_and_lifts_what_is_asked_for(env):
    solved = 0
    for seed in range(8):
        actions, _, info = play(env, seed)
        assert actions[-1] == "end" and "pick_up" in actions
        if info["success"]:
            solved += 1
            assert env.task.lifted(env.sim)
            assert env.sim.held()[np.isin(env.sim.home.partners, env.goal.bodies)].all()
    assert solved >= 7


@pytest.fixture
def grasped(env):
    """An episode up to where the target is held and lifted."""
    expert = make_expert("task", env)
    env.reset(seed=0)
    while not env.task.lifted(env.sim):
        env.step(expert.act())
    return env


def test_success_needs_a_thing_that_is_held_high_and_has_been(grasped):
    env = grasped
    env.task._was_lifted = False
    assert not env.task.outcome(env.sim, ended=True).success, "not for long enough"
    assert env.task.outcome(env.sim, ended=True).success
    assert not env.task.outcome(env.sim, ended=False).success, "nobody said so"
    before = env.sim.time
    *_, terminated, _, info = env.step(env.END)
    assert terminated and info["success"] and env.sim.time - before >= 1.0


def test_what_is_let_go_is_not_picked_up(grasped):
    env = grasped
    env.step(env.action_names.index("drop_off"))
    *_, info = env.step(env.END)
    assert not info["success"]
    heights = env.sim.body_positions(env.goal.bodies)[:, 2] - env.task._stood
    assert (heights < LIFT).all()


def test_at_the_start_nothing_is_picked_up(env):
    env.reset(seed=0)
    *_, info = env.step(env.END)
    assert not info["success"] and info["cost_return"]["cost"] == 0.0


def test_an_absent_target_cannot_be_picked_up(env):
    scenario = PickUp().generate(0, level=0.0)
    others = tuple(p for p in scenario.objects if p.role != "target")
    env.reset(options={"scenario": replace(scenario, objects=others)})
    *_, info = env.step(env.END)
    assert not info["success"]


def test_shaping_pays_for_coming_near_and_for_lifting():
    shaped = SafeVLAEnv(task="PickUp", cameras=(), level=0, reward_shaping=True)
    _, rewards, info = play(shaped, 0)
    end = shaped.task._potential
    shaped.reset(seed=0)
    assert info["success"] and sum(rewards) == pytest.approx(10.0 + end - shaped.task._potential)
    assert shaped.task._potential < -1.0 and end > 0.35, "from afar; near and lifted"


def test_what_the_gripper_holds_is_carried_slowly_and_stays(grasped):
    """Turned round, driven back and turned again, it slips by no more than 3 mm."""
    env = grasped
    sim, (name,) = env.sim, env.goal.bodies
    body = sim.data.body(name)

    def grip():
        return body.xmat.reshape(3, 3).T @ (sim.grip_position - body.xpos)

    act = env.action_names.index
    assert env.actions.ticks(sim, act("rotate_left")) == 32
    assert env.actions.ticks(sim, act("move_back")) == 32
    before = grip()
    for action in ("move_back", "move_back", "rotate_left", "rotate_left", "rotate_right"):
        env.step(act(action))
    assert env.task.lifted(sim)
    assert np.linalg.norm(grip() - before) < 0.003
    env.step(act("drop_off"))
    assert env.actions.ticks(sim, act("rotate_left")) == 8


def test_the_example_films_an_episode(tmp_path, capsys):
    script = runpy.run_path(str(EXAMPLES / "film.py"))
    script["main"]("PickUp", str(tmp_path / "p.gif"), seed=0, level=0.0)
    assert "success True, cost 0.0" in capsys.readouterr().out
    assert len(imageio.mimread(tmp_path / "p.gif")) > 10
