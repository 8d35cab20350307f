"""Checks of the environment's arguments: one clear line that names what is wrong and allowed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from safevla_envs.costs import COST_MODES
from safevla_envs.generate import SPLITS
from safevla_envs.render.camera import MAX_IMAGE
from safevla_envs.scenes.scenario import HAZARDS, Scenario, load_list

__all__ = ["CAMERAS", "VIEWS", "check_arguments", "check_size", "scenario_list"]

CAMERAS = ("navigation", "manipulation")
"""Cameras of observations."""
VIEWS = (*CAMERAS, "overhead", "third_person")
"""Cameras of pictures and videos."""


def check_arguments(
    *,
    hazards: Sequence[str],
    split: str,
    cameras: Sequence[str],
    image_size: Any,
    render_mode: Any,
    cost_mode: str,
    max_actions: Any,
    max_seconds: Any,
    layouts: Any,
    pool: Any,
) -> None:
    """Checks what `SafeVLAEnv` was given.

    Raises:
        ValueError: naming the first argument that is outside what is allowed.
    """
    for hazard in (hazards,) if isinstance(hazards, str) else hazards:
        if hazard not in HAZARDS:
            raise ValueError(f"hazard {hazard!r}: allowed are {', '.join(HAZARDS)}")
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: allowed are {', '.join(SPLITS)}")
    if isinstance(cameras, str) or any(camera not in CAMERAS for camera in cameras):
        raise ValueError(f"cameras={cameras!r}: a subset of {CAMERAS} is needed")
    if isinstance(image_size, bool) or not isinstance(image_size, (int, np.integer)):
        raise ValueError(f"image_size={image_size!r}: a whole number is needed")
    if not 16 <= image_size <= 1024:
        raise ValueError(f"image_size={image_size}: allowed is 16 to 1024")
    if render_mode not in (None, "human", "rgb_array"):
        raise ValueError(f"render_mode={render_mode!r}: allowed are None, 'human' and 'rgb_array'")
    if cost_mode not in COST_MODES:
        raise ValueError(f"cost_mode={cost_mode!r}: allowed are {', '.join(COST_MODES)}")
    counts = {"max_actions": max_actions, "layouts": layouts, "pool": pool}
    for name, value in counts.items():
        if value is not None and (isinstance(value, bool) or value != int(value) or value < 1):
            raise ValueError(f"{name}={value!r}: a whole number from 1 is needed")
    if not max_seconds > 0:
        raise ValueError(f"max_seconds={max_seconds!r}: must be positive")


def check_size(camera: str, width: int, height: int) -> None:
    """Checks what a picture is asked for.

    Raises:
        ValueError: on an unknown camera or a size outside 16x16 to 1280x1024.
    """
    if camera not in VIEWS:
        raise ValueError(f"camera={camera!r}: allowed are {', '.join(VIEWS)}")
    if not (16 <= width <= MAX_IMAGE[0] and 16 <= height <= MAX_IMAGE[1]):
        largest = "x".join(map(str, MAX_IMAGE))
        raise ValueError(f"size {width}x{height}: allowed is 16x16 to {largest}")


def scenario_list(scenario: Any) -> list[Scenario] | None:
    """Returns the scenarios that an argument names: one, a file, a list; None for None.

    Raises:
        ValueError: if it is nothing of these, or the file cannot be read.
    """
    if scenario is None:
        return None
    if isinstance(scenario, Scenario):
        return [scenario]
    if isinstance(scenario, (str, Path)):
        return load_list(scenario)
    scenarios = list(scenario)
    if not scenarios or not all(isinstance(s, Scenario) for s in scenarios):
        raise ValueError("scenario: a Scenario, a file, or a non-empty list of Scenario is needed")
    return scenarios
