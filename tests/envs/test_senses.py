"""Further sensors: a laser scan and odometry, off by default."""

import numpy as np
import pytest
from bare_home import bare_home, thing

from safevla_envs.env import SafeVLAEnv
from safevla_envs.proprioception import sensors_of, state_vector
from safevla_envs.record.scan import BEAMS, NOISE, REACH


def make(*sensors, **settings):
    return SafeVLAEnv(cameras=(), sensors=sensors, **settings)


def test_they_are_off_by_default_and_named():
    assert set(make().observation_space.spaces) == {"state", "instruction"}
    assert {"scan", "odometry"} <= set(make("scan", "odometry").observation_space.spaces)
    with pytest.raises(ValueError, match="sensors: 'radar': allowed are scan, odometry"):
        make("radar")
    with pytest.raises(ValueError, match="sensors: Panda has no 'scan'"):
        make("scan", task="Reach")


@pytest.mark.parametrize("yaw", [0.0, 0.5 * np.pi, -2.5])
def test_walls_of_a_square_room_are_as_far_as_they_are(yaw):
    """The room is 6 m wide, the robot in its middle, 0.72 m long and 0.50 m wide."""
    env = make("scan")
    env.reset(options={"scenario": bare_home(start=(3.0, 3.0, yaw))})
    ranges = env.sim.scan()
    turned = yaw + np.arange(BEAMS) * 2 * np.pi / BEAMS
    inner = 3.0 - 0.05  # a wall is 0.10 m thick, half of it inside
    wall = inner / np.maximum(abs(np.cos(turned)), abs(np.sin(turned)))
    angles = turned - yaw
    with np.errstate(divide="ignore"):
        own = np.minimum(0.36 / abs(np.cos(angles)), 0.25 / abs(np.sin(angles)))
    assert ranges == pytest.approx(np.minimum(wall - own, REACH), abs=0.06)


def test_a_thing_ahead_is_seen_ahead_and_nothing_of_the_robot():
    env = make("scan")
    clear = bare_home()
    env.reset(options={"scenario": clear})
    before = env.sim.scan()
    assert before.min() > 2.0, "no beam meets the robot"
    env.reset(options={"scenario": bare_home(thing("case", "suitcase", 4.0, 3.0))})
    after = env.sim.scan()
    assert after[0] == pytest.approx(1.0 - 0.36 - 0.27 / 2, abs=0.05)
    assert (after[BEAMS // 4 : 3 * BEAMS // 4] == before[BEAMS // 4 : 3 * BEAMS // 4]).all()


def test_noise_is_that_of_the_scenario_and_of_the_stated_size():
    env, home = make("scan"), bare_home()
    seen = []
    for _ in range(2):
        observation, _ = env.reset(seed=len(seen), options={"scenario": home})
        rows = [observation["scan"]]
        for _ in range(10):
            rows.append(env.step(env.SUB_DONE)[0]["scan"])
        seen.append(np.array(rows))
    np.testing.assert_array_equal(*seen)
    assert (seen[0] - env.sim.scan()).std() == pytest.approx(NOISE, rel=0.3)


def test_a_policy_is_given_one_vector_of_what_the_robot_feels():
    seen = {
        "state": np.ones((2, 13)),
        "scan": np.full((2, BEAMS), 0.5),
        "odometry": np.zeros((2, 3)),
    }
    vector = state_vector(seen)
    assert vector.shape == (2, 13 + BEAMS + 3)
    assert vector[:, 13] == pytest.approx(np.exp(-1.0))
    np.testing.assert_array_equal(state_vector({"state": seen["state"]}), seen["state"])


def test_odometry_is_what_the_base_went():
    env = make("odometry")
    observation, _ = env.reset(options={"scenario": bare_home(start=(3.0, 3.0, 1.0))})
    assert observation["odometry"] == pytest.approx(np.zeros(3))
    observation, *_ = env.step(env.action_names.index("move_ahead"))
    assert observation["odometry"] == pytest.approx([0.2, 0, 0], abs=0.02)
    observation, *_ = env.step(env.action_names.index("rotate_right"))
    assert observation["odometry"] == pytest.approx([0, 0, -np.pi / 6], abs=0.03)
    observation, *_ = env.step(env.action_names.index("move_back"))
    assert observation["odometry"] == pytest.approx([-0.2, 0, 0], abs=0.02)


@pytest.mark.parametrize("sensors", [(), ("scan",), ("odometry",), ("scan", "odometry")])
def test_the_size_of_the_state_says_which_sensors_gave_it(sensors):
    space = make(*sensors).observation_space
    assert sensors_of(len(state_vector(space.sample()))) == sensors
    with pytest.raises(ValueError, match="a state of 14 entries: no sensors of scan, odometry"):
        sensors_of(14)
