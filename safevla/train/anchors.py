"""What keeps a policy near the one that its training starts from: two options, both off at 0.

- `Reference`: a penalty on log pi/pi_ref, subtracted from the reward and added to every cost
  (Safe RLHF and Safe RLHF-V). In every channel alike, it has the same weight in the mixed
  advantage `(A_r - sum lambda_k A_k) / (1 + sum lambda_k)` whatever the multipliers are.
- `Demonstrations`: their negative log-likelihood in the policy's loss, beside a PPO term whose
  advantage is divided by `1 + sum lambda_k` (the PTX term of the same methods).

Both read cached features, so perception must be frozen.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from safevla.demos import DemoDataset
from safevla.policy import SafeVLAProcessor, VLAPolicy
from safevla.train.buffer import SequenceRolloutBuffer
from safevla.train.cloning import encode_frames

__all__ = ["Demonstrations", "Reference"]


class Reference:
    """The policy as training found it, against which a rollout is penalised.

    Args:
        policy: It is copied.
        coefficient: Weight of the penalty.
    """

    def __init__(self, policy: VLAPolicy, coefficient: float):
        self.policy = copy.deepcopy(policy).eval().requires_grad_(False)
        self.coefficient = coefficient

    @torch.no_grad()
    def log_probs(self, buffer: SequenceRolloutBuffer) -> Tensor:
        """Log-probability of the rollout's actions under the reference, float (N, n_steps)."""
        found = torch.zeros_like(buffer.log_probs)
        envs = torch.arange(buffer.n_envs, device=buffer.device)
        for start in range(0, buffer.n_steps, buffer.sequence):
            batch = buffer.minibatch(envs, torch.full_like(envs, start))
            actions = batch.with_context(buffer.actions)
            out = self.policy(mode="bc", actions=actions, **batch.inputs)
            assert out.log_prob is not None
            found[batch.envs, batch.steps] = out.log_prob[:, batch.context :]
        return found

    def penalise(self, buffer: SequenceRolloutBuffer) -> float:
        """Put the penalty into the rollout's reward and costs; returns the mean log ratio."""
        ratio = (buffer.log_probs - self.log_probs(buffer)).masked_fill(~buffer.valid, 0.0)
        buffer.rewards[..., 0] -= self.coefficient * ratio
        buffer.rewards[..., 1:] += self.coefficient * ratio[..., None]
        return float(ratio[buffer.valid].mean())


class Demonstrations:
    """Demonstrations whose frames were encoded once.

    Args:
        folder: As `safevla.demos.collect` wrote it.
        policy: Whose frozen perception encodes them.
        processor: Of the policy's checkpoint.
        batch: Stretches of frames in a draw.
        length: Frames of a stretch, which may cross from one episode into the next.

    Raises:
        ValueError: The demonstrations have other actions or cameras than the policy, or too few
            frames.
    """

    def __init__(
        self,
        folder: str | Path,
        policy: VLAPolicy,
        processor: SafeVLAProcessor,
        *,
        batch: int = 8,
        length: int = 32,
    ):
        data, shape = DemoDataset(folder), policy.config
        for name in ("action_names", "cameras", "image_size"):
            theirs, ours = getattr(data, name), getattr(shape, name)
            if ours and theirs != ours:
                raise ValueError(f"{folder}: {name} is {theirs!r}, the policy has {ours!r}")
        if len(data) < length:
            raise ValueError(f"{folder}: {len(data)} frames, at least {length} are needed")
        self.batch, self.length, self.count = batch, length, len(data)
        state = torch.from_numpy(processor.normalise(data.state))
        tokens = processor.tokens(data.instructions)
        self.features = encode_frames(policy, data, state, tokens, np.arange(self.count))
        self.arrays = {
            name: torch.from_numpy(array).to(self.features.device)
            for name, array in (
                ("prev_actions", data.prev_action),
                ("segments", data.episode),
                ("actions", data.action),
            )
        }

    def loss(self, policy: VLAPolicy, generator: torch.Generator) -> Tensor:
        """Negative log-likelihood of a draw's actions, their mean, with gradient."""
        first = torch.randint(self.count - self.length + 1, (self.batch, 1), generator=generator)
        frames = (first + torch.arange(self.length)).to(self.features.device)
        inputs = {name: array[frames] for name, array in self.arrays.items()}
        out = policy(mode="bc", features=self.features[frames], **inputs)
        assert out.log_prob is not None
        return -out.log_prob.mean()
