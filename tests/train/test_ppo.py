import json
import pickle
import re
import runpy
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from toy_cmdp import Arms, Point

from safevla.train import MultiplierConfig, PPOLagrangian
from safevla.train.spaces import as_json, as_space, from_json, space_as_json

BUDGETS = {"x": 3.0, "y": 6.0}
SMALL = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}
ROLLOUT = 2 * 16


def points(n=2, **kwargs):
    return DummyVecEnv([lambda: Point(**kwargs)] * n)


def learner(env=None, policy="MlpPolicy", budgets=BUDGETS, rule=None, **kwargs):
    multipliers = None if rule is None else MultiplierConfig(rule=rule, initial=kwargs.pop("at", 0))
    env = env or points()
    return PPOLagrangian(policy, env, budgets=budgets, multipliers=multipliers, **SMALL | kwargs)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


class Trace(BaseCallback):
    """Mean costs and multipliers of each iteration."""

    def _on_training_start(self):
        self.costs, self.multipliers = [], []

    def _on_step(self):
        return True

    def _on_rollout_start(self):
        self.costs.append(self.model.multipliers.last_cost)
        self.multipliers.append(self.model.multipliers.value)

    def second_half(self):
        half = len(self.costs) // 2
        return np.mean(self.costs[half:], 0), np.mean(self.multipliers[half:], 0)


# ---- beside stable-baselines3's PPO --------------------------------------------------------------


@pytest.mark.parametrize("env", [Point, lambda: Arms((0.0, 1.0), x=(0.0, 1.0))])
def test_without_multipliers_it_is_stable_baselines_ppo(env):
    settings = SMALL | {"ent_coef": 0.01, "target_kl": 0.02, "policy_kwargs": {"net_arch": [16]}}
    stock = PPO("MlpPolicy", DummyVecEnv([env] * 2), **settings).learn(4 * ROLLOUT)
    ours = learner(DummyVecEnv([env] * 2), budgets={"x": 1.0}, rule="zero", **settings)
    assert same(stock.policy, ours.learn(4 * ROLLOUT).policy)
    penalised = learner(
        DummyVecEnv([env] * 2), budgets={"x": 1.0}, rule="fixed", at=1.0, **settings
    )
    assert not same(stock.policy, penalised.learn(4 * ROLLOUT).policy)


def test_stable_baselines_tools_work(tmp_path):
    model = learner(env=Point(), tensorboard_log=str(tmp_path))
    callback = CheckpointCallback(16, str(tmp_path), name_prefix="m")
    model.learn(32, callback=callback, progress_bar=False)
    assert (tmp_path / "PPOLagrangian_1").is_dir()
    assert PPOLagrangian.load(tmp_path / "m_16_steps.zip").num_timesteps == 16
    mean, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=2)
    assert mean <= 20.0 and len(model.ep_info_buffer) == 3
    assert {"policy", "cost_critic", "cost_critic.optimizer"} <= set(model.get_parameters())
    assert {"lambda/x", "costs/x", "costs/cost"} <= set(model.logger.name_to_value)


