"""Action heads: what the decoder's output says about the next action."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from safevla.policy.configuration_safevla import SafeVLAConfig


def sample_categorical(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw one index per row of (..., A) logits; long (...).

    torch's own `Categorical` takes no generator and twice the time.
    """
    flat = logits.reshape(-1, logits.shape[-1]).softmax(-1)
    return torch.multinomial(flat, 1, generator=generator).view(logits.shape[:-1])


class ActionHead(nn.Module):
    """Logits of one categorical distribution, or of one per action dimension, from the decoder."""

    embed: nn.Embedding | nn.Linear
    """Embeds previous actions, (..., d): A (discrete) or zeros stand for none."""

    def __init__(self, config: SafeVLAConfig, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(config.d_model, outputs)

    def reset(self) -> None:
        """Start near the uniform distribution, or at mean 0."""
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., d) in; logits (..., A), means (..., A) or logits (..., A, bins) out."""
        return self.linear(hidden)

    def choose(
        self, logits: Tensor, deterministic: bool, generator: torch.Generator | None
    ) -> Tensor:
        """Draw actions (...) or (..., A), or take the most probable ones."""
        return logits.argmax(-1) if deterministic else sample_categorical(logits, generator)

    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Log-probability or log-density of actions, (...)."""
        return logits.log_softmax(-1).gather(-1, actions[..., None]).squeeze(-1)

    def entropy(self, logits: Tensor) -> Tensor:
        """Entropy (of a density: differential) in nats, (...)."""
        log = logits.log_softmax(-1)
        return -(log.exp() * log).sum(-1)


class CategoricalHead(ActionHead):
    """One of A discrete actions; actions are long (...)."""

    def __init__(self, config: SafeVLAConfig) -> None:
        super().__init__(config, config.n_actions)
        self.embed = nn.Embedding(config.n_actions + 1, config.d_model)

    def reset(self) -> None:
        """Start near the uniform distribution, and with small action embeddings."""
        super().reset()
        nn.init.normal_(self.embed.weight, std=0.02)


class GaussianHead(ActionHead):
    """Independent Gaussians over A dimensions; actions are float (..., A), not squashed."""

    def __init__(self, config: SafeVLAConfig) -> None:
        super().__init__(config, config.n_actions)
        self.log_std = nn.Parameter(torch.empty(config.n_actions))
        self.embed = nn.Linear(config.n_actions, config.d_model)

    def reset(self) -> None:
        """Start at mean 0 with deviation 0.5."""
        super().reset()
        nn.init.constant_(self.log_std, math.log(0.5))

    def _normal(self, means: Tensor) -> Normal:
        return Normal(means, self.log_std.exp(), validate_args=False)

    def choose(
        self, logits: Tensor, deterministic: bool, generator: torch.Generator | None
    ) -> Tensor:
        """Draw actions (..., A), or take the means."""
        if deterministic:
            return logits
        noise = torch.empty_like(logits).normal_(generator=generator)
        return logits + self.log_std.exp() * noise

    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Log-density of actions, (...)."""
        return self._normal(logits).log_prob(actions).sum(-1)

    def entropy(self, logits: Tensor) -> Tensor:
        """Differential entropy in nats, (...)."""
        return self._normal(logits).entropy().sum(-1)


class BinnedHead(ActionHead):
    """Bins over [-1, 1] in each of A dimensions (action tokens); actions are bin centres."""

    def __init__(self, config: SafeVLAConfig) -> None:
        super().__init__(config, config.n_actions * config.n_bins)
        self.shape = (config.n_actions, config.n_bins)
        self.embed = nn.Linear(config.n_actions, config.d_model)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., d) in, logits (..., A, bins) out."""
        return self.linear(hidden).unflatten(-1, self.shape)

    def bins(self, actions: Tensor) -> Tensor:
        """Index of the bin that holds each value, long, same shape."""
        count = self.shape[1]
        return ((actions + 1) / 2 * count).floor().long().clamp(0, count - 1)

    def choose(
        self, logits: Tensor, deterministic: bool, generator: torch.Generator | None
    ) -> Tensor:
        """Draw a bin per dimension, or take the most probable one; its centre, float (..., A)."""
        index = super().choose(logits, deterministic, generator)
        return (index.to(logits.dtype) + 0.5) * (2 / self.shape[1]) - 1

    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Log-probability of the bins that hold the actions, summed over dimensions, (...)."""
        return super().log_prob(logits, self.bins(actions)).sum(-1)

    def entropy(self, logits: Tensor) -> Tensor:
        """Entropy in nats, summed over dimensions, (...)."""
        log = logits.log_softmax(-1)
        return -(log.exp() * log).sum((-1, -2))


HEADS = {"categorical": CategoricalHead, "gaussian": GaussianHead, "binned": BinnedHead}


def value_head(width: int, hidden: int = 128) -> nn.Sequential:
    """An MLP from the decoder's output to one value."""
    inner = (nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
    return nn.Sequential(*inner, nn.Linear(hidden, 1))
