"""The gripper: which way it closes, how hard, what it holds and for how long."""

from dataclasses import replace

import numpy as np
import pytest
from bare_home import bare_home, thing

from safevla_envs.control.arm import GraspMotion
from safevla_envs.control.grasps import grip_force
from safevla_envs.costs import CONSTRAINT_NAMES, FRAGILITY_CLASSES
from safevla_envs.env import SafeVLAEnv
from safevla_envs.robots.panda_arm import GRIP_FORCE, GRIPPER_OPEN
from safevla_envs.robots.panda_omron import ROBOT

COUNTER = thing("counter", "kitchen_counter", 3.7, 3.0, fixed=True, role="furniture")
STAND = thing("stand", "plant_stand", 3.54, 2.93)
INTACT = {
    "glass_bottle": bare_home(STAND, thing("held", "glass_bottle", 3.54, 2.93, 0.65)),
    "mug": bare_home(COUNTER, thing("held", "mug", 3.7, 3.0, 0.9, yaw=0.4)),
}


@pytest.fixture(scope="module")
def env():
    """Takes mugs by the upper end of the handle: lower down the hand would press on the rim."""
    made = SafeVLAEnv(cameras=())
    nearest = made.sim.nearest_grasp

    def higher(within):
        grasp = nearest(within)
        rise = [0.0, 0.0, 0.02 if grasp.axis is not None else 0.0]
        return replace(grasp, point=grasp.point + rise)

    made.sim.nearest_grasp = higher
    return made


def act(env, *names):
    for name in names:
        *_, info = env.step(env.action_names.index(name))
    return info


def finger_forces(env):
    return env.sim.recorder.finger_force.mean(0)


def between(sim):
    """Unit vector from one finger to the other."""
    left, right = sim.body_positions(ROBOT.finger_bodies)
    return (left - right) / np.linalg.norm(left - right)


def test_fingers_close_along_the_first_grip_axis(env):
    env.reset(options={"scenario": bare_home()})
    wide = between(env.sim)
    assert abs(wide @ env.sim.grip_axes[:, 0]) > 0.999
    assert env.sim.gripper_opening == pytest.approx(2 * GRIPPER_OPEN, abs=1e-3)


@pytest.mark.parametrize("yaw", [0.0, 0.4, 1.2])
def test_fingers_close_across_the_narrow_side(env, yaw):
    """A mug's handle is a plate: fingers that come down along it cannot get hold of it."""
    env.reset(
        options={"scenario": bare_home(COUNTER, thing("held", "mug", 3.7, 3.0, 0.9, yaw=yaw))}
    )
    grasp = env.sim.nearest_grasp(0.35)
    act(env, "pick_up")
    assert abs(between(env.sim) @ grasp.axis) > 0.98
    assert env.sim.held()[env.sim.home.partners.index("held")]


@pytest.mark.parametrize("category", INTACT)
def test_lifting_what_breaks_easily_costs_nothing(env, category):
    env.reset(options={"scenario": INTACT[category]})
    height = env.sim.body_positions(("held",))[0, 2]
    info = act(env, "pick_up", *["sub_task_done"] * 5)
    assert env.sim.held()[env.sim.home.partners.index("held")]
    assert env.sim.body_positions(("held",))[0, 2] > height + 0.03
    assert info["cost_return"] == dict.fromkeys([*CONSTRAINT_NAMES, "cost"], 0.0)
    fragility = {"glass_bottle": "thin_glass", "mug": "ceramic"}[category]
    share = finger_forces(env) / FRAGILITY_CLASSES[fragility].grip[0]
    assert (share > 0.5).all() and (share < 0.9).all()


def test_grip_force_follows_the_class_and_the_mass():
    assert grip_force(10.0, 0.1) == pytest.approx(7.0)
    assert grip_force(100.0, 0.1) == pytest.approx(70.0)
    # 3 kg of glass: holding it takes more than it bears
    assert grip_force(10.0, 3.0) == pytest.approx(3.0 * (9.81 + 2.0) / 2)


def test_without_a_grasp_the_hand_s_rated_force_is_used(env):
    env.reset(options={"scenario": bare_home()})
    assert GraspMotion(env.sim, None, 60).force == GRIP_FORCE


def held(sim):
    return bool(sim.held()[sim.home.partners.index("held")])


def elsewhere(sim, ticks):
    """Takes what is held away for some ticks; returns whether it was held after each."""
    adr = sim.model.joint("held/free").qposadr[0]
    pose, course = sim.data.qpos[adr : adr + 7].copy(), []
    for _ in range(ticks):
        sim.data.qpos[adr : adr + 3] = [5.0, 5.0, 1.0]
        sim.tick()
        course.append(held(sim))
    sim.data.qpos[adr : adr + 7] = pose
    sim.data.qvel[sim.model.joint("held/free").dofadr[0] :][:6] = 0.0
    return course


def test_what_is_held_stays_held_through_a_gap_of_a_tick(env):
    env.reset(options={"scenario": INTACT["glass_bottle"]})
    act(env, "pick_up")
    assert held(env.sim)
    assert elsewhere(env.sim, 1) == [True]
    env.sim.tick()
    assert held(env.sim)
    assert elsewhere(env.sim, 3) == [True, False, False]


def test_opening_lets_go_and_so_does_a_new_episode(env):
    env.reset(options={"scenario": INTACT["glass_bottle"]})
    act(env, "pick_up")
    env.sim.set_gripper(GRIPPER_OPEN)
    assert not held(env.sim)
    env.reset(options={"scenario": INTACT["glass_bottle"]})
    act(env, "pick_up")
    assert held(env.sim)
    env.reset(options={"scenario": INTACT["glass_bottle"]})
    assert not env.sim.held().any() and not env.sim.gripping


def test_it_is_held_all_the_time_from_the_first_hold_on(env):
    """Under pressure contacts come and go; the hold does not."""
    env.reset(options={"scenario": INTACT["mug"]})
    motion = GraspMotion(env.sim, env.sim.nearest_grasp(0.35), 60)
    course = []
    for _ in range(60):
        motion.apply()
        env.sim.tick()
        course.append(held(env.sim))
    first = course.index(True)
    assert 36 < first < 50 and all(course[first:])
