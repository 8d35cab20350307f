"""Base, torso and arm at once, 20 times a second: a script picks things up and pays nothing."""

import numpy as np
import pytest
from bare_home import bare_home
from gymnasium import spaces

from safevla_envs.control.actions import MAX_TWIST
from safevla_envs.control.arm import MAX_DELTA, _levelled
from safevla_envs.control.grasps import grasps_of
from safevla_envs.costs import CONSTRAINT_NAMES, FRAGILITY_CLASSES
from safevla_envs.env import SafeVLAEnv
from safevla_envs.generate.layout import box_of
from safevla_envs.planar import in_axes
from safevla_envs.tasks import TASKS, make_task
from safevla_envs.world import TICK, TORSO_SPEED

TORSO, GRIPPER, END = 3, 10, 11
OPEN, CLOSE = -1.0, 1.0
FREE = dict.fromkeys([*CONSTRAINT_NAMES, "cost"], 0.0)


@pytest.fixture(scope="module")
def env():
    return SafeVLAEnv(task="PickUp", cameras=(), level=0, action_mode="whole_body")


def shares(*, twist=(0, 0, 0), torso=0.0, hand=(0, 0, 0, 0, 0, 0), gripper=OPEN, end=0.0):
    """An action from m/s and rad/s, m/s, m and rad a tick, and two shares."""
    parts = (np.array(twist) / MAX_TWIST, [torso / TORSO_SPEED], np.array(hand) / MAX_DELTA)
    return np.clip(np.concatenate([*parts, [gripper, end]]), -1.0, 1.0).astype(np.float32)


class Script:
    """Drives up to a thing while it raises the hand, turns the hand, goes down, closes, lifts."""

    near, front = 0.6, 0.46
    """m; from the base's centre to the thing, and to what bears it."""

    def __init__(self, env):
        self.env, self.height, self.closed = env, 0.1, 0
        self.grasp = None

    def act(self):
        if self.grasp is None:
            action = self._drive()
            if action is not None:
                return action
            self.grasp = self._nearest()
        if self.closed:
            return self._take()
        sim, (point, axis) = self.env.sim, self.grasp
        error, turn = point - sim.grip_position, _levelled(sim.grip_axes, axis)
        if np.hypot(*error[:2]) < 0.006 and np.linalg.norm(turn) < 0.08:
            self.height = 0.0
        self.closed = int(self.height == 0.0 and np.linalg.norm(error) < 0.008)
        error[2] += self.height
        return shares(hand=self._hand([*np.clip(error, -0.012, 0.012), *np.clip(turn, -0.1, 0.1)]))

    def _drive(self):
        """The way to before the thing; None there."""
        sim, target = self.env.sim, self.env.sim.body_positions(self.env.goal.bodies)[0]
        x, y, yaw = sim.base_pose
        way = in_axes(target - [x, y, 0.0], yaw)
        bearing = np.arctan2(way[1], way[0])
        there = np.hypot(*way[:2]) <= self.near or self._to_support(x, y) < self.front
        if there and abs(bearing) < 0.03:
            return None
        speed = 0.0 if there or abs(bearing) > 0.2 else 0.2
        rise = np.clip(target[2] + 0.3 - sim.grip_position[2], 0.0, 0.01)
        turn = np.clip(2.0 * bearing, -0.5, 0.5)
        return shares(twist=(speed, 0.0, turn), hand=[0.0, 0.0, rise, 0.0, 0.0, 0.0])

    def _take(self):
        self.closed += 1
        if self.closed < 16:  # it presses on nothing that it grips
            return shares(hand=self._hand(np.zeros(6)), gripper=CLOSE)
        rise = [0.0, 0.0, 0.006, 0.0, 0.0, 0.0]
        return shares(hand=rise, gripper=CLOSE, end=float(self.closed > 96))

    def _hand(self, way):
        """What is left of a way (6,) of the hand, in the robot's frame."""
        sim = self.env.sim
        left = way - sim.grip_jacobian() @ (sim.arm_reference - sim.arm_positions)
        return in_axes(left.reshape(2, 3), sim.base_pose[2]).ravel()

    def _nearest(self):
        """The grasp of the target that takes the least turning of the hand."""
        sim = self.env.sim
        body = sim.model.body(self.env.goal.bodies[0]).id
        found = grasps_of(sim.model, sim.data, body)
        return min(found, key=lambda g: np.linalg.norm(_levelled(sim.grip_axes, g[1])))

    def _to_support(self, x, y):
        x0, y0, x1, y1 = box_of(self.env.scenario.support_of(self.env.scenario.targets[0]))
        return np.hypot(max(x0 - x, x - x1, 0.0), max(y0 - y, y - y1, 0.0))


def play(env, script):
    done = False
    while not done:
        *_, terminated, truncated, info = env.step(script.act())
        done = terminated or truncated
    return info


@pytest.mark.parametrize("seed", [0, 4, 13])  # glass, electronics, a full carton
def test_a_script_picks_up_what_is_asked_for_and_pays_nothing(env, seed):
    env.reset(seed=seed)
    info = play(env, Script(env))
    assert info["success"] and info["cost_return"] == FREE
    assert env.task.lifted(env.sim)


