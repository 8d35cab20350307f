"""Acting with a policy: remembers each environment's last H frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safevla.policy.checkpoint import read_policy
from safevla.policy.modeling_safevla import VLAOutput, VLAPolicy
from safevla.policy.processing_safevla import SafeVLAProcessor
from safevla.policy.threads import torch_threads


class PolicyAgent:
    """Runs a policy on a batch of environments, each with its own history window.

    Every frame passes the vision tower once; the window holds features. The policy is moved to the
    device.
    """

    def __init__(
        self, policy: VLAPolicy, processor: SafeVLAProcessor, device: str | torch.device = "cpu"
    ) -> None:
        self.policy = policy.to(device).eval()  # pyright: ignore[reportArgumentType]
        self.processor = processor
        self.device = torch.device(device)
        self.last_output: VLAOutput | None = None
        self._grow(0)

    def _grow(self, slots: int) -> None:
        config = self.policy.config
        history = config.history
        features = torch.zeros(slots, history, self.policy.feature_dim, device=self.device)
        if config.discrete:
            previous = torch.full((slots, history), config.n_actions, device=self.device)
        else:
            previous = torch.zeros(slots, history, config.n_actions, device=self.device)
        latest = previous[:, 0].clone()
        mask = torch.zeros(slots, history, dtype=torch.bool, device=self.device)
        if slots:
            kept = len(self._mask)
            features[:kept], previous[:kept] = self._features, self._previous
            latest[:kept], mask[:kept] = self._latest, self._mask
        self._features, self._previous, self._mask = features, previous, mask
        self._latest = latest

    def reset(self, i: int | None = None) -> None:
        """Forget the history of environment slot `i`, or of all slots."""
        if i is None:
            self._grow(0)
        elif i < len(self._mask):
            self._mask[i] = False

    def window(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what the policy saw at each slot's latest step.

        That is features (slots, H, D), prev_actions (slots, H), mask (slots, H): see `VLAPolicy`.
        """
        return self._features, self._previous, self._mask

    def act(
        self,
        obs: Mapping[str, Any],
        *,
        deterministic: bool = False,
        generator: torch.Generator | None = None,
    ) -> np.ndarray:
        """Returns the next actions, int64 (B,), or float32 (B, A) for continuous heads.

        Args:
            obs: stacked arrays (B, ...), as a vector environment gives them, row i for slot i.
            deterministic: take the most probable action.
            generator: source of randomness, on the agent's device.
        """
        # So few frames gain nothing from a second thread, and lose much where it has to wait.
        with torch.no_grad(), torch_threads(1):
            output = self._act(obs, deterministic, generator)
        assert output.actions is not None
        self.last_output = output
        return output.actions.cpu().numpy()

    def _act(
        self, obs: Mapping[str, Any], deterministic: bool, generator: torch.Generator | None
    ) -> VLAOutput:
        inputs = {name: value.to(self.device) for name, value in self.processor(obs).items()}
        encoded = self.policy.encode(**inputs)
        if len(encoded) > len(self._mask):
            self._grow(len(encoded))
        rows = slice(len(encoded))
        config = self.policy.config
        features = torch.cat([self._features[rows, 1:], encoded[:, None]], 1)
        mask = torch.cat([self._mask[rows, 1:], torch.ones_like(self._mask[rows, :1])], 1)
        latest = self._latest[rows].clone()
        latest[~self._mask[rows, -1]] = config.n_actions if config.discrete else 0
        previous = torch.cat([self._previous[rows, 1:], latest[:, None]], 1)
        output = self.policy(
            features=features,
            prev_actions=previous,
            mask=mask,
            mode="act",
            deterministic=deterministic,
            generator=generator,
        )
        self._features[rows], self._mask[rows], self._previous[rows] = features, mask, previous
        self._latest[rows] = output.actions.to(self._latest)
        return output


def load_policy(folder: str | Path, device: str | torch.device = "cpu") -> PolicyAgent:
    """Load a checkpoint folder as an agent, after comparing it with its golden output.

    Raises:
        CheckpointError: see :func:`safevla.policy.read_policy`.
    """
    return PolicyAgent(*read_policy(folder), device=device)