class Seen(Arms):
    """Two arms beside an image, the features of which the policy's networks share."""

    def __init__(self):
        super().__init__((0.0, 1.0), x=(1, 0), y=(0, 1))
        self.observation_space = spaces.Box(0, 255, (36, 36, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        return np.full((36, 36, 3), 9, np.uint8), {}

    def step(self, action):
        return self.reset()[0], *super().step(action)[1:]


@pytest.mark.parametrize(
    ("policy", "env"),
    [
        ("MlpPolicy", lambda: VecNormalize(points())),
        ("CnnPolicy", lambda: DummyVecEnv([Seen] * 2)),
        ("MultiInputPolicy", lambda: points(seen="dict")),
        ("MlpPolicy", lambda: DummyVecEnv([lambda: Arms((0.0, 1.0), x=(1, 0), y=(0, 1))] * 2)),
    ],
)
def test_observations_actions_and_wrappers(policy, env, tmp_path):
    model = learner(env(), policy).learn(2 * ROLLOUT)
    assert model.cost_values.shape == (2, 16, 2)
    model.save(tmp_path / "m")
    obs = model.get_env().reset()
    again = PPOLagrangian.load(tmp_path / "m")
    for found, expected in zip(
        again.predict(obs, deterministic=True), model.predict(obs, deterministic=True)
    ):
        np.testing.assert_array_equal(found, expected)


# ---- costs ---------------------------------------------------------------------------------------


class Still(gymnasium.Env):
    """Cost and reward 1 a step for five steps; says whether that is an end or a time limit."""

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)
    constraints = (type("Limit", (), {"name": "a", "budget": 2.0}),)

    def __init__(self, truncates):
        self.truncates = truncates

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        over = self.steps == 5
        obs = np.full(1, self.steps / 5, np.float32)
        info = {"costs": {"a": 1.0}, "cost": 0.5}
        return obs, 1.0, over and not self.truncates, over and self.truncates, info


@pytest.mark.parametrize("truncates", [True, False])
def test_costs_are_bootstrapped_as_the_reward_is(truncates):
    """Cost and reward are equal, so with the critic's weights theirs are equal advantages."""
    model = learner(DummyVecEnv([lambda: Still(truncates)] * 2), budgets=None, gamma=0.9)
    for name in ("net.0", "net.2", "net.4"):
        own = model.cost_critic.get_submodule(name)
        theirs = model.policy.value_net
        if name != "net.4":
            theirs = model.policy.mlp_extractor.value_net[int(name[-1])]
        own.load_state_dict(theirs.state_dict())
    model.train = lambda: None
    model.learn(2 * ROLLOUT)  # episodes of 5 in rollouts of 16: the last one goes on
    buffer = model.rollout_buffer
    np.testing.assert_allclose(model.cost_values[..., 0].T, buffer.values, atol=1e-6)
    np.testing.assert_allclose(model.cost_advantages[..., 0].T, buffer.advantages, atol=1e-5)
    np.testing.assert_allclose(model.cost_returns[..., 0].T, buffer.returns, atol=1e-5)


def test_the_cost_critic_learns_what_is_still_to_come():
    found = {}
    for truncates in (True, False):
        env = DummyVecEnv([lambda truncates=truncates: Still(truncates)] * 4)
        model = learner(env, budgets=None, cost_gamma=0.5, learning_rate=1e-2, n_epochs=10)
        model.learn(20 * 64)
        found[truncates] = model.cost_critic.values(np.float32([[0.0], [0.8]]))[:, 0].tolist()
    assert found[True] == pytest.approx([2.0, 2.0], abs=0.1)  # 1 / (1 - 0.5), for ever
    assert found[False] == pytest.approx([1.9375, 1.0], abs=0.1)  # five charges, one


def test_multipliers_move_by_whole_episodes():
    env = DummyVecEnv([lambda: Still(True)] * 2)
    config = MultiplierConfig(initial=1.0, rate=0.1)
    model = PPOLagrangian("MlpPolicy", env, multipliers=config, **SMALL | {"n_steps": 4})
    model.learn(8)
    assert model.multipliers.as_dict() == {"a": 1.0}  # no episode is complete
    model.learn(8, reset_num_timesteps=False)
    assert model.multipliers.as_dict() == pytest.approx({"a": 1.0 + 0.1 * (5.0 - 2.0)})
    model.learn(8)  # begins new episodes: the three steps since are forgotten
    model.learn(8, reset_num_timesteps=False)
    assert model.multipliers.last_cost == [5.0]


def test_total_cost_and_one_unnamed_cost():
    total = MultiplierConfig(signal="total", total_budget=1.0, initial=0.0, rate=0.1)
    for given in ({"budgets": 1.0}, {"multipliers": total}):
        model = PPOLagrangian("MlpPolicy", Still(True), **given, **SMALL).learn(16)
        assert model.multipliers.last_cost == [2.5] and model.multipliers.names == ("cost",)
    bandit = PPOLagrangian("MlpPolicy", Arms((0, 1), cost=(2, 2)), multipliers=total, **SMALL)
    assert bandit.learn(16).multipliers.as_dict() == pytest.approx({"cost": 0.1})


def test_diverged_simulations_are_not_learned_from():
    class Diverging(Still):
        def step(self, action):
            obs, reward, terminated, truncated, info = super().step(action)
            bad = self.steps == 3
            more = {"sim_error": "diverged", "costs": {"a": np.nan}} if bad else {}
            return obs * (np.nan if bad else 1), reward, terminated, truncated or bad, info | more

    model = learner(
        DummyVecEnv([lambda: Diverging(True)] * 2), budgets=None, rule="projected", at=1.0
    )
    model.learn(ROLLOUT)
    assert model.multipliers.as_dict() == {"a": 1.0}
    assert np.isfinite(model.cost_advantages).all()
    assert all(torch.isfinite(p).all() for p in model.policy.parameters())


def test_a_stopped_rollout_is_dropped():
    model = learner(DummyVecEnv([lambda: Still(True)] * 2), budgets=None, n_steps=5, batch_size=5)
    model.learn(10, callback=lambda *_: model.num_timesteps < 6)  # in the middle of an episode
    assert np.isnan(model.multipliers.last_cost).all()
    model.learn(10, reset_num_timesteps=False)
    assert model.multipliers.last_cost == [5.0]


def test_misfits_are_named():
    with pytest.raises(ValueError, match="no attribute 'constraints'"):
        learner(budgets=None)
    with pytest.raises(ValueError, match=r"no 'drift'.*info\['costs'\] with drift"):
        learner(budgets={"drift": 1.0}).learn(ROLLOUT)
    with pytest.raises(ValueError, match="no 'costs'"):
        learner(gymnasium.make("CartPole-v1"), budgets=1.0).learn(ROLLOUT)
    with pytest.raises(ValueError, match="cost_gamma is 2"):
        learner(cost_gamma=2.0)
    with pytest.raises(ValueError, match="budgets is None and so is env"):
        PPOLagrangian("MlpPolicy", None)


# ---- files ---------------------------------------------------------------------------------------


def test_a_saved_learner_is_the_same_learner(tmp_path):
    settings = {
        "policy_kwargs": {"net_arch": {"pi": [8], "vf": [8]}, "activation_fn": torch.nn.ReLU}
    }
    model = learner(rule="pid", learning_rate=1e-3, cost_gamma=0.8, **settings).learn(2 * ROLLOUT)
    model.save(tmp_path / "m")
    assert {p.suffix for p in (tmp_path / "m").iterdir()} == {".json", ".safetensors"}
    again = PPOLagrangian.load(tmp_path / "m", points())
    assert again.multipliers.state_dict() == model.multipliers.state_dict()
    assert again.multipliers.config == model.multipliers.config
    assert (again.num_timesteps, again.n_steps, again.cost_gamma) == (2 * ROLLOUT, 16, 0.8)
    assert len(again.ep_info_buffer) == len(model.ep_info_buffer)
    for learned in (model, again):
        learned.set_env(points())
        learned.set_random_seed(3)
        learned._shuffles.manual_seed(3)
        learned.learn(ROLLOUT, reset_num_timesteps=False)
    assert same(model.policy, again.policy) and same(model.cost_critic, again.cost_critic)
    with pytest.raises(ValueError, match="spaces do not match"):
        PPOLagrangian.load(tmp_path / "m", Arms((0, 1), x=(0, 1)))


def test_no_pickles(tmp_path):
    model = learner(learning_rate=lambda left: 1e-3 * left)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(model)
    with pytest.raises(ValueError, match="nothing is pickled"):
        model.save(tmp_path / "x", include=["env"])
    PPO("MlpPolicy", points()).save(tmp_path / "stock.zip")
    with pytest.raises(ValueError, match="zip files"):
        PPOLagrangian.load(tmp_path / "stock.zip")
    model.save(tmp_path / "m")
    with pytest.raises(ValueError, match="could not hold learning_rate"):
        PPOLagrangian.load(tmp_path / "m")
    again = PPOLagrangian.load(tmp_path / "m", learning_rate=3e-4)
    assert again.lr_schedule(0.5) == 3e-4


def test_spaces_and_arguments_go_through_json():
    for space in (
        spaces.Box(-1.0, np.inf, (2, 3), np.float32),
        spaces.Box(np.float64([0, -np.inf]), np.float64([1, 2]), dtype=np.float64),
        spaces.Dict(b=spaces.Box(0, 255, (4, 4, 3), np.uint8), a=spaces.Discrete(3, start=1)),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(4),
    ):
        found = as_space(json.loads(json.dumps(space_as_json(space))))
        assert found == space and str(found) == str(space)
    arguments = {"a": [1, None], "b": {"c": torch.optim.Adam}, "d": print, "e": pickle.Pickler}
    written, left_out = as_json(arguments)
    assert left_out == ["d", "e"] and from_json(written) == {"a": [1, None], "b": arguments["b"]}
    with pytest.raises(ValueError, match="must be one of"):
        from_json({"class": "subprocess:Popen"})


def test_importing_the_package_is_cheap():
    code = "import sys, safevla.train, safevla.train.settings; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---- known answers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "rate"), [("projected", 0.1), ("relative", 0.065), ("log", 0.5), ("pid", 0.0)]
)
def test_three_arms(rule, rate):
    """Budget 0.65 lies halfway between the arms of cost 0.3 and 1; there the slope is 0.3 / 0.7."""
    env = DummyVecEnv([lambda: Arms((0.0, 0.7, 1.0), cost=(0.0, 0.3, 1.0))] * 16)
    start = 1.0 if rule == "log" else 0.0
    gains = {"kp": 0.1, "ki": 0.1, "kd": 0.0}
    multipliers = MultiplierConfig(rule=rule, initial=start, rate=rate, **gains)
    model = PPOLagrangian(
        "MlpPolicy",
        env,
        budgets=0.65,
        multipliers=multipliers,
        normalize_advantage=False,  # keeps 1 / (1 + lambda)
        learning_rate=3e-3,
        n_steps=32,
        batch_size=128,
        n_epochs=4,
        ent_coef=0.05,
        seed=0,
        device="cpu",
    )
    trace = Trace()
    model.learn(50 * 512, callback=trace)
    cost, multiplier = trace.second_half()
    assert cost == pytest.approx([0.65], abs=0.05)
    assert multiplier == pytest.approx([0.3 / 0.7], abs=0.05)


