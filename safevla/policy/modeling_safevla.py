"""The vision-language-action policy: perception, a causal decoder over H frames, heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils.generic import ModelOutput

from safevla.policy.configuration_safevla import IMAGENET, SafeVLAConfig
from safevla.policy.heads import HEADS, value_head
from safevla.policy.towers import Block, build_tower

MODES = ("act", "evaluate", "bc")
PAD, UNKNOWN = 0, 1


@dataclass
class VLAOutput(ModelOutput):
    """What the policy says about the current step of each window.

    With mode "bc" every field describes all T positions and carries a T axis after B.

    Attributes:
        actions: long (B,), or float (B, A) for continuous heads; given ones are returned.
        log_prob: log-probability of `actions`, (B,).
        entropy: entropy of the action distribution in nats, (B,).
        logits: (B, A) logits, (B, A) means, or (B, A, bins) logits, by action head.
        value: estimate of the discounted reward to come, (B,).
        cost_values: estimate of each discounted cost to come, (B, K).
        features: features of the last frame, (B, D), as :meth:`VLAPolicy.encode` gives them.
        hidden: output of the decoder, (B, d).
        aux: prediction of the auxiliary targets, (B, aux_dim), None without that head.
    """

    actions: Tensor | None = None
    log_prob: Tensor | None = None
    entropy: Tensor | None = None
    logits: Tensor | None = None
    value: Tensor | None = None
    cost_values: Tensor | None = None
    features: Tensor | None = None
    hidden: Tensor | None = None
    aux: Tensor | None = None


class TextEncoder(nn.Module):
    """Word embeddings, one transformer block, masked mean; unknown words are exactly zero."""

    def __init__(self, config: SafeVLAConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(config.text_vocab_size, config.text_dim, padding_idx=UNKNOWN)
        self.position = nn.Embedding(config.text_max_tokens, config.text_dim)
        self.block = Block(config.text_dim, 4, 2)
        self.project = nn.Linear(config.text_dim, config.text_dim)

    def reset(self) -> None:
        """Start with weak positions: which words are there matters first."""
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, tokens: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Long (N, L) tokens and optional bool (N, L) mask (True: a word) in, (N, text_dim) out."""
        words = tokens != PAD if token_mask is None else token_mask.bool()
        x = self.embed(tokens) + self.position.weight[: tokens.shape[1]]
        itself = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)
        x = self.block(x, words[:, None, None, :] | itself)
        weight = words[..., None].to(x.dtype)
        return F.relu(self.project((x * weight).sum(1) / weight.sum(1).clamp(min=1)))


