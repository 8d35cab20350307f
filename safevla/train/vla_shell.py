"""The thin shell that gives `VLAPPOLagrangian` stable-baselines3's interface.

It checks the environment, draws seeds, acts in `predict`, and saves without pickles, for policies
that see images, read text and remember steps. The algorithm itself is `safevla.train.vla_ppo`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from torch import Tensor

from safevla.policy import (
    PolicyAgent,
    SafeVLAProcessor,
    VLAOutput,
    VLAPolicy,
    read_policy,
    save_policy,
)
from safevla.train.buffer import SequenceRolloutBuffer
from safevla.train.episodes import summarise
from safevla.train.gae import explained_variances
from safevla.train.settings import TrainConfig, train_config
from safevla.train.snapshot import (
    FolderCheckpoints,
    adam_tensors,
    load_adam,
    load_module,
    module_tensors,
)

__all__ = ["VLAShell"]


class VLAShell(FolderCheckpoints, BaseAlgorithm):
    """An on-policy algorithm for a `VLAPolicy`, less the algorithm.

    Args:
        policy: The policy to train, in place.
        env: A `VecEnv` or one environment.
        processor: The processor of the policy's checkpoint.
        config: Everything else.
        restart_every: Iterations after which all environments begin new episodes, seeded by the
            iteration, so that a run resumed there goes on exactly as this one does; 0 for never.
        tensorboard_log: Folder for TensorBoard logs.
        verbose: 1 prints a table per iteration.

    Attributes:
        iteration: Completed iterations.
        completed_timesteps: `num_timesteps` at the end of the last iteration.
        last_iteration: What the last iteration did, as plain numbers (see `progress.jsonl`).

    Raises:
        ValueError: The environment does not fit the policy.
    """

    checkpoint_format = 2
    policy: VLAPolicy  # pyright: ignore[reportIncompatibleVariableOverride]
    rollout_buffer: SequenceRolloutBuffer

    def __init__(
        self,
        policy: VLAPolicy,
        env: Any,
        *,
        processor: SafeVLAProcessor,
        config: TrainConfig,
        restart_every: int = 0,
        tensorboard_log: str | None = None,
        verbose: int = 0,
    ):
        if env is None:
            raise ValueError("env is None; training needs an environment")
        super().__init__(
            policy=type(policy),  # pyright: ignore[reportArgumentType]
            env=env,
            learning_rate=config.ppo.learning_rate,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=config.device,
            support_multi_env=True,
            seed=config.seed,
        )
        self.config = config
        self.policy = policy.to(self.device).eval()  # pyright: ignore[reportArgumentType]
        self.processor = processor
        self.restart_every = restart_every
        self.n_steps = config.n_steps
        self.iteration = 0
        self.completed_timesteps = 0
        self.last_iteration: dict[str, Any] = {}
        self._check_spaces()

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        # unlike the base class: images stay (h, w, 3), as the processor takes them
        return env if isinstance(env, VecEnv) else DummyVecEnv([lambda: Monitor(env)])

    def _check_spaces(self) -> None:
        config, space = self.policy.config, self.action_space
        size = space.n if isinstance(space, spaces.Discrete) else int(np.prod(space.shape or ()))
        if config.discrete != isinstance(space, spaces.Discrete) or size != config.n_actions:
            raise ValueError(
                f"action_space is {space}; the policy has n_actions={config.n_actions} and"
                f" action_head={config.action_head!r}"
            )
        if not isinstance(self.observation_space, spaces.Dict):
            raise ValueError(f"observation_space is {self.observation_space}; it must be a Dict")

    # ------------------------------------------------------------------ randomness and tensors

    def _seed_for(self, purpose: str) -> int:
        # everything random in an iteration follows from (seed, iteration, purpose): there is no
        # generator state that a resumed run could miss
        entropy = [self.config.seed, self.iteration, *purpose.encode()]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0]) % 2**31

    def _generator(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        return torch.Generator(device).manual_seed(self._seed_for(purpose))

    def _tensor(self, array: Any) -> Tensor:
        return torch.as_tensor(array, device=self.device)

    def _inputs(self, obs: Any) -> dict[str, Tensor]:
        return {name: value.to(self.device) for name, value in self.processor(obs).items()}

    def _look(
        self,
        frame: Mapping[str, Tensor],
        window: Mapping[str, Tensor],
        generator: torch.Generator | None = None,
        deterministic: bool = False,
    ) -> VLAOutput:
        return self.policy(
            images=frame["images"][:, None],
            state=frame["state"][:, None],
            tokens=frame["tokens"],
            token_mask=frame["token_mask"],
            mode="act",
            generator=generator,
            deterministic=deterministic,
            **window,
        )

    # ------------------------------------------------------------------ acting

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Choose actions; `state` carries the history, as for SB3's recurrent policies.

        Args:
            observation: one observation, or stacked ones.
            state: what the last call returned; None begins a history.
            episode_start: bool (n,), whose history to forget.
            deterministic: take the most probable action.

        Returns:
            Actions and the next state.
        """
        agent = state or PolicyAgent(self.policy, self.processor, self.device)
        for i in np.flatnonzero(() if episode_start is None else episode_start).tolist():
            agent.reset(i)
        if np.ndim(observation["state"]) > 1:
            return agent.act(observation, deterministic=deterministic), agent
        observation = {key: np.asarray(value)[None] for key, value in observation.items()}
        return agent.act(observation, deterministic=deterministic)[0], agent

    # ------------------------------------------------------------------ logs

    def _log(self, collecting: float, learning: float, log_interval: int | None) -> None:
        buffer, names = self.rollout_buffer, ("reward", *self.multipliers.names)
        values, returns = buffer.values[buffer.valid], buffer.returns[buffer.valid]
        steps = self.n_steps * self.n_envs
        self.last_iteration = {
            "iteration": self.iteration,
            "steps": self.num_timesteps,
            **summarise(self._episodes, self.books.names),
            "turning": self._turning(),
            "lambda": self.multipliers.as_dict(),
            **self.last_iteration,
            "explained_variance": explained_variances(names, values, returns),
            "steps_per_second": steps / (collecting + learning),
            "learning_share": learning / (collecting + learning),
        }
        for key, value in self.last_iteration.items():
            if isinstance(value, dict):
                for name, number in value.items():
                    self.logger.record(f"{key}/{name}", number)
            else:
                self.logger.record(f"train/{key}", value)
        if log_interval is not None and self.iteration % log_interval == 0:
            self.logger.dump(step=self.num_timesteps)

    def _turning(self) -> float:
        """Share of the rollout's actions that turn on the spot; NaN where actions have no names."""
        names = self.policy.config.action_names
        if not (self.policy.config.discrete and names):
            return float("nan")
        turns = torch.tensor([name.startswith("rotate") for name in names], device=self.device)
        buffer = self.rollout_buffer
        return float(turns[buffer.actions[buffer.valid]].float().mean())

    # ------------------------------------------------------------------ files

    def _snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = adam_tensors(self.optimizer, self.trainable, "optimizer")
        tensors |= {f"mean/{name}": mean for name, mean in self.mean.items()}
        networks = self.critic.networks
        if networks is not None:
            tensors |= module_tensors(networks, "critic")
        return tensors, {
            "iteration": self.iteration,
            "num_timesteps": self.completed_timesteps,
            "constraints": self.constraints,
            "multipliers": self.multipliers.state_dict(),
            "privileged": None if networks is None else networks.inputs,
            "config": self.config,
            **self._recent(),
        }

    def _save_beside(self, folder: Path) -> None:
        save_policy(self.policy, self.processor, folder / "policy")
        if self.reference is not None:
            save_policy(self.reference.policy, self.processor, folder / "reference")

    @classmethod
    def _restore(
        cls,
        folder: Path,
        tensors: dict[str, Tensor],
        state: dict[str, Any],
        env: Any,
        **kwargs: Any,
    ) -> Self:
        policy, processor = read_policy(folder / "policy")
        kwargs["config"] = kwargs.get("config") or train_config(state["config"])
        kwargs["constraints"] = state["constraints"]
        model = cls(policy, env, processor=processor, **kwargs)
        model.iteration = int(state["iteration"])
        model.num_timesteps = model.completed_timesteps = int(state["num_timesteps"])
        model.multipliers.load_state_dict(state["multipliers"])
        load_adam(model.optimizer, model.trainable, "optimizer", tensors)
        for name, mean in model.mean.items():
            mean.copy_(tensors[f"mean/{name}"])
        if state["privileged"] is not None:
            load_module(model.critic.make(int(state["privileged"])), "critic", tensors)
        if model.reference is not None:
            model.reference.policy.load_state_dict(
                read_policy(folder / "reference")[0].state_dict()
            )
        model._take_recent(state)
        return model
