"""Every axis of perturbation on every registered environment, and what it does to the physics."""

import gymnasium
import numpy as np
import pytest
from test_perturb import same

import safevla_envs
from safevla_envs.perturb import AXES, perturb
from safevla_envs.world import TICK

MOVES = {"discrete": (0, 2, 6), "end_effector": tuple(np.eye(7, dtype=np.float32)[:3] * 0.5)}
SHIFTS_PHYSICS = ("dynamics", "action")


@pytest.fixture(scope="module", params=safevla_envs.ENV_IDS)
def bare(request):
    env = gymnasium.make(f"safevla_envs:{request.param}", image_size=32)
    drawn = [env.unwrapped.source.draw(seed) for seed in range(4)]
    # the more is said the surer a typo
    yield env, max(drawn, key=lambda scenario: len(scenario.instruction))
    env.close()


def play(env, scenario, seed=0):
    """Observations, costs and the hash of the physics of an episode."""
    core = env.unwrapped
    seen = [env.reset(seed=seed, options={"scenario": scenario})[0]]
    costs = []
    for action in MOVES[core.actions.mode]:
        obs, *_, info = env.step(action)
        seen.append(obs)
        costs.append(info["costs"])
    return seen, costs, core.sim.state_hash()


@pytest.mark.parametrize("axis", AXES)
def test_every_axis_on_every_environment(bare, axis):
    env, scenario = bare
    plain = play(env, scenario)
    none = play(perturb(env, **{axis: 0}), scenario)
    assert all(same(a, b) for a, b in zip(plain[0], none[0])) and plain[1:] == none[1:]
    if AXES[axis].kind == "action" and env.unwrapped.actions.mode != "discrete":
        assert play(perturb(env, **{axis: 5}), scenario)[2] != plain[2]
        return
    hard = play(perturb(env, **{axis: 5}), scenario)
    assert all(env.observation_space.contains(obs) for obs in hard[0])
    if AXES[axis].kind not in SHIFTS_PHYSICS:
        assert hard[1:] == plain[1:]
        assert not all(same(a, b) for a, b in zip(plain[0], hard[0]))
    elif axis not in ("action_noise", "mass", "friction"):  # nothing is touched here
        assert hard[2] != plain[2]
    again = play(env, scenario)
    assert all(same(a, b) for a, b in zip(plain[0], again[0])) and plain[1:] == again[1:]


def test_models_in_the_cache_are_never_written_to(bare):
    env, scenario = bare
    dynamics = {name: 5 for name, axis in AXES.items() if axis.kind == "dynamics"}
    visual = {name: 5 for name, axis in AXES.items() if axis.kind == "visual"}
    env.reset(options={"scenario": scenario})
    shared = env.unwrapped.sim.model
    fields = ("body_mass", "body_inertia", "geom_friction", "dof_damping", "actuator_gainprm")
    fields += ("actuator_biasprm", "cam_pos", "cam_quat", "cam_fovy", "geom_rgba", "geom_matid")
    before = {name: getattr(shared, name).copy() for name in (*fields, "mat_rgba")}
    hard = perturb(env, **dynamics, **visual)
    hard.reset(seed=0, options={"scenario": scenario})
    model = env.unwrapped.sim.model
    assert model is not shared
    for name in fields[:6]:
        assert not np.array_equal(getattr(model, name), before[name]), name
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(shared, name), value)
    env.reset(options={"scenario": scenario})
    assert env.unwrapped.sim.model is shared


