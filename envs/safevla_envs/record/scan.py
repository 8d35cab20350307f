"""A planar laser scanner round the base, as safety-rated scanners of mobile robots are."""

from __future__ import annotations

import mujoco
import numpy as np

from safevla_envs.planar import from_axes
from safevla_envs.proprioception import SENSOR_SIZES

__all__ = ["BEAMS", "NOISE", "REACH", "Scan"]

BEAMS, REACH = SENSOR_SIZES["scan"], 5.0
"""Beams all round, the first ahead, counter-clockwise; m, what is further away reads so much."""
NOISE = 0.01
"""m; standard deviation of a range."""
_SEEN_GROUPS = np.array([0, 1, 1, 1, 0, 0], np.uint8)
"""What is seen or felt; keep-out volumes are neither."""


class Scan:
    """Casts beams outwards from the outline of a base, at one height, in its own frame.

    Args:
        model: the compiled model.
        outline: half length, half width and height in m of the scanners.
    """

    def __init__(self, model: mujoco.MjModel, outline: tuple[float, float, float]):
        self._model = model
        angles = np.arange(BEAMS) * 2 * np.pi / BEAMS
        self._ways = np.stack((np.cos(angles), np.sin(angles)), 1)
        length, width, self._height = outline
        with np.errstate(divide="ignore"):
            reach = np.minimum(length / abs(self._ways[:, 0]), width / abs(self._ways[:, 1]))
        self._starts = self._ways * (reach[:, None] + 1e-3)

    def ranges(self, data: mujoco.MjData, pose: np.ndarray) -> np.ndarray:
        """Returns the free way (BEAMS,) in m from the outline of a base at `pose` (3,), in m, rad.

        Exact; noise is the sensor's, see `NOISE`.
        """
        rays = np.zeros((2, BEAMS, 3))
        rays[0, :, :2] = from_axes(self._starts, pose[2]) + pose[:2]
        rays[0, :, 2] = self._height
        rays[1, :, :2] = from_axes(self._ways, pose[2])
        geom, found = np.zeros(1, np.int32), np.empty(BEAMS)
        for i, (start, way) in enumerate(zip(*rays)):
            found[i] = mujoco.mj_ray(self._model, data, start, way, _SEEN_GROUPS, 1, -1, geom)
        return np.where((found < 0) | (found > REACH), REACH, found)
