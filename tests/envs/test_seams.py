"""A task and a robot are replaced from outside: nothing else names them."""

import re
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from bare_home import bare_home

import safevla_envs
from safevla_envs.env import SafeVLAEnv
from safevla_envs.instruction import decode_instruction
from safevla_envs.robots import ROBOTS, make_robot
from safevla_envs.tasks import TASKS
from safevla_envs.tasks.task import Goal, Outcome, Task
from safevla_envs.world import World

PACKAGE = Path(safevla_envs.__file__).parent
TASK_WORDS = r"objnav|target|path_length|success_(distance|reward)|waypoint"
ROBOT_WORDS = r"panda|omron|franka"


@pytest.mark.parametrize("name", ["env.py", "world.py", "control/arm.py", "control/drive.py"])
def test_the_centre_names_no_task_and_no_robot(name):
    text = (PACKAGE / name).read_text().lower()
    assert not re.findall(f"{TASK_WORDS}|{ROBOT_WORDS}", text)


class Stay(Task):
    """Stay within a hand's breadth of where you are."""

    max_actions = MappingProxyType({"discrete": 20})

    def generate(self, seed, **how):
        return bare_home()

    def goal(self, scenario):
        return Goal(instruction="stay where you are", bodies=())

    def begin(self, world):
        self.start = world.base_pose[:2]

    def outcome(self, world, *, ended):
        near = np.linalg.norm(world.base_pose[:2] - self.start) < 0.1
        return Outcome(reward=float(near), success=bool(ended and near))


def test_a_task_is_one_class(monkeypatch):
    monkeypatch.setitem(TASKS, "Stay", f"{__name__}:Stay")
    env = SafeVLAEnv(task="Stay", cameras=())
    observation, info = env.reset()
    assert decode_instruction(observation["instruction"]) == info["instruction"] != ""
    assert info["instruction"] == "stay where you are"
    for actions, success in (([], True), ([0], False)):
        env.reset()
        for action in [*actions, env.END]:
            _, reward, _, _, info = env.step(action)
        assert info["success"] is success and reward == float(success)


def test_a_robot_may_stand_fixed():
    world = World(robot=make_robot("Panda"))
    world.load(bare_home(start=(3.0, 3.0, 0.5)))
    assert world.base_pose == pytest.approx([3.0, 3.0, 0.5])
    assert (world.base_velocity == 0.0).all()
    goal = world.arm_positions + 0.2
    world.set_base(np.ones(3), np.ones(3))  # to no effect
    world.set_arm(goal)
    for _ in range(40):
        world.tick()
    assert world.arm_positions == pytest.approx(goal, abs=0.02)
    assert world.base_pose == pytest.approx([3.0, 3.0, 0.5])


def test_where_a_fixed_robot_stands_is_part_of_the_model():
    world = World(robot=make_robot("Panda"))
    for start in ((3.0, 3.0, 0.5), (1.5, 2.0, -1.0)):
        world.load(bare_home(start=start))
        assert world.base_pose == pytest.approx(start)


def test_homes_with_different_robots_are_not_mixed_up():
    scenario, other = bare_home(), World(robot=make_robot("Panda"))
    usual = World()
    usual.load(scenario)
    other.load(scenario)
    assert usual.model.nv == other.model.nv + 4


def test_robots_are_known_by_name():
    assert make_robot().name in ROBOTS
    with pytest.raises(ValueError, match="robot='Dog': allowed are PandaOmron"):
        make_robot("Dog")
