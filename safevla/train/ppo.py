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

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from safevla.policy import SafeVLAProcessor, VLAOutput, VLAPolicy
from safevla.train.algorithm import VLAAlgorithm
from safevla.train.buffer import Minibatch, SequenceRolloutBuffer
from safevla.train.critics import PrivilegedCritic
from safevla.train.envs import declared_constraints
from safevla.train.episodes import TOTAL, Episode, EpisodeBooks, StepOutcome, summarise
from safevla.train.gae import explained_variance, mix_advantages
from safevla.train.multipliers import Multipliers
from safevla.train.settings import TrainConfig

__all__ = ["PPOLagrangian"]


class PPOLagrangian(VLAAlgorithm):
    """Clipped PPO on the Lagrangian of a constrained MDP with K constraints.

    Args:
        policy: The policy to train, in place.
        env: A `VecEnv` or one environment. Its info must hold `cost` and `costs`, and
            `privileged` for privileged critics (see `safevla.train.envs.make_vec_env`).
        processor: The processor of the policy's checkpoint.
        config: Everything else; `total_steps`, `n_envs`, `workers`, `threads`,
            `extra_probability` and `checkpoint_every` are for `train_ppo` and not read here.
        constraints: Budget per constraint name; None asks the environment.
        restart_every: Iterations after which all environments begin new episodes, seeded by the
            iteration, so that a run resumed there goes on exactly as this one does; 0 for never.
        rollout_buffer_class: A replacement for `SequenceRolloutBuffer`, made with its arguments.
        tensorboard_log: Folder for TensorBoard logs.
        verbose: 1 prints a table per iteration.

    Attributes:
        multipliers: The K multipliers.
        critic: The privileged critics, made at the first reset; None with `critic.kind="policy"`.
        iteration: Completed iterations.
        last_iteration: What the last iteration did, as plain numbers (see `progress.jsonl`).

    Raises:
        ValueError: The environment does not fit the policy or the configuration.
    """

    def __init__(
        self,
        policy: VLAPolicy,
        env: Any,
        *,
        processor: SafeVLAProcessor,
        config: TrainConfig | None = None,
        constraints: Mapping[str, float] | None = None,
        restart_every: int = 0,
        rollout_buffer_class: type[SequenceRolloutBuffer] = SequenceRolloutBuffer,
        tensorboard_log: str | None = None,
        verbose: int = 0,
    ):
        super().__init__(
            policy,
            env,
            processor=processor,
            config=config or TrainConfig(),
            restart_every=restart_every,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
        )
        assert self.env is not None
        self.rollout_buffer_class = rollout_buffer_class
        self.constraints = dict(
            declared_constraints(self.env) if constraints is None else constraints
        )
        c = self.config.multipliers
        budgets = {TOTAL: c.total_budget} if c.signal == "total" else self.constraints
        self.multipliers = Multipliers(list(budgets), budgets, c)
        self._setup_model()

    # ------------------------------------------------------------------ set-up

    def _setup_model(self) -> None:
        ppo, channels = self.config.ppo, self.multipliers.names
        shape = self.policy.config
        if ppo.freeze_perception:
            self.policy.freeze_perception()
        self.critic: PrivilegedCritic | None = None
        self._privileged_critic = self.config.critic.kind == "privileged"
        if not self._privileged_critic and tuple(shape.constraint_names) != channels:
            raise ValueError(
                f"critic.kind is 'policy', but the policy has cost heads for"
                f" {tuple(shape.constraint_names)} and the multipliers are for {channels}"
            )
        heads = [*self.policy.value_head.parameters(), *self.policy.cost_heads.parameters()]
        self._head_ids = {id(p) for p in heads}
        self.trainable = {
            name: p
            for name, p in self.policy.named_parameters()
            if p.requires_grad and not (self._privileged_critic and id(p) in self._head_ids)
        }
        self.optimizer = torch.optim.Adam(self.trainable.values(), ppo.learning_rate, eps=1e-5)
        cost_gamma = ppo.gamma if ppo.cost_gamma is None else ppo.cost_gamma
        self.gammas = torch.tensor([ppo.gamma] + [cost_gamma] * len(channels), device=self.device)
        scale = [self.config.critic.reward_scale] + [1.0] * len(channels)
        self.return_scale = torch.tensor(scale, device=self.device)
        none = torch.tensor(shape.n_actions) if shape.discrete else torch.zeros(shape.n_actions)
        self.rollout_buffer = self.rollout_buffer_class(
            self.n_steps,
            self.n_envs,
            history=shape.history,
            feature_dim=self.policy.feature_dim,
            channels=1 + len(channels),
            no_action=none,
            keep_frames=not ppo.freeze_perception,
            device=self.device,
        )
        self.books = EpisodeBooks(
            self.n_envs,
            list(self.constraints),
            channels,
            self.config.multipliers.violation_rate,
            self.config.rewards,
        )
        self._episodes: list[Episode] = []

    def _make_critic(self, inputs: int) -> None:
        c = self.config.critic
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed_for("critic"))
            self.critic = PrivilegedCritic(
                inputs,
                len(self.multipliers),
                hidden=c.hidden,
                learning_rate=c.learning_rate,
                reward_scale=c.reward_scale,
            ).to(self.device)

    # ------------------------------------------------------------------ the loop

    def _note_new_episodes(self) -> None:
        assert self.env is not None
        self._last_episode_starts = np.ones(self.n_envs, bool)
        self.rollout_buffer.clear()
        self.books.clear()
        self.multipliers.discard()
        if self._privileged_critic:
            self._last_privileged = self._privileged(self.env.reset_infos)
            if self.critic is None:
                self._make_critic(self._last_privileged.shape[1])

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
            extras = {"terminated": self._tensor(outcome.terminated)}
            if self._privileged_critic:
                extras["privileged"] = self._last_privileged
                extras["next_privileged"] = self._privileged(infos)
                self._last_privileged = self._privileged(
                    [env.reset_infos[i] if done else infos[i] for i, done in enumerate(dones)]
                )
            else:
                extras["values"] = self._values(out)
                extras["final_values"] = torch.zeros_like(extras["values"])
            buffer.put_step(
                features=out.features,
                actions=out.actions,
                log_probs=out.log_prob,
                rewards=self._tensor(outcome.rewards),
                ends=self._tensor(outcome.ends),
                valid=self._tensor(outcome.valid),
                **extras,
            )
            if not self._privileged_critic:
                self._value_final_observations(buffer, outcome, infos)
            self._last_obs = obs  # pyright: ignore[reportAttributeAccessIssue]
            self._last_episode_starts = dones
        self._estimate(buffer)
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """Learn from the rollout in the buffer: multipliers, critics, policy."""
        ppo, buffer = self.config.ppo, self.rollout_buffer
        warm = self.iteration < ppo.warmup_iterations
        for episode in self._episodes:
            if episode.sim_error is None:
                self.multipliers.record(episode.costs)
        if warm:
            self.multipliers.discard()
        else:
            self.multipliers.update()
        advantages = mix_advantages(
            buffer.advantages,
            torch.from_numpy(self.multipliers.value),
            buffer.valid,
            scale=ppo.advantage_scale,
            floor=ppo.advantage_floor,
        )
        stats: dict[str, Any] = {"warmup": warm}
        if self.critic is not None:
            c = self.config.critic
            stats["critic_loss"] = self.critic.fit(
                buffer.extras["privileged"][buffer.valid],
                buffer.returns[buffer.valid],
                epochs=c.warmup_epochs if warm else c.epochs,
                minibatch=c.minibatch,
                generator=self._generator("critic minibatches"),
            )
        if self.critic is None or not warm:
            stats |= self._update_policy(advantages, warm)
        self.iteration += 1
        self.last_iteration = stats

    def _update_policy(self, advantages: Tensor, warm: bool) -> dict[str, float]:
        """Clipped PPO until a minibatch's KL estimate exceeds 1.5 * target_kl, as in SB3's PPO.

        With `critic.kind="policy"` the value heads learn too: alone during warm-up and after the
        policy has stopped.
        """
        ppo, buffer = self.config.ppo, self.rollout_buffer
        generator = self._generator("minibatches")
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
            if not acting and self.critic is not None:
                break
            if self.critic is None:
                target = batch.of(buffer.returns)[keep] / self.return_scale
                found = self._values(out)[:, batch.context :][keep] / self.return_scale
                error = ((found - target) ** 2).mean(0).sum()
                loss = (loss if acting else 0.0) + self.config.critic.value_coef * error
            self._step(loss, only_heads=not acting)
        if warm:
            return {}
        _, entropy, beyond = torch.stack(taken).mean(0).tolist() if taken else [float("nan")] * 3
        return {"kl": kl, "entropy": entropy, "clip_fraction": beyond, "policy_updates": len(taken)}

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

    # ------------------------------------------------------------------ looking and valuing

    def _privileged(self, infos: Sequence[Mapping[str, Any]]) -> Tensor:
        try:
            vectors = np.stack([info["privileged"] for info in infos])
        except KeyError:
            raise ValueError(
                "critic.kind is 'privileged', but the environment's info has no 'privileged'; wrap"
                " it in safevla.train.envs.PrivilegedInfo or take critic.kind=policy"
            ) from None
        # a diverged simulation may have left NaNs; such steps are not learned from
        return self._tensor(np.nan_to_num(vectors.astype(np.float32)))

    def _values(self, out: VLAOutput) -> Tensor:
        """The policy's own values (..., 1 + K): of the reward, then of each cost."""
        assert out.value is not None and out.cost_values is not None
        return torch.cat([out.value[..., None], out.cost_values], -1) * self.return_scale

    def _refresh_features(self, buffer: SequenceRolloutBuffer) -> None:
        """Where perception learns, the frames kept from the last rollout are encoded again."""
        if not (buffer.keep_frames and buffer.frames and buffer.context):
            return
        earlier = {k: v[:, : buffer.context].flatten(0, 1) for k, v in buffer.frames.items()}
        buffer.features[:, : buffer.context] = self.policy.encode(**earlier).unflatten(
            0, (self.n_envs, buffer.context)
        )

    def _value_final_observations(
        self,
        buffer: SequenceRolloutBuffer,
        outcome: StepOutcome,
        infos: Sequence[Mapping[str, Any]],
    ) -> None:
        """Note the policy's values of the observations that truncated episodes ended with."""
        cut = np.flatnonzero(outcome.ends & ~outcome.terminated & outcome.valid).tolist()
        if len(cut):
            last = [infos[i]["terminal_observation"] for i in cut]
            frame = self._inputs({key: np.stack([obs[key] for obs in last]) for key in last[0]})
            envs = self._tensor(cut)
            values = self._values(self._look(frame, buffer.window_after(envs)))
            buffer.extras["final_values"][envs, buffer.pos - 1] = values

    def _estimate(self, buffer: SequenceRolloutBuffer) -> None:
        """Values of every step and of what followed it; advantages and returns."""
        extras = buffer.extras
        if self.critic is not None:
            values = self.critic(extras["privileged"])
            following = self.critic(extras["next_privileged"])
        else:
            values = extras["values"]
            everyone = torch.arange(self.n_envs, device=self.device)
            after = self._look(self._inputs(self._last_obs), buffer.window_after(everyone))
            following = torch.cat([values[:, 1:], self._values(after)[:, None]], 1)
            following = torch.where(buffer.ends[..., None], extras["final_values"], following)
        following = torch.where(extras["terminated"][..., None], 0.0, following)
        gae_lambda = self.config.ppo.gae_lambda
        buffer.estimate(values, following, gamma=self.gammas, gae_lambda=gae_lambda)

    # ------------------------------------------------------------------ logs and files

    def _log(self, collecting: float, learning: float, log_interval: int | None) -> None:
        buffer, names = self.rollout_buffer, ("reward", *self.multipliers.names)
        values, returns = buffer.values[buffer.valid], buffer.returns[buffer.valid]
        explained = {
            name: explained_variance(values[:, i], returns[:, i]) for i, name in enumerate(names)
        }
        steps = self.n_steps * self.n_envs
        self.last_iteration = {
            "iteration": self.iteration,
            "steps": self.num_timesteps,
            **summarise(self._episodes, self.books.names),
            "lambda": self.multipliers.as_dict(),
            **self.last_iteration,
            "explained_variance": explained,
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
