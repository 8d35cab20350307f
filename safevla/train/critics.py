"""Critics: reward and costs still to come, behind one interface.

`PrivilegedCritic` regresses small networks on the simulator's state; `PolicyCritic` reads and
trains the value heads of the policy, inside the PPO loss. Both learn in every iteration, warm-up
included. What privileged critics see never shapes what the policy may see.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safevla.policy import VLAOutput
from safevla.train.buffer import Minibatch, SequenceRolloutBuffer
from safevla.train.episodes import StepOutcome
from safevla.train.gae import next_values
from safevla.train.settings import CriticConfig
from safevla.train.values import ValueNetworks, stacked

__all__ = ["Critic", "PolicyCritic", "PrivilegedCritic"]

Infos = Sequence[Mapping[str, Any]]


class Critic(ABC):
    """What PPO asks of its value functions; C = 1 + K channels, the reward first.

    Args:
        buffer: the rollouts to value and to learn from.
        config: sizes, rates and scale.
    """

    inside_policy: bool
    """Whether it learns in the policy's loss, by `loss`, rather than by `fit`."""
    networks: ValueNetworks | None = None
    """What it has to be saved beside the policy."""

    def __init__(self, buffer: SequenceRolloutBuffer, config: CriticConfig) -> None:
        self.buffer, self.config = buffer, config
        self.n_costs = buffer.rewards.shape[-1] - 1

    def begin(self, infos: Infos) -> None:  # noqa: B027
        """All environments have been reset; `infos` are the resets'."""

    @abstractmethod
    def note(self, out: VLAOutput, outcome: StepOutcome, infos: Infos, following: Infos) -> None:
        """Keeps in the buffer what valuing its newest step will need.

        Args:
            out: of the policy, for the step's observation.
            outcome: what came of the step.
            infos: of the step.
            following: of the observations acted on next: a reset's where the episode ended.
        """

    @abstractmethod
    def values(self, last_obs: Any) -> tuple[Tensor, Tensor]:
        """Returns values of every step's observation and of what followed it.

        Each is float (N, T, C). Where nothing followed, the caller does not count it.
        """

    def fit(self, epochs: int, generator: torch.Generator) -> dict[str, float]:
        """Learns from the rollout, apart from the policy; returns numbers for the log."""
        return {}

    def loss(self, out: VLAOutput, batch: Minibatch, keep: Tensor) -> Tensor:
        """Returns the loss of a minibatch, to be added to the policy's."""
        raise NotImplementedError


class PrivilegedCritic(Critic):
    """Values from the simulator's state in `info["privileged"]`.

    Args:
        buffer: see `Critic`.
        config: see `Critic`.
        seed: of the initial weights.

    Attributes:
        networks: made at the first reset, which tells how long the vector is; None before.
    """

    inside_policy = False

    def __init__(self, buffer: SequenceRolloutBuffer, config: CriticConfig, seed: int) -> None:
        super().__init__(buffer, config)
        self.seed = seed
        self._latest = torch.empty(0)  # vectors of the observations to act on

    def make(self, inputs: int) -> ValueNetworks:
        """Makes the networks for vectors of this length."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.networks = ValueNetworks(
                inputs,
                self.n_costs,
                hidden=self.config.hidden,
                learning_rate=self.config.learning_rate,
                reward_scale=self.config.reward_scale,
            ).to(self.buffer.device)
        return self.networks

    def begin(self, infos: Infos) -> None:
        """See `Critic`.

        Raises:
            ValueError: the environment gives no vector, or one of another length than the
                networks of a checkpoint were made for.
        """
        self._latest = self._vectors(infos)
        found = self._latest.shape[1]
        networks = self.networks or self.make(found)
        if networks.inputs != found:
            raise ValueError(
                f"the critics of this checkpoint take {networks.inputs} privileged numbers, the"
                f" environment gives {found}: another version wrote it; train anew elsewhere"
            )

    def note(self, out: VLAOutput, outcome: StepOutcome, infos: Infos, following: Infos) -> None:
        """See `Critic`."""
        self.buffer.note(privileged=self._latest, next_privileged=self._vectors(infos))
        self._latest = self._vectors(following)

    def values(self, last_obs: Any) -> tuple[Tensor, Tensor]:
        """See `Critic`."""
        assert self.networks is not None
        notes = self.buffer.extras
        return self.networks(notes["privileged"]), self.networks(notes["next_privileged"])

    def fit(self, epochs: int, generator: torch.Generator) -> dict[str, float]:
        """See `Critic`."""
        assert self.networks is not None
        buffer = self.buffer
        loss = self.networks.fit(
            buffer.extras["privileged"][buffer.valid],
            buffer.returns[buffer.valid],
            epochs=epochs,
            minibatch=self.config.minibatch,
            generator=generator,
        )
        return {"critic_loss": loss}

    def _vectors(self, infos: Infos) -> Tensor:
        try:
            vectors = np.stack([info["privileged"] for info in infos])
        except KeyError:
            raise ValueError(
                "critic.kind is 'privileged', but the environment's info has no 'privileged'; wrap"
                " it in safevla.train.envs.PrivilegedInfo or take critic.kind=policy"
            ) from None
        # a diverged simulation may have left NaNs; such steps are not learned from
        return torch.as_tensor(np.nan_to_num(vectors.astype(np.float32))).to(self.buffer.device)


class PolicyCritic(Critic):
    """Values from the policy's own heads.

    Args:
        buffer: see `Critic`.
        config: see `Critic`.
        look: runs the policy on stacked observations and a window of the buffer.
    """

    inside_policy = True

    def __init__(
        self,
        buffer: SequenceRolloutBuffer,
        config: CriticConfig,
        look: Callable[[Any, Mapping[str, Tensor]], VLAOutput],
    ) -> None:
        super().__init__(buffer, config)
        self.look = look
        scale = [config.reward_scale] + [1.0] * self.n_costs
        self.scale = torch.tensor(scale, device=buffer.device)

    def of(self, out: VLAOutput) -> Tensor:
        """Returns the values (..., C) that an output of the policy holds."""
        assert out.value is not None and out.cost_values is not None
        return torch.cat([out.value[..., None], out.cost_values], -1) * self.scale

    def note(self, out: VLAOutput, outcome: StepOutcome, infos: Infos, following: Infos) -> None:
        """See `Critic`; the last observation of an episode that was cut is valued at once."""
        values = self.of(out)
        final = torch.zeros_like(values)
        cut = np.flatnonzero(outcome.follows.any(1)).tolist()
        if cut:
            obs = stacked([infos[i]["terminal_observation"] for i in cut])
            envs = torch.as_tensor(cut, device=values.device)
            final[envs] = self.of(self.look(obs, self.buffer.window_after(envs)))
        self.buffer.note(values=values, final_values=final)

    def values(self, last_obs: Any) -> tuple[Tensor, Tensor]:
        """See `Critic`."""
        buffer, values = self.buffer, self.buffer.extras["values"]
        everyone = torch.arange(buffer.n_envs, device=values.device)
        after = self.of(self.look(last_obs, buffer.window_after(everyone)))
        return values, next_values(values, after, buffer.ends, buffer.extras["final_values"])

    def loss(self, out: VLAOutput, batch: Minibatch, keep: Tensor) -> Tensor:
        """See `Critic`."""
        target = batch.of(self.buffer.returns)[keep] / self.scale
        found = self.of(out)[:, batch.context :][keep] / self.scale
        return self.config.value_coef * ((found - target) ** 2).mean(0).sum()
