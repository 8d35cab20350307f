"""Assisted grasping: what the fingers have closed on is welded to the hand until they open."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from bare_home import bare_home, thing

from safevla_envs.costs import CONSTRAINT_NAMES
from safevla_envs.edits import Edits
from safevla_envs.env import SafeVLAEnv
from safevla_envs.robots.panda_arm import FINGER_PRIORITY, GRIPPER_OPEN
from safevla_envs.scenes.home import cached_home

STAND = thing("stand", "plant_stand", 3.54, 2.93)
BOTTLE = bare_home(STAND, thing("held", "glass_bottle", 3.54, 2.93, 0.65))
FREE = dict.fromkeys([*CONSTRAINT_NAMES, "cost"], 0.0)
ASSISTED = {"cameras": (), "max_actions": 1000, "grasp": "assisted"}


@pytest.fixture(scope="module")
def env():
    return SafeVLAEnv(task="PickUp", **ASSISTED)


def act(env, *names):
    for name in names:
        *_, info = env.step(env.action_names.index(name))
    return info


def held(env):
    return bool(env.sim.held()[env.sim.home.partners.index("held")])


def welded(env):
    """Names of what is welded."""
    model, closed = env.sim.model, np.flatnonzero(env.sim.data.eq_active)
    return [model.body(model.eq_obj2id[weld]).name for weld in closed]


def grip(env):
    """The grip point in the thing's own frame."""
    body = env.sim.data.body("held")
    return body.xmat.reshape(3, 3).T @ (env.sim.grip_position - body.xpos)


def slippery(model, robot):
    model.geom_friction[model.geom_priority == FINGER_PRIORITY, 0] = 0.05


def test_the_weld_closes_with_the_hold_and_opens_with_the_gripper(env):
    _, info = env.reset(options={"scenario": BOTTLE})
    assert info["grasp"] == "assisted" and welded(env) == []
    info = act(env, "pick_up")
    assert held(env) and welded(env) == ["held"] and info["cost_return"] == FREE
    env.sim.set_gripper(GRIPPER_OPEN)
    assert not held(env) and welded(env) == []


def test_what_is_welded_falls_once_it_is_let_go(env):
    env.reset(options={"scenario": BOTTLE})
    act(env, "pick_up")
    height = env.sim.body_positions(("held",))[0, 2]
    info = act(env, "drop_off", *["sub_task_done"] * 5)
    assert env.sim.body_positions(("held",))[0, 2] < height - 0.03
    assert info["cost_return"]["grip_overload"] == 0.0


def test_fingers_that_slip_keep_it_with_assistance_only(env):
    physical = SafeVLAEnv(task="PickUp", **(ASSISTED | {"grasp": "physical"}))
    lifted = []
    for world in (env, physical):
        world.reset(options={"scenario": BOTTLE, "edits": Edits(model=(slippery,))})
        height = world.sim.body_positions(("held",))[0, 2]
        act(world, "pick_up")
        lifted.append(world.sim.body_positions(("held",))[0, 2] > height + 0.03)
    assert lifted == [True, False]


def test_it_pulls_at_nothing_and_hardly_creeps(env):
    env.reset(options={"scenario": BOTTLE})
    info = act(env, "pick_up", "sub_task_done")
    before = grip(env)
    act(env, "arm_up", "move_back", "rotate_left", "rotate_right", "torso_up")
    assert held(env) and np.linalg.norm(grip(env) - before) < 2e-3
    assert info["cost_return"]["joint_overload"] == 0.0


def trace(env):
    """States and costs of an episode, hash by hash."""
    rows = []
    env.reset(options={"scenario": BOTTLE})
    for name in ("pick_up", "arm_up", "rotate_left", "drop_off", "arm_up_small"):
        info = act(env, name)
        rows.append((env.sim.state_hash(), info["cost"], info["costs"]))
    return rows


def test_nothing_leaks_into_other_episodes_and_worlds(env):
    first, other = trace(env), SafeVLAEnv(task="PickUp", **ASSISTED)
    other.reset(options={"scenario": BOTTLE})
    act(other, "arm_down_small", "pick_up", "torso_up")
    assert welded(other) == ["held"] and welded(env) == []
    assert trace(env) == first, "while another world holds the same thing otherwise"
    env.reset(options={"scenario": BOTTLE})
    act(env, "pick_up")
    env.reset(options={"scenario": BOTTLE})
    assert welded(env) == [] and trace(env) == first, "after an episode that ended with it held"
    shared = cached_home(BOTTLE, 0.005, "light", env.sim.robot, True).model
    assert env.sim.model is not shared and not shared.eq_active0.any()
    assert trace(SafeVLAEnv(task="PickUp", **ASSISTED)) == first


def test_physical_worlds_have_no_welds():
    env = gymnasium.make("safevla_envs:SafeVLA/PickUp-v0", cameras=()).unwrapped
    _, info = env.reset(options={"scenario": BOTTLE})
    assert env.grasp == info["grasp"] == "physical" and env.sim.model.neq == 0
    shared = cached_home(BOTTLE, 0.005, "light", env.sim.robot).model
    assert env.sim.model is shared


@pytest.mark.parametrize("task", ["ObjNav", "Reach", "Fetch"])
def test_every_task_takes_it(task):
    env = gymnasium.make(f"safevla_envs:SafeVLA/{task}-v0", cameras=(), grasp="assisted")
    env.reset(seed=0)
    movable = [p for p in env.unwrapped.scenario.objects if not p.fixed]
    assert env.unwrapped.sim.model.neq == len(movable) > 0
    env.step(env.action_space.sample())


def test_whatever_is_held_is_welded_and_nothing_else(env):
    two = replace(BOTTLE, objects=(*BOTTLE.objects, thing("far", "glass_bottle", 5.0, 5.0)))
    env.reset(options={"scenario": two})
    both = np.isin(env.sim.home.partners, ("held", "far"))
    env.sim._welds.follow(both)
    assert sorted(welded(env)) == ["far", "held"]
    env.sim._welds.follow(env.sim.held())
    assert welded(env) == []
