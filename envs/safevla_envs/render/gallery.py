"""What the benchmark looks like: contact sheets of hazards and things, and a page about the rules.

`python -m safevla_envs.render.gallery [FOLDER]` (or `safevla envs gallery --out FOLDER`) writes

* `hazards.png`: every hazard at levels 0, 1 and 2, each as the robot's navigation camera sees it
  at 128x128, and from aside with the robot;
* `things.png`: every category of the catalogue at 128x128, from 2 m and close up;
* `index.html`: both, and the tables of `reference`, in one file.

`--docs` instead writes the pictures of the documentation.
"""

from __future__ import annotations

import argparse
import base64
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from safevla_envs.control.patrol import MoverPath
from safevla_envs.costs import COST_SEMANTICS
from safevla_envs.env import SafeVLAEnv
from safevla_envs.generate import generate
from safevla_envs.generate.hazards import BUILT_IN
from safevla_envs.reader import DISC_RADIUS
from safevla_envs.reference import table
from safevla_envs.render.camera import Camera
from safevla_envs.render.gl import configure_gl
from safevla_envs.resources import data_root
from safevla_envs.robots.panda_omron import CAMERAS
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.objects import add_materials, add_object
from safevla_envs.scenes.occupancy import FreeShare, OccupancyGrid
from safevla_envs.scenes.person import HEIGHT, add_person
from safevla_envs.scenes.scenario import HAZARDS, Scenario
from safevla_envs.scenes.walkers import PERSON

__all__ = [
    "HazardView",
    "category_sheet",
    "hazard_sheet",
    "hazard_view",
    "page",
    "portrait",
    "write_gallery",
]

LEVELS = (0.0, 1.0, 2.0)
SIZE, WIDE = 128, 170
"""Pixels; what a policy sees by default, and the width of the view from aside."""
PLAIN = {"n_clutter": 0}
"""Knobs of the homes: no clutter but what belongs to the hazard."""
SEEDS = range(60, 72)
"""Seeds tried, in turn, for a view in which the hazard is well seen."""
GOOD_SHARE = 0.06
"""Share of the picture that a hazard should fill."""
SIGHT = 64
"""Pixels of the drafts from which a pose is chosen."""
INK, PAPER = (34, 39, 46), (255, 255, 255)
GAP, LABEL = 4, 17


@dataclass(frozen=True, kw_only=True)
class HazardView:
    """A hazard in a generated home, the robot standing before it.

    Attributes:
        scenario: the home, with the robot's start where the pictures were taken.
        subjects: names of the bodies that make the hazard.
        share: share of the navigation picture that they fill.
        eye: navigation camera, uint8 (128, 128, 3).
        aside: robot and hazard from above and aside, uint8 (128, 170, 3).
    """

    scenario: Scenario
    subjects: tuple[str, ...]
    share: float
    eye: np.ndarray
    aside: np.ndarray

    @property
    def pair(self) -> np.ndarray:
        """Both pictures side by side, uint8 (128, 302, 3)."""
        return np.hstack([self.eye, np.full((SIZE, GAP, 3), 255, np.uint8), self.aside])


def hazard_view(hazard: str, level: float, seeds: Sequence[int] = SEEDS) -> HazardView:
    """Finds a home and a pose in which a hazard is seen, and draws it.

    Args:
        hazard: one of `scenario.HAZARDS`; nothing else dangerous is placed.
        level: in [0, 2].
        seeds: tried in turn until the hazard fills 6 % of the picture; else the best is taken.

    Raises:
        ValueError: if none of the seeds places the hazard where it can be seen.
    """
    env = SafeVLAEnv(cameras=(), render_mode="rgb_array")
    best: tuple[float, Scenario, tuple[str, ...]] | None = None
    for seed in seeds:
        scenario = generate(seed, split="val", level=level, hazards=(hazard,), knobs=PLAIN)
        subjects, spot = _subjects(scenario, hazard)
        if not subjects:
            continue
        for pose in _poses(scenario, spot, hazard):
            placed = replace(scenario, robot_start=pose)
            env.sim.load(placed)
            share = _share(env.sim, subjects)
            if best is None or share > best[0]:
                best = share, placed, subjects
        if best is not None and best[0] >= GOOD_SHARE:
            break
    if best is None or best[0] == 0.0:
        raise ValueError(f"{hazard} at level {level:g}: seen from nowhere in seeds {seeds}")
    share, scenario, subjects = best
    env.reset(seed=0, options={"scenario": scenario})
    _, spot = _subjects(scenario, hazard)
    view = HazardView(
        scenario=scenario,
        subjects=subjects,
        share=share,
        eye=env.sim.render("navigation", SIZE, SIZE),
        aside=_from_aside(env.sim, scenario, subjects, spot),
    )
    env.close()
    return view


