"""Vision towers: images and an instruction's summary in, one feature vector per frame out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, Dinov2Config, SiglipVisionConfig

from safevla.policy.configuration_safevla import SafeVLAConfig


class Block(nn.Module):
    """A pre-norm transformer block whose queries may be fewer than its keys.

    The hidden width of its feed-forward part is `expansion * width`.
    """

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, expansion * width),
            nn.GELU(),
            nn.Linear(expansion * width, width),
        )

    def forward(self, x: Tensor, mask: Tensor, last_only: bool = False) -> Tensor:
        """(B, T, d) in, (B, T, d) out, or (B, 1, d) with `last_only`.

        `mask` is bool, broadcastable to (B, heads, T or 1, T); True where attention is allowed.
        """
        normed = self.norm(x)
        if last_only:
            x, queries = x[:, -1:], normed[:, -1:]
        else:
            queries = normed
        split = (self.heads, x.shape[-1] // self.heads)
        q = self.query(queries).unflatten(-1, split).transpose(1, 2)
        k, v = self.key_value(normed).chunk(2, -1)
        k = k.unflatten(-1, split).transpose(1, 2)
        v = v.unflatten(-1, split).transpose(1, 2)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(attended.transpose(1, 2).flatten(-2))
        return x + self.feed(x)


class FilmBlock(nn.Module):
    """Convolution, group norm, and a scale and shift per channel given by the condition."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, cond_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.norm = nn.GroupNorm(4, outputs)
        self.film = nn.Linear(cond_dim, 2 * outputs)

    def reset(self) -> None:
        """Start close to no conditioning, so that early training sees plain convolutions."""
        nn.init.normal_(self.film.weight, std=0.05)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, C, h, w) and (N, cond_dim) in, (N, C', h', w') out."""
        scale, shift = self.film(condition)[..., None, None].chunk(2, 1)
        return F.relu(self.norm(self.conv(x)) * (1 + scale) + shift)


class FilmTower(nn.Module):
    """Three FiLM blocks, read out by spatial softmax, channel maxima and a coarse map.

    The read-out was measured to learn "go to the named object" from pixels in minutes on a CPU,
    where small vision transformers had not learned it in the same time.
    """

    pooled_channels = 16

    def __init__(self, config: SafeVLAConfig) -> None:
        super().__init__()
        channels = (3, *config.film_channels)
        self.blocks = nn.ModuleList(
            FilmBlock(channels[i], channels[i + 1], (5, 3, 3)[i], stride, config.text_dim)
            for i, stride in enumerate(config.film_strides)
        )
        self.keys = nn.Conv2d(channels[-1], channels[-1], 1)
        self.pooled = nn.Conv2d(channels[-1], self.pooled_channels, 1)
        rows, columns = config.film_cells
        self.cells = (rows, columns)
        self.out_dim = 3 * channels[-1] + self.pooled_channels * rows * columns

    def forward(self, pixels: Tensor, condition: Tensor) -> Tensor:
        """(N, 3, h, w) normalised pixels and (N, text_dim) in, (N, out_dim) out."""
        x = pixels
        for block in self.blocks:
            x = block(x, condition)
        keys = self.keys(x)
        rows = torch.linspace(-1, 1, keys.shape[-2], device=x.device, dtype=x.dtype)
        columns = torch.linspace(-1, 1, keys.shape[-1], device=x.device, dtype=x.dtype)
        weight = keys.flatten(2).softmax(-1).view_as(keys)
        where = torch.cat([weight.sum(-1) @ rows, weight.sum(-2) @ columns], -1)
        coarse = F.adaptive_avg_pool2d(self.pooled(x), self.cells)
        return torch.cat([where, keys.amax((-2, -1)), coarse.flatten(1)], -1)


def _vision_config(config: SafeVLAConfig) -> Any:
    fields = dict(config.vision_config)
    kind = fields.pop("model_type", None)
    if config.vision_tower == "siglip":
        fields.setdefault("image_size", config.image_size)
        return SiglipVisionConfig(**fields)
    if config.vision_tower == "dinov2":
        return Dinov2Config(**fields)
    if kind is None:
        raise ValueError(
            "vision_config has no 'model_type': a 'pretrained' tower needs the configuration of a "
            "transformers vision model (safevla.policy.build_policy fills it in from vision_name)"
        )
    return AutoConfig.for_model(kind, **fields)


class PatchTower(nn.Module):
    """A transformers vision model, read out by its mean patch and attention from the text."""

    def __init__(self, config: SafeVLAConfig) -> None:
        super().__init__()
        vision = _vision_config(config)
        self.backbone = AutoModel.from_config(vision)
        self.image_size = vision.image_size
        width = int(vision.hidden_size)
        self.query = nn.Linear(config.text_dim, width)
        self.key = nn.Linear(width, width)
        self.out_dim = 2 * width

    def forward(self, pixels: Tensor, condition: Tensor) -> Tensor:
        """(N, 3, h, w) normalised pixels and (N, text_dim) in, (N, out_dim) out."""
        size = (self.image_size,) * 2 if isinstance(self.image_size, int) else self.image_size
        if tuple(pixels.shape[-2:]) != tuple(size):
            pixels = F.interpolate(pixels, tuple(size), mode="bilinear", antialias=True)
        patches = self.backbone(pixel_values=pixels).last_hidden_state
        score = self.key(patches) @ self.query(condition)[..., None]
        weight = (score / patches.shape[-1] ** 0.5).softmax(1)
        return torch.cat([patches.mean(1), (weight * patches).sum(1)], -1)


def build_tower(config: SafeVLAConfig) -> FilmTower | PatchTower:
    """Build the vision tower the configuration names, with fresh weights."""
    return FilmTower(config) if config.vision_tower == "film" else PatchTower(config)