def test_dynamics_have_their_factors(bare):
    env, scenario = bare
    env.reset(options={"scenario": scenario})
    plain = env.unwrapped.sim.model
    hard = perturb(env, mass=5, friction=5, actuator_gain=5)
    hard.reset(seed=0, options={"scenario": scenario})
    model = env.unwrapped.sim.model
    free = plain.jnt_bodyid[plain.jnt_type == 0]
    np.testing.assert_allclose(model.body_mass[free], 3.0 * plain.body_mass[free])
    rest = np.setdiff1d(np.arange(plain.nbody), free)
    np.testing.assert_array_equal(model.body_mass[rest], plain.body_mass[rest])
    np.testing.assert_allclose(model.geom_friction[:, 0], 0.35 * plain.geom_friction[:, 0])
    ratio = model.actuator_gainprm[:, 0] / plain.actuator_gainprm[:, 0]
    assert set(np.round(ratio, 6)) == {0.15, 1.0}  # the hand and movers are as they were


def test_a_robot_with_discrete_actions_waits_before_each(bare):
    env, scenario = bare
    if env.unwrapped.actions.mode != "discrete":
        pytest.skip("its actions last one tick")
    late = perturb(env, action_latency=5)
    late.reset(seed=0, options={"scenario": scenario})
    start = env.unwrapped.sim.base_pose
    env.unwrapped.sim.tick, tick = spied(env.unwrapped.sim), env.unwrapped.sim.tick
    late.step(env.unwrapped.action_names.index("move_ahead"))
    places = env.unwrapped.sim.places
    env.unwrapped.sim.tick = tick
    waits = round(0.4 / TICK)
    assert np.abs(np.array(places[:waits]) - start).max() < 0.005
    assert np.hypot(*(places[-1] - start)[:2]) > 0.15 and len(places) == waits + 8
    seconds = env.unwrapped.sim.time
    late.step(env.unwrapped.SUB_DONE)  # what is said needs no motor
    assert env.unwrapped.sim.time - seconds == pytest.approx(TICK)


def spied(sim):
    tick, sim.places = sim.tick, []

    def spy():
        start = tick()
        sim.places.append(sim.base_pose)
        return start

    return spy


def test_ends_are_neither_made_nor_lost(bare):
    env, _ = bare
    if env.unwrapped.actions.mode != "discrete":
        pytest.skip("it has no end")
    effect = perturb(env, action_noise=5).effects[0]
    effect.draw(np.random.default_rng(0))
    end, done = env.unwrapped.END, env.unwrapped.SUB_DONE
    assert {effect.action(end) for _ in range(200)} == {end}
    assert {effect.action(done) for _ in range(200)} == {done}
    others = {effect.action(0) for _ in range(2000)}
    assert not others & {end, done} and len(others) == len(env.unwrapped.action_names) - 2


def test_cameras_turn_by_the_published_angle(bare):
    env, scenario = bare
    for axis in ("camera_yaw", "camera_shift", "camera_fov"):
        env.reset(options={"scenario": scenario})
        camera = env.unwrapped.sim.home.camera
        env.unwrapped.sim.render("navigation", 32, 32)
        eye = camera.scene.camera[0]
        forward, pos, top = np.array(eye.forward), np.array(eye.pos), eye.frustum_top
        near = eye.frustum_near
        perturb(env, **{axis: 5}).reset(seed=0, options={"scenario": scenario})
        env.unwrapped.sim.render("navigation", 32, 32)
        eye = camera.scene.camera[0]
        turned = np.degrees(np.arccos(np.clip(forward @ eye.forward, -1, 1)))
        moved = np.linalg.norm(np.array(eye.pos) - pos)
        wider = 2 * np.degrees(np.arctan(eye.frustum_top / near) - np.arctan(top / near))
        expected = {
            "camera_yaw": (25, 0, 0),
            "camera_shift": (0, 0.12, 0),
            "camera_fov": (0, 0, 15),
        }
        assert (turned, moved, abs(wider)) == pytest.approx(expected[axis], abs=0.05)
        before = env.unwrapped.render_frame()
        env.reset(options={"scenario": scenario})
        np.testing.assert_array_equal(before, env.unwrapped.render_frame())


def test_reset_refuses_what_is_no_edit(bare):
    env, _ = bare
    with pytest.raises(ValueError, match="reset option edits=3: a Edits is needed"):
        env.reset(options={"edits": 3})
