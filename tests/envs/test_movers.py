"""Bodies that move by themselves: their way, their force, their distance; what a person is."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from bare_home import bare_home, thing, walker

import safevla_envs.scenes.home as home
from safevla_envs.control.patrol import MoverPath
from safevla_envs.costs import REGION_LIMITS
from safevla_envs.env import SafeVLAEnv
from safevla_envs.reader import WorldLog
from safevla_envs.scenes.person import HEIGHT, MASS, REGIONS
from safevla_envs.scenes.scenario import Mover
from safevla_envs.scenes.walkers import ACCELERATION
from safevla_envs.world import TICK, World

ACROSS = ((5.0, 1.5), (5.0, 4.5))
POLISHER = Mover(
    name="polisher",
    category="floor_polisher",
    path=((1.0, 5.0), (4.0, 5.0)),
    speed=0.3,
    role="equipment",
)


@pytest.fixture(scope="module")
def sim():
    return World()


def walk(sim, seconds):
    """Poses (n, 3) of the first mover, by tick."""
    poses = []
    for _ in range(round(seconds / TICK)):
        sim.tick()
        poses.append(sim.mover_poses[0])
    return np.array(poses)


def test_the_way_is_walked_to_and_fro():
    corner = walker((0, 0), (3, 0), (3, 4), start=2.0)
    path = MoverPath(corner)
    for progress, point, way in (
        (1.0, (1, 0), (1, 0)),
        (5.0, (3, 2), (0, 1)),
        (9.0, (3, 2), (0, -1)),
        (13.0, (1, 0), (-1, 0)),
    ):
        found = path.at(progress)
        np.testing.assert_allclose(np.concatenate(found), [*point, *way], atol=1e-9)
    np.testing.assert_allclose(path.pose(), [2, 0, 0])


@pytest.mark.parametrize("mover", [walker(*ACROSS, speed=1.2), POLISHER])
def test_a_mover_keeps_its_speed_and_line_and_turns_round(sim, mover):
    sim.load(bare_home(movers=[mover]))
    a, b = np.array(mover.path)
    way = (b - a) / mover.length
    poses = walk(sim, mover.length / mover.speed)
    along, off = (poses[:, :2] - a) @ way, (poses[:, :2] - a) @ [-way[1], way[0]]
    assert np.abs(off).max() < 0.02
    middle = (along > 0.3 * mover.length) & (along < 0.7 * mover.length)
    assert np.diff(along[middle]).mean() / TICK == pytest.approx(mover.speed, rel=0.05)
    np.testing.assert_allclose(poses[middle, 2], np.arctan2(way[1], way[0]), atol=0.05)
    back = walk(sim, 2 + 0.6 * mover.length / mover.speed)
    assert np.cos(back[-1, 2] - np.arctan2(-way[1], -way[0])) > 0.99
    assert ((back[:, :2] - a) @ way).max() < mover.length + 0.3
    assert ((back[-1, :2] - a) @ way) < 0.6 * mover.length


def test_a_mover_goes_on_while_everything_else_sleeps(sim):
    sim.load(bare_home(thing("box", "cardboard_box", 1.0, 1.0), movers=[walker(*ACROSS)]))
    start = walk(sim, 2.0)[-1]
    assert sim.data.ntree_awake < sim.model.ntree, "nothing fell asleep"
    assert np.hypot(*(walk(sim, 1.0)[-1] - start)[:2]) > 0.5


def test_held_back_it_waits_and_goes_on_without_a_dash(sim):
    """A wall of furniture for three seconds; then it is taken away."""
    sim.load(bare_home(movers=[walker((1.0, 5.0), (5.0, 5.0))]))
    walk(sim, 1.0)
    path = sim._paths[0]
    before = path.progress
    held = sim.data.qpos[sim._mover_q[0]].copy()
    forces = []
    for _ in range(60):
        sim.data.qpos[sim._mover_q[0]] = held
        sim.data.qvel[sim._mover_v[0]] = 0.0
        sim.tick()
        forces.append(np.abs(sim.data.actuator_force[sim._mover_u[0][:2]]).max())
    assert path.progress - before < 0.05
    assert 60.0 < max(forces) < 120.0, "gentler than its servos could"
    speed = np.diff(walk(sim, 1.5)[:, 0]) / TICK
    assert speed.max() < 1.2
    assert speed[-5:].mean() == pytest.approx(1.0, rel=0.1)


def test_a_person_pushes_with_limited_force(sim):
    """Into the parked robot: the steady force is what the servo gives, never more than 150 N."""
    scenario = bare_home(movers=[walker((4.6, 3.0), (1.0, 3.0))])
    sim.load(scenario)
    log = WorldLog(sim, scenario)
    anna = sim.home.partners.index("anna")
    for _ in range(120):
        log.begin(sim.tick())
    force = log.contact_force[:, anna].mean()
    assert 20.0 < force <= 1.1 * ACCELERATION * MASS
    np.testing.assert_allclose(log.region_force.sum(1), log.contact_force[:, anna], rtol=1e-9)
    assert log.separation[anna] == pytest.approx(0.0, abs=0.01)
    assert np.hypot(*(sim.base_pose - scenario.robot_start)[:2]) < 0.15
    sim.data.qvel[sim._mover_v[0, 0]] = 3.0  # thrown back, it resists with its limit
    mujoco.mj_forward(sim.model, sim.data)
    force = sim.data.actuator_force[sim._mover_u[0, 0]]
    assert force == pytest.approx(-ACCELERATION * MASS)


def test_a_person_is_a_person(sim):
    scenario = bare_home(movers=[walker(*ACROSS)])
    sim.load(scenario)
    model, body = sim.model, sim.model.body("anna").id
    assert model.body_subtreemass[body] == pytest.approx(MASS)
    mine = model.body_rootid[model.geom_bodyid] == body
    top = (sim.data.geom_xpos[mine, 2] + model.geom_size[mine, 0]).max()
    assert top == pytest.approx(HEIGHT, abs=0.01)
    assert set(REGIONS) <= set(REGION_LIMITS)
    partners = WorldLog(sim, scenario).partners
    anna = partners.names.index("anna")
    for tag, told in {"person": True, "mover": True, "movable": False, "fixed": False}.items():
        assert partners.tags[tag][anna] == told
    assert [region.name for region in partners.regions] == list(REGIONS)


def test_moving_equipment_is_equipment_with_its_keepout(sim):
    scenario = bare_home(movers=[POLISHER])
    sim.load(scenario)
    log = WorldLog(sim, scenario)
    i = log.partners.names.index("polisher")
    told = {key for key, tag in log.partners.tags.items() if tag[i]}
    assert told == {"mover", "equipment"}
    log.begin(sim.tick())
    assert np.isfinite(log.keepout_distance[:, i]).all()
    assert log.partners.regions == () and log.region_force.shape == (sim.substeps, 0)


def surface(model, data, root, count=4000):
    """Points (n, 3) on the colliding shapes of a subtree, by sampling."""
    rng = np.random.default_rng(0)
    points = []
    for geom in range(model.ngeom):
        if model.body_rootid[model.geom_bodyid[geom]] != root or not model.geom_contype[geom]:
            continue
        size, kind = model.geom_size[geom], model.geom_type[geom]
        if kind == mujoco.mjtGeom.mjGEOM_MESH:
            mesh = model.geom_dataid[geom]
            first = model.mesh_vertadr[mesh]
            local = model.mesh_vert[first : first + model.mesh_vertnum[mesh]].astype(float)
            weights = rng.dirichlet(np.full(4, 0.3), count)
            local = (local[rng.integers(len(local), size=(count, 4))] * weights[..., None]).sum(1)
        elif kind == mujoco.mjtGeom.mjGEOM_BOX:
            local = rng.uniform(-1, 1, (count, 3)) * size
        else:
            unit = rng.normal(size=(count, 3))
            half = size[1] if kind == mujoco.mjtGeom.mjGEOM_CAPSULE else 0.0
            unit *= size[0] / np.linalg.norm(unit, axis=1, keepdims=True)
            local = unit + np.outer(rng.uniform(-half, half, count), [0, 0, 1])
        points.append(local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])
    return np.concatenate(points)


@pytest.mark.parametrize("spot", [(4.4, 3.0), (3.2, 4.3), (2.0, 1.9)])
def test_separation_is_the_distance_of_the_shapes(sim, spot):
    """Sampled points bound it from above, and no other pair of shapes is nearer."""
    from scipy.spatial import cKDTree

    x, y = spot
    sim.load(bare_home(movers=[walker((x, y - 0.1), (x, y + 0.1), start=0.1)]))
    model, data = sim.model, sim.data
    measured = sim.separation().distance[0]
    robot = surface(model, data, model.body_rootid[model.body("robot/base/base").id])
    person = surface(model, data, model.body("anna").id)
    nearest = cKDTree(robot).query(person)[0].min()
    assert 0.1 < measured <= nearest < measured + 0.06
    shapes = [
        np.flatnonzero(model.body_rootid[model.geom_bodyid] == r)
        for r in (model.body_rootid[model.body("robot/base/base").id], model.body("anna").id)
    ]
    solid = (model.geom_contype | model.geom_conaffinity) > 0
    pairs = [
        mujoco.mj_geomDistance(model, data, a, b, 10.0, None)
        for a in shapes[0][solid[shapes[0]]]
        for b in shapes[1][solid[shapes[1]]]
    ]
    assert measured == pytest.approx(min(pairs), abs=1e-6)


@pytest.mark.parametrize("driving", [True, False])
def test_each_side_owns_its_part_of_the_closing_speed(sim, driving):
    """Towards each other along x: 0.4 m/s of the robot, 1 m/s of the person, told apart."""
    sim.load(bare_home(movers=[walker((5.7, 3.0), (1.0, 3.0))], start=(2.0, 3.0, 0.0)))
    pose, velocity = sim.base_pose, np.array([0.4, 0.0, 0.0])
    for _ in range(24):
        if driving:
            pose = pose + velocity * TICK
            sim.set_base(pose, velocity)
        before = sim.separation().distance[0]
        sim.tick()
    measured = sim.separation()
    assert measured.closing_mover[0] == pytest.approx(1.0, rel=0.08)
    robot = measured.closing_robot[0]
    assert robot == pytest.approx(0.4, rel=0.1) if driving else robot < 0.01
    rate = (before - measured.distance[0]) / TICK
    assert rate == pytest.approx(measured.closing_mover[0] + robot, rel=0.1)


def test_turning_away_does_not_close(sim):
    sim.load(bare_home(movers=[walker((5.0, 3.0), (5.7, 3.0), speed=0.5)]))
    pose, velocity = sim.base_pose, np.array([-0.4, 0.0, 0.0])
    for _ in range(15):
        pose = pose + velocity * TICK
        sim.set_base(pose, velocity)
        sim.tick()
    measured = sim.separation()
    assert measured.closing_robot[0] == measured.closing_mover[0] == 0.0


def test_far_movers_are_not_near(sim):
    sim.load(bare_home(movers=[walker((9.0, 9.5), (9.5, 9.5))], side=10.0))
    assert np.isposinf(sim.separation().distance).all()


def trace(env, scenario):
    env.reset(options={"scenario": scenario})
    return [(env.step(0)[4]["costs"], env.sim.state_hash()) for _ in range(5)]


def test_same_way_whatever_came_before_and_a_way_is_no_part_of_the_model():
    one = bare_home(movers=[walker((4.5, 2.0), (4.5, 4.0))])
    other = replace(one, movers=(walker((1.0, 1.0), (5.0, 1.0), speed=0.5, start=1.0),))
    assert one.layout_key == other.layout_key
    home._homes.clear()
    env = SafeVLAEnv(cameras=())
    cold = trace(env, one)
    edited = trace(env, other)
    assert trace(env, one) == cold != edited
    home._homes.clear()
    assert trace(SafeVLAEnv(cameras=()), other) == edited


def test_the_hash_of_the_state_tells_how_far_a_mover_is(sim):
    sim.load(bare_home(movers=[walker(*ACROSS)]))
    before = sim.state_hash()
    sim._paths[0].progress += 0.5
    assert sim.state_hash() != before


def test_a_person_is_recognisable_from_the_navigation_camera():
    """At 128 pixels: taller than wide, of four colours, in the middle of the picture."""
    sim = World()
    sim.load(bare_home(movers=[walker((5.6, 2.95), (5.6, 3.05))]))
    for _ in range(5):
        sim.tick()
    camera, model = sim.home.camera, sim.model
    geoms = camera.segment(sim.data, "navigation", 128, 128)
    seen = (geoms >= 0) & (model.body_rootid[model.geom_bodyid[geoms]] == model.body("anna").id)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert len(rows) > 50 and 1.3 < len(rows) / len(columns) < 5
    assert abs(columns.mean() - 63.5) < 8
    regions = {model.body(b).name.split("/")[1] for b in model.geom_bodyid[np.unique(geoms[seen])]}
    assert {"lower_leg", "thigh", "chest", "upper_arm", "forearm", "skull"} <= regions
    picture = sim.render("navigation", 128, 128)[seen].reshape(-1, 3).astype(int)
    assert len(np.unique(picture // 40, axis=0)) >= 6