class VLAPolicy(PreTrainedModel):
    """A vision-language-action policy with one reward critic and one critic per constraint.

    `forward` is the only entry that computes gradients. The features of a frame are
    `[vision | text | auxiliary prediction | state]`; they depend on that frame and its instruction
    alone, so that acting may keep them and PPO may train from them once perception is frozen.
    """

    config_class = SafeVLAConfig  # pyright: ignore[reportAssignmentType]
    base_model_prefix = "safevla"
    main_input_name = "images"

    def __init__(self, config: SafeVLAConfig) -> None:
        super().__init__(config)
        width = config.d_model
        self.text = TextEncoder(config)
        self.camera = nn.Embedding(len(config.cameras), config.text_dim)
        self.vision = build_tower(config)
        self.perceived_dim = self.vision.out_dim * len(config.cameras) + config.text_dim
        if config.aux_dim:
            self.aux_head = nn.Sequential(
                nn.Linear(self.perceived_dim, 128), nn.ReLU(), nn.Linear(128, config.aux_dim)
            )
        self.frame = nn.Sequential(
            nn.Linear(self.feature_dim, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.age = nn.Embedding(config.history, width)
        self.decoder = nn.ModuleList(
            Block(width, config.n_heads, 2) for _ in range(config.n_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.action_head = HEADS[config.action_head](config)
        self.value_head = value_head(width)
        self.cost_heads = nn.ModuleList(value_head(width) for _ in config.constraint_names)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        for name in ("reset_parameters", "reset"):
            if callable(reset := getattr(module, name, None)):
                reset()
        if module is self:
            nn.init.normal_(self.camera.weight, std=0.02)
            nn.init.normal_(self.age.weight, std=0.02)

    @property
    def feature_dim(self) -> int:
        """Length D of a frame's features."""
        return self.perceived_dim + self.config.aux_dim + self.config.state_dim

    def perception_parameters(self) -> list[nn.Parameter]:
        """Parameters of everything that computes `features`."""
        parts = [self.text, self.camera, self.vision]
        if self.config.aux_dim:
            parts.append(self.aux_head)
        return [p for part in parts for p in part.parameters()]

    def freeze_perception(self) -> None:
        """Stop gradients to vision, text and auxiliary head, so that features may be cached."""
        for parameter in self.perception_parameters():
            parameter.requires_grad_(False)

    # ------------------------------------------------------------------ perception

    def encode(
        self, images: Tensor, state: Tensor, tokens: Tensor, token_mask: Tensor | None = None
    ) -> Tensor:
        """Features, float (B, D), of single frames; see `forward` for the arguments."""
        return self._encode(images, state, self.text(tokens, token_mask))

    def _encode(self, images: Tensor, state: Tensor, text: Tensor) -> Tensor:
        count, cameras = images.shape[:2]
        if cameras != len(self.config.cameras) or images.shape[-1] != 3:
            raise ValueError(
                f"images has shape {tuple(images.shape)}: must be (B, {len(self.config.cameras)}, "
                "h, w, 3), one image for each of cameras=" + ", ".join(self.config.cameras)
            )
        mean = torch.tensor(self.config.pixel_mean, device=images.device)[:, None, None]
        std = torch.tensor(self.config.pixel_std, device=images.device)[:, None, None]
        pixels = images.flatten(0, 1).permute(0, 3, 1, 2).to(text.dtype)
        pixels = ((pixels / 255 - mean) / std).to(text.dtype)
        condition = (text[:, None] + self.camera.weight).flatten(0, 1)
        seen = self.vision(pixels, condition).view(count, -1)
        perceived = torch.cat([seen, text], -1)
        parts = [perceived, state.to(perceived.dtype)]
        if self.config.aux_dim:
            parts.insert(1, self.aux_head(perceived))
        return torch.cat(parts, -1)

    def _frames(
        self,
        images: Tensor | None,
        features: Tensor | None,
        state: Tensor | None,
        tokens: Tensor | None,
        token_mask: Tensor | None,
    ) -> Tensor:
        """(B, T, D): given features first, the remaining, latest frames encoded from images."""
        if images is None:
            if features is None:
                raise ValueError("images and features are both None: give at least one")
            return features
        if state is None or tokens is None:
            raise ValueError("state and tokens must be given where images are")
        batch, new = images.shape[:2]
        if tokens.dim() == 3:
            unique, inverse = tokens[:, -new:].flatten(0, 1).unique(dim=0, return_inverse=True)
            text = self.text(unique)[inverse]
        else:
            text = self.text(tokens, token_mask).repeat_interleave(new, 0)
        encoded = self._encode(images.flatten(0, 1), state[:, -new:].flatten(0, 1), text)
        encoded = encoded.view(batch, new, -1)
        return encoded if features is None else torch.cat([features.to(encoded), encoded], 1)

    # ------------------------------------------------------------------ decoder

    def _embed(self, features: Tensor, prev_actions: Tensor) -> Tensor:
        """Decoder inputs (B, T, d); no gradient flows into the auxiliary prediction."""
        aux = slice(self.perceived_dim, self.perceived_dim + self.config.aux_dim)
        parts = (features[..., : aux.start], features[..., aux].detach(), features[..., aux.stop :])
        return self.frame(torch.cat(parts, -1)) + self.action_head.embed(prev_actions)

    def _decode(self, frames: Tensor, valid: Tensor) -> Tensor:
        """Output for the last frame of windows: (W, T, d) and bool (W, T) in, (W, d) out."""
        length = frames.shape[1]
        if length > self.config.history:
            raise ValueError(f"windows have {length} frames: at most history={self.config.history}")
        age = torch.arange(length - 1, -1, -1, device=frames.device)
        valid = valid | (age == 0)
        x = torch.where(valid[..., None], frames + self.age(age), 0)
        itself = torch.eye(length, dtype=torch.bool, device=frames.device)
        allowed = (itself.cumsum(-1).T.bool() & valid[:, None, None, :]) | itself
        last = len(self.decoder) - 1
        for i, block in enumerate(self.decoder):
            x = block(x, allowed[:, :, -1:] if i == last else allowed, last_only=i == last)
        return self.norm(x[:, -1])

    def _decode_all(self, frames: Tensor, segments: Tensor) -> Tensor:
        """Output for every frame from its own window of H frames: (B, T, d) in and out."""
        batch, length, width = frames.shape
        history = min(self.config.history, length)
        offset = torch.arange(1 - history, 1, device=frames.device)
        index = torch.arange(length, device=frames.device)[:, None] + offset
        inside = index >= 0
        index = index.clamp(min=0)
        same = segments[:, index] == segments[..., None]
        valid = inside & same & (segments[..., None] >= 0)
        windows = frames[:, index].reshape(batch * length, history, width)
        return self._decode(windows, valid.flatten(0, 1)).view(batch, length, width)

    # ------------------------------------------------------------------ entry

    def forward(
        self,
        *,
        prev_actions: Tensor,
        images: Tensor | None = None,
        features: Tensor | None = None,
        state: Tensor | None = None,
        tokens: Tensor | None = None,
        token_mask: Tensor | None = None,
        mask: Tensor | None = None,
        segments: Tensor | None = None,
        actions: Tensor | None = None,
        mode: str = "evaluate",
        deterministic: bool = False,
        generator: torch.Generator | None = None,
        **_: Any,
    ) -> VLAOutput:
        """Run the policy on windows that end at the current step, or on every step of sequences.

        Args:
            prev_actions: the action executed before each frame: long (B, T), n_actions for none; or
                float (B, T, A), zeros for none, for continuous heads.
            images: uint8 (B, T, N_cam, h, w, 3), or only the latest frames where `features` holds
                the earlier ones; None where `features` holds all.
            features: float (B, T, D) or the earlier frames' (B, T', D).
            state: float (B, T, S), normalised; needed for the frames that have images.
            tokens: long (B, L), or (B, T, L) where rows mix instructions; needed with images.
            token_mask: bool (B, L), True where there is a word; None reads it off the tokens.
            mask: bool (B, T), True where a frame belongs to the last frame's episode; None for all.
            segments: with mode "bc", long (B, T) episode number of each frame, -1 for padding; None
                takes 0 where `mask` holds and -1 elsewhere.
            actions: actions to rate, (B,), (B, A), or with a T axis in mode "bc"; None chooses
                them.
            mode: "act" (no gradients), "evaluate", or "bc": every position of sequences of any
                length, each attending to exactly the H frames the other modes would give it.
            deterministic: take the most probable action where none is given.
            generator: source of randomness where none is given.

        Returns:
            :class:`VLAOutput`.

        Raises:
            ValueError: unknown mode, or windows longer than H.
        """
        if mode not in MODES:
            raise ValueError(f"mode={mode!r}: allowed are {', '.join(MODES)}")
        with torch.set_grad_enabled(mode != "act" and torch.is_grad_enabled()):
            frames = self._frames(images, features, state, tokens, token_mask)
            embedded = self._embed(frames, prev_actions)
            if mask is None:
                mask = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
            if mode == "bc":
                segments = mask.long() - 1 if segments is None else segments
                hidden = self._decode_all(embedded, segments)
            else:
                frames = frames[:, -1]
                hidden = self._decode(embedded, mask.bool())
            return self._heads(hidden, frames, actions, deterministic, generator)

    def _heads(
        self,
        hidden: Tensor,
        features: Tensor,
        actions: Tensor | None,
        deterministic: bool,
        generator: torch.Generator | None,
    ) -> VLAOutput:
        logits = self.action_head(hidden)
        if actions is None:
            actions = self.action_head.choose(logits.detach(), deterministic, generator)
        basis = hidden.detach() if self.config.detach_values else hidden
        costs = [hidden.new_zeros((*hidden.shape[:-1], 0))]
        costs += [head(basis) for head in self.cost_heads]
        aux = slice(self.perceived_dim, self.perceived_dim + self.config.aux_dim)
        return VLAOutput(
            actions=actions,
            log_prob=self.action_head.log_prob(logits, actions),
            entropy=self.action_head.entropy(logits),
            logits=logits,
            value=self.value_head(basis).squeeze(-1),
            cost_values=torch.cat(costs, -1),
            features=features,
            hidden=hidden,
            aux=features[..., aux] if self.config.aux_dim else None,
        )


def build_policy(config: SafeVLAConfig) -> VLAPolicy:
    """Build a policy with fresh weights; a "pretrained" tower's are read from `vision_name`.

    That is a local folder or hub name of a transformers vision model, or of a vision-text model
    whose vision part is taken. Code from the hub is never run.

    Raises:
        ValueError: "pretrained" without `vision_name`.
    """
    if config.vision_tower != "pretrained":
        return VLAPolicy(config)
    if not config.vision_name:
        raise ValueError("vision_name=None: a 'pretrained' tower needs a local folder or hub name")
    source = AutoModel.from_pretrained(config.vision_name)
    source = getattr(source, "vision_model", source)
    fields = config.to_dict() | {"vision_config": source.config.to_dict()}
    if (config.pixel_mean, config.pixel_std) == IMAGENET:
        fields.update(pixel_mean=None, pixel_std=None)
    for name in ("model_type", "transformers_version", "architectures"):
        fields.pop(name, None)
    policy = VLAPolicy(SafeVLAConfig(**fields))
    policy.vision.backbone.load_state_dict(source.state_dict())
    return policy


AutoConfig.register("safevla", SafeVLAConfig, exist_ok=True)
AutoModel.register(SafeVLAConfig, VLAPolicy, exist_ok=True)
