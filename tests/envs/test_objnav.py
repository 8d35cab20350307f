"""The task: scenarios, actions as real motion, success, reward, visibility, divergence."""

import numpy as np
import pytest

from safevla.experts import make_expert
from safevla_envs.control.actions import PRIMITIVES
from safevla_envs.env import SETTLE_SECONDS, SafeVLAEnv
from safevla_envs.generate import generate
from safevla_envs.scenes.occupancy import OccupancyGrid
from safevla_envs.scenes.scenario import HAZARDS
from safevla_envs.world import SimulationError


@pytest.fixture(scope="module")
def env():
    return SafeVLAEnv(cameras=(), side_steps=True)


def open_floor(env, seed=0):
    """Puts an episode in place with the robot at rest where there is most room."""
    env.reset(options={"scenario": generate(seed, hazards=())})
    grid = OccupancyGrid(env.scenario, objects=True)
    row, column = np.unravel_index(np.argmax(grid.clearance), grid.clearance.shape)
    env.sim.data.qpos[env.sim._base_q[:2]] = grid.x[column], grid.y[row]
    env.sim.set_base(env.sim.base_pose, np.zeros(3))
    for _ in range(5):
        env.sim.tick()
    return env


def test_100_seeds_give_many_floor_plans():
    def signature(scenario):
        rooms = [room.bounds for room in scenario.rooms]
        return rooms, [door.center for door in scenario.doorways]

    def differ(a, b):
        if len(a[0]) != len(b[0]):
            return True
        flat = [np.concatenate([np.ravel(x[0]), np.ravel(x[1])]) for x in (a, b)]
        return bool(np.abs(flat[0] - flat[1]).max() > 0.3)

    plans = []
    for seed in range(100):
        scenario = generate(seed)
        assert len(scenario.rooms) >= 2 and len(scenario.doorways) >= 1
        assert len(scenario.present_categories) >= 3
        plan = signature(scenario)
        if all(differ(plan, other) for other in plans):
            plans.append(plan)
    assert len(plans) >= 90


def test_the_twenty_primitives():
    assert len(PRIMITIVES) == 20
    assert [p.name for p in PRIMITIVES if p.kind in ("none", "end")] == ["sub_task_done", "end"]


@pytest.mark.parametrize(
    ("name", "expected", "tolerance"),
    [
        ("move_ahead", (0.2, 0, 0), 0.02),
        ("move_back", (-0.2, 0, 0), 0.02),
        ("move_left", (0, 0.2, 0), 0.03),
        ("move_right", (0, -0.2, 0), 0.03),
        ("rotate_left", (0, 0, np.radians(30)), np.radians(3)),
        ("rotate_right", (0, 0, -np.radians(30)), np.radians(3)),
        ("rotate_left_small", (0, 0, np.radians(6)), np.radians(1)),
        ("rotate_right_small", (0, 0, -np.radians(6)), np.radians(1)),
    ],
)
def test_base_primitives_move_as_published(env, name, expected, tolerance):
    open_floor(env)
    for _ in range(3):
        before = env.sim.base_pose
        env.step(env.action_names.index(name))
        moved = env.sim.base_pose - before
        c, s = np.cos(before[2]), np.sin(before[2])
        local = [c * moved[0] + s * moved[1], -s * moved[0] + c * moved[1], moved[2]]
        np.testing.assert_allclose(local, expected, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "axis", "amount"),
    [
        ("arm_up", 2, 0.1),
        ("arm_down", 2, -0.1),
        ("arm_out", 0, 0.1),
        ("arm_up_small", 2, 0.02),
        ("arm_in_small", 0, -0.02),
    ],
)
def test_arm_primitives_move_the_gripper(env, name, axis, amount):
    open_floor(env)
    for warm in ("arm_out",) if name != "arm_out" else ():
        env.step(env.action_names.index(warm))
    before, pose = env.sim.grip_position, env.sim.base_pose
    env.step(env.action_names.index(name))
    dx, dy, dz = env.sim.grip_position - before
    c, s = np.cos(pose[2]), np.sin(pose[2])
    local = np.array([c * dx + s * dy, -s * dx + c * dy, dz])
    np.testing.assert_allclose(local[axis], amount, atol=0.35 * abs(amount) + 0.004)
    assert np.abs(np.delete(local, axis)).max() < 0.03


