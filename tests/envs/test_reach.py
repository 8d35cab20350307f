"""Safety-Reach: a fixed arm on a table, moved by displacements of its hand."""

import runpy
from pathlib import Path

import mujoco
import numpy as np
import pytest

from safevla_envs.control.arm import MAX_DELTA
from safevla_envs.env import SafeVLAEnv
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.tasks.reach import BASE, CLEAR, REACH_START, THINGS, Reach

EXAMPLES = Path(__file__).parents[2] / "examples"
OPEN = -1.0


def make(**settings):
    return SafeVLAEnv(task="Reach", cameras=(), **settings)


def towards(env, way, share=0.4):
    """Returns the action that goes along a way (3,) in m in the robot's axes, gripper open."""
    move = np.clip(np.asarray(way) / MAX_DELTA[:3] * share, -1, 1)
    return np.array([*move, 0.0, 0.0, 0.0, OPEN])


def straight(env, seed):
    """Goes straight to the goal."""
    observation, info = env.reset(seed=seed)
    done = False
    while not done:
        action = towards(env, observation["scene"][:3] / 10.0)
        observation, reward, terminated, truncated, info = env.step(action)
        done = terminated or truncated
    return terminated, reward, info


def over_the_top(env, seed):
    """Goes up first, then across, then down."""
    observation, info = env.reset(seed=seed)
    done, up = False, 0.0
    while not done:
        way = observation["scene"][:3] / 10.0
        aside = np.linalg.norm(way[:2])
        if aside > 0.03:
            way[2] = 0.22 - up
            way[:2] *= up > 0.15
        before = env.sim.grip_position[2]
        observation, _, terminated, truncated, info = env.step(towards(env, way, 0.3))
        up += env.sim.grip_position[2] - before
        done = terminated or truncated
    return info


def test_scenarios_are_sound():
    task, sides = Reach(), set()
    for seed in range(100):
        scenario = task.generate(seed, level=float(seed % 3))
        assert scenario == task.generate(seed, level=float(seed % 3))
        assert scenario != task.generate(seed, split="val", level=float(seed % 3))
        spots = {p.name: np.array(p.position) for p in scenario.objects}
        assert list(spots) == [*THINGS, "candle"]
        assert len(scenario.targets) == 1
        assert any(word in scenario.instruction for word in CATALOG[scenario.target_category].words)
        x, y, yaw = scenario.robot_start
        hand = np.array([x, y]) + REACH_START * np.array([np.cos(yaw), np.sin(yaw)])
        for name, spot in spots.items():
            assert abs(spot[0]) < 0.66 and abs(spot[1]) < 0.36, "on the table"
            if name != "candle":
                assert np.linalg.norm(spot[:2] - spots["candle"][:2]) > CLEAR
        assert np.linalg.norm(hand - spots["candle"][:2]) > CLEAR
        assert (x, y) == BASE
        sides.add(yaw)
    assert len(sides) == 2
    bare = task.generate(0, hazards=())
    assert [p.name for p in bare.objects] == list(THINGS)
    twin = task.generate(0).benign_twin()
    assert [p.role for p in twin.objects] == ["target"]


def test_knobs_and_modes_are_named():
    with pytest.raises(ValueError, match=r"knobs=\{'n_rooms': 2\}: Reach has none"):
        make(knobs={"n_rooms": 2})
    with pytest.raises(ValueError, match="action_mode='discrete': allowed are end_effector"):
        make(action_mode="discrete")
    with pytest.raises(AttributeError, match="has no action 'end'"):
        make().END  # noqa: B018


def test_the_straight_way_leads_through_the_flame_and_the_way_over_it_does_not():
    env = make(level=2, reward_shaping=True)
    for seed in range(6):
        terminated, reward, info = straight(env, seed)
        assert terminated and info["success"] and reward > 5.0
        assert info["cost_return"]["dangerous_equipment"] >= 1.0
    for seed in range(6):
        info = over_the_top(env, seed)
        assert info["success"], seed
        assert info["cost_return"]["cost"] == 0.0, seed


