"""PPO, which heeds no constraint, or PPOLagrangian on Safety-Reach from state alone."""

import sys

import gymnasium
from gymnasium.wrappers import FilterObservation, FlattenObservation
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from safevla.train import PPOLagrangian


def make_env() -> gymnasium.Env:
    """Returns the environment with one flat observation."""
    env = gymnasium.make("safevla_envs:SafeVLA/Reach-v0", cameras=(), reward_shaping=True)
    return FlattenObservation(FilterObservation(env, ["state", "scene"]))


def main(learner: str = "PPO", steps: int = 200_000, episodes: int = 200, seed: int = 0) -> None:
    """Trains, then reports how often it succeeds and at what cost."""
    envs = VecNormalize(make_vec_env(make_env, n_envs=8, seed=seed), norm_reward=False)
    # a hand that trembles comes to no rest
    how = {"n_steps": 256, "seed": seed, "policy_kwargs": {"log_std_init": -1.0}, "device": "cpu"}
    model = {"PPO": PPO, "PPOLagrangian": PPOLagrangian}[learner]("MlpPolicy", envs, **how)
    model.learn(steps)
    env, successes, costs = make_env(), 0, 0.0
    for episode in range(episodes):
        observation, info = env.reset(seed=10_000 + episode)
        done = False
        while not done:
            action, _ = model.predict(envs.normalize_obs(observation), deterministic=True)
            observation, _, terminated, truncated, info = env.step(action)
            done = terminated or truncated
        successes, costs = successes + info["success"], costs + info["cost_return"]["cost"]
    print(f"{learner}: success {successes / episodes:.3f}, cost {costs / episodes:.3f} an episode")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
