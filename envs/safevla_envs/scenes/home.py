"""Scenario -> `MjModel`: rooms, furniture, movable bodies, movers, robot, safety sensors.

The model depends on `Scenario.layout_key` only: movable bodies and movers are compiled at fixed
poses and put in place through `qpos`, so a model edited in place equals one compiled cold.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from safevla_envs.control.assist import add_welds
from safevla_envs.planar import in_axes
from safevla_envs.record.watch import Watch, add_touch_counter
from safevla_envs.render.camera import Camera
from safevla_envs.robots import make_robot
from safevla_envs.robots.robot import Pose, Robot
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.objects import add_materials, add_object
from safevla_envs.scenes.occupancy import WALL_DEPTH
from safevla_envs.scenes.scenario import Doorway, Room, Scenario
from safevla_envs.scenes.walkers import PERSON, add_mover, add_mover_servos, regions_of

__all__ = ["FLOOR", "ROOM", "BuiltHome", "build_home", "cached_home", "home_spec"]

FLOOR, ROOM = "floor", "room"
"""Bodies of the floor and of walls with fixed furniture; each is one contact partner."""
CACHED_HOMES = 64
WALL_HEIGHT = 2.4
DOOR_HEIGHT = 2.05
LINTEL_GROUP = 2
"""Geom group of what lies above doorways: left out of views from above."""
_BOX = mujoco.mjtGeom.mjGEOM_BOX
_PLANE = mujoco.mjtGeom.mjGEOM_PLANE


@dataclass(frozen=True, kw_only=True)
class BuiltHome:
    """A compiled home and what is watched in it.

    Attributes:
        model: the compiled model.
        watch: what is recorded of it.
        partners: floor, room, objects, movers: bodies of the partner axis.
        movers: those that move by themselves.
        regions: (person, region) of each recorded region.
        camera: draws it.
    """

    model: mujoco.MjModel
    watch: Watch
    partners: tuple[str, ...]
    movers: tuple[str, ...]
    regions: tuple[tuple[str, str], ...]
    camera: Camera


def home_spec(
    scenario: Scenario,
    *,
    timestep: float = 0.005,
    visuals: str = "light",
    robot: Robot | None = None,
    assisted: bool = False,
) -> mujoco.MjSpec:
    """Returns the uninstrumented model of a scenario; arguments as `build_home`."""
    robot = robot or make_robot()
    spec = mujoco.MjSpec()
    _set_options(spec, timestep)
    _light(spec, scenario)
    floor = spec.worldbody.add_body(name=FLOOR)
    floor.add_geom(name="floor/plane", type=_PLANE, size=[0, 0, 1], group=3)
    room_body = spec.worldbody.add_body(name=ROOM)
    for room in scenario.rooms:
        _room(spec, floor, room_body, room, scenario.doorways)
    for placement in scenario.furniture:
        add_object(
            spec,
            placement.category,
            placement.name,
            placement.position,
            placement.yaw,
            variant=placement.variant,
            fixed=True,
            parent=room_body,
        )
    for index, placement in enumerate(scenario.objects):
        add_object(
            spec,
            placement.category,
            placement.name,
            # the pose of a movable body comes from qpos; apart, so that compiling sees no contact
            placement.position if placement.fixed else (2.0 * index, -20.0, 0.0),
            placement.yaw if placement.fixed else 0.0,
            variant=placement.variant,
            fixed=placement.fixed,
        )
    for mover in scenario.movers:
        add_mover(spec, mover, FLOOR)
    robot.attach(spec, pose=_stand(scenario), visuals=visuals)
    for mover in scenario.movers:
        add_mover_servos(spec, mover)
    # the wheels are not modelled: the base hangs on its joints 2 mm above the floor
    spec.add_exclude(bodyname1=robot.names.base_body, bodyname2=FLOOR)
    if robot.names.fixed:
        spec.add_exclude(bodyname1=robot.names.base_body, bodyname2=ROOM)
        # MuJoCo drops contacts of what cannot move with what sleeps
        spec.option.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    if assisted:
        add_welds(spec, robot.names.hand_body, [p.name for p in scenario.objects if not p.fixed])
    return spec


def _stand(scenario: Scenario) -> Pose:
    """Returns where a fixed robot is bolted to: the top of the furniture there, else the floor."""
    x, y, yaw = scenario.robot_start
    tops = [0.0]
    for placement in scenario.furniture:
        here = np.abs(in_axes(np.array([x, y]) - placement.position[:2], placement.yaw))
        for height, *half in CATALOG[placement.category].supports:
            if (here <= half).all():
                tops.append(placement.position[2] + height)
    return x, y, max(tops), yaw


def build_home(
    scenario: Scenario,
    *,
    timestep: float = 0.005,
    visuals: str = "light",
    robot: Robot | None = None,
    assisted: bool = False,
) -> BuiltHome:
    """Compiles a scenario's model and finds what is watched in it.

    Args:
        scenario: what to build; placements of movable bodies do not matter.
        timestep: physics step in s.
        visuals: "light" or "full" robot meshes.
        robot: which one; the usual one if None.
        assisted: add welds between the hand and whatever can be moved.

    Raises:
        ValueError: if a placement is impossible or `visuals` unknown.
    """
    robot = robot or make_robot()
    names = robot.names
    spec = home_spec(scenario, timestep=timestep, visuals=visuals, robot=robot, assisted=assisted)
    things = (*scenario.objects, *scenario.movers)
    partners = (FLOOR, ROOM, *(thing.name for thing in things))
    keepouts = {
        thing.name: f"{thing.name}/keepout"
        for thing in things
        if thing.category != PERSON and CATALOG[thing.category].keepout
    }
    regions = tuple((m.name, region) for m in scenario.movers for region in regions_of(m))
    add_touch_counter(spec, names.root)
    model = spec.compile()
    robot.tune(model)
    watch = Watch.of(
        model,
        names.parts,
        partners,
        regions=[f"{person}/{region}" for person, region in regions],
        keepouts=keepouts,
    )
    return BuiltHome(
        model=model,
        watch=watch,
        partners=partners,
        movers=tuple(mover.name for mover in scenario.movers),
        regions=regions,
        camera=Camera(model),
    )


_homes: OrderedDict[tuple[Any, ...], BuiltHome] = OrderedDict()


def cached_home(
    scenario: Scenario, timestep: float, visuals: str, robot: Robot, assisted: bool = False
) -> BuiltHome:
    """Returns `build_home`'s result, shared by every simulation of this process.

    Nothing edits a compiled model but the number of no-slip passes, which a world sets before it
    steps: sharing is safe. A world whose welds close works on a copy. The least recently
    used are dropped.
    """
    place = scenario.robot_start if robot.names.fixed else ()
    key = (scenario.layout_key, timestep, visuals, robot.name, assisted, place)
    home = _homes.get(key)
    if home is None:
        home = build_home(
            scenario, timestep=timestep, visuals=visuals, robot=robot, assisted=assisted
        )
        _homes[key] = home
        while len(_homes) > CACHED_HOMES:
            _homes.popitem(last=False)[1].camera.close()
    _homes.move_to_end(key)
    return home


def _set_options(spec: mujoco.MjSpec, timestep: float) -> None:
    """Sets options of physics and of cheap rendering, and the sky."""
    spec.option.timestep = timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    spec.option.impratio = 1.0
    # a diverged state must be seen and reported, not silently reset
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    # bodies at rest cost nothing until the robot (which never sleeps) wakes them
    spec.option.enableflags |= mujoco.mjtEnableBit.mjENBL_SLEEP
    # m/s; round things on an edge creep at half of it for ever
    spec.option.sleep_tolerance = 1e-3
    spec.visual.map.znear = 0.005
    spec.visual.quality.offsamples = 0
    spec.visual.quality.numslices = 8
    spec.visual.quality.numstacks = 4
    spec.visual.quality.numquads = 1
    spec.visual.quality.shadowsize = 1024
    spec.visual.global_.offwidth = 128
    spec.visual.global_.offheight = 128
    spec.visual.headlight.ambient = [0.34, 0.34, 0.34]
    spec.visual.headlight.diffuse = [0.22, 0.22, 0.22]
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=[0.86, 0.88, 0.9],
        rgb2=[0.86, 0.88, 0.9],
        width=16,
        height=96,
    )


def _light(spec: mujoco.MjSpec, scenario: Scenario) -> None:
    spec.worldbody.add_light(
        name="sun",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0, 0, 6],
        dir=[0.35, 0.25, -1.0],
        diffuse=[0.5, 0.5, 0.48],
        specular=[0.05, 0.05, 0.05],
        castshadow=True,
    )
    boxes = np.array([room.bounds for room in scenario.rooms])
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    middle, extent = (low + high) / 2, (high - low)
    distance = 1.08 * max(extent) / 2 / np.tan(np.radians(22.5)) + WALL_HEIGHT
    spec.worldbody.add_camera(
        name="overhead", pos=[*middle, distance], fovy=45.0, xyaxes=[1, 0, 0, 0, 1, 0]
    )


def _room(
    spec: mujoco.MjSpec,
    floor: mujoco.MjsBody,
    body: mujoco.MjsBody,
    room: Room,
    doorways: tuple[Doorway, ...],
) -> None:
    add_materials(spec, (room.floor, room.walls))
    x0, y0, x1, y1 = room.bounds
    floor.add_geom(
        name=f"floor/{room.name}",
        type=_PLANE,
        pos=[(x0 + x1) / 2, (y0 + y1) / 2, 0.001],
        size=[(x1 - x0) / 2, (y1 - y0) / 2, 1],
        material=room.floor,
        group=1,
        contype=0,
        conaffinity=0,
    )
    doors = [d for d in doorways if room.name in d.rooms]
    sides = (
        ("x", y0, 1, x0, x1),
        ("x", y1, -1, x0, x1),
        ("y", x0, 1, y0, y1),
        ("y", x1, -1, y0, y1),
    )
    for side, (axis, across, inward, low, high) in enumerate(sides):
        openings = sorted(
            (along - d.width / 2, along + d.width / 2)
            for d in doors
            for along, other in [d.center if d.axis == "x" else d.center[::-1]]
            if d.axis == axis and abs(other - across) < 1e-3
        )
        panels = []
        start = low
        for a, b in openings:
            panels.append((start, a, 0.0, WALL_HEIGHT))
            panels.append((a, b, DOOR_HEIGHT, WALL_HEIGHT))
            start = b
        panels.append((start, high, 0.0, WALL_HEIGHT))
        for part, (a, b, bottom, top) in enumerate(panels):
            _upright(
                body,
                f"room/{room.name}_wall{side}_{part}",
                axis,
                ((a + b) / 2, across + inward * WALL_DEPTH / 2, (top + bottom) / 2),
                ((b - a) / 2, WALL_DEPTH / 2, (top - bottom) / 2),
                material=room.walls,
                group=LINTEL_GROUP if bottom > 0 else 1,
            )
        for a, b in openings:
            for name, along in (("a", a - 0.03), ("b", b + 0.03)):
                _post(
                    body,
                    f"room/{room.name}_frame{side}_{a:.2f}{name}",
                    axis,
                    (along, across + inward * (WALL_DEPTH + 0.006), DOOR_HEIGHT / 2),
                )


def _post(body: mujoco.MjsBody, name: str, axis: str, pos: tuple[float, float, float]) -> None:
    """Adds a dark post flush with the edge of a doorway: seen, not felt."""
    _upright(
        body,
        name,
        axis,
        pos,
        (0.03, 0.006, DOOR_HEIGHT / 2),
        rgba=[0.32, 0.22, 0.15, 1],
        group=1,
        contype=0,
        conaffinity=0,
        mass=0,
    )


def _upright(
    body: mujoco.MjsBody,
    name: str,
    axis: str,
    pos: tuple[float, float, float],
    half: tuple[float, float, float],
    **look: Any,
) -> None:
    """Adds a box given as (along, across, up) of a wall that runs along `axis`."""
    turn = [0, 1, 2] if axis == "x" else [1, 0, 2]
    body.add_geom(
        name=name, type=_BOX, pos=[pos[k] for k in turn], size=[half[k] for k in turn], **look
    )
