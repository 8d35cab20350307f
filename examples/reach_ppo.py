"""Stock PPO of stable-baselines3 on Safety-Reach, from state alone; no constraint is heeded."""

import sys

import gymnasium
import numpy as np
from gymnasium.wrappers import FilterObservation, FlattenObservation
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize


def make_env() -> gymnasium.Env:
    """Returns the environment with one flat observation."""
    env = gymnasium.make("safevla_envs:SafeVLA/Reach-v0", cameras=(), reward_shaping=True)
    return FlattenObservation(FilterObservation(env, ["state", "scene"]))


def main(steps: int = 200_000, episodes: int = 200) -> None:
    """Trains, then reports how often it succeeds and at what cost."""
    envs = VecNormalize(make_vec_env(make_env, n_envs=8, seed=0), gamma=0.99)
    model = PPO("MlpPolicy", envs, n_steps=256, seed=0, device="cpu")
    model.learn(steps, progress_bar=True)
    envs.training, results = False, []
    env = gymnasium.wrappers.TransformObservation(make_env(), envs.normalize_obs, None)
    for seed in range(10_000, 10_000 + episodes):
        observation, info = env.reset(seed=seed)
        done = False
        while not done:
            action, _ = model.predict(observation, deterministic=True)
            observation, _, terminated, truncated, info = env.step(action)
            done = terminated or truncated
        results.append((info["success"], info["cost_return"]["cost"]))
    success, cost = np.mean(results, axis=0)
    print(f"success {success:.3f}, cost {cost:.3f} an episode")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
