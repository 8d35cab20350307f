"""Perturbations of images as they come: light, colour, focus, noise, dirt.

One set of parameters is drawn per episode and held to its end, as lamps and a camera's white
balance are; only the noise is new in every image.

| axis, parameter         | effect on x in [0, 1]               |  1   |  2   |  3   |  4   |  5   |
|-------------------------|-------------------------------------|------|------|------|------|------|
| lighting, gain          | x * gain, or x / gain               | 1.10 | 1.20 | 1.30 | 1.45 | 1.60 |
| lighting, gamma         | x ^ (1 / gamma), or x ^ gamma       | 1.10 | 1.25 | 1.40 | 1.60 | 1.80 |
| lighting, gradient      | down to x * (1 - gradient), one way | 0.10 | 0.20 | 0.30 | 0.45 | 0.60 |
| lighting, contrast      | 0.5 + contrast * (x - 0.5)          | 0.95 | 0.88 | 0.80 | 0.70 | 0.60 |
| colour, hue (degrees)   | rotation about grey, luminance kept |   8  |  16  |  24  |  36  |  48  |
| colour, saturation      | distance from grey times or over it | 1.15 | 1.35 | 1.60 | 2.00 | 2.50 |
| colour, white_balance   | red and blue times 1 + w and 1 - w  | 0.05 | 0.10 | 0.16 | 0.23 | 0.32 |

Gain and gamma go the same way (both brighten or both darken). The numbers are ours: level 1 is a
change between two lamps of one room, level 5 leaves objects recognisable to a person but few of
their colours.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium
import numpy as np
from scipy.ndimage import gaussian_filter1d

from safevla_envs.perturb.effect import Axis, Effect, image_keys, on_images

__all__ = ["LUMA", "PIXEL_AXES", "colour_matrix"]

LUMA = np.array([0.2126, 0.7152, 0.0722])
"""Rec. 709 luminance of red, green and blue."""
REFERENCE_SIZE = 128
"""px; a blur of so many pixels is of an image of this height, and grows with the image."""
_LIGHTING = {
    "gain": (1.10, 1.20, 1.30, 1.45, 1.60),
    "gamma": (1.10, 1.25, 1.40, 1.60, 1.80),
    "gradient": (0.10, 0.20, 0.30, 0.45, 0.60),
    "contrast": (0.95, 0.88, 0.80, 0.70, 0.60),
}
_COLOUR = {
    "hue": (8.0, 16.0, 24.0, 36.0, 48.0),
    "saturation": (1.15, 1.35, 1.60, 2.00, 2.50),
    "white_balance": (0.05, 0.10, 0.16, 0.23, 0.32),
}


class _OnImages(Effect):
    """Changes each image by itself."""

    def attach(self, env: gymnasium.Env[Any, Any]) -> None:
        self.keys = image_keys(env.observation_space)

    def observation(self, obs: Any) -> Any:
        return on_images(obs, self.keys, lambda key, image: self.image(image))

    def image(self, image: np.ndarray) -> np.ndarray:
        """Returns another uint8 (H, W, 3)."""
        raise NotImplementedError


class Lighting(_OnImages):
    """Brighter or darker, flatter, and darker towards one side."""

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        drawn = {name: by[self.level - 1] for name, by in _LIGHTING.items()}
        sign = 1.0 if rng.random() < 0.5 else -1.0
        drawn["gain"], drawn["gamma"] = drawn["gain"] ** sign, drawn["gamma"] ** -sign
        drawn["gradient_direction"] = float(rng.uniform(0.0, 360.0))
        self._drawn, self._masks = drawn, {}
        table = drawn["gain"] * np.linspace(0.0, 1.0, 256) ** drawn["gamma"]
        self._table = np.minimum(table, 1.0).astype(np.float32)
        return drawn

    def image(self, image: np.ndarray) -> np.ndarray:
        lit = self._table[image] * self._mask(*image.shape[:2])
        return _bytes(0.5 + np.float32(self._drawn["contrast"]) * (lit - 0.5))

    def _mask(self, height: int, width: int) -> np.ndarray:
        """float32 (H, W, 1): 1 on the lit side, falling to 1 - gradient on the other."""
        if (height, width) not in self._masks:
            angle = np.deg2rad(self._drawn["gradient_direction"])
            v, u = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
            along = np.cos(angle) * u + np.sin(angle) * v
            fall = (along - along.min()) / max(float(np.ptp(along)), 1e-9)
            mask = 1.0 - self._drawn["gradient"] * fall
            self._masks[height, width] = mask[..., None].astype(np.float32)
        return self._masks[height, width]


class Colour(_OnImages):
    """Another hue, saturation and white balance."""

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        turn, power, warmth = (1.0 if rng.random() < 0.5 else -1.0 for _ in range(3))
        by = {name: values[self.level - 1] for name, values in _COLOUR.items()}
        drawn = {
            "hue": turn * by["hue"],
            "saturation": by["saturation"] ** power,
            "white_balance": warmth * by["white_balance"],
        }
        self._matrix = colour_matrix(**drawn).T.astype(np.float32)
        return drawn

    def image(self, image: np.ndarray) -> np.ndarray:
        return _bytes(image.astype(np.float32) / 255.0 @ self._matrix)


class Blur(_OnImages):
    """Out of focus."""

    def image(self, image: np.ndarray) -> np.ndarray:
        sigma, blurred = self.strength * image.shape[0] / REFERENCE_SIZE, image / np.float32(255.0)
        for _ in range(2):  # along one side, then the other
            blurred = np.tensordot(_blur_matrix(len(blurred), sigma), blurred, 1).swapaxes(0, 1)
        return _bytes(blurred)


class Noise(_OnImages):
    """Gaussian noise of the sensor, new in every image."""

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        self._rng = rng
        return {}

    def image(self, image: np.ndarray) -> np.ndarray:
        noise = self._rng.standard_normal(image.shape, dtype=np.float32)
        return _bytes((image + np.float32(self.strength) * noise) / 255.0)


class Occlusion(_OnImages):
    """A patch that sticks to the lens: a share of the image's area, anywhere in it."""

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        # neither side may be longer than the image's
        aspect = float(np.exp(rng.uniform(-0.5, 0.5)))
        self._drawn = {
            "width": (self.strength / 100.0 * aspect) ** 0.5,
            "height": (self.strength / 100.0 / aspect) ** 0.5,
            "left": float(rng.random()),
            "top": float(rng.random()),
            "grey": int(rng.integers(10, 90)),
        }
        return self._drawn

    def image(self, image: np.ndarray) -> np.ndarray:
        corner = []
        for side, size, start in zip(image.shape, ("height", "width"), ("top", "left")):
            length = round(self._drawn[size] * side)
            first = round(self._drawn[start] * (side - length))
            corner.append(slice(first, first + length))
        covered = image.copy()
        covered[tuple(corner)] = self._drawn["grey"]
        return covered


