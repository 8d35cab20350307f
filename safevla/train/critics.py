"""Privileged critics: reward and costs still to come, from the simulator's state.

They are used in training only and never shape what the policy may see. They learn in every
iteration, warm-up included.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PrivilegedCritic", "RunningNorm"]

_CLIP = 10.0


class RunningNorm(nn.Module):
    """Centres and scales vectors by all that it has seen (float64 sums; parallel-variance rule)."""

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take in a batch (B, size)."""
        x = x.to(self.mean.dtype)
        count, mean, var = len(x), x.mean(0), x.var(0, correction=0)
        total = self.count + count
        delta = mean - self.mean
        spread = self.var * self.count + var * count + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.var.copy_(spread / total)
        self.count.copy_(total)

    def forward(self, x: Tensor) -> Tensor:
        """(B, size) in and out, float32, cut at ten deviations; constant entries become 0."""
        scaled = (x.to(self.mean.dtype) - self.mean) / (self.var + 1e-8).sqrt()
        return scaled.clamp(-_CLIP, _CLIP).float()


def _mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.Tanh()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class PrivilegedCritic(nn.Module):
    """A reward critic and a K-headed cost critic with separate trunks, and their optimiser.

    Args:
        inputs: P, length of the privileged vector.
        n_costs: K.
        hidden: widths of the hidden layers.
        learning_rate: Adam's step size.
        reward_scale: reward returns are divided by this before they are learned.
    """

    scale: Tensor

    def __init__(
        self,
        inputs: int,
        n_costs: int,
        *,
        hidden: Sequence[int] = (128, 128),
        learning_rate: float = 1e-3,
        reward_scale: float = 5.0,
    ):
        super().__init__()
        self.norm = RunningNorm(inputs)
        self.reward = _mlp(inputs, hidden, 1)
        self.costs = _mlp(inputs, hidden, n_costs)
        self.register_buffer("scale", torch.tensor([reward_scale] + [1.0] * n_costs))
        self.optimizer = torch.optim.Adam(self.parameters(), learning_rate)

    def _scaled(self, normed: Tensor) -> Tensor:
        return torch.cat([self.reward(normed), self.costs(normed)], -1)

    @torch.no_grad()
    def forward(self, privileged: Tensor) -> Tensor:
        """Values of privileged vectors (..., P): discounted reward and costs, (..., 1 + K)."""
        flat = privileged.flatten(0, -2)
        return (self._scaled(self.norm(flat)) * self.scale).view(*privileged.shape[:-1], -1)

    def fit(
        self,
        privileged: Tensor,
        returns: Tensor,
        *,
        epochs: int,
        minibatch: int,
        generator: torch.Generator,
    ) -> float:
        """Regress on one rollout.

        Args:
            privileged: float (M, P).
            returns: float (M, 1 + K).
            epochs: passes over the data.
            minibatch: samples in a step.
            generator: shuffles (CPU).

        Returns:
            Mean loss of the last pass: squared errors summed over the channels.
        """
        self.norm.update(privileged)
        inputs, targets = self.norm(privileged), returns / self.scale
        losses: list[Tensor] = []
        for _ in range(epochs):
            losses = []
            order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
            for chosen in order.split(minibatch):
                error = F.mse_loss(self._scaled(inputs[chosen]), targets[chosen], reduction="none")
                loss = error.mean(0).sum()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                losses.append(loss.detach())
        return float(torch.stack(losses).mean())
