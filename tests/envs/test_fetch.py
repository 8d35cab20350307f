"""Safety-Fetch: homes whose target stands on a support in another room, and a way to before it."""

from collections import Counter

import numpy as np
import pytest
from soundness import assert_fetch_is_sound

from safevla.experts import make_expert
from safevla_envs.costs.clusters import clustered
from safevla_envs.env import SafeVLAEnv
from safevla_envs.generate import knobs_for
from safevla_envs.generate.errand import HOMES
from safevla_envs.generate.layout import Rejected, make_layout
from safevla_envs.privileged import PRIVILEGED_DIM
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.tasks.fetch import Fetch

HOME = {"n_rooms": 2, "fewer_rooms": 0, "n_furniture": 3, "room_side_max": 4.2}


@pytest.fixture(scope="module")
def env():
    return SafeVLAEnv(task="Fetch", cameras=(), level=0, hazards=(), knobs=HOME)


def play(env, seed, name):
    expert, done = make_expert(name, env), False
    env.reset(seed=seed)
    rewards, actions = [], []
    while not done:
        actions.append(env.action_names[expert.act()])
        *_, terminated, truncated, info = step = env.step(env.action_names.index(actions[-1]))
        rewards.append(step[1])
        done = terminated or truncated
    return actions, rewards, info


@pytest.mark.parametrize("level", [0.0, 1.0, 2.0])
def test_scenarios_are_sound(level):
    task, said = Fetch(), set()
    for seed in range(8):
        scenario = task.generate(seed, level=level)
        assert_fetch_is_sound(scenario)
        said.add(scenario.instruction.split()[0])
    assert scenario == task.generate(seed, level=level)
    assert len(said) >= 3


def test_homes_are_of_many_plans():
    """One to five rooms; round some of them the robot can drive."""
    plans, counts, loops = set(), Counter(), 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        try:
            layout = make_layout(rng, knobs_for(2.0, dict(HOMES)))
        except Rejected:
            continue
        names = [room.name for room in layout.rooms]
        ends = [sorted(map(names.index, door.rooms)) for door in layout.doorways]
        assert len({tuple(e) for e in ends}) == len(ends), "one doorway between two rooms"
        degrees = np.bincount(np.ravel(ends).astype(int), minlength=len(names))
        plans.add((len(names), tuple(sorted(degrees.tolist()))))
        counts[len(names)] += 1
        loops += len(ends) >= len(names)
    assert len(plans) >= 8 and set(counts) == {1, 2, 3, 4, 5} and loops >= 10


def test_the_twin_has_no_clusters():
    for seed in range(6):
        kept = Fetch().generate(seed, level=2.0).benign_twin().objects
        here = clustered(np.array([p.position[:2] for p in kept]))
        assert not any(CATALOG[p.category].fragility for p, h in zip(kept, here) if h)


def test_what_is_asked_for_may_be_absent():
    scenario = Fetch().generate(3, level=1.0, impossible="absent")
    assert not scenario.targets and scenario.impossible == "absent"
    with pytest.raises(ValueError, match="impossible='no_passage': allowed are '' and 'absent'"):
        Fetch().generate(3, impossible="no_passage")


def test_homes_have_the_knobs_of_objnav(env):
    assert env.source.generate(0, **env.source.how).knobs["n_rooms"] == 2
    with pytest.raises(ValueError, match="knob 'n_roofs' is unknown"):
        SafeVLAEnv(task="Fetch", knobs={"n_roofs": 1})


@pytest.mark.parametrize("name", ["task", "careful"])
def test_experts_find_drive_and_pick_up(env, name):
    outcomes = Counter()
    for seed in range(3):
        actions, _, info = play(env, seed, name)
        outcomes[info["success"]] += 1
        if info["success"]:
            assert actions[-1] == "end" and "pick_up" in actions
            assert name == "task" or info["cost_return"]["cost"] == 0.0
    assert outcomes[True] >= 2


def test_a_goal_that_is_not_there_is_given_up(env):
    absent = Fetch().generate(1, level=0.0, hazards=(), knobs=HOME, impossible="absent")
    for name in ("task", "careful"):
        expert, actions = make_expert(name, env), []
        env.reset(options={"scenario": absent})
        while not actions or actions[-1] != env.END:
            actions.append(expert.act())
            *_, info = env.step(actions[-1])
        assert len(actions) == 13 and not info["success"]


def test_shaping_pays_for_the_way_and_for_lifting():
    shaped = SafeVLAEnv(
        task="Fetch", cameras=(), level=0, hazards=(), knobs=HOME, reward_shaping=True
    )
    _, rewards, info = play(shaped, 0, "task")
    end = shaped.task._potential
    shaped.reset(seed=0)
    begin = shaped.task._potential
    assert info["success"] and sum(rewards) == pytest.approx(10.0 + end - begin)
    left = shaped.path_length()
    assert left > 1.0 and begin < -left, "the way, and the reach"


def test_critics_are_told_where_the_target_is_from_the_hand(env):
    env.reset(seed=0)
    told = env.privileged_state()
    assert len(told) == PRIVILEGED_DIM + 3
    (spot,) = env.sim.body_positions(env.goal.bodies)
    assert np.linalg.norm(told[-3:]) == pytest.approx(
        np.linalg.norm(spot - env.sim.grip_position), rel=1e-5
    )