def _subjects(scenario: Scenario, hazard: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the bodies of one instance of a hazard, and its middle (2,) in m."""
    role = BUILT_IN[hazard].role
    spots = {
        p.name: np.array(p.position[:2])
        for p in (*scenario.furniture, *scenario.objects)
        if p.role == role
    }
    spots |= {m.name: MoverPath(m).pose()[:2] for m in scenario.movers if m.role == role}
    if not spots:
        return (), np.zeros(2)
    first = next(iter(spots.values()))
    near = {name: at for name, at in spots.items() if np.hypot(*(at - first)) < 1.0}
    return tuple(near), np.mean(list(near.values()), axis=0)


def _poses(
    scenario: Scenario, spot: np.ndarray, hazard: str
) -> Iterator[tuple[float, float, float]]:
    """Yields robot poses (x, y, yaw) on free floor around a point, facing it."""
    grid = OccupancyGrid(scenario, hazards=True, objects=True)
    tight = FreeShare(scenario, DISC_RADIUS) if BUILT_IN[hazard].tight else None
    movers = [MoverPath(m).pose()[:2] for m in scenario.movers]
    for distance in (0.9, 1.2, 1.6, 2.1, 2.7, 3.3):
        for angle in np.linspace(-np.pi, np.pi, 16, endpoint=False):
            x, y = spot + distance * np.array([np.cos(angle), np.sin(angle)])
            if grid.clearance_at(x, y) < 0.4 or (tight and tight.share(x, y) >= 0.5):
                continue
            if any(np.hypot(*(at - (x, y))) < 0.8 for at in movers):
                continue
            yield round(float(x), 3), round(float(y), 3), round(float(angle + np.pi), 4)


def _share(sim: Any, subjects: tuple[str, ...]) -> float:
    """Share of the navigation picture that bodies fill; a tenth of it if they are cut off."""
    seen = _seen(sim, "navigation", subjects)
    border = seen[0].any() or seen[:, 0].any() or seen[:, -1].any()
    return float(seen.mean()) / (10 if border else 1)


def _seen(sim: Any, camera: str, names: tuple[str, ...]) -> np.ndarray:
    """Pixels of a small draft that show bodies, or bodies under them: bool (64, 64)."""
    model = sim.model
    wanted = np.zeros(model.ngeom + 1, bool)
    for geom in range(model.ngeom):
        body = model.geom_bodyid[geom]
        root = model.body(model.body_rootid[body]).name
        told = (model.geom(geom).name, model.body(body).name, root)
        wanted[geom] = any(t == n or t.startswith(f"{n}/") for t in told for n in names)
    return wanted[sim.home.camera.segment(sim.data, camera, SIGHT, SIGHT)]


def _from_aside(
    sim: Any, scenario: Scenario, subjects: tuple[str, ...], spot: np.ndarray
) -> np.ndarray:
    """Draws robot and hazard from 3.4 m, 50 degrees downwards, from the side that shows most."""
    camera = sim.model.camera("overhead").id
    base = np.array(scenario.robot_start[:2])
    middle = np.array([*(base + spot) / 2, 0.3])
    down = math.radians(50.0)
    best = (-1.0, np.zeros(3), np.eye(3))
    for angle in np.linspace(-np.pi, np.pi, 12, endpoint=False):
        away = np.array([np.cos(angle), np.sin(angle), 0.0])
        backward = math.cos(down) * away + np.array([0.0, 0.0, math.sin(down)])
        right = np.array([-away[1], away[0], 0.0])
        axes = np.stack([right, np.cross(backward, right), backward], axis=1)
        # only this simulation's view is moved: the compiled model is shared
        sim.data.cam_xpos[camera] = middle + 3.4 * backward
        sim.data.cam_xmat[camera] = axes.ravel()
        hazard, robot = (_seen(sim, "overhead", n).mean() for n in (subjects, ("robot",)))
        score = hazard + 0.3 * min(robot, 0.05)
        if score > best[0]:
            best = score, sim.data.cam_xpos[camera].copy(), axes
    sim.data.cam_xpos[camera], sim.data.cam_xmat[camera] = best[1], best[2].ravel()
    return sim.render("overhead", WIDE, SIZE, pretty=True)


# ---- sheets -----------------------------------------------------------------------------------


def hazard_sheet(
    hazards: Sequence[str] = HAZARDS,
    levels: Sequence[float] = LEVELS,
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> Image.Image:
    """Draws hazard by level; every cell has the robot's view and one from aside."""
    cells = []
    for hazard in hazards:
        for level in levels:
            progress(f"{hazard}, level {level:g}")
            title = f"{hazard.replace('_', ' ')}, level {level:g}"
            cells.append((title, hazard_view(hazard, level).pair))
    return _sheet(cells, len(levels), 3 * GAP, 2 * GAP)


def category_sheet(columns: int = 4) -> Image.Image:
    """Draws every category at 128x128: 2 m before the navigation camera, and close up."""
    kinds = {category: spec.kind for category, spec in CATALOG.items()} | {PERSON: "mover"}
    cells = [
        (f"{kind}: {c.replace('_', ' ')}", np.hstack([portrait(c, close=k) for k in (False, True)]))
        for c, kind in kinds.items()
    ]
    return _sheet(cells, columns, 2 * GAP, GAP)


def _sheet(
    cells: Sequence[tuple[str, np.ndarray]], columns: int, across: int, down: int
) -> Image.Image:
    """Lays out labelled pictures of one size, row by row, with gaps in pixels."""
    width, height = cells[0][1].shape[1] + across, SIZE + LABEL + down
    canvas = Image.new("RGB", (columns * width, -(-len(cells) // columns) * height), PAPER)
    for index, (label, picture) in enumerate(cells):
        x, y = index % columns * width, index // columns * height
        ImageDraw.Draw(canvas).text((x, y + 1), label, INK, ImageFont.load_default(12))
        canvas.paste(Image.fromarray(picture), (x, y + LABEL))
    return canvas


def portrait(category: str, *, close: bool) -> np.ndarray:
    """Draws a thing or a person, uint8 (128, 128, 3): 2 m before the navigation camera, or near."""
    distance, height = 2.0, CAMERAS["navigation"].pos[2]
    down = math.radians(30.0 if close else CAMERAS["navigation"].pitch)
    entry = None if category == PERSON else CATALOG[category]
    if close:
        extent = HEIGHT if entry is None else max(*entry.size, 0.22)
        distance, height = 0.85 * extent + 0.05, 0.95 * extent
    spec = mujoco.MjSpec()
    add_materials(spec, ("floor_oak", "wall_cream"))
    spec.visual.map.znear = 0.005
    quality = spec.visual.quality
    quality.numslices, quality.numstacks, quality.numquads, quality.offsamples = 8, 4, 1, 0
    quality.shadowsize, spec.visual.global_.offwidth, spec.visual.global_.offheight = 64, SIZE, SIZE
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.34] * 3, [0.22] * 3
    spec.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, dir=[0.35, 0.25, -1.0], diffuse=[0.5] * 3
    )
    plane, box = mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_BOX
    look = {"group": 1, "material": "floor_oak"}
    spec.worldbody.add_geom(type=plane, size=[8, 8, 0.1], **look)
    look["material"] = "wall_cream"
    spec.worldbody.add_geom(type=box, size=[0.1, 8, 2], pos=[-1.8, 0, 2], **look)
    bottom = 0.0
    if entry is None:
        add_person(spec, "thing")
    else:
        if entry.placement == "surface":
            add_object(spec, "side_table", "table", (0, 0, 0), 0.0, fixed=True)
            bottom = CATALOG["side_table"].size[2]
        add_object(spec, category, "thing", (0, 0, bottom), 0.5, fixed=True)
    spec.worldbody.add_camera(
        name="portrait",
        pos=[distance, 0, height + bottom * close],
        xyaxes=[0, 1, 0, -math.sin(down), 0, math.cos(down)],
        fovy=90,
    )
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = Camera(model)
    try:
        return camera.render(data, "portrait", SIZE, SIZE)
    finally:
        camera.close()


# ---- the page ---------------------------------------------------------------------------------

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>SafeVLA: hazards and costs</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #22272e; max-width: 1120px;
  margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.7rem; margin-bottom: .2rem; }}
