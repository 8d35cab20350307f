"""The rollout buffer: every frame once, and each step's window of history exactly as acted on.

The buffer holds `H - 1` rows of earlier frames and then the rollout, environment first:

    row:   0 .. H-2          H-1 .. H-2+n_steps
           before the rollout    step 0 .. n_steps-1

A frame belongs to a segment (an episode); windows reach back at most H - 1 rows and only inside the
segment. Acting reads `window()`, learning reads runs of consecutive steps with the H - 1 rows
before them, so both attend to the same frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from safevla.train.gae import generalised_advantages

__all__ = ["Minibatch", "SequenceRolloutBuffer"]


@dataclass(frozen=True, kw_only=True)
class Minibatch:
    """B runs of C consecutive steps; `inputs` also cover the H - 1 frames before each run.

    Attributes:
        inputs: keyword arguments for `VLAPolicy.forward(mode="bc")`, T = H - 1 + C frames long.
        envs: long (B, 1) and
        steps: long (B, C): where the steps lie in the buffer's (N, T) arrays.
        context: how many leading outputs belong to the frames before the run (H - 1).
    """

    inputs: dict[str, Tensor]
    envs: Tensor
    steps: Tensor
    context: int

    def of(self, array: Tensor) -> Tensor:
        """The entries (B, C, ...) of an (N, n_steps, ...) array."""
        return array[self.envs, self.steps]

    def with_context(self, array: Tensor) -> Tensor:
        """As `of`, with zeros for the frames before each run: (B, H - 1 + C, ...)."""
        found = self.of(array)
        return torch.cat([found.new_zeros((len(found), self.context, *found.shape[2:])), found], 1)


class SequenceRolloutBuffer:
    """Rollouts of a policy that attends to the last H steps of an episode.

    Args:
        n_steps: steps of each environment in a rollout.
        n_envs: number N of environments.
        history: H, frames in a window.
        feature_dim: D, length of a frame's features.
        channels: 1 + K: the reward and the costs.
        no_action: what stands for "no previous action": an integer for discrete actions, a zero
            vector for continuous ones.
        keep_frames: also store what the features were computed from (perception is trained).
        sequence: steps in a run of consecutive steps; the largest divisor of `n_steps` up to it is
            taken.
        device: where everything is stored.

    Attributes:
        actions, log_probs, rewards, values, next_values, advantages, returns, ends, valid: of
            each step, (N, n_steps, ...).
        features, prev_actions, segments: of each row, (N, H - 1 + n_steps, ...).
    """

    def __init__(
        self,
        n_steps: int,
        n_envs: int,
        *,
        history: int,
        feature_dim: int,
        channels: int,
        no_action: Tensor,
        keep_frames: bool = False,
        sequence: int = 32,
        device: torch.device | str = "cpu",
    ):
        self.n_steps, self.n_envs, self.history = n_steps, n_envs, history
        self.context = history - 1
        self.keep_frames = keep_frames
        self.no_action = no_action.to(device)
        self.device = torch.device(device)
        self.sequence = max(c for c in range(1, min(sequence, n_steps) + 1) if n_steps % c == 0)
        rows = self.context + n_steps

        def of_steps(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros((n_envs, n_steps, *shape), dtype=dtype, device=device)

        self.features = torch.zeros((n_envs, rows, feature_dim), device=device)
        self.prev_actions = self.no_action.expand(n_envs, rows, *no_action.shape).clone()
        self.segments = torch.full((n_envs, rows), -1, dtype=torch.long, device=device)
        self.frames: dict[str, Tensor] = {}
        self.actions = of_steps(*no_action.shape, dtype=no_action.dtype)
        self.log_probs = of_steps()
        self.rewards, self.values, self.next_values = (of_steps(channels) for _ in range(3))
        self.advantages, self.returns = of_steps(channels), of_steps(channels)
        self.ends = of_steps(dtype=torch.bool)
        self.valid = of_steps(dtype=torch.bool)
        self.extras: dict[str, Tensor] = {}
        self.pos = 0
        self._episode = torch.full((n_envs,), -1, dtype=torch.long, device=device)

    @property
    def _row(self) -> int:
        return self.context + self.pos

    def clear(self) -> None:
        """Forget everything: all environments begin new episodes."""
        self.pos = 0
        self.segments.fill_(-1)
        self._episode.fill_(-1)

    def start_rollout(self) -> None:
        """Keep the last H - 1 frames as the rows before the next rollout."""
        if self.pos:
            for array in (self.features, self.prev_actions, self.segments, *self.frames.values()):
                array[:, : self.context] = array[:, self.pos : self.pos + self.context].clone()
        self.segments[:, self.context :] = -1
        self.pos = 0

    def put_frame(self, starts: Tensor, frame: dict[str, Tensor]) -> None:
        """Note the current frame of each environment.

        Args:
            starts: bool (N,), True where it is the first of an episode.
            frame: `images`, `state`, `tokens`, each (N, ...); stored if `keep_frames`.
        """
        self._episode += starts.to(self._episode)
        self.segments[:, self._row] = self._episode
        previous = self.actions[:, self.pos - 1]  # of the last rollout where pos is 0
        first = starts.view(-1, *[1] * self.no_action.dim())
        self.prev_actions[:, self._row] = torch.where(first, self.no_action, previous)
        if self.keep_frames:
            for name, value in frame.items():
                if name not in self.frames:
                    shape = (self.n_envs, self.context + self.n_steps, *value.shape[1:])
                    self.frames[name] = torch.zeros(shape, dtype=value.dtype, device=self.device)
                self.frames[name][:, self._row] = value

    def window(self) -> dict[str, Tensor]:
        """What the policy acts on besides the current frame.

        Returns:
            features float (N, H - 1, D) of the earlier frames, prev_actions (N, H), mask bool
            (N, H); entries outside the episode are zero or "none", and masked.
        """
        rows = slice(self._row - self.context, self._row + 1)
        segments = self.segments[:, rows]
        return self._cut(
            segments == segments[:, -1:], self.features[:, rows][:, :-1], self.prev_actions[:, rows]
        )

    def window_after(self, envs: Tensor) -> dict[str, Tensor]:
        """As `window`, for the observation that follows the step just put, for some environments.

        Args:
            envs: long (n,), environments whose episode went on to that observation or was cut by
                it.
        """
        rows = torch.arange(self._row - self.context, self._row, device=self.device)
        segments = self.segments[envs[:, None], rows]
        # pos has moved on: the newest stored frame is the last of these rows
        mask = torch.ones((len(envs), self.history), dtype=torch.bool, device=self.device)
        if self.context:
            mask[:, :-1] = segments == segments[:, -1:]
        earlier = self.prev_actions[envs[:, None], rows]
        previous = torch.cat([earlier, self.actions[envs, self.pos - 1][:, None]], 1)
        return self._cut(mask, self.features[envs[:, None], rows], previous)

    def _cut(self, mask: Tensor, features: Tensor, previous: Tensor) -> dict[str, Tensor]:
        inside = mask.view(*mask.shape, *[1] * self.no_action.dim())
        return {
            "mask": mask,
            "features": torch.where(mask[:, :-1, None], features, 0.0),
            "prev_actions": torch.where(inside, previous, self.no_action),
        }

    def put_step(
        self,
        *,
        features: Tensor,
        actions: Tensor,
        log_probs: Tensor,
        rewards: Tensor,
        ends: Tensor,
        valid: Tensor,
    ) -> None:
        """Note what was done at the current frame and what came of it.

        Args:
            features: float (N, D), of the current frame.
            actions: (N, ...).
            log_probs: float (N,).
            rewards: float (N, 1 + K), the reward and the costs.
            ends: bool (N,), whether the episode ended with this step.
            valid: bool (N,), False for steps that must not be learned from.
        """
        self.features[:, self._row] = features
        for name, value in (
            ("actions", actions),
            ("log_probs", log_probs),
            ("rewards", rewards),
            ("ends", ends),
            ("valid", valid),
        ):
            getattr(self, name)[:, self.pos] = value
        self.pos += 1

    def note(self, **extras: Tensor) -> None:
        """Keep anything else (N, ...) about the step just put, e.g. privileged vectors."""
        for name, value in extras.items():
            if name not in self.extras:
                shape = (self.n_envs, self.n_steps, *value.shape[1:])
                self.extras[name] = torch.zeros(shape, dtype=value.dtype, device=self.device)
            self.extras[name][:, self.pos - 1] = value

    def estimate(
        self, values: Tensor, next_values: Tensor, *, gamma: Tensor, gae_lambda: float
    ) -> None:
        """Fill in advantages and returns from values (N, n_steps, 1 + K); see `gae`."""
        self.values, self.next_values = values, next_values
        self.advantages, self.returns = generalised_advantages(
            self.rewards,
            values,
            next_values,
            self.ends,
            self.valid,
            gamma=gamma,
            gae_lambda=gae_lambda,
        )

    def minibatches(
        self, size: int, generator: torch.Generator, passes: int = 1
    ) -> Iterator[Minibatch]:
        """Passes over the rollout in random order, about `size` steps at a time."""
        starts = torch.arange(0, self.n_steps, self.sequence, device=self.device)
        runs = torch.cartesian_prod(torch.arange(self.n_envs, device=self.device), starts)
        for _ in range(passes):
            order = torch.randperm(len(runs), generator=generator).to(self.device)
            for chosen in runs[order].split(max(1, size // self.sequence)):
                yield self.minibatch(chosen[:, 0], chosen[:, 1])

    def minibatch(self, envs: Tensor, starts: Tensor) -> Minibatch:
        """The runs that begin at step `starts` of environments `envs`, long (B,) each."""
        run = torch.arange(self.context + self.sequence, device=self.device)
        rows, env = starts[:, None] + run, envs[:, None]
        inputs: dict[str, Any] = {
            "prev_actions": self.prev_actions[env, rows],
            "segments": self.segments[env, rows],
        }
        if self.keep_frames:
            inputs |= {name: frames[env, rows] for name, frames in self.frames.items()}
        else:
            inputs["features"] = self.features[env, rows]
        steps = starts[:, None] + torch.arange(self.sequence, device=self.device)
        return Minibatch(inputs=inputs, envs=env, steps=steps, context=self.context)
