"""Configuration of :class:`safevla.policy.VLAPolicy`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PretrainedConfig

VISION_TOWERS = ("film", "siglip", "dinov2", "pretrained")
ACTION_HEADS = ("categorical", "gaussian", "binned")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LEAST = {
    "image_size": 8,
    "state_dim": 0,
    "n_actions": 1,
    "n_bins": 2,
    "history": 1,
    "n_layers": 1,
    "n_heads": 1,
    "text_vocab_size": 3,
    "text_max_tokens": 1,
    "aux_dim": 0,
}
CENTRED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _choice(field: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{field}={value!r}: allowed are {', '.join(allowed)}")


def _at_least(field: str, value: Any, low: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{field}={value!r}: must be an integer of at least {low}")


class SafeVLAConfig(PretrainedConfig):
    """Sizes and choices of a vision-language-action policy.

    Args:
        vision_tower: "film" (small convolution stem steered by the text, learns on a CPU in
            minutes), "siglip" or "dinov2" (transformers' towers, built from `vision_config`), or
            "pretrained" (any transformers vision model, described by `vision_config`).
        vision_config: fields of the transformers vision configuration; with "pretrained" it must
            name its `model_type`.
        vision_name: folder or hub name the weights of a "pretrained" tower came from; read once by
            :func:`safevla.policy.build_policy`, kept as a record afterwards.
        cameras: names of the cameras in the order in which images are stacked.
        image_size: height and width of the images in pixels.
        pixel_mean: per channel mean of pixels in [0, 1]; None takes the tower's usual one.
        pixel_std: per channel standard deviation; None takes the tower's usual one.
        film_channels: output channels of the three FiLM blocks.
        film_strides: their strides; None gives a 16-pixel map for 64- and 128-pixel images.
        film_cells: rows and columns of the coarse map that is read out.
        state_dim: entries of the proprioceptive state, S.
        n_actions: discrete actions ("categorical") or action dimensions ("gaussian", "binned").
        n_bins: bins per action dimension of the "binned" head, spread evenly over [-1, 1].
        action_head: "categorical", "gaussian" (unsquashed, deviation independent of the
            state) or "binned".
        action_names: names of the discrete actions, or of the action dimensions.
        end_action: index of the action that ends the episode, None where there is none.
        constraint_names: the K constraints; each gets one cost value head.
        history: frames H the decoder attends to, this one included.
        d_model: width of the decoder.
        n_layers: decoder layers.
        n_heads: attention heads.
        text_vocab_size: words the text encoder knows, padding and unknown included.
        text_max_tokens: words L an instruction may have.
        text_dim: width of the text encoder and of its summary.
        aux_dim: targets of the auxiliary head trained in cloning; 0 builds none.
        detach_values: whether the value heads send no gradient into the trunk.
    """

    model_type = "safevla"

    def __init__(
        self,
        *,
        vision_tower: str = "film",
        vision_config: Mapping[str, Any] | None = None,
        vision_name: str | None = None,
        cameras: Sequence[str] = ("navigation",),
        image_size: int = 64,
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
        film_channels: Sequence[int] = (16, 32, 48),
        film_strides: Sequence[int] | None = None,
        film_cells: Sequence[int] = (4, 4),
        state_dim: int = 16,
        n_actions: int = 20,
        n_bins: int = 256,
        action_head: str = "categorical",
        action_names: Sequence[str] = (),
        end_action: int | None = None,
        constraint_names: Sequence[str] = (),
        history: int = 8,
        d_model: int = 128,
        n_layers: int = 2,
        n_heads: int = 4,
        text_vocab_size: int = 64,
        text_max_tokens: int = 24,
        text_dim: int = 64,
        aux_dim: int = 16,
        detach_values: bool = True,
        **kwargs: Any,
    ) -> None:
        if not cameras or isinstance(cameras, str):
            raise ValueError(f"cameras={cameras!r}: must name at least one camera, as a sequence")
        self.vision_tower = vision_tower
        self.vision_config = dict(vision_config or {})
        self.vision_name = vision_name
        self.cameras = tuple(cameras)
        self.image_size = image_size
        mean, std = IMAGENET if self._imagenet_pixels() else CENTRED
        self.pixel_mean = tuple(pixel_mean or mean)
        self.pixel_std = tuple(pixel_std or std)
        self.film_channels = tuple(film_channels)
        self.film_strides = tuple(film_strides or (2, 2, 2 if image_size > 96 else 1))
        self.film_cells = tuple(film_cells)
        self.state_dim = state_dim
        self.n_actions = n_actions
        self.n_bins = n_bins
        self.action_head = action_head
        self.action_names = tuple(action_names)
        self.end_action = end_action
        self.constraint_names = tuple(constraint_names)
        self.history = history
        self.d_model = d_model
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.text_vocab_size = text_vocab_size
        self.text_max_tokens = text_max_tokens
        self.text_dim = text_dim
        self.aux_dim = aux_dim
        self.detach_values = detach_values
        self._check()
        super().__init__(**kwargs)

    def _check(self) -> None:
        _choice("vision_tower", self.vision_tower, VISION_TOWERS)
        _choice("action_head", self.action_head, ACTION_HEADS)
        for field, low in LEAST.items():
            _at_least(field, getattr(self, field), low)
        if self.d_model % self.n_heads:
            raise ValueError(
                f"d_model={self.d_model}: must be a multiple of n_heads={self.n_heads}"
            )
        if self.text_dim % 4:
            raise ValueError(f"text_dim={self.text_dim}: must be a multiple of 4")
        if len(self.film_channels) != 3 or any(c % 4 for c in self.film_channels):
            raise ValueError(f"film_channels={self.film_channels}: must be three multiples of 4")
        if len(self.film_strides) != 3:
            raise ValueError(f"film_strides={self.film_strides}: must be three integers")
        if len(self.film_cells) != 2 or min(self.film_cells) < 1:
            raise ValueError(f"film_cells={self.film_cells}: must be two integers of at least 1")
        if self.action_names and len(self.action_names) != self.n_actions:
            raise ValueError(
                f"action_names has {len(self.action_names)} entries: must have"
                f" n_actions={self.n_actions}"
            )
        if self.end_action is not None and not 0 <= self.end_action < self.n_actions:
            raise ValueError(f"end_action={self.end_action}: must be in [0, {self.n_actions})")

    def _imagenet_pixels(self) -> bool:
        kind = self.vision_config.get("model_type", self.vision_tower)
        return self.vision_tower != "film" and "siglip" not in kind

    @property
    def discrete(self) -> bool:
        """Whether an action is one integer (head "categorical")."""
        return self.action_head == "categorical"
