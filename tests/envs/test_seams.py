"""A task and a robot are replaced from outside: nothing else names them."""

import re
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from bare_home import bare_home

import safevla_envs
from safevla_envs.env import SafeVLAEnv
from safevla_envs.instruction import decode_instruction
from safevla_envs.robots import ROBOTS, make_robot
from safevla_envs.robots.panda_omron import ROBOT, PandaOmron, add_robot, set_servo_gains
from safevla_envs.tasks import TASKS
from safevla_envs.tasks.task import Goal, Outcome, handled
from safevla_envs.world import World

PACKAGE = Path(safevla_envs.__file__).parent
TASK_WORDS = r"objnav|target|path_length|success_(distance|reward)|waypoint"
ROBOT_WORDS = r"panda|omron|franka"


@pytest.mark.parametrize("name", ["env.py", "world.py", "control/arm.py", "control/drive.py"])
def test_the_centre_names_no_task_and_no_robot(name):
    text = (PACKAGE / name).read_text().lower()
    assert not re.findall(f"{TASK_WORDS}|{ROBOT_WORDS}", text)


class Stay:
    """Stay within a hand's breadth of where you are."""

    def __init__(self, *, shaping=False):
        self.shaping = shaping

    def goal(self, scenario):
        return Goal(instruction="stay where you are", bodies=())

    def begin(self, world):
        self.start = world.base_pose[:2]

    def outcome(self, world, *, ended):
        near = np.linalg.norm(world.base_pose[:2] - self.start) < 0.1
        return Outcome(reward=float(near), success=bool(ended and near))

    def permits(self, world):
        return handled(world)


def test_a_task_is_one_class(monkeypatch):
    monkeypatch.setitem(TASKS, "Stay", f"{__name__}:Stay")
    env = SafeVLAEnv(task="Stay", cameras=(), scenario=bare_home())
    observation, info = env.reset()
    assert decode_instruction(observation["instruction"]) == info["instruction"] != ""
    assert info["instruction"] == "stay where you are"
    for actions, success in (([], True), ([0], False)):
        env.reset()
        for action in [*actions, env.END]:
            _, reward, _, _, info = env.step(action)
        assert info["success"] is success and reward == float(success)


class Standing(PandaOmron):
    """The same arm on a base that does not move."""

    name = "Standing"
    names = replace(ROBOT, base_joints=(), torso_joint=None)

    def attach(self, spec, *, visuals="light"):
        add_robot(spec, visuals=visuals)
        for name in (*ROBOT.base_joints, ROBOT.torso_joint):
            for kind in ("position", "velocity"):
                servo = spec.actuator(f"{kind}/{name}")
                if servo is not None:
                    spec.delete(servo)
            spec.delete(spec.joint(name))
        spec.body(ROBOT.root).pos = [3.0, 3.0, 0.0]  # the middle of the bare home
        # MuJoCo drops contacts of what cannot move with what sleeps
        spec.option.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_SLEEP)

    def tune(self, model):
        set_servo_gains(model, self.names)


def test_a_robot_may_stand_fixed():
    world = World(robot=Standing())
    world.load(bare_home())
    assert world.base_pose == pytest.approx([3.0, 3.0, 0.0])
    assert (world.base_velocity == 0.0).all()
    goal = world.arm_positions + 0.2
    world.set_base(np.ones(3), np.ones(3))  # to no effect
    world.set_arm(goal)
    for _ in range(40):
        world.tick()
    assert world.arm_positions == pytest.approx(goal, abs=0.02)
    assert world.base_pose == pytest.approx([3.0, 3.0, 0.0])


def test_homes_with_different_robots_are_not_mixed_up():
    scenario, other = bare_home(), World(robot=Standing())
    usual = World()
    usual.load(scenario)
    other.load(scenario)
    assert usual.model.nv == other.model.nv + 4


def test_robots_are_known_by_name():
    assert make_robot().name in ROBOTS
    with pytest.raises(ValueError, match="robot='Dog': allowed are PandaOmron"):
        make_robot("Dog")
