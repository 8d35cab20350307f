"""The arm in free air and the gripper: what moves, how hard, and what it costs."""

import numpy as np
import pytest
from bare_home import bare_home

from safevla_envs.env import SafeVLAEnv
from safevla_envs.robots.panda_omron import HOME_ARM


@pytest.fixture(scope="module")
def env():
    return SafeVLAEnv(cameras=(), scenario=bare_home())


def walk(env, kinds, seed, length):
    """Random actions of some kinds from the home pose; returns the onsets' constraints."""
    chosen = [i for i, name in enumerate(env.action_names) if name.startswith(kinds)]
    rng = np.random.default_rng(seed)
    env.reset()
    for _ in range(length):
        env.step(int(rng.choice(chosen)))
    return [event["constraint"] for event in env.costs.episode_events]


# each is left before the arm is folded onto itself, which is what `self_collision` is for
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5, 7, 8])
def test_200_free_air_actions_charge_nothing(env, seed):
    assert walk(env, ("arm", "wrist"), seed, 25) == []


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_turning_with_the_arm_out_overloads_no_wrist(env, seed):
    """With robosuite's stand-ins for inertia, joint 5 had to give 16 N·m of its 12."""
    assert walk(env, ("arm", "wrist", "rotate"), seed, 55) == []


def test_inverse_kinematics_keeps_the_hand_off_the_forearm(env):
    """Drawn in and up, the hand folds towards the forearm; it met it once in 90 actions."""
    env.reset()
    for name in ["arm_up"] * 3 + ["arm_in", "arm_up_small"] * 8 + ["arm_out", "arm_up"] * 10:
        env.step(env.action_names.index(name))
        assert env.sim.arm_positions[5] > 0.7
    pairs = {event["partner"] for event in env.costs.episode_events}
    assert not any(pair.endswith("link5") for pair in pairs)


def test_the_wrist_is_as_light_as_the_real_one(env):
    """An N·m turns the last joint at some 9 rad/s²: 0.1 kg·m² of rotor, 0.01 of link and hand."""
    import mujoco

    env.reset()
    model, data = env.sim.model, env.sim.data
    assert env.sim.arm_positions == pytest.approx(HOME_ARM)
    mass = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, mass, data.qM)
    joint = env.sim._arm_v[6]
    assert 0.1 < mass[joint, joint] < 0.13