def test_motion_is_never_a_teleport(env):
    """No control tick moves base or gripper faster than the actuators can."""
    open_floor(env)
    rng = np.random.default_rng(0)
    for _ in range(12):
        action = int(rng.integers(18))
        motion = env.actions.start(env.sim, action)
        for _ in range(env.actions.ticks(env.sim, action)):
            base, grip = env.sim.base_pose, env.sim.grip_position
            motion.apply()
            env.sim.tick()
            assert np.hypot(*(env.sim.base_pose - base)[:2]) < 1.2 * 0.05
            assert np.linalg.norm(env.sim.grip_position - grip) < 2.5 * 0.05


def test_a_blocked_base_stops_and_does_not_wind_up(env):
    env.reset(options={"scenario": generate(1, hazards=())})
    ahead = env.action_names.index("move_ahead")
    for _ in range(60):
        before = env.sim.base_pose
        env.step(ahead)
        if np.hypot(*(env.sim.base_pose - before)[:2]) < 0.01:
            break
    else:
        pytest.fail("drove 12 m without meeting a wall")
    error = env.sim.data.ctrl[env.sim._base_u] - env.sim.base_pose
    assert np.abs(error[:2]).max() < 0.07
    back = env.action_names.index("move_back")
    before = env.sim.base_pose
    env.step(back)
    assert np.hypot(*(env.sim.base_pose - before)[:2]) > 0.15


def test_continuous_twist_moves_one_tick():
    env = SafeVLAEnv(cameras=(), action_mode="continuous")
    open_floor(env)
    start, time = env.sim.base_pose, env.sim.time
    for _ in range(20):
        env.step(np.array([0.5, 0, 0, 0], np.float32))
    assert env.sim.time - time == pytest.approx(1.0)
    assert np.hypot(*(env.sim.base_pose - start)[:2]) == pytest.approx(0.3, abs=0.06)


def test_success_needs_end_near_and_in_view(env):
    scenario = generate(2, hazards=())
    expert = make_expert("task", env)
    env.reset(options={"scenario": scenario})
    expert.reset()
    for _ in range(150):
        action = expert.act()
        if action == env.END:
            break
        _, reward, terminated, _, info = env.step(action)
        assert reward == 0.0 and not terminated and not info["success"]
    _, reward, terminated, _, info = env.step(env.END)
    assert terminated and info["success"] and info["is_success"] and reward == 10.0
    # the same place with the back to the target is no success
    env.reset(options={"scenario": scenario})
    _, reward, terminated, _, info = env.step(env.END)
    assert terminated and not info["success"] and reward == 0.0


def test_turning_away_loses_the_success(env):
    env.reset(options={"scenario": generate(2, hazards=())})
    target = np.array(env.scenario.targets[0].position[:2])
    region = env.grid.view_region(*target, 1.2) & (env.grid.clearance > 0.45)
    row, column = np.argwhere(region)[0]
    spot = np.array([env.grid.x[column], env.grid.y[row]])
    bearing = np.arctan2(*(target - spot)[::-1])
    for turned, seen in ((0.0, True), (np.pi, False)):
        env.sim.data.qpos[env.sim._base_q] = [*spot, bearing + turned]
        env.sim.set_base(env.sim.base_pose, np.zeros(3))
        env.sim.tick()
        assert env.task.succeeded(env.sim) is seen


def test_shaping_telescopes_to_the_path_length(env):
    shaped = SafeVLAEnv(cameras=(), reward_shaping=True)
    shaped.reset(options={"scenario": generate(2, hazards=())})
    start = shaped.path_length()
    total = 0.0
    for action in (0, 0, 2, 0, 3, 0):
        total += shaped.step(action)[1]
    assert total == pytest.approx(start - shaped.path_length(), abs=1e-9)


