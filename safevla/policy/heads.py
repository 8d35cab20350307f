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


class CategoricalHead(nn.Module):
    """One of A discrete actions; actions are long (...)."""

    def __init__(self, config: SafeVLAConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.d_model, config.n_actions)
        self.embed = nn.Embedding(config.n_actions + 1, config.d_model)

    def reset(self) -> None:
        """Start near the uniform distribution, and with small action embeddings."""
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., d) in, logits (..., A) out."""
        return self.linear(hidden)

    def embed_actions(self, actions: Tensor) -> Tensor:
        """Embed previous actions, long (...), A standing for none; (..., d)."""
        return self.embed(actions)

    def choose(
        self, logits: Tensor, deterministic: bool, generator: torch.Generator | None
    ) -> Tensor:
        """Draw an action, or take the most probable one."""
        return logits.argmax(-1) if deterministic else sample_categorical(logits, generator)

    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Log-probability of actions, (...)."""
        return logits.log_softmax(-1).gather(-1, actions[..., None]).squeeze(-1)

    def entropy(self, logits: Tensor) -> Tensor:
        """Entropy in nats, (...)."""
        log = logits.log_softmax(-1)
        return -(log.exp() * log).sum(-1)


class GaussianHead(nn.Module):
    """Independent Gaussians over A dimensions; actions are float (..., A), not squashed."""

    def __init__(self, config: SafeVLAConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.d_model, config.n_actions)
        self.log_std = nn.Parameter(torch.empty(config.n_actions))
        self.embed = nn.Linear(config.n_actions, config.d_model)

    def reset(self) -> None:
        """Start at mean 0 with deviation 0.5."""
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        nn.init.constant_(self.log_std, math.log(0.5))

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., d) in, means (..., A) out."""
        return self.linear(hidden)

    def _normal(self, means: Tensor) -> Normal:
        return Normal(means, self.log_std.exp(), validate_args=False)

    def embed_actions(self, actions: Tensor) -> Tensor:
        """Embed previous actions, float (..., A), zeros standing for none; (..., d)."""
        return self.embed(actions)

    def choose(
        self, logits: Tensor, deterministic: bool, generator: torch.Generator | None
    ) -> Tensor:
        """Draw an action, or take the mean."""
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


class BinnedHead(nn.Module):
    """Bins over [-1, 1] in each of A dimensions (action tokens); actions are bin centres."""

    def __init__(self, config: SafeVLAConfig) -> None:
        super().__init__()
        self.shape = (config.n_actions, config.n_bins)
        self.linear = nn.Linear(config.d_model, config.n_actions * config.n_bins)
        self.embed = nn.Linear(config.n_actions, config.d_model)

    def reset(self) -> None:
        """Start near the uniform distribution."""
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., d) in, logits (..., A, bins) out."""
        return self.linear(hidden).unflatten(-1, self.shape)

    def embed_actions(self, actions: Tensor) -> Tensor:
        """Embed previous actions, float (..., A), zeros standing for none; (..., d)."""
        return self.embed(actions)

    def bins(self, actions: Tensor) -> Tensor:
        """Index of the bin that holds each value, long, same shape."""
        count = self.shape[1]
        return ((actions + 1) / 2 * count).floor().long().clamp(0, count - 1)

    def choose(
        self, logits: Tensor, deterministic: bool, generator: torch.Generator | None
    ) -> Tensor:
        """Draw a bin per dimension, or take the most probable one; its centre, float (..., A)."""
        index = logits.argmax(-1) if deterministic else sample_categorical(logits, generator)
        return (index.to(logits.dtype) + 0.5) * (2 / self.shape[1]) - 1

    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Log-probability of the bins that hold the actions, summed over dimensions, (...)."""
        log = logits.log_softmax(-1)
        return log.gather(-1, self.bins(actions)[..., None]).squeeze(-1).sum(-1)

    def entropy(self, logits: Tensor) -> Tensor:
        """Entropy in nats, summed over dimensions, (...)."""
        log = logits.log_softmax(-1)
        return -(log.exp() * log).sum((-1, -2))


HEADS = {"categorical": CategoricalHead, "gaussian": GaussianHead, "binned": BinnedHead}


def value_head(width: int, hidden: int = 128) -> nn.Sequential:
    """An MLP from the decoder's output to one value."""
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.Tanh(),
        nn.Linear(hidden, hidden),
        nn.Tanh(),
        nn.Linear(hidden, 1),
    )