def test_two_constraints_are_met_and_the_multipliers_are_the_derivatives():
    """Costs within 0.5 of the budgets 3 and 6, multipliers within 0.2 of 1.4 and 0.8."""
    settings = {
        "policy_kwargs": {"log_std_init": -1.5},
        "gamma": 0.9,
        "learning_rate": 3e-3,
        "n_steps": 40,
        "batch_size": 160,
        "n_epochs": 4,
        "seed": 0,
        "device": "cpu",
    }
    trace = Trace()
    for rule in ("zero", "projected"):
        config = MultiplierConfig(rule=rule, initial=0.0, rate=0.02)
        env = points(8)
        model = PPOLagrangian("MlpPolicy", env, budgets=BUDGETS, multipliers=config, **settings)
        model.learn(70 * 320 if rule == "projected" else 25 * 320, callback=trace)
        if rule == "zero":
            assert (model.multipliers.last_cost > 7.0).all()
    cost, multiplier = trace.second_half()
    assert cost == pytest.approx([3.0, 6.0], abs=0.5)
    assert multiplier == pytest.approx([1.4, 0.8], abs=0.2)


# ---- README --------------------------------------------------------------------------------------


def test_the_lines_of_the_readme_run(tmp_path, monkeypatch):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(from safevla\.train .*?)```", readme, re.DOTALL)
    assert len(code.strip().splitlines()) == 5
    assert code.count("100_000") == 1 and code.count("my_package:MyEnv-v0") == 2
    monkeypatch.chdir(tmp_path)
    module = "from toy_cmdp import Point\nimport gymnasium\ngymnasium.register('MyEnv-v0', Point)\n"
    (tmp_path / "my_package.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    names = {}
    exec(code.replace("100_000", "2048"), names)
    assert names["model"].multipliers.as_dict()["x"] > 0
    assert (tmp_path / "safe").is_dir()


def test_the_velocity_example_charges_speed_and_runs(capsys):
    script = runpy.run_path(str(Path(__file__).parents[2] / "examples/velocity.py"))
    for task, limit in script["LIMITS"].items():
        env = script["SpeedCost"](gymnasium.make(task), limit)
        env.reset(seed=0)
        env.action_space.seed(0)
        seen = set()
        for _ in range(300):
            *_, info = env.step(env.action_space.sample())
            plane = [info["x_velocity"], info.get("y_velocity", 0.0)]
            fast = (np.hypot(*plane) if "y_velocity" in info else plane[0]) > limit
            assert info["cost"] == float(fast)
            seen.add(info["cost"])
        assert task != "Swimmer-v5" or seen == {0.0, 1.0}
    script["main"]("Swimmer-v5", "PPOLagrangian", steps=4096, episodes=1)
    assert "Swimmer-v5 PPOLagrangian seed 0: return" in capsys.readouterr().out
