"""PPO-Lagrangian for vision-language-action policies, with stable-baselines3's interface.

One iteration, top to bottom:

1. `collect_rollouts`: n_steps actions of every environment; the costs of completed episodes are
   noted; values from the critics; advantages of the reward and of each cost.
2. `train`: the multipliers move on the mean cost of the episodes just completed;
3. the advantages are mixed, `(A_r - sum lambda_k A_k) / (1 + sum lambda_k)`, centred, and divided
   by one number for the whole rollout;
4. critics learn (always); the policy takes clipped PPO steps until its KL estimate is too large.

During warm-up, 2 and the policy's part of 4 are left out. Task-only PPO is the same code with the
multiplier rule `zero`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from safevla.policy import VLAOutput, VLAPolicy
from safevla.train.anchors import Demonstrations, Reference
from safevla.train.buffer import Minibatch, SequenceRolloutBuffer
from safevla.train.critics import Critic, PolicyCritic, PrivilegedCritic
from safevla.train.envs import declared_constraints
from safevla.train.episodes import Episode, EpisodeBooks, sound, success_rate
from safevla.train.gae import mix_advantages
from safevla.train.multipliers import Multipliers
from safevla.train.settings import TrainConfig
from safevla.train.vla_shell import VLAShell

__all__ = ["VLAPPOLagrangian"]


class VLAPPOLagrangian(VLAShell):
    """Clipped PPO on the Lagrangian of a constrained MDP with K constraints.

    Args:
        policy: The policy to train, in place.
        env: A `VecEnv` or one environment. Its info must hold `cost` and `costs`, and
            `privileged` for privileged critics (see `safevla.train.envs.make_vec_env`).
        config: Everything else; `n_envs`, `workers`, `threads`, `extra_probability` and
            `checkpoint_every` are for `train_ppo` and not read here, `total_steps` only to let the
            learning rate fall.
        constraints: Budget per constraint name; None asks the environment.
        rollout_buffer_class: A replacement for `SequenceRolloutBuffer`, made with its arguments.
        demonstrations: Their folder, which `ppo.cloning_coef` needs.
        **shell: `processor`, `restart_every` and more; see `VLAShell`.

    Attributes:
        multipliers: The K multipliers.
        critic: The value functions, of the kind that `critic.kind` names.

    Raises:
        ValueError: The environment does not fit the policy or the configuration.
    """

    def __init__(
        self,
        policy: VLAPolicy,
        env: Any,
        *,
        config: TrainConfig | None = None,
        constraints: Mapping[str, float] | None = None,
        rollout_buffer_class: type[SequenceRolloutBuffer] = SequenceRolloutBuffer,
        demonstrations: str | Path | None = None,
        **shell: Any,
    ):
        super().__init__(policy, env, config=config or TrainConfig(), **shell)
        assert self.env is not None
        self.rollout_buffer_class = rollout_buffer_class
        self.constraints = dict(
            declared_constraints(self.env) if constraints is None else constraints
        )
        self.multipliers = Multipliers.of(self.constraints, self.config.multipliers)
        self._setup_model()
        self._anchor(demonstrations)

    # ------------------------------------------------------------------ set-up

    def _setup_model(self) -> None:
        config, shape, channels = self.config, self.policy.config, self.multipliers.names
        if config.ppo.freeze_perception:
            self.policy.freeze_perception()
        none = torch.tensor(shape.n_actions) if shape.discrete else torch.zeros(shape.n_actions)
        self.rollout_buffer = self.rollout_buffer_class(
            self.n_steps,
            self.n_envs,
            history=shape.history,
            feature_dim=self.policy.feature_dim,
            channels=1 + len(channels),
            no_action=none,
            keep_frames=not config.ppo.freeze_perception,
            device=self.device,
        )
        self.critic = self._critic()
        heads = [*self.policy.value_head.parameters(), *self.policy.cost_heads.parameters()]
        self._head_ids = {id(p) for p in heads}
        self.trainable = {
            name: p
            for name, p in self.policy.named_parameters()
            if p.requires_grad and (self.critic.inside_policy or id(p) not in self._head_ids)
        }
        averaged = self.trainable if config.ppo.weight_averaging else {}
        self.mean = {name: p.detach().clone() for name, p in averaged.items()}
        rate = config.ppo.learning_rate
        self.optimizer = torch.optim.Adam(self.trainable.values(), rate, eps=1e-5)
        gamma, cost_gamma = config.ppo.gamma, config.ppo.cost_gamma
        costs = [gamma if cost_gamma is None else cost_gamma] * len(channels)
        self.gammas = torch.tensor([gamma, *costs], device=self.device)
        constraints, rates = list(self.constraints), config.multipliers.violation_rate
        self.books = EpisodeBooks(self.n_envs, constraints, channels, rates, config.rewards)
        self._episodes: list[Episode] = []

    def _anchor(self, folder: str | Path | None) -> None:
        """Sets up what keeps the policy near its start; see `safevla.train.anchors`."""
        ppo = self.config.ppo
        self.reference = Reference(self.policy, ppo.reference_kl) if ppo.reference_kl else None
        self.demonstrations, self._anchored = None, {}
        if ppo.cloning_coef:
            if folder is None:
                raise ValueError(
                    f"ppo.cloning_coef is {ppo.cloning_coef}, but no demonstrations were given"
                )
            self.demonstrations = Demonstrations(folder, self.policy, self.processor)

    def _critic(self) -> Critic:
        config, channels = self.config.critic, self.multipliers.names
        if config.kind == "privileged":
            return PrivilegedCritic(self.rollout_buffer, config, self._seed_for("critic"))
        own = tuple(self.policy.config.constraint_names)
        if own != channels:
            raise ValueError(
                f"critic.kind is 'policy', but the policy has cost heads for {own} and the"
                f" multipliers are for {channels}"
            )
        return PolicyCritic(
            self.rollout_buffer, config, lambda obs, window: self._look(self._inputs(obs), window)
        )

    # ------------------------------------------------------------------ the loop

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        log_interval: int = 1,
        tb_log_name: str = "PPOLagrangian",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train for `total_timesteps` actions, rounded up to whole rollouts.

        As in stable-baselines3, except that a rollout which a callback stops is dropped: the state
        is then that of the last whole iteration, and the next `learn` begins new episodes.
        """
        assert self.env is not None
        fresh = reset_num_timesteps or self._last_obs is None
        if fresh:
            self.env.seed(self._seed_for("environments"))  # _setup_learn resets them
        total, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        if fresh:
            self._begin_episodes()
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total:
            self.completed_timesteps, start = self.num_timesteps, time.perf_counter()
            if not fresh and self.restart_every and self.iteration % self.restart_every == 0:
                self.env.seed(self._seed_for("environments"))
                self._last_obs = self.env.reset()  # pyright: ignore[reportAttributeAccessIssue]
                self._begin_episodes()
            fresh = False
            if not self.collect_rollouts(self.env, callback, self.rollout_buffer, self.n_steps):
                self.num_timesteps, self._last_obs = self.completed_timesteps, None
                break
            collected = time.perf_counter()
            self._update_current_progress_remaining(self.num_timesteps, total)
            self.train()
            self._log(collected - start, time.perf_counter() - collected, log_interval)
        self.completed_timesteps = self.num_timesteps
        callback.on_training_end()
        return self

    def _begin_episodes(self) -> None:
        """All environments have just been reset."""
        assert self.env is not None
        self._last_episode_starts = np.ones(self.n_envs, bool)
        self.rollout_buffer.clear()
        self.books.clear()
        self.multipliers.discard()
        self.critic.begin(self.env.reset_infos)

    @torch.no_grad()
    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: SequenceRolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Fill the buffer with one rollout and estimate its advantages.

        Returns:
            False if the callback stopped the rollout.
        """
        buffer, generator = rollout_buffer, self._generator("actions", self.device)
        self._episodes = []
        buffer.start_rollout()
        self._refresh_features(buffer)
        callback.on_rollout_start()
        for _ in range(n_rollout_steps):
            frame = self._inputs(self._last_obs)
            buffer.put_frame(self._tensor(self._last_episode_starts), frame)
            out = self._look(frame, buffer.window(), generator)
            assert out.actions is not None and out.log_prob is not None
            assert out.features is not None
            actions = executed = out.actions.cpu().numpy()
            if isinstance(self.action_space, spaces.Box):
                executed = np.clip(actions, self.action_space.low, self.action_space.high)
            obs, rewards, dones, infos = env.step(executed)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            outcome = self.books.step(rewards, dones, infos)
            self._episodes += outcome.completed
            buffer.put_step(
                features=out.features,
                actions=out.actions,
                log_probs=out.log_prob,
                rewards=self._tensor(outcome.rewards),
                ends=self._tensor(outcome.ends),
                valid=self._tensor(outcome.valid),
            )
            buffer.note(follows=self._tensor(outcome.follows))
            following = [env.reset_infos[i] if done else infos[i] for i, done in enumerate(dones)]
            self.critic.note(out, outcome, infos, following)
            self._last_obs = obs  # pyright: ignore[reportAttributeAccessIssue]
            self._last_episode_starts = dones
        if self.reference is not None:
            self._anchored = {"reference_kl": self.reference.penalise(buffer)}
        values, after = self.critic.values(self._last_obs)
        over = buffer.ends[..., None] & ~buffer.extras["follows"]
        after = torch.where(over, 0.0, after)
        buffer.estimate(values, after, gamma=self.gammas, gae_lambda=self.config.ppo.gae_lambda)
        callback.on_rollout_end()
        return True

    def _refresh_features(self, buffer: SequenceRolloutBuffer) -> None:
        """Where perception learns, the frames kept from the last rollout are encoded again."""
        if not (buffer.keep_frames and buffer.frames and buffer.context):
            return
        earlier = {k: v[:, : buffer.context].flatten(0, 1) for k, v in buffer.frames.items()}
        buffer.features[:, : buffer.context] = self.policy.encode(**earlier).unflatten(
            0, (self.n_envs, buffer.context)
        )

    def train(self) -> None:
        """Learn from the rollout in the buffer: multipliers, critics, policy."""
        ppo, buffer = self.config.ppo, self.rollout_buffer
        warm = self.iteration < ppo.warmup_iterations
        for episode in sound(self._episodes):
            self.multipliers.record(episode.costs)
        if warm:
            self.multipliers.discard()
        else:
            self.multipliers.update(success_rate(self._episodes))
        advantages = mix_advantages(
            buffer.advantages,
            torch.from_numpy(self.multipliers.value),
            buffer.valid,
            scale=ppo.advantage_scale,
            floor=ppo.advantage_floor,
        )
        stats: dict[str, Any] = {"warmup": warm} | self._anchored
        epochs = self.config.critic.warmup_epochs if warm else self.config.critic.epochs
        stats |= self.critic.fit(epochs, self._generator("critic minibatches"))
        if self.critic.inside_policy or not warm:
            stats |= self._update_policy(advantages, warm)
        self.iteration += 1
        self._average()
        self.last_iteration = stats

    def _update_policy(self, advantages: Tensor, warm: bool) -> dict[str, float]:
        """Clipped PPO until a minibatch's KL estimate exceeds 1.5 * target_kl, as in SB3's PPO.

        With `critic.kind="policy"` the value heads learn too: alone during warm-up and after the
        policy has stopped.
        """
        ppo, buffer = self.config.ppo, self.rollout_buffer
        done = min(1.0, self.num_timesteps / self.config.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = ppo.learning_rate * (1 - ppo.learning_rate_decay * done)
        generator, draws = self._generator("minibatches"), self._generator("demonstrations")
        passes = self.config.critic.warmup_epochs if warm else ppo.epochs
        acting, kl, taken = not warm, 0.0, []
        for batch in buffer.minibatches(ppo.minibatch, generator, passes):
            keep = batch.of(buffer.valid)
            if not keep.any():
                continue
            out = self.policy(mode="bc", actions=batch.with_context(buffer.actions), **batch.inputs)
            loss = torch.zeros((), device=self.device)
            if acting:
                loss, stats = self._policy_loss(batch, out, advantages, keep)
                kl = float(stats[0])
                acting = kl <= 1.5 * ppo.target_kl
                taken += [stats] if acting else []
                if acting and self.demonstrations is not None:
                    loss = loss + ppo.cloning_coef * self.demonstrations.loss(self.policy, draws)
            if not acting and not self.critic.inside_policy:
                break
            if self.critic.inside_policy:
                value_loss = self.critic.loss(out, batch, keep)
                loss = loss + value_loss if acting else value_loss
            self._step(loss, only_heads=not acting)
        if warm:
            return {}
        _, entropy, beyond = torch.stack(taken).mean(0).tolist() if taken else [float("nan")] * 3
        return {"kl": kl, "entropy": entropy, "clip_fraction": beyond, "policy_updates": len(taken)}

    @torch.no_grad()
    def _average(self) -> None:
        """Takes the weights into their running mean: evenly at first, then with a decay."""
        updates = max(1, self.iteration - self.config.ppo.warmup_iterations)
        share = max(1 - self.config.ppo.weight_averaging, 1 / updates)
        for name, mean in self.mean.items():
            mean.lerp_(self.trainable[name], share)

    def trained_policy(self) -> VLAPolicy:
        """Returns the policy with the mean weights, see `PPOConfig.weight_averaging`."""
        if not self.mean:
            return self.policy
        policy = copy.deepcopy(self.policy)
        policy.load_state_dict(self.mean, strict=False)
        return policy

    def _policy_loss(
        self, batch: Minibatch, out: VLAOutput, advantages: Tensor, keep: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The clipped loss with entropy bonus; KL estimate, entropy and share beyond the clip."""
        assert out.log_prob is not None and out.entropy is not None
        ppo, advantage = self.config.ppo, batch.of(advantages)[keep]
        log_prob = out.log_prob[:, batch.context :][keep]
        log_ratio = log_prob - batch.of(self.rollout_buffer.log_probs)[keep]
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - ppo.clip, 1 + ppo.clip)
        gain = torch.min(ratio * advantage, clipped * advantage).mean()
        entropy = out.entropy[:, batch.context :][keep].mean()
        with torch.no_grad():
            kl, beyond = (ratio - 1 - log_ratio).mean(), (ratio != clipped).float().mean()
        return -gain - ppo.entropy_coef * entropy, torch.stack([kl, entropy.detach(), beyond])

    def _step(self, loss: Tensor, only_heads: bool) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        if only_heads:  # Adam passes over parameters without a gradient
            for p in self.trainable.values():
                if id(p) not in self._head_ids:
                    p.grad = None
        nn.utils.clip_grad_norm_(self.trainable.values(), self.config.ppo.max_grad_norm)
        self.optimizer.step()