h2 {{ font-size: 1.2rem; margin-top: 2.2rem; }}
p {{ max-width: 50rem; }}
img {{ max-width: 100%; image-rendering: pixelated; }}
table {{ border-collapse: collapse; font-size: 13px; width: 100%; }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0;
  border-bottom: 1px solid #e3e6ea; }}
th {{ color: #667080; font-weight: 600; }}
code {{ font-size: 12.5px; }}
</style></head><body>
<h1>Hazards and costs</h1>
<p>SafeVLA/ObjNav-v0, cost semantics {semantics}. Every picture, number and rule on this page comes
from the code that charges the costs.</p>
{sections}
</body></html>
"""
_TITLES = {
    "constraints": ("Constraints", "Budgets are charges per episode."),
    "measures": (
        "Rules and severity",
        "Any one of its measures violates a constraint; an event has the highest severity reached.",
    ),
    "levels": ("Levels", "Knobs that the hazard level sets, linear in between."),
    "knobs": ("Knobs", "Lengths in m, speeds in m/s; the generator's arguments."),
}


def page(pictures: Sequence[tuple[str, str, Image.Image]]) -> str:
    """Returns the page as HTML; `pictures` are (title, text, image)."""
    sections = [
        f'<h2>{title}</h2>\n<p>{text}</p>\n<img alt="{title}" src="data:image/png;base64,'
        f'{base64.b64encode(_png(image)).decode()}">'
        for title, text, image in pictures
    ]
    for name, (title, text) in _TITLES.items():
        sections.append(f"<h2>{title}</h2>\n<p>{text}</p>\n{table(name).html()}")
    return _PAGE.format(semantics=COST_SEMANTICS, sections="\n".join(sections))


def write_gallery(
    folder: str | Path, *, progress: Callable[[str], None] = lambda text: None
) -> tuple[Path, ...]:
    """Writes both sheets and the page; returns their paths, the page first."""
    configure_gl()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    hazards = hazard_sheet(progress=progress)
    progress("things")
    things = category_sheet()
    told = (
        ("Hazards", "The robot's camera at 128x128, and robot and hazard from aside.", hazards),
        ("Things", "At 128x128, 2 m before the robot's camera, and close up.", things),
    )
    paths = folder / "index.html", folder / "hazards.png", folder / "things.png"
    paths[0].write_text(page(told), encoding="utf-8")
    paths[1].write_bytes(_png(hazards))
    paths[2].write_bytes(_png(things))
    return paths


def write_docs(progress: Callable[[str], None] = lambda text: None) -> tuple[Path, ...]:
    """Writes `docs/images/hazard_*.png` and `catalog.png` of the checkout; returns their paths."""
    configure_gl()
    folder = data_root() / "docs" / "images"
    paths = []
    for hazard in HAZARDS:
        progress(hazard)
        canvas = Image.fromarray(hazard_view(hazard, 1.0).pair)
        paths.append(folder / f"hazard_{hazard}.png")
        paths[-1].write_bytes(_png(canvas.resize((2 * canvas.width, 2 * canvas.height), 0)))
    paths.append(folder / "catalog.png")
    paths[-1].write_bytes(_png(category_sheet()))
    return tuple(paths)


def _png(image: Image.Image) -> bytes:
    """Encodes without loss: whether two colours can be told apart is what the sheets are for."""
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def main() -> None:
    """Writes the gallery into a folder, or with `--docs` the documentation's pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", nargs="?", default="gallery")
    parser.add_argument("--docs", action="store_true", help="write docs/images instead")
    given = parser.parse_args()
    paths = write_docs(print) if given.docs else write_gallery(given.folder, progress=print)
    print(*paths, sep="\n")


if __name__ == "__main__":
    main()
