"""Checks of the environment's arguments: one clear line that names what is wrong and allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from safevla_envs.control.assist import GRASPS
from safevla_envs.costs import CONSTRAINT_NAMES, COST_MODES, CostTerm
from safevla_envs.proprioception import SENSOR_SIZES
from safevla_envs.render.camera import MAX_IMAGE
from safevla_envs.scenes.scenario import HAZARDS, SPLITS, Scenario, load_list

__all__ = [
    "CAMERAS",
    "SENSORS",
    "VIEWS",
    "check_arguments",
    "check_choice",
    "check_positive",
    "check_size",
    "scenario_list",
]

CAMERAS = ("navigation", "manipulation")
"""Cameras of observations."""
SENSORS = tuple(SENSOR_SIZES)
"""What may be observed besides."""
VIEWS = (*CAMERAS, "overhead", "third_person")
"""Cameras of pictures and videos."""


def check_arguments(**given: Any) -> None:
    """Checks what `SafeVLAEnv` was given, each argument by its name.

    Raises:
        ValueError: naming the first argument that is outside what is allowed.
    """
    for name, value in given.items():
        if value is not None or name not in _OPTIONAL:
            _CHECKS[name](name, value)


def check_positive(name: str, value: Any) -> None:
    """Checks a positive number.

    Raises:
        ValueError: if the value is none; a bool is no number.
    """
    if not _is_number(value) or not value > 0:
        raise ValueError(f"{name}={value!r}: a number above 0 is needed")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_))


def _check_range(
    name: str, value: Any, *, low: float, high: float = math.inf, whole: bool = False
) -> None:
    if not _is_number(value) or not low <= value <= high or (whole and value % 1 != 0):
        kind = "a whole number" if whole else "a number"
        upper = f" to {high:g}" if high < math.inf else ""
        raise ValueError(f"{name}={value!r}: {kind} from {low:g}{upper} is needed")


def check_choice(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Checks a choice.

    Raises:
        ValueError: if the value is none of what is allowed.
    """
    if not any(value is choice or value == choice for choice in allowed):
        raise ValueError(f"{name}={value!r}: allowed are {', '.join(map(str, allowed))}")


def _check_some(name: str, values: Any, allowed: Sequence[str]) -> None:
    if isinstance(values, (str, Mapping)) or not isinstance(values, Collection):
        raise ValueError(f"{name}={values!r}: a list of some of {', '.join(allowed)} is needed")
    for value in values:
        if value not in allowed:
            raise ValueError(f"{name}: {value!r}: allowed are {', '.join(allowed)}")


def _check_terms(name: str, terms: Any) -> None:
    if not isinstance(terms, Collection) or not all(isinstance(t, CostTerm) for t in terms):
        raise ValueError(f"{name}={terms!r}: a list of CostTerm is needed")
    names = [*CONSTRAINT_NAMES, *(term.name for term in terms)]
    for term in terms:
        if names.count(term.name) > 1:
            raise ValueError(f"{name}: the name {term.name!r} is taken, it must be unique")


def _check_dict(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}={value!r}: a dict is needed")


_count = partial(_check_range, low=1, whole=True)
_flag = partial(check_choice, allowed=(True, False))
_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "level": partial(_check_range, low=0, high=2),
    "hazards": partial(_check_some, allowed=HAZARDS),
    "split": partial(check_choice, allowed=tuple(SPLITS)),
    "side_steps": _flag,
    "grasp": partial(check_choice, allowed=GRASPS),
    "cameras": partial(_check_some, allowed=CAMERAS),
    "sensors": partial(_check_some, allowed=SENSORS),
    "image_size": partial(_check_range, low=16, high=1024, whole=True),
    "render_mode": partial(check_choice, allowed=(None, "human", "rgb_array")),
    "cost_mode": partial(check_choice, allowed=COST_MODES),
    "constraints": partial(_check_some, allowed=CONSTRAINT_NAMES),
    "extra_terms": _check_terms,
    "max_actions": _count,
    "max_seconds": check_positive,
    "reward_shaping": _flag,
    "knobs": _check_dict,
    "layouts": _count,
    "pool": _count,
}
_OPTIONAL = ("constraints", "max_actions", "knobs", "layouts", "pool")


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
    scenarios = list(scenario) if isinstance(scenario, Iterable) else []
    if not scenarios or not all(isinstance(s, Scenario) for s in scenarios):
        raise ValueError("scenario: a Scenario, a file, or a non-empty list of Scenario is needed")
    return scenarios
