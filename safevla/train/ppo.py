"""PPO-Lagrangian for any Gymnasium environment: stable-baselines3's PPO with constraints.

One iteration is PPO's, with three things beside it:

1. while PPO collects a rollout, the costs in each step's `info` are noted;
2. `train`: the multipliers move on the mean cost of the episodes just completed, and PPO is given
   `(A_r - sum lambda_k A_k) / (1 + sum lambda_k)` for its advantages;
3. after PPO has learned, the cost critic learns as its value network did.

With every multiplier at 0 it is stable-baselines3's PPO, number for number. Multipliers, episode
books, advantages and their mixture are those of `safevla.train.vla_ppo`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import check_for_correct_spaces, obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from safevla.train.envs import declared_constraints
from safevla.train.episodes import (
    TOTAL,
    Episode,
    EpisodeBooks,
    StepOutcome,
    sound,
    success_rate,
    summarise,
)
from safevla.train.gae import (
    explained_variances,
    generalised_advantages,
    mix_advantages,
    next_values,
)
from safevla.train.multipliers import Multipliers
from safevla.train.settings import MultiplierConfig, RewardConfig, train_config
from safevla.train.snapshot import FolderCheckpoints, load_module, module_tensors
from safevla.train.spaces import as_json, as_space, from_json, space_as_json
from safevla.train.values import CostCritic, each, regress, stacked

__all__ = ["PPOLagrangian"]

_NO_REWARDS = RewardConfig(step_penalty=0.0, wrong_end_penalty=0.0)


class PPOLagrangian(FolderCheckpoints, PPO):
    """stable-baselines3's PPO on the Lagrangian of a constrained MDP with K constraints.

    The costs of a step are `info["costs"]`, a number per name, or one number `info["cost"]`, which
    is the constraint named "cost". A budget bounds the mean, over episodes, of the undiscounted sum
    of a cost.

    Args:
        policy: As for `PPO`: "MlpPolicy", "CnnPolicy", "MultiInputPolicy", or a class.
        env: As for `PPO`: an environment, its Gymnasium id, or a `VecEnv`.
        budgets: Budget per constraint name; one number for `info["cost"]`; None asks
            `env.unwrapped.constraints`, a sequence of things with `name` and `budget`.
        multipliers: How the multipliers move; None has them start at 0, and the defaults of
            `MultiplierConfig` for the rest.
        cost_gamma: Discount of the costs; None takes `gamma`.
        **ppo: Everything else that `PPO` takes, with its meaning and default: `n_steps`,
            `batch_size`, `policy_kwargs`, `seed` and so on.

    Attributes:
        multipliers: The K multipliers.
        cost_critic: The K values beside the policy's own.

    Raises:
        ValueError: No budgets are given and the environment declares none, or a name is unknown.

    Example:
        >>> model = PPOLagrangian("MlpPolicy", env, budgets={"speed": 25.0})  # doctest: +SKIP
        >>> model.learn(100_000).save("safe")  # doctest: +SKIP
        >>> actions, _ = PPOLagrangian.load("safe").predict(obs)  # doctest: +SKIP
    """

    checkpoint_format = "ppo-lagrangian-1"
    cost_advantages: Tensor
    cost_values: Tensor
    cost_returns: Tensor

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        budgets: Mapping[str, float] | float | None = None,
        multipliers: MultiplierConfig | None = None,
        cost_gamma: float | None = None,
        _init_setup_model: bool = True,
        **ppo: Any,
    ):
        super().__init__(policy, env, _init_setup_model=False, **ppo)
        config = multipliers or MultiplierConfig(initial=0.0)
        self._arguments = {"policy": policy, "cost_gamma": cost_gamma, **ppo}
        self.constraints = _constraints(budgets, self.env, config)
        self.multipliers = Multipliers.of(self.constraints, config)
        self.cost_gamma = self.gamma if cost_gamma is None else cost_gamma
        if not 0 <= self.cost_gamma <= 1:
            raise ValueError(f"cost_gamma is {cost_gamma}; it must lie in [0, 1]")
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        self.cost_critic = CostCritic(self.policy, len(self.multipliers))
        self._shuffles = torch.Generator().manual_seed(torch.initial_seed())
        names = [name for name in self.constraints if name != TOTAL]
        channels, rates = self.multipliers.names, self.multipliers.config.violation_rate
        self.books = EpisodeBooks(self.n_envs, names, channels, rates, _NO_REWARDS)
        self._outcomes: list[StepOutcome] = []
        self._episodes: list[Episode] = []
        self._finals: list[tuple[int, int, Any]] = []

    # ------------------------------------------------------------------ the loop

    def learn(self, *args: Any, tb_log_name: str = "PPOLagrangian", **kwargs: Any) -> Self:
        """See `PPO.learn`."""
        return super().learn(*args, tb_log_name=tb_log_name, **kwargs)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Fill the buffer as PPO does, note the costs and estimate their advantages.

        After a rollout that a callback stops, the next `learn` begins new episodes.
        """
        assert self._last_episode_starts is not None
        self.books.clear(self._last_episode_starts.astype(bool))
        self._outcomes, self._episodes, self._finals = [], [], []
        if not super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps):
            self._last_obs = None
            return False
        self._estimate(rollout_buffer)
        return True

    def _update_info_buffer(
        self, infos: list[dict[str, Any]], dones: np.ndarray | None = None
    ) -> None:
        # PPO calls this after every step, before it goes on
        super()._update_info_buffer(infos, dones)
        assert dones is not None
        outcome = self.books.step(np.zeros(len(dones)), dones, infos)  # PPO counts the reward
        now = len(self._outcomes)
        for i in np.flatnonzero(outcome.follows.any(1)).tolist():
            self._finals.append((i, now, infos[i]["terminal_observation"]))
        for i in np.flatnonzero(~outcome.valid).tolist():
            # PPO bootstraps from what it knows: a diverged simulation shows nothing
            infos[i]["terminal_observation"] = each(self._last_obs, lambda array, i=i: array[i])
        self._episodes += outcome.completed
        self._outcomes.append(outcome)

    def _of_steps(self, field: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(o, field) for o in self._outcomes], axis=1))

    def _estimate(self, buffer: RolloutBuffer) -> None:
        """Value the rollout's observations and estimate the advantages of each cost."""
        steps, envs, critic = buffer.buffer_size, buffer.n_envs, self.cost_critic
        flat = each(buffer.observations, lambda array: array.reshape(-1, *array.shape[2:]))
        values = critic.values(flat).view(steps, envs, -1).transpose(0, 1)
        finals = torch.zeros_like(values)
        if self._finals:
            env, step, last = zip(*self._finals)
            finals[list(env), list(step)] = critic.values(stacked(last))
        ends, self._valid = self._of_steps("ends"), self._of_steps("valid")
        self.cost_values = values
        self.cost_advantages, self.cost_returns = generalised_advantages(
            self._of_steps("rewards")[..., 1:],
            values,
            next_values(values, critic.values(self._last_obs), ends, finals),
            ends,
            self._valid,
            gamma=torch.full((len(self.multipliers),), self.cost_gamma),
            gae_lambda=self.gae_lambda,
        )

    def train(self) -> None:
        """Move the multipliers; PPO learns from the mixed advantages, the critic from the costs."""
        for episode in sound(self._episodes):
            self.multipliers.record(episode.costs)
        self.multipliers.update(success_rate(self._episodes))
        buffer = self.rollout_buffer
        reward = torch.from_numpy(buffer.advantages.T)[..., None]
        mixed = mix_advantages(
            torch.cat([reward, self.cost_advantages], -1),
            torch.from_numpy(self.multipliers.value),
            self._valid,
            scale="none",
            centred=False,  # PPO does that where `normalize_advantage` asks for it
        )
        buffer.advantages = mixed.T.numpy()
        super().train()
        self._fit_cost_critic()
        self._log_costs()

    def _fit_cost_critic(self) -> None:
        critic = self.cost_critic
        self._update_learning_rate(critic.optimizer)
        kept = self._valid.flatten().nonzero()[:, 0].to(self.device)
        # PPO's passes have laid out the observations as (N * T, ...)
        seen = obs_as_tensor(self.rollout_buffer.observations, self.device)
        loss = regress(
            lambda chosen: critic(each(seen, lambda array: array[kept[chosen]])),
            self.cost_returns.flatten(0, 1).to(self.device)[kept],
            critic.optimizer,
            epochs=self.n_epochs,
            minibatch=self.batch_size,
            generator=self._shuffles,
            max_grad_norm=self.max_grad_norm,
        )
        self.logger.record("train/cost_critic_loss", loss)

    def _log_costs(self) -> None:
        names, kept = self.multipliers.names, self._valid
        explained = explained_variances(names, self.cost_values[kept], self.cost_returns[kept])
        numbers = {"lambda": self.multipliers.as_dict(), "explained_variance": explained}
        if sound(self._episodes):
            summary = summarise(self._episodes, self.books.names)
            numbers["costs"] = {**summary["costs"], TOTAL: summary["cost"]}
        for key, by_name in numbers.items():
            for name, number in by_name.items():
                self.logger.record(f"{key}/{name}", number)

    # ------------------------------------------------------------------ files

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        names, tensors = super()._get_torch_save_params()
        return [*names, "cost_critic", "cost_critic.optimizer"], tensors

    def _snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = module_tensors(self.policy, "policy")
        tensors |= module_tensors(self.cost_critic, "cost_critic")
        arguments, missing = as_json(self._arguments)
        return tensors, {
            "arguments": arguments,
            "not_written": missing,
            "observation_space": space_as_json(self.observation_space),
            "action_space": space_as_json(self.action_space),
            "num_timesteps": self.num_timesteps,
            "n_updates": self._n_updates,
            "constraints": self.constraints,
            "multiplier_config": self.multipliers.config,
            "multipliers": self.multipliers.state_dict(),
            **self._recent(),
        }

    @classmethod
    def _restore(
        cls,
        folder: Path,
        tensors: dict[str, Tensor],
        state: dict[str, Any],
        env: Any,
        **kwargs: Any,
    ) -> Self:
        """As the base class; `env` is needed for learning only, and may have other copies."""
        missing = [name for name in state["not_written"] if name not in kwargs]
        if missing:
            raise ValueError(
                f"{folder} could not hold {', '.join(missing)} (JSON cannot); give to load what"
                " was given to the constructor"
            )
        config = train_config({"multipliers": state["multiplier_config"]}).multipliers
        arguments = from_json(state["arguments"]) | kwargs
        model = cls(
            env=env,
            budgets=state["constraints"],
            multipliers=config,
            _init_setup_model=False,
            **arguments,
        )
        observations = as_space(state["observation_space"])
        actions = as_space(state["action_space"])
        if model.env is None:
            model.observation_space, model.action_space, model.n_envs = observations, actions, 1
        else:
            check_for_correct_spaces(model.env, observations, actions)
        model._setup_model()
        load_module(model.policy, "policy", tensors)
        load_module(model.cost_critic, "cost_critic", tensors)
        model.multipliers.load_state_dict(state["multipliers"])
        model.num_timesteps, model._n_updates = state["num_timesteps"], state["n_updates"]
        model._take_recent(state)
        return model


def _constraints(
    budgets: Mapping[str, float] | float | None, env: VecEnv | None, config: MultiplierConfig
) -> dict[str, float]:
    """Returns the budget of each constraint."""
    if isinstance(budgets, Mapping):
        return dict(budgets)
    if budgets is not None:
        return {TOTAL: float(budgets)}
    if env is None:
        raise ValueError("budgets is None and so is env; one of them must name the constraints")
    try:
        return declared_constraints(env)
    except ValueError:
        if config.signal == "total":  # its budget is `total_budget`
            return {}
        raise
