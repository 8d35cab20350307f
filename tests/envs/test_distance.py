"""Distances that are proven: no shape is said to touch what a plane keeps away from it."""

import mujoco
import numpy as np
import pytest
from bare_home import bare_home, thing, walker
from hulls import proven_gap, spread

from safevla_envs.env import SafeVLAEnv
from safevla_envs.record.addresses import addresses_of
from safevla_envs.record.distance import distance, distance_natively

WAYS = spread(64)


@pytest.fixture(scope="module")
def home():
    """A robot, a keep-out box, a keep-out cylinder and a person; and the geoms to measure."""
    things = (
        thing("heater", "space_heater", 4.6, 2.93, role="equipment"),
        thing("candle", "candle", 4.6, 1.5, role="equipment"),
    )
    env = SafeVLAEnv(cameras=())
    scenario = bare_home(*things, movers=[walker((1.0, 5.0), (2.0, 5.0))])
    env.reset(options={"scenario": scenario})
    model, data = env.sim.model, env.sim.data
    solid = (model.geom_contype | model.geom_conaffinity) != 0
    root = model.body_rootid[model.geom_bodyid]
    mine, anna = (
        np.flatnonzero(solid & (root == model.body_rootid[model.body(name).id]))
        for name in (env.sim.robot.names.root, "anna")
    )
    volumes = [model.geom(f"{name}/keepout").id for name in ("heater", "candle")]
    return model, data, mine, [*volumes, *anna]


def poses(home, count: int):
    """Puts one of the robot's shapes at random beside another; yields both."""
    _, data, mine, theirs = home
    rng = np.random.default_rng(0)
    for _ in range(count):
        one, other = int(rng.choice(mine)), int(rng.choice(theirs))
        turn = rng.normal(size=4)
        mujoco.mju_quat2Mat(data.geom_xmat[one], turn / np.linalg.norm(turn))
        data.geom_xpos[one] = data.geom_xpos[other] + rng.normal(0.0, 0.35, 3)
        yield one, other


def test_every_distance_is_proven_by_planes(home):
    """Two planes across the shortest line, that far apart, have the shapes on either side."""
    model, data, *_ = home
    line, apart, met = np.zeros(6), 0, 0
    for one, other in poses(home, 4000):
        before = data.geom_xpos[one].copy()
        found = distance((model, data), data.geom_xpos, one, other, 5.0, line)
        np.testing.assert_array_equal(data.geom_xpos[one], before)
        names = model.geom(one).name, model.geom(other).name
        if found > 0.0:
            way = (line[3:] - line[:3]) / np.linalg.norm(line[3:] - line[:3])
            gap = proven_gap(model, data, one, other, way)
            assert gap == pytest.approx(found, abs=1e-4), names
            apart += 1
        else:
            gaps = [proven_gap(model, data, one, other, way) for way in WAYS]
            assert max(gaps) < 1e-6, names
            met += 1
    assert apart > 1000 and met > 200


def test_compiled_code_measures_the_same(home):
    model, data, *_ = home
    addresses = addresses_of(model, data)
    for one, other in poses(home, 1000):
        plain = distance((model, data), data.geom_xpos, one, other, 0.25, None)
        assert distance_natively(addresses, data.geom_xpos, one, other, 0.25, None) == plain
