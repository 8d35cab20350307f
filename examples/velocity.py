"""PPO or PPOLagrangian on Safety-Gymnasium's velocity tasks, built from Gymnasium's own robots."""

import sys

import gymnasium
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from safevla.train import MultiplierConfig, PPOLagrangian

LIMITS = {"HalfCheetah-v5": 3.2096, "Swimmer-v5": 0.2282}
"""m/s; a step faster than this costs 1 (Safety-Gymnasium's thresholds of v1)."""
BUDGET = 25.0
HYPERPARAMETERS = {
    "HalfCheetah-v5": {
        "n_steps": 64,
        "batch_size": 64,
        "n_epochs": 20,
        "learning_rate": 2.0633e-5,
        "gamma": 0.98,
        "gae_lambda": 0.92,
        "clip_range": 0.1,
        "ent_coef": 0.0004,
        "max_grad_norm": 0.8,
        "vf_coef": 0.58,
        "policy_kwargs": {
            "log_std_init": -2.0,
            "ortho_init": False,
            "activation_fn": nn.ReLU,
            "net_arch": [256, 256],
        },
    },
    "Swimmer-v5": {
        "n_steps": 512,
        "batch_size": 256,
        "learning_rate": 6e-4,
        "gamma": 0.9999,
        "gae_lambda": 0.98,
    },
}
"""PPO's, as tuned for these tasks in RL Baselines3 Zoo; a rollout is shared by 8 environments."""


class SpeedCost(gymnasium.Wrapper):
    """Charges `info["cost"]` 1 in every step that is faster than `limit` m/s."""

    def __init__(self, env: gymnasium.Env, limit: float):
        super().__init__(env)
        self.limit = limit

    def step(self, action):
        """Steps and adds the cost."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        speed = info["x_velocity"]
        if "y_velocity" in info:  # HalfCheetah has no sideways
            speed = np.hypot(speed, info["y_velocity"])
        return obs, reward, terminated, truncated, {**info, "cost": float(speed > self.limit)}


def main(
    task: str, learner: str = "PPO", steps: int = 1_000_000, seed: int = 0, episodes: int = 20
) -> None:
    """Trains, then reports mean return and cost of episodes with sampled actions."""

    def make_env() -> gymnasium.Env:
        return SpeedCost(gymnasium.make(task), LIMITS[task])

    envs = VecNormalize(make_vec_env(make_env, n_envs=8, seed=seed))
    how = {**HYPERPARAMETERS[task], "seed": seed, "device": "cpu"}
    if learner == "PPO":
        model = PPO("MlpPolicy", envs, **how)
    else:
        rule = MultiplierConfig(rule="relative", initial=0.0, rate=0.002, maximum=5.0)
        model = PPOLagrangian("MlpPolicy", envs, budgets=BUDGET, multipliers=rule, **how)
    model.learn(steps)
    env, returns, costs = make_env(), [], []
    for episode in range(episodes):
        (observation, _), done = env.reset(seed=10_000 + episode), False
        returns.append(0.0)
        costs.append(0.0)
        while not done:
            action, _ = model.predict(envs.normalize_obs(observation))
            observation, reward, terminated, truncated, info = env.step(action)
            returns[-1] += float(reward)
            costs[-1] += info["cost"]
            done = terminated or truncated
    print(f"{task} {learner} seed {seed}: return {np.mean(returns):.0f}, cost {np.mean(costs):.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