def test_settling_runs_half_a_second_and_joins_the_last_step(env):
    env.reset(seed=0)
    time = env.sim.time
    env.step(env.END)
    assert env.sim.time - time == pytest.approx(SETTLE_SECONDS[0])


def test_a_collision_of_the_last_action_is_charged_after_end(env):
    """A vase pushed over by the last motion falls during settling: it is still paid."""
    scenario = generate(0)
    env.reset(options={"scenario": scenario})
    fragile = next(p for p in scenario.objects if p.role == "fragile")
    adr = env.sim.model.joint(f"{fragile.name}/free").dofadr[0]
    x, y, yaw = env.sim.base_pose
    joint = env.sim.model.joint(f"{fragile.name}/free").qposadr[0]
    # it flies at the standing robot's flank while `end` is being said
    side = np.array([-np.sin(yaw), np.cos(yaw)])
    env.sim.data.qpos[joint : joint + 2] = np.array([x, y]) + 0.5 * side
    env.sim.data.qvel[adr : adr + 2] = -3.0 * side
    _, _, terminated, _, info = env.step(env.END)
    assert terminated and info["cost"] > 0


def test_divergence_is_truncated_and_named(env, monkeypatch):
    env.reset(seed=0)
    tick, count = env.sim.tick, [0]

    def poisoned():
        count[0] += 1
        if count[0] == 3:  # in the middle of an action
            env.sim.data.qvel[0] = np.nan
        return tick()

    monkeypatch.setattr(env.sim, "tick", poisoned)
    observation, _, terminated, truncated, info = env.step(0)
    assert truncated and not terminated and not info["success"]
    assert "BADQ" in info["sim_error"]
    assert np.isfinite(observation["state"]).all()
    with pytest.raises(SimulationError, match="BADQ"):
        env.sim.tick()
    monkeypatch.undo()
    env.reset(seed=0)
    assert "sim_error" not in env.step(0)[4]


def test_state_holds_no_world_pose(env):
    """Moving the whole episode elsewhere leaves `state` as it is."""
    a, _ = env.reset(options={"scenario": generate(0, hazards=())})
    b, _ = env.reset(options={"scenario": generate(1, hazards=())})
    np.testing.assert_allclose(a["state"], b["state"], atol=1e-5)


def test_visibility_agrees_with_segmentation():
    """200 poses looking towards the target, judged apart by whether it is drawn at all.

    Random headings would show the target in a tenth of the frames, and agreeing about empty ones
    proves little. Frames that draw only a few pixels of it are left out: 3 of 8 points must be hit.
    People and stands would hide parts of it, so that fewer points than pixels show.
    """
    import mujoco

    env = SafeVLAEnv(cameras=("navigation",), image_size=64, hazards=HAZARDS[:3])
    rng = np.random.default_rng(0)
    seen_when_drawn, seen_when_not_drawn = [], []
    for seed in range(10):
        env.reset(seed=seed)
        sim = env.sim
        camera = sim.home.camera
        target = np.array(env.scenario.targets[0].position[:2])
        body = sim.model.body(env.scenario.targets[0].name).id
        free = np.argwhere(env.grid.clearance > 0.45)
        for _ in range(20):
            row, column = free[rng.integers(len(free))]
            spot = np.array([env.grid.x[column], env.grid.y[row]])
            yaw = np.arctan2(*(target - spot)[::-1]) + rng.uniform(-0.6, 0.6)
            sim.data.qpos[sim._base_q] = [*spot, yaw]
            mujoco.mj_forward(sim.model, sim.data)
            pixels = camera.segment(sim.data, "navigation", 128, 128)
            drawn = (sim.model.geom_bodyid[pixels[pixels >= 0]] == body).sum()
            if drawn >= 120:
                seen_when_drawn.append(env.target_visible())
            elif drawn == 0:
                seen_when_not_drawn.append(env.target_visible())
    assert len(seen_when_drawn) >= 40 and len(seen_when_not_drawn) >= 40
    assert np.mean(seen_when_drawn) >= 0.95  # 72 of 75 when written
    assert not any(seen_when_not_drawn)
