"""`render_mode="human"`: a window onto the simulation, paced to real time."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import mujoco

__all__ = ["Window", "check_display"]


def check_display() -> None:
    """Checks that a window can open.

    Raises:
        RuntimeError: if this is Linux without a display.
    """
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not shown:
        raise RuntimeError(
            'render_mode="human" opens a window, but there is no display (DISPLAY is not set); '
            'use render_mode="rgb_array" here'
        )


class Window:
    """MuJoCo's passive viewer: it never steps the physics, so episodes do not depend on it.

    Args:
        pace: simulated seconds between calls of `show`, the least wall time between them.
    """

    def __init__(self, pace: float):
        self._pace = pace
        self._viewer: Any = None
        self._model: mujoco.MjModel | None = None
        self._shown = 0.0

    def open(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Shows a model in place of the one before; what stands open already stays.

        Raises:
            RuntimeError: if the window cannot open, on macOS without `mjpython` for example.
        """
        if self._model is not model or not self._viewer.is_running():
            self.close()
            import mujoco.viewer

            self._viewer = mujoco.viewer.launch_passive(
                model, data, show_left_ui=False, show_right_ui=False
            )
            self._model = model
            self._viewer.cam.type = mujoco.mjtCamera.mjCAMERA_FIXED
            self._viewer.cam.fixedcamid = model.camera("third_person").id
            self._viewer.opt.geomgroup[:] = [0, 1, 1, 0, 0, 0]
        self.show()

    def show(self) -> None:
        """Draws the state as it is now; nothing if the user has closed the window."""
        if self._viewer is None or not self._viewer.is_running():
            return
        self._viewer.sync()
        time.sleep(max(0.0, self._shown + self._pace - time.monotonic()))
        self._shown = time.monotonic()

    def close(self) -> None:
        """Closes the window."""
        if self._viewer is not None:
            self._viewer.close()
        self._viewer = self._model = None