def colour_matrix(hue: float, saturation: float, white_balance: float) -> np.ndarray:
    """float64 (3, 3): hue rotation, then saturation, then white balance, on RGB columns.

    Args:
        hue: degrees of rotation about the grey axis at constant Rec. 709 luminance.
        saturation: factor on the distance from grey.
        white_balance: relative gain of red; blue gets the opposite.
    """
    grey = np.tile(LUMA, (3, 1))
    quarter = np.array(  # d/d(hue) at 90 degrees, the matrix of the SVG filter `hueRotate`
        [[-0.2126, -0.7152, 0.9278], [0.143, 0.140, -0.283], [-0.7874, 0.7152, 0.0722]]
    )
    angle = np.deg2rad(hue)
    rotation = grey + np.cos(angle) * (np.eye(3) - grey) + np.sin(angle) * quarter
    saturate = grey + saturation * (np.eye(3) - grey)
    balance = np.diag([1.0 + white_balance, 1.0, 1.0 - white_balance])
    return balance @ saturate @ rotation


@cache
def _blur_matrix(size: int, sigma: float) -> np.ndarray:
    """float32 (size, size): a product with it is a Gaussian filter, several times as fast."""
    return gaussian_filter1d(np.eye(size, dtype=np.float32), sigma, axis=0, mode="nearest")


def _bytes(x: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(x, 0.0, 1.0) * 255.0).astype(np.uint8)


PIXEL_AXES = (
    Axis(
        name="lighting",
        kind="visual",
        unit="gain",
        strengths=_LIGHTING["gain"],
        what="brighter or darker, with less contrast and a gradient to one side",
        effect=Lighting,
    ),
    Axis(
        name="colour",
        kind="visual",
        unit="degrees of hue",
        strengths=_COLOUR["hue"],
        what="another hue, saturation and white balance",
        effect=Colour,
    ),
    Axis(
        name="blur",
        kind="visual",
        unit="px (sigma, of 128)",
        strengths=(1.0, 2.0, 3.0, 5.0, 8.0),
        what="out of focus",
        effect=Blur,
    ),
    Axis(
        name="noise",
        kind="visual",
        unit="sigma, of 255",
        strengths=(4.0, 8.0, 16.0, 28.0, 45.0),
        what="Gaussian noise, new in every image",
        effect=Noise,
    ),
    Axis(
        name="occlusion",
        kind="visual",
        unit="% of the image",
        strengths=(2.0, 5.0, 10.0, 17.0, 25.0),
        what="an opaque patch on the lens",
        effect=Occlusion,
    ),
)
