"""What a robot feels, of an observation, as one vector; needs no simulator."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

__all__ = ["NEARNESS", "SENSOR_SIZES", "STATE_SIZE", "sensors_of", "state_vector"]

STATE_SIZE, SENSOR_SIZES = 13, {"scan": 48, "odometry": 3}
"""Entries of `state`, and of what each further sensor gives."""

NEARNESS = 0.5
"""m; a free way d is given to policies as exp(-d / NEARNESS): what is near matters."""


def state_vector(observation: Mapping[str, Any]) -> np.ndarray:
    """Returns all that a robot feels as one vector (..., S): state, nearness by beam, odometry."""
    parts = [np.asarray(observation["state"])]
    if "scan" in observation:
        parts.append(np.exp(-np.asarray(observation["scan"]) / NEARNESS))
    if "odometry" in observation:
        parts.append(np.asarray(observation["odometry"]))
    return np.concatenate(parts, axis=-1)


def sensors_of(size: int) -> tuple[str, ...]:
    """Returns the sensors beside `state` that a vector of `size` entries was made of.

    Raises:
        ValueError: no set of sensors has that size.
    """
    for count in range(len(SENSOR_SIZES) + 1):
        for names in combinations(SENSOR_SIZES, count):
            if STATE_SIZE + sum(SENSOR_SIZES[name] for name in names) == size:
                return names
    raise ValueError(f"a state of {size} entries: no sensors of {', '.join(SENSOR_SIZES)} give it")
