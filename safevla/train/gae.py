"""Advantages: generalised estimates for the reward and every cost, and their Lagrangian mixture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

__all__ = ["explained_variances", "generalised_advantages", "mix_advantages", "next_values"]


def next_values(values: Tensor, after: Tensor, ends: Tensor, finals: Tensor) -> Tensor:
    """Returns the value of what followed each step, float (N, T, C).

    Args:
        values: float (N, T, C), value of the observation of each step.
        after: float (N, C), value of the observation that the rollout stopped at.
        ends: bool (N, T), True where the episode ended with this step.
        finals: float (N, T, C), where it did: the value of an episode's last observation after a
            truncation, 0 after a termination.
    """
    following = torch.cat([values[:, 1:], after[:, None]], 1)
    return torch.where(ends[..., None], finals, following)


def generalised_advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    ends: Tensor,
    valid: Tensor,
    *,
    gamma: Tensor,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation over C channels at once (Schulman et al. 2016).

    Termination, truncation and the end of the rollout differ only in `next_values`, the value of
    what followed each step: 0 after a termination, the value of the final observation after a
    truncation, the value of the next observation otherwise.

    Args:
        rewards: float (N, T, C): channel 0 the reward, the others costs.
        values: float (N, T, C), value of the observation of each step.
        next_values: float (N, T, C), value of what followed.
        ends: bool (N, T), True where the episode ended with this step, for whatever reason.
        valid: bool (N, T), False where a step has no trustworthy outcome (a diverged simulation).
            Its advantage is 0 and the steps before bootstrap from its own observation's value.
        gamma: float (C,), discounts.
        gae_lambda: decay.

    Returns:
        Advantages and returns (advantage + value), float (N, T, C) each.
    """
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    delta = rewards + gamma * next_values - values
    for t in range(rewards.shape[1] - 1, -1, -1):
        goes_on = (~ends[:, t]).unsqueeze(-1)
        running = delta[:, t] + gamma * gae_lambda * goes_on * running
        running = torch.where(valid[:, t].unsqueeze(-1), running, 0.0)
        advantages[:, t] = running
    return advantages, advantages + values


def mix_advantages(
    advantages: Tensor,
    multipliers: Tensor,
    valid: Tensor,
    *,
    scale: Literal["mixed", "reward", "none"] = "mixed",
    floor: float = 1e-3,
    centred: bool = True,
) -> Tensor:
    """The advantage of the Lagrangian: `(A_r - sum_k lambda_k A_k) / (1 + sum_k lambda_k)`.

    The mixture comes first; then it is centred and divided by **one** number for the whole
    rollout. Renormalising per minibatch would let the scale depend on who shares a minibatch.

    Args:
        advantages: float (N, T, 1 + K), reward first.
        multipliers: float (K,).
        valid: bool (N, T), which steps count.
        scale: `mixed` divides by the standard deviation of the mixture (1 / (1 + sum lambda)
            then cancels), `reward` by that of the reward's advantage, `none` by 1.
        floor: least standard deviation, of A_r - sum_k lambda_k A_k or of A_r. It keeps a policy
            with little left to gain from chasing the critics' noise.
        centred: subtract the mean.

    Returns:
        float (N, T); 0 where not valid.
    """
    multipliers = multipliers.to(advantages)
    mixed = advantages[..., 0] - advantages[..., 1:] @ multipliers
    if not valid.any():
        return torch.zeros_like(mixed)
    if centred:
        mixed = mixed - mixed[valid].mean()
    share = 1 + multipliers.sum()
    if scale == "mixed":
        share = mixed[valid].std(correction=0).clamp(min=floor)
    elif scale == "reward":
        share = share * advantages[..., 0][valid].std(correction=0).clamp(min=floor)
    return torch.where(valid, mixed / share, 0.0)


def explained_variances(names: Sequence[str], values: Tensor, returns: Tensor) -> dict[str, float]:
    """Returns the share of each channel's variance of returns (M, C) that its values explain.

    It is NaN where the returns do not vary.
    """
    variance, left = (x.var(0, correction=0) for x in (returns, returns - values))
    shares = torch.where(variance < 1e-12, torch.nan, 1 - left / variance)
    return dict(zip(names, shares.tolist()))
