"""Off-screen rendering: one OpenGL context per process, small uploads per model.

Observations are drawn without shadows, reflections and anti-aliasing: a software rasteriser pays
for passes and vertices, hardly for pixels.
"""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from typing import Any, ClassVar

import mujoco
import numpy as np

from safevla_envs.edits import FrameEdit
from safevla_envs.render.gl import configure_gl

__all__ = ["MAX_IMAGE", "Camera"]

MAX_IMAGE = (1280, 1024)
"""Largest width and height in pixels."""
VIEWS_FROM_ABOVE = ("overhead", "third_person")
_gl: Any = None


def _context() -> Any:
    """Returns this process's OpenGL context, made current."""
    global _gl
    if _gl is None:
        configure_gl()
        from mujoco.rendering.classic.gl_context import GLContext

        _gl = GLContext(*MAX_IMAGE)
        atexit.register(_close)
    _gl.make_current()
    return _gl


def _close() -> None:
    global _gl
    if _gl is not None:
        Camera.forget()
        _gl.free()
        _gl = None


class Camera:
    """Draws a model's cameras. Instances share the process's context; keep few alive.

    Args:
        model: the compiled model; its meshes and textures are uploaded at the first frame.
    """

    _alive: ClassVar[list[Camera]] = []

    def __init__(self, model: mujoco.MjModel):
        self.model = model
        self.resources: mujoco.MjrContext | None = None
        self.scene = mujoco.MjvScene(model, maxgeom=1000)
        self.view = mujoco.MjvCamera()
        self.option = mujoco.MjvOption()
        self.option.geomgroup[:] = [0, 1, 1, 0, 0, 0]
        self.option.sitegroup[:] = 0
        Camera._alive.append(self)

    def close(self) -> None:
        """Frees what was uploaded."""
        if self.resources is not None:
            _context()
            self.resources.free()
            self.resources = None
        if self in Camera._alive:
            Camera._alive.remove(self)

    @classmethod
    def forget(cls) -> None:
        """Closes every camera of the process."""
        for camera in list(cls._alive):
            camera.close()

    def render(
        self,
        data: mujoco.MjData,
        camera: str | int,
        width: int,
        height: int,
        *,
        pretty: bool = False,
        edits: Sequence[FrameEdit] = (),
    ) -> np.ndarray:
        """Draws one frame.

        Args:
            data: state to draw.
            camera: name or id of a camera of the model.
            width: pixels, at most 1280.
            height: pixels, at most 1024.
            pretty: with shadows and reflections, for videos; about ten times slower.
            edits: of what is drawn, in order.

        Returns:
            uint8 (height, width, 3).
        """
        self._update(data, camera, width, height)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self.scene.flags[flag] = pretty
        for edit in edits:
            edit(self.scene, self.model.camera(camera).name)
        return self._draw(width, height)

    def segment(self, data: mujoco.MjData, camera: str, width: int, height: int) -> np.ndarray:
        """Draws geom ids instead of colours: int (height, width), -1 where there is none."""
        self._update(data, camera, width, height)
        for flag in (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR):
            self.scene.flags[flag] = True
        image = self._draw(width, height).astype(np.int32)
        for flag in (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR):
            self.scene.flags[flag] = False
        codes = image[..., 0] + image[..., 1] * 2**8 + image[..., 2] * 2**16
        ids = np.full(self.scene.ngeom + 1, -1)
        for geom in self.scene.geoms[: self.scene.ngeom]:
            if geom.segid != -1 and geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                ids[geom.segid + 1] = geom.objid
        return ids[codes]

    def _update(self, data: mujoco.MjData, camera: str | int, width: int, height: int) -> None:
        _context()
        resources = self.resources
        if resources is None:
            resources = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_100)
            self.resources = resources
        if width > resources.offWidth or height > resources.offHeight:
            # contexts start small: many models stay uploaded at once
            mujoco.mjr_resizeOffscreen(width, height, resources)
        # several models share the OpenGL context: another's framebuffer may still be bound
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, resources)
        self.view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self.view.fixedcamid = self.model.camera(camera).id
        self.option.geomgroup[2] = camera not in VIEWS_FROM_ABOVE
        mujoco.mjv_updateScene(
            self.model, data, self.option, None, self.view, mujoco.mjtCatBit.mjCAT_ALL, self.scene
        )

    def _draw(self, width: int, height: int) -> np.ndarray:
        rect = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(rect, self.scene, self.resources)
        image = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(image, None, rect, self.resources)
        return image[::-1]
