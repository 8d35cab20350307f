"""Networks that value states: of the simulator's state, and of what a policy observes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CostCritic", "RunningNorm", "ValueNetworks", "each", "regress", "stacked"]

_CLIP = 10.0
_CHUNK = 4096  # observations valued at once


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


def mlp(
    inputs: int, hidden: Sequence[int], outputs: int, activation: type[nn.Module] = nn.Tanh
) -> nn.Sequential:
    """Returns linear layers with activations between them."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), activation()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def regress(
    predict: Callable[[Tensor], Tensor],
    targets: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    minibatch: int,
    generator: torch.Generator,
    max_grad_norm: float | None = None,
) -> float:
    """Fits values to returns by least squares.

    Args:
        predict: values (B, C) of the samples with these indices, long (B,).
        targets: float (M, C).
        optimizer: of what predicts.
        epochs: passes over the samples.
        minibatch: samples in a step.
        generator: shuffles (CPU).
        max_grad_norm: gradients are scaled down to this norm.

    Returns:
        Mean loss of the last pass: squared errors summed over the channels.
    """
    losses: list[Tensor] = []
    for _ in range(epochs):
        losses = []
        order = torch.randperm(len(targets), generator=generator).to(targets.device)
        for chosen in order.split(minibatch):
            error = F.mse_loss(predict(chosen), targets[chosen], reduction="none")
            loss = error.mean(0).sum()
            optimizer.zero_grad()
            loss.backward()
            if max_grad_norm is not None:
                nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], max_grad_norm)
            optimizer.step()
            losses.append(loss.detach())
    return float(torch.stack(losses).mean())


class ValueNetworks(nn.Module):
    """A reward network and a K-headed cost network with separate trunks, and their optimiser.

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
        self.reward = mlp(inputs, hidden, 1)
        self.costs = mlp(inputs, hidden, n_costs)
        self.register_buffer("scale", torch.tensor([reward_scale] + [1.0] * n_costs))
        self.optimizer = torch.optim.Adam(self.parameters(), learning_rate)

    @property
    def inputs(self) -> int:
        """Length P of the privileged vector."""
        return len(self.norm.mean)

    def _scaled(self, normed: Tensor) -> Tensor:
        return torch.cat([self.reward(normed), self.costs(normed)], -1)

    @torch.no_grad()
    def forward(self, privileged: Tensor) -> Tensor:
        """Values of privileged vectors (..., P): discounted reward and costs, (..., 1 + K)."""
        flat = privileged.flatten(0, -2)
        return (self._scaled(self.norm(flat)) * self.scale).view(*privileged.shape[:-1], -1)

    def fit(self, privileged: Tensor, returns: Tensor, **how: Any) -> float:
        """Learns from a rollout's vectors (M, P) and returns (M, 1 + K); see `regress`."""
        self.norm.update(privileged)
        inputs, targets = self.norm(privileged), returns / self.scale
        return regress(lambda chosen: self._scaled(inputs[chosen]), targets, self.optimizer, **how)


def each(observations: Any, function: Callable[[Any], Any]) -> Any:
    """Returns the function of an array or tensor of observations, or of each one in a dict."""
    if isinstance(observations, dict):
        return {key: function(value) for key, value in observations.items()}
    return function(observations)


def stacked(observations: Sequence[Any]) -> Any:
    """Returns single observations, arrays or dicts of them, as one with a leading axis."""
    first = observations[0]
    if isinstance(first, dict):
        return {key: np.stack([one[key] for one in observations]) for key in first}
    return np.stack(observations)


class CostCritic(nn.Module):
    """The K-headed cost critic beside a stable-baselines3 policy, and its optimiser.

    It is made like the policy's value network (features extractor, `net_arch["vf"]`, activation,
    initialisation, optimiser), but shares nothing with it, so that any policy class serves and
    what the policy learns from the reward stays as it is.

    Args:
        policy: The policy.
        n_costs: K.
    """

    def __init__(self, policy: ActorCriticPolicy, n_costs: int):
        super().__init__()
        arch = policy.net_arch
        hidden = arch.get("vf", []) if isinstance(arch, dict) else arch
        self.space, self.normalize_images = policy.observation_space, policy.normalize_images
        with torch.random.fork_rng(devices=[]):  # the policy draws the numbers it always did
            self.features = policy.make_features_extractor()
            self.net = mlp(self.features.features_dim, hidden, n_costs, policy.activation_fn)
            if policy.ortho_init:
                self.apply(partial(policy.init_weights, gain=np.sqrt(2)))
                policy.init_weights(self.net[-1], gain=1)
        self.to(policy.device)
        self.optimizer = policy.optimizer_class(
            self.parameters(),
            lr=policy.optimizer.param_groups[0]["lr"],  # pyright: ignore[reportCallIssue]
            **policy.optimizer_kwargs,
        )

    def forward(self, observations: Any) -> Tensor:
        """Returns discounted costs still to come (B, K) of observations, tensors (B, ...)."""
        seen = preprocess_obs(observations, self.space, normalize_images=self.normalize_images)
        return self.net(self.features(seen))

    @torch.no_grad()
    def values(self, observations: Any) -> Tensor:
        """As calling it, of arrays (B, ...); the values are on the CPU."""
        device = next(self.parameters()).device
        first = (
            next(iter(observations.values())) if isinstance(observations, dict) else observations
        )
        found = []
        for start in range(0, len(first), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            found.append(self(obs_as_tensor(each(observations, lambda a, c=chunk: a[c]), device)))
        return torch.cat(found).cpu()
