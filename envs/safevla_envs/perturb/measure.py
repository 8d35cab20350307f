"""How strong the levels are, measured, and what they look like.

`python -m safevla_envs.perturb.measure` writes both into `docs/perturbations.md` and its pictures.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from PIL import Image

from safevla_envs import ENV_IDS
from safevla_envs.generate.goals import TEMPLATES
from safevla_envs.perturb.effect import LEVELS, Axis, Effect
from safevla_envs.perturb.wrapper import AXES, perturb
from safevla_envs.reference import Table, refresh
from safevla_envs.resources import data_root
from safevla_envs.scenes.catalog import CATALOG

__all__ = ["MEASURES", "measure", "measured_table", "picture"]

PAGE = "docs/perturbations.md"
SEEDS = range(4)
ACTIONS = ("rotate_left", "move_ahead", "move_ahead", "rotate_right_small") * 2
DRAWS = 2000
"""Of what needs no simulation."""
SHOWN = (0, 1, 3, 5)
"""Levels of the pictures."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What came of the same actions in the same homes.

    Attributes:
        images: float (n, H, W, 3), 0 to 255.
        state: float (n, 13).
        place: float (n, 2), m; the base after each action.
        lag: float (ticks,), m from the base to its set-point.
        seconds: simulated.
        mass: kg of what can be pushed about.
        friction: mean sliding coefficient.
    """

    images: np.ndarray
    state: np.ndarray
    place: np.ndarray
    lag: np.ndarray
    seconds: float
    mass: float
    friction: float


def measure(axis: Axis) -> tuple[str, tuple[float, ...]]:
    """Returns what was measured, with its unit, and its value at levels 1 to 5."""
    what, how = MEASURES[axis.name if axis.name in MEASURES else axis.kind]
    return what, tuple(how(axis, level) for level in LEVELS[1:])


def measured_table(progress: Callable[[str], None] = lambda text: None) -> Table:
    """Measures every axis."""
    rows = []
    for axis in AXES.values():
        progress(axis.name)
        what, values = measure(axis)
        rows.append((axis.name, what, *(f"{value:.3g}" for value in values)))
    heads = ("axis", "measured", *(f"level {level}" for level in LEVELS[1:]))
    return Table(heads=heads, rows=tuple(rows))


def picture(axis: Axis, env_id: str = ENV_IDS[0], seed: int = 7) -> Image.Image:
    """Returns what the navigation camera sees at levels 0, 1, 3 and 5, side by side."""
    seen = []
    for level in SHOWN:
        env = perturb(gymnasium.make(env_id, cameras=("navigation",)), **{axis.name: level})
        seen.append(env.reset(seed=seed)[0]["navigation_image"])
        env.close()
    return Image.fromarray(np.concatenate(seen, axis=1))


@cache
def _trace(name: str, level: int, cameras: tuple[str, ...]) -> Trace:
    env = perturb(gymnasium.make(ENV_IDS[0], cameras=cameras), **{name: level})
    core: Any = env.unwrapped
    seen, place, lag, seconds = [], [], [], 0.0
    tick = core.sim.tick

    def spied() -> float:
        start = tick()
        lag.append(np.hypot(*(core.sim.base_reference - core.sim.base_pose)[:2]))
        return start

    core.sim.tick = spied
    for seed in SEEDS:
        seen.append(env.reset(seed=seed)[0])
        for action in ACTIONS:
            seen.append(env.step(core.action_names.index(action))[0])
            place.append(core.sim.base_pose[:2])
        seconds += core.sim.time
    model = core.sim.model
    env.close()
    return Trace(
        images=np.array([obs["navigation_image"] for obs in seen] if cameras else [], float),
        state=np.array([obs["state"] for obs in seen]),
        place=np.array(place),
        lag=np.array(lag),
        seconds=seconds,
        mass=model.body_mass[model.jnt_bodyid[model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]].sum(),
        friction=model.geom_friction[:, 0].mean(),
    )


def _against_none(value: Callable[[Trace, Trace], float]) -> Callable[[Axis, int], float]:
    def compared(axis: Axis, level: int) -> float:
        cameras = ("navigation",) if axis.kind == "visual" else ()
        plain = _trace("mass", 0, cameras)  # level 0 is the same on every axis
        return float(value(plain, _trace(axis.name, level, cameras)))

    return compared


def _alone(axis: Axis, level: int, env: gymnasium.Env[Any, Any]) -> Effect:
    effect = axis.effect(axis, level)
    effect.attach(env)
    effect.draw(np.random.default_rng(0))
    return effect


class _Numbered(gymnasium.Env[Any, Any]):
    """Images that are all different, and 20 actions."""

    observation_space = spaces.Box(0, 255, (1, 2, 3), np.uint8)
    action_space = spaces.Discrete(20)

    @staticmethod
    def image(number: int) -> np.ndarray:
        return np.array(
            [[[number // 65536, number // 256 % 256, number % 256], [0, 0, 0]]], np.uint8
        )

    @staticmethod
    def number(image: np.ndarray) -> int:
        return int(image[0, 0] @ [65536, 256, 1])


def _ages(axis: Axis, level: int) -> np.ndarray:
    effect, env = _alone(axis, level, _Numbered()), _Numbered
    got = [env.number(effect.observation(env.image(n))) for n in range(DRAWS)]
    return np.arange(DRAWS) - got


def _flips(axis: Axis, level: int) -> float:
    effect = _alone(axis, level, _Numbered())
    return 100.0 * float(np.mean([effect.action(n % 20) != n % 20 for n in range(DRAWS)]))


def _text(axis: Axis, level: int) -> float:
    rng, effect, far = np.random.default_rng(0), axis.effect(axis, level), []
    words = [word for thing in CATALOG.values() for word in thing.words]
    effect.attach(gymnasium.make(ENV_IDS[0], cameras=()))
    for _ in range(DRAWS // 10):
        effect.draw(rng)
        text = TEMPLATES[rng.integers(len(TEMPLATES))].format(words[rng.integers(len(words))])
        said = effect.instruction(text)
        far.append(1.0 - difflib.SequenceMatcher(None, text, said, autojunk=False).ratio())
    return 100.0 * float(np.mean(far))


MEASURES: dict[str, tuple[str, Callable[[Axis, int], float]]] = {
    "visual": (
        "difference of pixels, mean, of 255",
        _against_none(lambda plain, other: np.abs(plain.images - other.images).mean()),
    ),
    "language": ("text that differs, %", _text),
    "frame_drop": (
        "images that are an earlier one, %",
        lambda axis, level: 100.0 * float(np.mean(_ages(axis, level) > 0)),
    ),
    "frame_delay": (
        "age of an image, observations",
        lambda axis, level: float(np.median(_ages(axis, level))),
    ),
    "proprioception": (
        "error of `state`, RMS, 0.01 m, rad, m/s, rad/s",
        _against_none(
            lambda plain, other: 100.0 * np.sqrt(np.square(plain.state - other.state).mean())
        ),
    ),
    "action_latency": (
        "an action takes longer by, s",
        _against_none(
            lambda plain, other: (other.seconds - plain.seconds) / len(SEEDS) / len(ACTIONS)
        ),
    ),
    "action_noise": ("actions that are another, %", _flips),
    "mass": (
        "mass of what can be pushed, times",
        _against_none(lambda plain, other: other.mass / plain.mass),
    ),
    "friction": (
        "mean sliding friction, times",
        _against_none(lambda plain, other: other.friction / plain.friction),
    ),
    "actuator_gain": (
        "base off its set-point, RMS, mm",
        _against_none(lambda _, other: 1000.0 * np.sqrt(np.square(other.lag).mean())),
    ),
    "damping": (
        "base elsewhere after an action, mean, mm",
        _against_none(
            lambda plain, other: 1000.0 * np.linalg.norm(other.place - plain.place, axis=1).mean()
        ),
    ),
}
"""What is measured and how, by axis or by kind."""


def main() -> None:
    """Writes the page's tables and pictures."""
    folder = data_root() / "docs" / "images"
    for axis in AXES.values():
        if axis.kind == "visual":
            image = picture(axis)
            image.save(folder / f"perturb_{axis.name}.png", optimize=True)
    page = data_root() / PAGE
    text = refresh(page.read_text(encoding="utf-8"))
    before, _, rest = text.partition("<!-- measured -->\n")
    after = rest.partition("<!-- end measured -->")[2]
    made = measured_table(print).markdown()
    page.write_text(
        f"{before}<!-- measured -->\n{made}<!-- end measured -->{after}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
