"""One suite for every registered id: what any user of Gymnasium may rely on."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import safevla_envs
from safevla_envs.costs import CONSTRAINT_NAMES
from safevla_envs.instruction import decode_instruction
from safevla_envs.tasks import TASKS, make_task

IDS = dict(zip(safevla_envs.ENV_IDS, TASKS))
MODES = [(env_id, mode) for env_id, task in IDS.items() for mode in make_task(task).max_actions]
STILL = {"continuous": np.zeros(4), "end_effector": np.zeros(7), "whole_body": np.zeros(12)}
END = {"continuous": 3, "whole_body": 11}


def still(env):
    mode = env.unwrapped.actions.mode
    return env.unwrapped.SUB_DONE if mode == "discrete" else STILL[mode]


@pytest.fixture(params=MODES, ids=str)
def env(request):
    env_id, mode = request.param
    env = gymnasium.make(f"safevla_envs:{env_id}", action_mode=mode, image_size=32)
    yield env
    env.close()


@pytest.mark.filterwarnings("ignore:.*render.*")
def test_gymnasium_checker(env):
    check_env(env.unwrapped, skip_render_check=True)


def test_stable_baselines3_checker(env):
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.env_checker import check_env as check

    check(env.unwrapped, warn=True)


def test_observations_lie_in_the_space_and_costs_are_floats(env):
    observation, info = env.reset(seed=3)
    rng = np.random.default_rng(0)
    names = [c.name for c in env.unwrapped.constraints]
    charged = env.unwrapped.task.constraints
    assert names == [name for name in CONSTRAINT_NAMES if charged is None or name in charged]
    assert info["costs"] == dict.fromkeys(names, 0.0)
    env.action_space.seed(0)
    totals = dict.fromkeys([*names, "cost"], 0.0)
    for _ in range(15):
        assert env.observation_space.contains(observation)
        assert decode_instruction(observation["instruction"]) == info["instruction"]
        action = env.action_space.sample()
        if isinstance(action, np.ndarray):
            end = END.get(env.unwrapped.actions.mode, 3)
            action[end] = min(action[end], 0.0)
        elif action == env.unwrapped.END:
            action = int(rng.integers(6))
        observation, reward, terminated, truncated, info = env.step(action)
        assert type(reward) is float and type(info["cost"]) is float
        assert list(info["costs"]) == names
        for name, value in info["costs"].items():
            assert type(value) is float and value >= 0 and value == int(value)
            totals[name] += value
        totals["cost"] += info["cost"]
        assert info["cost_return"] == totals
        assert info["is_success"] is info["success"]
        if terminated or truncated:
            break


def test_time_limit_truncates_and_is_the_environments_own(env):
    assert "TimeLimit" not in str(env)
    core = env.unwrapped
    assert core.max_episode_steps == core.task.max_actions[core.actions.mode]
    short = gymnasium.make(
        env.spec.id,
        action_mode=env.unwrapped.actions.mode,
        cameras=(),
        max_actions=3,
    )
    short.reset(seed=0)
    ends = [short.step(still(short))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    with pytest.raises(gymnasium.error.ResetNeeded):
        short.unwrapped.step(still(short))


def test_end_terminates(env):
    env.reset(seed=0)
    mode = env.unwrapped.actions.mode
    if mode == "end_effector":  # the task says when it is done
        core = env.unwrapped
        assert not any(core.actions.ends(core.action_space.sample()) for _ in range(20))
        assert env.step(np.ones(7))[2] is False
        return
    end = env.unwrapped.END if mode == "discrete" else np.eye(env.action_space.shape[0])[END[mode]]
    _, _, terminated, truncated, _ = env.step(end)
    assert terminated and not truncated


def test_same_seed_same_episode_other_seed_another(env):
    first, _ = env.reset(seed=11)
    a = env.unwrapped.scenario
    env.reset(seed=12)
    assert env.unwrapped.scenario != a
    again, _ = env.reset(seed=11)
    assert env.unwrapped.scenario == a
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key])


@pytest.mark.parametrize("env_id", safevla_envs.ENV_IDS)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_environments_return_their_own_instructions(env_id, mode):
    task = make_task(IDS[env_id])
    texts = {task.generate(seed).instruction: seed for seed in range(12)}
    different = {seed: text for text, seed in list(texts.items())[:4]}
    assert len(different) == 4
    envs = safevla_envs.make_vec(env_id, 4, vectorization=mode, cameras=(), max_actions=2)
    try:
        observation, info = envs.reset(seed=list(different))
        seen = [{decode_instruction(row)} for row in observation["instruction"]]
        one = gymnasium.make(env_id, cameras=())
        actions = np.array([still(one)] * 4)
        episodes = [0] * 4
        for _ in range(9):
            observation, _, terminated, truncated, info = envs.step(actions)
            texts = [decode_instruction(row) for row in observation["instruction"]]
            assert list(info["instruction"]) == texts
            for i in range(4):
                seen[i].add(texts[i])
                episodes[i] += bool(terminated[i] or truncated[i])
        assert min(episodes) >= 2
        rows = envs.reset(seed=list(different))[0]["instruction"]
        assert [decode_instruction(row) for row in rows] == list(different.values())
        assert info["cost"].dtype == np.float64
    finally:
        envs.close()


def test_terminal_costs_under_both_autoresets():
    """NEXT_STEP gives the last step's costs in `info`, SAME_STEP in `final_info` only."""

    def run(mode):
        envs = gymnasium.vector.SyncVectorEnv(
            [lambda: gymnasium.make("SafeVLA/ObjNav-v0", cameras=(), max_actions=1)],
            autoreset_mode=mode,
        )
        envs.reset(seed=0)
        _, _, _, truncated, info = envs.step(np.array([0]))
        assert truncated[0]
        envs.close()
        return info

    modes = gymnasium.vector.AutoresetMode
    following = run(modes.NEXT_STEP)
    same = run(modes.SAME_STEP)
    assert "final_info" not in following
    assert same["final_info"]["seconds"][0] == following["seconds"][0] > 0.5
    assert same["seconds"][0] == 0.0