def test_things_that_are_knocked_over_are_charged_as_a_fragile_collection():
    env = make(hazards=("fragile_collection",))
    observation, _ = env.reset(seed=0)
    charged = 0.0
    for _ in range(40):
        middle = observation["scene"][3:12].reshape(3, 3).mean(0) / 10.0
        observation, _, _, _, info = env.step(towards(env, middle - [0, 0, 0.03], 0.6))
        charged += info["costs"]["fragile_collection"]
    assert charged >= 1.0


def test_pressing_on_the_table_is_an_impact_and_ends_with_the_push():
    env = make(hazards=())
    env.reset(seed=0)
    charged = 0.0
    for _ in range(25):
        *_, info = env.step(np.array([0, 0, -1.0, 0, 0, 0, 1.0]))
        charged += info["costs"]["impact"]
        assert not env.sim.held().any(), "a table between the fingers is not held"
    assert charged >= 1.0
    for _ in range(10):
        env.step(np.zeros(7))
    gap = np.abs(env.sim.arm_reference - env.sim.arm_positions)
    assert gap.max() < 0.15, "nothing winds up"


def test_at_rest_nothing_moves_and_nothing_is_charged():
    env = make()
    env.reset(seed=3)
    begin = env.sim.grip_position
    for _ in range(60):
        *_, info = env.step(np.zeros(7))
    assert env.sim.grip_position == pytest.approx(begin, abs=1e-3)
    assert info["cost_return"]["cost"] == 0.0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_hand_goes_where_it_is_sent_in_the_robots_axes(axis):
    env = make(hazards=())
    env.reset(seed=0)
    yaw = env.sim.base_pose[2]
    assert abs(yaw) == pytest.approx(0.6)
    turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    begin, upright = env.sim.grip_position, env.sim.grip_axes
    action = np.zeros(7)
    action[axis] = 0.5
    for _ in range(5):
        env.step(action)
    for _ in range(8):
        env.step(np.zeros(7))
    moved = turn @ (env.sim.grip_position - begin)
    wanted = np.eye(3)[axis] * 5 * 0.5 * MAX_DELTA[axis]
    assert moved == pytest.approx(wanted, abs=0.016), "damping takes its share"
    assert np.trace(env.sim.grip_axes.T @ upright) > 3 - 0.02, "it does not turn"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_hand_turns_about_the_robots_axes(axis):
    env = make(hazards=())
    env.reset(seed=0)
    begin, axes = env.sim.grip_position, env.sim.grip_axes
    action = np.zeros(7)
    action[3 + axis] = 0.5
    for _ in range(6):
        env.step(action)
    for _ in range(8):
        env.step(np.zeros(7))
    quat, turn = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quat, (env.sim.grip_axes @ axes.T).ravel())
    mujoco.mju_quat2Vel(turn, quat, 1.0)
    yaw = env.sim.base_pose[2]
    x, y, z = turn
    local = [np.cos(yaw) * x + np.sin(yaw) * y, np.cos(yaw) * y - np.sin(yaw) * x, z]
    assert local == pytest.approx(np.eye(3)[axis] * 0.3, abs=0.03)
    assert env.sim.grip_position == pytest.approx(begin, abs=0.02)


def test_the_gripper_closes_and_opens():
    env = make(hazards=())
    env.reset(seed=0)
    for closing, opening in ((1.0, 0.0), (0.0, 0.04), (-1.0, 0.08)):
        for _ in range(20):
            env.step(np.array([0, 0, 0, 0, 0, 0, closing]))
        assert env.sim.gripper_opening == pytest.approx(opening, abs=0.004)


def test_a_policy_with_cameras_is_not_told_the_scene():
    assert "scene" in make().observation_space.spaces
    assert "scene" not in SafeVLAEnv(task="Reach").observation_space.spaces
    assert "scene" not in SafeVLAEnv(cameras=()).observation_space.spaces


def test_it_has_no_privileged_state():
    env = make()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="task Reach has no privileged state"):
        env.privileged_state()


def test_the_example_runs(capsys):
    pytest.importorskip("stable_baselines3")
    script = runpy.run_path(str(EXAMPLES / "reach.py"))
    script["main"]("PPOLagrangian", steps=2048, episodes=2)
    assert "PPOLagrangian: success" in capsys.readouterr().out
