"""Visual perturbations of camera images: lighting and colour, levels 1 to 5.

A perturbation changes pixels and nothing else: state, costs and events of an episode stay bit for
bit what they are without it. One set of parameters is drawn per episode and held to its end, as
lamps and a camera's white balance are. The *strength* depends on the level alone; only signs and
directions are drawn (brighter or darker, warmer or cooler, where the light falls off), so that two
episodes of a level are equally hard. What was drawn is in `info["perturbation"]`.

| axis, parameter         | effect on x in [0, 1]               |  1   |  2   |  3   |  4   |  5   |
|-------------------------|-------------------------------------|------|------|------|------|------|
| lighting, gain          | x * gain, or x / gain               | 1.10 | 1.20 | 1.30 | 1.45 | 1.60 |
| lighting, gamma         | x ^ (1 / gamma), or x ^ gamma       | 1.10 | 1.25 | 1.40 | 1.60 | 1.80 |
| lighting, gradient      | down to x * (1 - gradient), one way | 0.10 | 0.20 | 0.30 | 0.45 | 0.60 |
| lighting, contrast      | 0.5 + contrast * (x - 0.5)          | 0.95 | 0.88 | 0.80 | 0.70 | 0.60 |
| colour, hue (degrees)   | rotation about grey, luminance kept |   8  |  16  |  24  |  36  |  48  |
| colour, saturation      | distance from grey times or over it | 1.15 | 1.35 | 1.60 | 2.00 | 2.50 |
| colour, white_balance   | red and blue times 1 + w and 1 - w  | 0.05 | 0.10 | 0.16 | 0.23 | 0.32 |

Gain and gamma go the same way (both brighten or both darken). With both axes lighting comes first.
The numbers are ours: level 1 is a change between two lamps of one room, level 5 leaves objects
recognisable to a person but few of their colours.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

__all__ = ["AXES", "LEVELS", "STRENGTHS", "VisualPerturbation", "make_perturbed"]

LEVELS = (1, 2, 3, 4, 5)
AXES = ("lighting", "colour", "lighting+colour")

STRENGTHS: dict[str, dict[str, tuple[float, ...]]] = {
    "lighting": {
        "gain": (1.10, 1.20, 1.30, 1.45, 1.60),
        "gamma": (1.10, 1.25, 1.40, 1.60, 1.80),
        "gradient": (0.10, 0.20, 0.30, 0.45, 0.60),
        "contrast": (0.95, 0.88, 0.80, 0.70, 0.60),
    },
    "colour": {
        "hue": (8.0, 16.0, 24.0, 36.0, 48.0),
        "saturation": (1.15, 1.35, 1.60, 2.00, 2.50),
        "white_balance": (0.05, 0.10, 0.16, 0.23, 0.32),
    },
}
"""Strength of each parameter at levels 1 to 5, by axis."""

LUMA = np.array([0.2126, 0.7152, 0.0722])
"""Rec. 709 luminance of red, green and blue."""


class VisualPerturbation(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Perturbs every `<camera>_image` of the observation.

    The draw follows the environment's `np_random` without advancing it: the same `reset(seed=s)`
    gives the same perturbation, later unseeded resets give new ones, and the environment's own
    random numbers are untouched.

    Args:
        env: environment with a `Dict` observation holding uint8 (H, W, 3) boxes `*_image`.
        axis: `"lighting"`, `"colour"` or `"lighting+colour"`.
        level: 1 to 5, see the table above.

    Raises:
        ValueError: an axis or level that does not exist, or no image to perturb.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], *, axis: str = "lighting+colour", level: int = 3
    ) -> None:
        RecordConstructorArgs.__init__(self, axis=axis, level=level)
        super().__init__(env)
        if axis not in AXES:
            raise ValueError(f"axis={axis!r}: must be one of {', '.join(map(repr, AXES))}")
        if level not in LEVELS:
            raise ValueError(f"level={level!r}: must be one of {', '.join(map(str, LEVELS))}")
        self.axis = axis
        self.level = int(level)
        self._keys = _image_keys(env.observation_space)
        self._episode = 0
        self._parameters: dict[str, dict[str, float]] = {}
        self._apply = _Transform({})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets the environment and draws the perturbation of the new episode."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._episode = 0 if seed is not None else self._episode + 1
        rng = _shadow_generator(self.env.unwrapped.np_random, self._episode)
        self._parameters = {}
        for axis in self.axis.split("+"):
            strength = {name: by[self.level - 1] for name, by in STRENGTHS[axis].items()}
            self._parameters[axis] = _DRAW[axis](**strength, rng=rng)
        self._apply = _Transform(self._parameters)
        return self._observation(obs), self._logged(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps the environment; only the images of the observation differ."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._observation(obs), reward, terminated, truncated, self._logged(info)

    def perturb(self, image: np.ndarray) -> np.ndarray:
        """The current episode's perturbation of any other frame, for videos.

        Args:
            image: uint8 (H, W, 3).

        Returns:
            A new uint8 (H, W, 3).
        """
        return self._apply(image)

    def _observation(self, obs: dict[str, Any]) -> dict[str, Any]:
        return {key: self._apply(obs[key]) if key in self._keys else obs[key] for key in obs}

    def _logged(self, info: dict[str, Any]) -> dict[str, Any]:
        drawn = {name: dict(values) for name, values in self._parameters.items()}
        return {**info, "perturbation": {"axis": self.axis, "level": self.level, **drawn}}


def make_perturbed(
    env: gymnasium.Env[Any, Any], axis: str = "lighting+colour", level: int = 3
) -> VisualPerturbation:
    """Wraps `env` so that its images are perturbed; see :class:`VisualPerturbation`."""
    return VisualPerturbation(env, axis=axis, level=level)


def _image_keys(space: gymnasium.Space[Any]) -> tuple[str, ...]:
    if not isinstance(space, spaces.Dict):
        raise ValueError(f"observation space is {type(space).__name__}: a Dict is needed")
    keys = tuple(
        key
        for key, box in space.spaces.items()
        if key.endswith("_image") and isinstance(box, spaces.Box) and box.dtype == np.uint8
    )
    if not keys:
        raise ValueError(f"no image among observations {sorted(space.spaces)}: cameras is empty")
    return keys


def _shadow_generator(np_random: np.random.Generator, episode: int) -> np.random.Generator:
    """A generator that depends on the state of another one and leaves it as it is."""
    state = np_random.bit_generator.state["state"]
    words = [
        int(word)
        for name in sorted(state)
        for word in np.atleast_1d(np.asarray(state[name], dtype=object))
    ]
    return np.random.default_rng([*words, episode])


def _draw_lighting(gain: float, gamma: float, rng: np.random.Generator, **held: float) -> Any:
    sign = 1.0 if rng.random() < 0.5 else -1.0
    direction = float(rng.uniform(0.0, 360.0))
    return {"gain": gain**sign, "gamma": gamma**-sign, "gradient_direction": direction, **held}


def _draw_colour(
    hue: float, saturation: float, white_balance: float, rng: np.random.Generator
) -> dict[str, float]:
    turn, power, warmth = (1.0 if rng.random() < 0.5 else -1.0 for _ in range(3))
    return {
        "hue": turn * hue,
        "saturation": saturation**power,
        "white_balance": warmth * white_balance,
    }


_DRAW = {"lighting": _draw_lighting, "colour": _draw_colour}


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


class _Transform:
    """Drawn parameters compiled into a table, a mask and a matrix."""

    def __init__(self, parameters: dict[str, dict[str, float]]) -> None:
        self._lighting = parameters.get("lighting")
        x = np.linspace(0.0, 1.0, 256)
        if self._lighting is not None:
            x = self._lighting["gain"] * x ** self._lighting["gamma"]
        self._table = np.minimum(x, 1.0).astype(np.float32)
        colour = parameters.get("colour")
        self._matrix = None if colour is None else colour_matrix(**colour).T.astype(np.float32)
        self._masks: dict[tuple[int, int], np.ndarray] = {}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image is {image.dtype} {image.shape}: must be uint8 (H, W, 3)")
        x = self._table[image]
        if self._lighting is not None:
            x = x * self._mask(image.shape[0], image.shape[1])
            x = 0.5 + np.float32(self._lighting["contrast"]) * (x - 0.5)
        if self._matrix is not None:
            x = x @ self._matrix
        return np.rint(np.clip(x, 0.0, 1.0) * 255.0).astype(np.uint8)

    def _mask(self, height: int, width: int) -> np.ndarray:
        """float32 (H, W, 1): 1 on the lit side, falling to 1 - gradient on the other."""
        assert self._lighting is not None
        if (height, width) not in self._masks:
            angle = np.deg2rad(self._lighting["gradient_direction"])
            v, u = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
            along = np.cos(angle) * u + np.sin(angle) * v
            fall = (along - along.min()) / max(float(np.ptp(along)), 1e-9)
            mask = 1.0 - self._lighting["gradient"] * fall
            self._masks[height, width] = mask[..., None].astype(np.float32)
        return self._masks[height, width]
