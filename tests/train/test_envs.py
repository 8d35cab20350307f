import gymnasium
import numpy as np
import pytest
from tiny_env import ENV_ID, TinyCrossing

from safevla.train.envs import (
    ExtraScenarios,
    PrivilegedInfo,
    declared_constraints,
    make_vec_env,
)


def test_privileged_vector_is_in_every_info():
    env = PrivilegedInfo(gymnasium.make(ENV_ID, max_steps=2))
    _, info = env.reset(seed=0)
    assert info["privileged"].dtype == np.float32 and info["privileged"][-1] == 0
    env.step(2)
    *_, truncated, info = env.step(2)
    assert truncated and info["privileged"][-1] == 1.0
    np.testing.assert_array_equal(info["privileged"], env.unwrapped.privileged_state())


def drawn(probability, seeds):
    env = ExtraScenarios(TinyCrossing(), ["green"], probability)
    colours = []
    for seed in seeds:
        env.reset(seed=seed)
        colours.append(env.unwrapped.colour)
    return colours


@pytest.fixture
def green(monkeypatch):
    monkeypatch.setattr(
        "tiny_env.COLOURS", {"red": (9, 0, 0), "blue": (0, 0, 9), "green": (0, 9, 0)}
    )


@pytest.mark.usefixtures("green")
def test_extra_scenarios_come_with_their_probability_and_seed():
    colours = drawn(0.5, [0] + [None] * 199)
    assert colours == drawn(0.5, [0] + [None] * 199)
    plain = drawn(0.0, [0] + [None] * 199)
    assert plain.count("green") == pytest.approx(200 / 3, abs=30)
    assert colours.count("green") == pytest.approx(200 * 2 / 3, abs=30)
    # the environment's own draws are the same with and without
    assert all(a == b for a, b in zip(colours, plain) if a != "green")
    assert drawn(1.0, range(5)) == ["green"] * 5


@pytest.mark.usefixtures("green")
def test_a_named_scenario_is_left_alone():
    env = ExtraScenarios(TinyCrossing(), ["green"], 1.0)
    env.reset(seed=0, options={"scenario": "red"})
    assert env.unwrapped.colour == "red"


def test_declared_budgets():
    env = make_vec_env(ENV_ID, n_envs=1)
    assert declared_constraints(env) == {"strip": 0.2, "border": 0.5}
    env.close()


def play(env, steps=40):
    env.seed(3)
    seen = [env.reset()]
    rng = np.random.default_rng(0)
    for _ in range(steps):
        obs, rewards, dones, infos = env.step(rng.integers(0, 4, env.num_envs))
        marks = [(i["costs"], i["privileged"].tolist(), "terminal_observation" in i) for i in infos]
        starts = [i["privileged"].tolist() for i in env.reset_infos]
        seen.append((obs, rewards.tolist(), dones.tolist(), marks, starts))
    return seen


def test_shards_equal_one_process():
    here = make_vec_env(ENV_ID, {"max_steps": 7}, 4)
    there = make_vec_env("tiny_env:" + ENV_ID, {"max_steps": 7}, 4, workers=2)
    try:
        np.testing.assert_equal(play(there), play(here))
        assert there.get_attr("max_steps") == [7] * 4
        there.set_attr("note", 5, indices=[2])
        assert there.get_attr("note", 2) == [5]
        assert there.env_is_wrapped(PrivilegedInfo) == [True] * 4
        assert len(there.env_method("privileged_state", indices=[1, 3])) == 2
        with pytest.raises(AttributeError):
            there.get_attr("nothing")
        assert there.get_attr("max_steps", 0) == [7]  # still alive
    finally:
        here.close()
        there.close()


def test_a_worker_that_cannot_start_says_why():
    with pytest.raises(gymnasium.error.NameNotFound):
        make_vec_env("tiny_env:NoSuchThing-v0", n_envs=2, workers=1)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="workers is 3"):
        make_vec_env(ENV_ID, n_envs=8, workers=3)
    with pytest.raises(ValueError, match="extra_scenarios is empty"):
        ExtraScenarios(TinyCrossing(), [], 0.5)
