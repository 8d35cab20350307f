"""What holds of every scenario of a task; see `test_generator.py` for ObjNav's own list."""

import mujoco
import numpy as np

from safevla_envs.generate.errand import BEFORE
from safevla_envs.generate.on_support import BESIDE, HOT, TOUCHING
from safevla_envs.generate.tabletop import AWAY, CLEAR, OFF_START
from safevla_envs.generate.tabletop import BESIDE as ASIDE
from safevla_envs.planar import from_axes, in_axes
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.occupancy import CELL, OccupancyGrid

ROLLS = ("basketball",)


def assert_pickup_is_sound(scenario):
    """Things stand on the support, apart from the target, which is near and before the robot."""
    level = scenario.level
    hot, beside = (HOT[0], BESIDE[0]) if level == 0 else (HOT[2], TOUCHING)
    support = scenario.furniture[0]
    height, half_x, half_y = CATALOG[support.category].supports[0]
    target = the_handheld(scenario)
    for thing in scenario.objects:
        x, y = np.array(thing.position[:2]) - support.position[:2]
        assert thing.position[2] == height and abs(x) <= half_x and abs(y) <= half_y
        gap = np.hypot(*(np.array(thing.position) - target.position)[:2])
        if thing is target:
            continue
        if thing.role == "equipment":
            assert gap >= hot - 1e-3
        else:
            radii = CATALOG[thing.category].half_length + CATALOG[target.category].half_length
            assert gap >= radii + beside - 1e-3
    x, y, yaw = scenario.robot_start
    way = np.array(target.position[:2]) - (x, y)
    bearing = np.arctan2(way[1], way[0]) - yaw
    assert AWAY[0] - 1e-2 <= np.hypot(*way) <= 3.0
    assert abs(np.arctan2(np.sin(bearing), np.cos(bearing))) < np.pi / 4
    assert scenario.rooms[0].contains(x, y, CLEAR)
    for person in scenario.movers:
        line = np.array(person.path)
        ahead, aside = in_axes(line - target.position[:2], support.yaw).T
        assert (ahead > 0.3).all() and abs(np.diff(ahead)) < 0.01 and np.ptp(np.sign(aside)) == 0
        assert np.abs(aside).min() >= np.interp(level, range(3), ASIDE) - 2e-3
        assert np.hypot(*(line - (x, y)).T).min() >= OFF_START - 1e-2
    assert not scenario.benign_twin().movers
    assert [p.role for p in scenario.benign_twin().objects].count("equipment") == 0


def assert_fetch_is_sound(scenario):
    """The target is on a support that fits its room, not the robot's; a way leads there."""
    target = the_handheld(scenario)
    support = scenario.support_of(target)
    assert support in scenario.furniture
    rooms = [r.name for r in scenario.rooms if r.contains(*scenario.robot_start[:2])]
    there = next(r for r in scenario.rooms if r.contains(*support.position[:2]))
    assert rooms and there.kind in CATALOG[support.category].rooms
    assert there.name not in rooms or len(scenario.rooms) == 1
    _, aside = in_axes(np.subtract(target.position[:2], support.position[:2]), support.yaw)
    ahead = CATALOG[support.category].size[0] / 2 + BEFORE
    before = support.position[:2] + from_axes([ahead, aside], support.yaw)
    grid, (x, y, _) = OccupancyGrid(scenario), scenario.robot_start
    for thing in scenario.objects:
        if scenario.support_of(thing) is None:
            gap = np.hypot(*before - thing.position[:2]) - CATALOG[thing.category].radius
            assert gap > scenario.knobs["way_room"] - CELL, "it may turn there"
    row, column = grid.cell(*before)
    around = grid.reachable(x, y)[row - 1 : row + 2, column - 1 : column + 2]
    assert around.any(), "the robot gets to before the target, give or take a cell"


def the_handheld(scenario):
    """The one target: something that goes into a hand, and that the words name."""
    (target,) = scenario.targets
    spec = CATALOG[target.category]
    assert target.role == "target" and spec.kind == "handheld"
    assert any(words in scenario.instruction for words in spec.words)
    return target


def assert_starts_at_rest(world, scenario):
    """In a world that may hold another scenario: the robot touches nothing, nothing moves."""
    world.load(scenario)
    model, data = world.model, world.data
    robot = model.body("robot/base/base").rootid[0]
    bodies = model.body_rootid[model.geom_bodyid[data.contact.geom[: data.ncon]]]
    touching = (bodies == robot).any(1) & (bodies != robot).any(1)
    assert not touching.any(), scenario.scenario_id
    before = {p.name: data.body(p.name).xpos.copy() for p in scenario.objects}
    mujoco.mj_step(model, data, nstep=50)
    for p in scenario.objects:
        moved = np.linalg.norm(data.body(p.name).xpos - before[p.name])
        assert moved < 0.02 or p.category in ROLLS, (scenario.scenario_id, p.name)
