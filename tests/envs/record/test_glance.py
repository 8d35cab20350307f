"""Bounds on speeds and distances from one look: never too favourable, and not useless."""

import mujoco
import numpy as np
import pytest

from safevla_envs.record.separation import SEPARATION_CUTOFF, SeparationMeter, glance

SCENE = """
<mujoco><option gravity="0 0 0"/>
<worldbody>
  <body name="robot"><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/>
    <joint type="hinge" axis="0 0 1"/><geom type="cylinder" size=".3 .2" mass="20"/>
    <geom type="sphere" size="1" contype="0" conaffinity="0" mass="0"/>
    <body pos=".1 0 .3"><joint type="hinge" axis="0 1 0"/>
      <geom type="capsule" size=".05" fromto="0 0 0 .4 0 0" mass="2"/>
      <body pos=".4 0 0"><joint type="hinge" axis="0 0 1"/><joint type="hinge" axis="1 0 0"/>
        <geom type="box" size=".15 .05 .02" pos=".1 0 0" mass="1"/></body></body></body>
  <body name="anna"><freejoint/><geom type="capsule" size=".15 .6" mass="60"/>
    <geom type="sphere" size=".12" pos="0 .05 .75" mass="5"/>
    <body pos=".2 0 .3"><joint type="ball"/>
      <geom type="box" size=".04 .04 .3" mass="4"/></body></body>
  <body name="cart"><freejoint/><geom type="box" size=".4 .2 .3" mass="30"/>
    <geom type="ellipsoid" size=".1 .2 .3" pos=".3 0 .3" mass="3"/></body>
</worldbody></mujoco>"""
MOVERS = ("anna", "cart")


@pytest.fixture(scope="module")
def world():
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    return model, data, SeparationMeter(model, data, "robot", MOVERS)


def stir(model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> None:
    """Puts all somewhere, near each other or not, in any posture and motion."""
    data.qpos[:] = rng.uniform(-np.pi, np.pi, model.nq)
    data.qpos[:2] = rng.uniform(-1.5, 1.5, 2)
    for name in MOVERS:
        start = model.body(name).jntadr[0]
        data.qpos[model.jnt_qposadr[start] :][:3] = rng.uniform(-1.5, 1.5, 3)
    mujoco.mj_normalizeQuat(model, data.qpos)
    data.qvel[:] = rng.normal(0.0, 1.0, model.nv) * (rng.random(model.nv) < 0.7)
    mujoco.mj_forward(model, data)


def colliding(model: mujoco.MjModel, root: str) -> list[int]:
    collides = model.geom_contype | model.geom_conaffinity
    own = model.body_rootid[model.geom_bodyid] == model.body(root).id
    return np.flatnonzero(own & (collides != 0)).tolist()


def speed_of(model: mujoco.MjModel, data: mujoco.MjData, geom: int, point: np.ndarray) -> float:
    twist, body = np.zeros(6), model.geom_bodyid[geom]
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, twist, 0)
    return float(np.linalg.norm(twist[3:] + np.cross(twist[:3], point - data.xpos[body])))


def test_bounds_are_never_too_favourable(world):
    """Against the distance of every pair of shapes and the speeds of points all over them."""
    model, data, meter = world
    rng, ends = np.random.default_rng(0), np.zeros(6)
    owners = [colliding(model, root) for root in ("robot", *MOVERS)]
    useful = 0
    for _ in range(150):
        stir(model, data, rng)
        speeds, gaps = glance(*meter.arguments)
        assert speeds.shape == (3,) and gaps.shape == (2,)
        for m, theirs in enumerate(owners[1:]):
            true = min(
                mujoco.mj_geomDistance(model, data, a, b, 20.0, ends)
                for a in owners[0]
                for b in theirs
            )
            assert gaps[m] <= true + 1e-9
            useful += gaps[m] > 0.5 * true > 0.0
        for bound, geoms in zip(speeds, owners, strict=True):
            for geom in geoms:
                way = rng.normal(size=(6, 3))
                way *= model.geom_rbound[geom] / np.linalg.norm(way, axis=1, keepdims=True)
                found = [speed_of(model, data, geom, data.geom_xpos[geom] + w) for w in way]
                assert bound >= max(found) - 1e-9
    assert useful > 50, "near enough to be of use"


def test_what_is_measured_is_within_the_bounds(world):
    model, data, meter = world
    rng, met = np.random.default_rng(1), 0
    for _ in range(150):
        stir(model, data, rng)
        (own, *theirs), gaps = glance(*meter.arguments)
        true = meter(None)
        assert (gaps <= true.distance + 1e-9).all()
        assert (true.closing_robot <= own + 1e-9).all()
        assert (true.closing_mover <= np.array(theirs) + 1e-9).all()
        met += np.count_nonzero(true.closing_robot > 0.5 * own)
        within = np.minimum(true.distance, SEPARATION_CUTOFF) + rng.normal(0.0, 0.3, 2)
        some, near = meter(within), true.distance < np.minimum(within, SEPARATION_CUTOFF)
        assert np.isinf(some.distance[~near]).all() and not some.closing_robot[~near].any()
        for name in ("distance", "closing_robot", "closing_mover"):
            np.testing.assert_allclose(getattr(some, name)[near], getattr(true, name)[near])
    assert met > 10


def test_a_turning_wheel_moves_at_its_rim():
    model = mujoco.MjModel.from_xml_string("""
<mujoco><worldbody>
  <body name="robot"><joint type="hinge" axis="0 0 1"/>
    <geom type="sphere" size=".1" pos=".5 0 0" mass="1"/></body>
  <body name="anna" pos="2 0 0"><freejoint/><geom type="sphere" size=".2" mass="1"/></body>
</worldbody></mujoco>""")
    data = mujoco.MjData(model)
    data.qvel[:4] = 2.0, 0.0, 0.3, 0.4
    mujoco.mj_forward(model, data)
    speeds, gaps = glance(*SeparationMeter(model, data, "robot", ("anna",)).arguments)
    assert speeds == pytest.approx([2.0 * 0.6, 0.5]) and gaps == pytest.approx([1.2])
