"""The torso: how far and how fast it moves, for whom, and what stops it."""

import numpy as np
import pytest
from bare_home import bare_home, thing

from safevla_envs.control.actions import LADEN, PRIMITIVES, SIDE_STEPS, TORSO
from safevla_envs.costs import CONSTRAINT_NAMES
from safevla_envs.env import SafeVLAEnv
from safevla_envs.world import TICK, TORSO_SPEED

FREE = dict.fromkeys([*CONSTRAINT_NAMES, "cost"], 0.0)
COUNTER = thing("counter", "kitchen_counter", 3.7, 3.0, fixed=True, role="furniture")
BOTTLE = (
    thing("stand", "plant_stand", 3.54, 2.93),
    thing("held", "glass_bottle", 3.54, 2.93, 0.65),
)


@pytest.fixture(scope="module")
def env():
    return SafeVLAEnv(task="PickUp", cameras=(), max_actions=1000)


def act(env, *names):
    for name in names:
        *_, info = env.step(env.action_names.index(name))
    return info


def names(*groups):
    return tuple(primitive.name for group in groups for primitive in group)


def test_it_is_moved_where_the_task_says_so():
    def make(task, **more):
        return SafeVLAEnv(task=task, cameras=(), **more).action_names

    assert make("PickUp") == make("Fetch") == names(PRIMITIVES, TORSO)
    assert make("PickUp", side_steps=True) == names(PRIMITIVES, SIDE_STEPS, TORSO)
    assert make("ObjNav") == names(PRIMITIVES) and len(PRIMITIVES) == 20
    assert make("ObjNav", side_steps=True) == names(PRIMITIVES, SIDE_STEPS)


def test_an_action_moves_it_by_ten_centimetres_and_the_hand_with_it(env):
    env.reset(options={"scenario": bare_home()})
    hand, course = env.sim.grip_position, []
    for name in ("torso_up", "torso_up", "torso_down"):
        info = act(env, name)
        course.append(env.sim.torso_height)
    assert course == pytest.approx([0.1, 0.2, 0.1], abs=1e-3)
    assert env.sim.grip_position - hand == pytest.approx([0.0, 0.0, 0.1], abs=2e-3)
    assert info["cost_return"] == FREE


def test_it_stops_where_its_joint_does(env):
    env.reset(options={"scenario": bare_home()})
    act(env, "torso_down", *["torso_up"] * 4)
    assert env.sim.torso_reference == 0.34
    assert env.sim.torso_height == pytest.approx(0.34, abs=1e-3)
    info = act(env, *["torso_down"] * 5)
    assert env.sim.torso_height == pytest.approx(0.0, abs=1e-3) and info["cost_return"] == FREE


def test_its_set_point_moves_at_a_bounded_speed(env):
    env.reset(options={"scenario": bare_home()})
    sim, heights = env.sim, [0.0]
    sim.set_torso(9.0)
    assert sim.torso_reference == 0.34
    for _ in range(80):
        sim.tick()
        heights.append(sim.torso_height)
    assert np.diff(heights).max() < 1.5 * TORSO_SPEED * TICK
    assert heights[-1] == pytest.approx(0.34, abs=1e-3)


def test_an_episode_starts_with_it_down(env):
    env.reset(options={"scenario": bare_home()})
    first = env.sim.state_hash()
    act(env, "torso_up")
    env.reset(options={"scenario": bare_home()})
    assert (env.sim.torso_height, env.sim.torso_reference) == (0.0, 0.0)
    assert env.sim.state_hash() == first
    act(env, "sub_task_done")
    assert env.sim.torso_height == pytest.approx(0.0, abs=1e-4)


def test_with_something_in_the_hand_it_is_slow_and_the_thing_stays(env):
    env.reset(options={"scenario": bare_home(*BOTTLE)})
    act(env, "pick_up")
    up = env.action_names.index("torso_up")
    assert env.actions.ticks(env.sim, up) == LADEN * TORSO[0].ticks
    height = env.sim.body_positions(("held",))[0, 2]
    info = act(env, "torso_up")
    assert env.sim.body_positions(("held",))[0, 2] - height == pytest.approx(0.1, abs=3e-3)
    assert info["cost_return"] == FREE


def test_what_is_under_the_hand_stops_it(env):
    """And it does not go on pressing: both references return to where torso and arm are."""
    env.reset(options={"scenario": bare_home(COUNTER)})
    act(env, "torso_up", "torso_up")
    while env.sim.grip_position[2] > 0.98:
        act(env, "arm_down_small")
    info = act(env, "torso_down", "torso_down")
    assert info["costs"]["impact"] > 0 and env.sim.torso_height > 0.02
    assert abs(env.sim.torso_reference - env.sim.torso_height) < 0.006