@pytest.mark.parametrize("task", TASKS)
def test_tasks_that_carry_things_have_it_beside_their_usual_mode(task):
    modes = list(make_task(task).max_actions)
    assert ("whole_body" in modes) is (task in ("PickUp", "Fetch"))
    assert modes[0] == ("end_effector" if task == "Reach" else "discrete")


def test_the_space(env):
    space = env.action_space
    assert isinstance(space, spaces.Box) and space.shape == (12,)
    assert (space.low == -1.0).all() and (space.high == 1.0).all()
    assert env.action_names == () and env.max_episode_steps == 1200
    with pytest.raises(ValueError, match="action_mode='whole_body': allowed are discrete, cont"):
        SafeVLAEnv(action_mode="whole_body")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.5, "up", None])
@pytest.mark.parametrize("index", range(12))
def test_a_bad_number_anywhere_leaves_the_state_unchanged(env, index, bad):
    env.reset(options={"scenario": bare_home()})
    action = [0.0] * 12
    action[index] = bad
    before = env.sim.state_hash()
    with pytest.raises(ValueError, match=r"action=.*12 finite numbers"):
        env.step(action)
    assert env.sim.state_hash() == before


def test_more_than_half_of_the_last_number_ends_it(env):
    for end, ended in ((0.5, False), (0.6, True)):
        env.reset(seed=0)
        *_, terminated, truncated, info = env.step(shares(end=end))
        assert (terminated, truncated, info["success"]) == (ended, False, False)


def test_the_torso_goes_up_and_down_evenly_and_charges_nothing(env):
    env.reset(options={"scenario": bare_home()})
    hand = env.sim.grip_position[2]
    heights = []
    for speed in (TORSO_SPEED, -TORSO_SPEED / 2, 0.0):
        for _ in range(40):
            *_, info = env.step(shares(torso=speed))
        heights.append(env.sim.torso_height)
    assert heights == pytest.approx([40 * TICK * TORSO_SPEED, 0.1, 0.1], abs=0.003)
    assert env.sim.grip_position[2] - hand == pytest.approx(0.1, abs=0.003)
    for _ in range(60):
        *_, info = env.step(shares(torso=-TORSO_SPEED))
    assert env.sim.torso_reference == 0.0 and abs(env.sim.torso_height) < 1e-3
    assert info["cost_return"] == FREE


def test_driving_leaves_the_arm_where_it_is(env):
    """In the robot's frame; and its reference, which nothing winds up, leads it nowhere."""
    env.reset(options={"scenario": bare_home()})
    sim = env.sim
    start, positions = sim.arm_reference, sim.arm_positions
    for twist in ((0.4, 0.3, 0.9), (-0.4, -0.3, -0.9), (0, 0, 0)):
        for _ in range(25):
            *_, info = env.step(shares(twist=twist))
    assert sim.arm_reference == pytest.approx(start, abs=1e-9)
    assert sim.arm_positions == pytest.approx(positions, abs=1e-3)
    assert info["cost_return"] == FREE


def test_a_base_that_is_not_driven_stays(env):
    """Though the arm swings: under a twist of 0 it would float."""
    env.reset(options={"scenario": bare_home()})
    before = env.sim.base_pose
    for way in (0.02, -0.02) * 3:
        for _ in range(15):
            env.step(shares(hand=[way, way, 0, 0, 0, 0]))
    assert env.sim.base_pose == pytest.approx(before, abs=0.005)


@pytest.fixture
def gripped(env):
    """A glass between the fingers."""
    rooms = (env.task.generate(seed, level=0.0, hazards=()) for seed in range(200))
    env.reset(options={"scenario": next(r for r in rooms if r.target_category == "drinking_glass")})
    script = Script(env)
    while script.closed < 30:
        env.step(script.act())
    return env


def test_the_fingers_press_as_hard_as_glass_bears(gripped):
    sim = gripped.sim
    assert gripped.scenario.target_category == "drinking_glass" and sim.held().any()
    share = sim.recorder.finger_force.mean(0) / FRAGILITY_CLASSES["thin_glass"].grip[0]
    assert (share > 0.5).all() and (share < 0.9).all()


def test_with_something_in_the_hand_all_is_slow(gripped):
    sim = gripped.sim

    def gone(count, **action):
        before = np.array([sim.torso_reference, sim.grip_position[2] - sim.torso_height])
        for _ in range(count):
            gripped.step(shares(gripper=CLOSE, **action))
        return np.array([sim.torso_reference, sim.grip_position[2] - sim.torso_height]) - before

    assert gone(20, torso=TORSO_SPEED)[0] == pytest.approx(20 * TICK * TORSO_SPEED / 4)
    assert gone(20, hand=[0, 0, 0.02, 0, 0, 0])[1] == pytest.approx(20 * 0.02 / 4, rel=0.2)
    gripped.step(shares(twist=(-0.4, 0, 0), gripper=CLOSE))
    assert np.hypot(*sim.data.ctrl[sim._base_du][:2]) == pytest.approx(0.1)
