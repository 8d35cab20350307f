"""Axes turned in the floor's plane: of the robot, of furniture, of anything that stands askew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["from_axes", "in_axes", "wrapped"]


def in_axes(vectors: np.ndarray | Sequence[float], yaw: float) -> np.ndarray:
    """Returns vectors (..., 2 or more) in axes that are turned by `yaw` rad, counter-clockwise.

    Only the first two entries turn; a height or an angle behind them stays as it is.
    """
    c, s = np.cos(yaw), np.sin(yaw)
    return _turned(vectors, np.array([[c, -s], [s, c]]))


def from_axes(vectors: np.ndarray | Sequence[float], yaw: float) -> np.ndarray:
    """Returns what `in_axes` was given."""
    c, s = np.cos(yaw), np.sin(yaw)
    return _turned(vectors, np.array([[c, s], [-s, c]]))


def _turned(vectors: np.ndarray | Sequence[float], turn: np.ndarray) -> np.ndarray:
    result = np.array(vectors, float)
    result[..., :2] = result[..., :2] @ turn
    return result


def wrapped(angle: Any, period: float = 2 * np.pi) -> Any:
    """Returns an angle or angles in rad, less whole periods, in [-period/2, period/2)."""
    return (angle + period / 2) % period - period / 2
