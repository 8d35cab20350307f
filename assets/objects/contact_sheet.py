"""Draws every catalogue object from 2.5 m as a 128x128 navigation camera sees it, and close up.

Usage: `python assets/objects/contact_sheet.py docs/images/catalog.png`
"""

import math
import sys

from safevla_envs.gl import configure_gl

configure_gl()
import mujoco  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

from safevla_envs.build.catalog import CATALOG  # noqa: E402
from safevla_envs.build.objects import add_materials, add_object  # noqa: E402

COLUMNS, SIZE, LABEL = 5, 128, 13


def frame(category: str, distance: float, height: float, pitch: float, size: int) -> np.ndarray:
    """Returns one picture, uint8 (size, size, 3): camera `distance` m away, `pitch` deg down."""
    spec = mujoco.MjSpec()
    add_materials(spec, ("floor_oak", "wall_cream"))
    spec.visual.quality.numslices, spec.visual.quality.numstacks = 8, 4
    spec.visual.quality.numquads, spec.visual.quality.offsamples = 1, 0
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.34] * 3, [0.22] * 3
    spec.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        dir=[0.35, 0.25, -1.0],
        diffuse=[0.5, 0.5, 0.48],
        castshadow=False,
    )
    plane, box = mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_BOX
    spec.worldbody.add_geom(type=plane, size=[8, 8, 0.1], material="floor_oak")
    spec.worldbody.add_geom(type=box, size=[0.1, 8, 2], pos=[-1.8, 0, 2], material="wall_cream")
    bottom = 0.0
    if CATALOG[category].placement == "surface":
        add_object(spec, "side_table", "table", (0, 0, 0), 0.0, fixed=True)
        bottom = CATALOG["side_table"].size[2]
    add_object(spec, category, "thing", (0, 0, bottom), 0.5, fixed=True)
    down = math.radians(pitch)
    spec.worldbody.add_camera(
        name="camera",
        pos=[distance, 0, height + bottom * (distance < 2)],
        xyaxes=[0, 1, 0, -math.sin(down), 0, math.cos(down)],
        fovy=90,
    )
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with mujoco.Renderer(model, size, size) as renderer:
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        renderer.update_scene(data, "camera")
        return renderer.render()


def tile(category: str) -> Image.Image:
    """Returns the far and the near view side by side, under the object's name."""
    image = Image.new("RGB", (2 * SIZE, SIZE + LABEL), "white")
    extent = max(CATALOG[category].size)
    near = 0.85 * extent + 0.05
    views = frame(category, 2.5, 1.0, 15, SIZE), frame(category, near, 0.95 * extent, 30, SIZE)
    for column, pixels in enumerate(views):
        image.paste(Image.fromarray(pixels), (column * SIZE, LABEL))
    ImageDraw.Draw(image).text((2, 1), f"{CATALOG[category].kind}: {category}", fill="black")
    return image


def main(path: str) -> None:
    """Writes the sheet to `path`."""
    rows = math.ceil(len(CATALOG) / COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (2 * SIZE + 4), rows * (SIZE + LABEL)), "white")
    for index, category in enumerate(CATALOG):
        row, column = divmod(index, COLUMNS)
        sheet.paste(tile(category), (column * (2 * SIZE + 4), row * (SIZE + LABEL)))
    sheet.save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
