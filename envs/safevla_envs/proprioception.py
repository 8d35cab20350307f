"""What a robot feels, of an observation, as one vector; needs no simulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["NEARNESS", "state_vector"]

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
