"""When an episode is judged and when it is over; what a task lets the robot touch."""

from dataclasses import replace

import numpy as np
import pytest
from bare_home import bare_home, thing

from safevla_envs.control.arm import GraspMotion
from safevla_envs.costs.clock import REST_SPEED
from safevla_envs.env import SETTLE_SECONDS, SafeVLAEnv
from safevla_envs.generate.goals import SUCCESS_DISTANCE
from safevla_envs.tasks import TASKS, make_task, task_of
from safevla_envs.tasks.task import GRASP_ZONE, handled

SUITCASE = bare_home(thing("goal", "suitcase", 5.2, 3.0, role="target"))
BOTTLE = bare_home(
    thing("stand", "plant_stand", 3.54, 2.93),
    thing("beside", "glass_bottle", 5.0, 5.0),
    thing("bottle", "glass_bottle", 3.54, 2.93, 0.65),
)


@pytest.fixture(scope="module")
def env():
    return SafeVLAEnv(cameras=())


def test_tasks_are_known_by_name():
    assert make_task("ObjNav", shaping=True).shaping
    with pytest.raises(ValueError, match="task='Cooking': allowed are Fetch, ObjNav"):
        SafeVLAEnv(task="Cooking")
    assert list(TASKS) == ["Fetch", "ObjNav", "PickUp", "Reach"]


@pytest.mark.parametrize("name", TASKS)
def test_an_id_names_its_task(name):
    assert type(task_of(f"safevla_envs:SafeVLA/{name}-v0")).__name__ == name
    for foreign in ("CartPole-v1", f"Other/{name}-v0", f"SafeVLA/{name}-v1"):
        with pytest.raises(ValueError, match=f"id='{foreign}': allowed are SafeVLA/Fetch-v0, "):
            task_of(foreign)


@pytest.mark.parametrize(
    ("way", "distance", "success"),
    [(-1.0, SUCCESS_DISTANCE + 0.003, True), (1.0, SUCCESS_DISTANCE - 0.003, False)],
)
def test_success_is_judged_once_the_robot_stands(way, distance, success):
    """At 0.6 m/s it stops 6 mm behind the place where `end` is said: the base swings back."""
    env = SafeVLAEnv(cameras=(), action_mode="continuous", scenario=SUITCASE)
    env.reset()
    for _ in range(10):
        env.step(np.array([way, 0.0, 0.0, 0.0]))
    assert abs(env.sim.base_velocity[0]) > 0.5
    shift = 5.2 - distance - env.sim.base_pose[0]
    env.sim.data.qpos[env.sim._base_q[0]] += shift
    env.sim.data.ctrl[env.sim._base_u[0]] += shift
    *_, terminated, _, info = env.step(np.array([0.0, 0.0, 0.0, 1.0]))
    assert terminated and info["success"] is success
    assert abs(env.sim.base_velocity[0]) < 0.01


def flung(env, category, speed):
    """A thing at its side that flies off at `end`; returns the time of settling and its speed."""
    env.reset(options={"scenario": bare_home(thing("it", category, 3.0, 3.9))})
    env.sim.data.qvel[env.sim.model.joint("it/free").dofadr[0] + 1] = speed
    time = env.sim.time
    env.step(env.END)
    return env.sim.time - time, env.sim.partner_poses()[2][env.sim.home.partners.index("it")]


def test_the_episode_runs_on_until_what_touched_the_robot_rests(env):
    seconds, speed = flung(env, "floor_vase", -2.0)
    assert SETTLE_SECONDS[0] + 0.2 < seconds < SETTLE_SECONDS[1] and speed < REST_SPEED


def test_it_runs_on_for_two_seconds_at_most(env, monkeypatch):
    monkeypatch.setattr(env, "_settled", lambda: False)
    seconds, _ = flung(env, "floor_vase", -2.0)
    assert seconds == pytest.approx(SETTLE_SECONDS[1])


def test_what_the_robot_never_touched_keeps_no_episode_going(env):
    seconds, speed = flung(env, "basketball", 4.0)
    assert seconds == pytest.approx(SETTLE_SECONDS[0]) and speed > REST_SPEED


def permitted(world, allowed):
    return {name for name, yes in zip(world.home.partners, allowed) if yes}


def test_only_what_is_handled_may_be_touched(env):
    """Nothing on the way; at the grasp the bottle, with its stand; the bottle once it hangs."""
    env.reset(options={"scenario": BOTTLE})
    world = env.sim
    assert permitted(world, env.task.permits(world)) == set()
    world.grasp = grasp = world.nearest_grasp(0.35)
    motion, courses = GraspMotion(world, grasp, 60), {"far": set(), "near": set()}
    for tick in range(60):
        motion.apply()
        world.tick()
        gap = np.linalg.norm(grasp.point - world.grip_position)
        now = permitted(world, env.task.permits(world))
        if not world.held().any():
            courses["near" if gap < GRASP_ZONE else "far"] |= now
        if tick == 46:
            assert world.held().any() and now == {"bottle", "stand"}
    # that the stand bears the bottle is known once the robot touches something
    assert courses == {"far": set(), "near": {"bottle"}}
    world.grasp = None
    assert permitted(world, env.task.permits(world)) == {"bottle"}
    world.set_gripper(0.04)
    assert permitted(world, env.task.permits(world)) == set()


def test_the_target_of_objnav_is_never_permitted(env):
    """It is to be looked at: a robot that takes it has not stopped near it."""
    scenario = replace(BOTTLE, target_category="glass_bottle")
    env.reset(options={"scenario": scenario})
    world = env.sim
    world.grasp = world.nearest_grasp(0.35)
    motion = GraspMotion(world, world.grasp, 60)
    for _ in range(47):
        motion.apply()
        world.tick()
    assert permitted(world, handled(world)) == {"bottle", "stand"}
    assert permitted(world, env.task.permits(world)) == {"stand"}
    env.log.begin(world.time)
    assert permitted(world, env.log.permitted) == {"stand"}
