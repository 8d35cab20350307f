"""Behaviour cloning: settings, and the call that turns demonstrations into a policy.

Importing this module needs no torch, so that the command line can show its options at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["BCConfig", "PolicyConfig", "clone"]


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Size of the policy to train; what the data fixes (cameras, actions, words) is not here.

    Attributes:
        vision_tower: "film", "siglip", "dinov2" or "pretrained".
        vision_name: folder or hub name of a pretrained tower.
        vision_config: fields of a transformers vision configuration.
        film_channels: channels of the FiLM blocks.
        history: frames H the decoder sees.
        d_model: width of the decoder.
        n_layers: decoder layers.
        n_heads: attention heads.
        text_dim: width of the text encoder.
        text_max_tokens: words per instruction.
    """

    vision_tower: str = "film"
    vision_name: str | None = None
    vision_config: dict[str, Any] = field(default_factory=dict)
    film_channels: tuple[int, ...] = (16, 32, 48)
    history: int = 8
    d_model: int = 128
    n_layers: int = 2
    n_heads: int = 4
    text_dim: int = 64
    text_max_tokens: int = 24


@dataclass(frozen=True, kw_only=True)
class BCConfig:
    """Settings of behaviour cloning.

    Attributes:
        updates: gradient steps.
        batch: chunks per update; an update sees batch * chunk frames.
        chunk: consecutive frames per chunk. Each is encoded once; the loss is taken at every frame,
            with the window of up to H frames of the same episode that the chunk holds before it.
        lr: peak learning rate of AdamW.
        warmup: updates of linear warm-up; the rate then falls linearly to zero.
        weight_decay: of weight matrices.
        max_grad_norm: gradients are scaled down to this norm.
        label_smoothing: probability spread over the other moves where the expert moves; never onto
            the action that ends an episode, whose steps are not smoothed either.
        smoothing_share: moves that make up less than this share of the labels get no smoothing.
        aux_weight: weight of the auxiliary head's squared error; 0 with no such labels.
        history_dropout: share of chunk positions trained with the current frame alone, so that the
            policy does not merely repeat its past.
        action_dropout: share of previous actions hidden in training, for the same reason.
        brightness: random gain of pixels per chunk, 1 +- this; also per channel with half of it.
        held_out: share of episodes kept for evaluation.
        eval_every: updates between evaluations on held-out episodes.
        checkpoint_every: updates between checkpoints, from which an interrupted run goes on.
        threads: torch threads.
        device: "cpu", "cuda", or "auto".
        seed: of initial weights, batches and dropout.
        policy: size of the policy.
    """

    updates: int = 1500
    batch: int = 8
    chunk: int = 16
    lr: float = 1e-3
    warmup: int = 50
    weight_decay: float = 1e-3
    max_grad_norm: float = 1.0
    label_smoothing: float = 0.05
    smoothing_share: float = 0.005
    aux_weight: float = 2.0
    history_dropout: float = 0.2
    action_dropout: float = 0.3
    brightness: float = 0.1
    held_out: float = 0.05
    eval_every: int = 250
    checkpoint_every: int = 250
    threads: int = 2
    device: str = "auto"
    seed: int = 0
    policy: PolicyConfig = field(default_factory=PolicyConfig)

    def __post_init__(self) -> None:
        for name in ("updates", "batch", "chunk", "eval_every", "checkpoint_every", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"clone.{name}={getattr(self, name)}: must be at least 1")
        if not self.lr > 0:
            raise ValueError(f"clone.lr={self.lr}: must be above 0")
        shares = ("label_smoothing", "history_dropout", "action_dropout", "brightness")
        for name in (*shares, "held_out", "smoothing_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"clone.{name}={getattr(self, name)}: must be in [0, 1)")
        for name in ("aux_weight", "weight_decay", "warmup"):
            if getattr(self, name) < 0:
                raise ValueError(f"clone.{name}={getattr(self, name)}: must be at least 0")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"clone.device={self.device!r}: allowed are auto, cpu, cuda")


def clone(
    demos_dir: str | Path,
    out_dir: str | Path,
    config: BCConfig | None = None,
    *,
    progress: bool | Progress = False,
) -> dict[str, Any]:
    """Clone the demonstrations of a folder into a checkpoint folder.

    Called again after an interruption, with the same settings, it goes on from the last checkpoint
    and ends with the weights an uninterrupted run would have had.

    Args:
        demos_dir: folder written by :func:`safevla.demos.collect`.
        out_dir: checkpoint folder to write; `training/` inside holds the optimiser while it runs.
        config: settings; None takes the defaults.
        progress: draw a progress bar (or one more task in a given `Progress`).

    Returns:
        Summary: updates, parameters, frames, held-out accuracy, cross-entropy, entropy and R2 of
        the auxiliary head, `history` of evaluations, seconds, samples per second.

    Raises:
        ValueError: no demonstrations in the folder, too few of them, or a checkpoint of other
            settings in `out_dir`.
    """
    # Read when libgomp is loaded: threads that spin while they wait cost a busy machine up to seven
    # times the speed with two threads.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    from safevla.train.cloning import Cloning

    return Cloning(demos_dir, out_dir, config or BCConfig()).run(progress)
