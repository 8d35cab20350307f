"""Ticks that are passed over: the same costs, events and state as when every tick is charged."""

from dataclasses import fields, replace

import mujoco
import numpy as np
import pytest
from bare_home import bare_home, thing, walker
from hypothesis import given
from hypothesis import strategies as st
from safevla_envs.costs.terms import protective_distance
from safevla_envs.quiet import _AT_EASE, _BUSY, _PASSED, DRIFT, _glance
from safevla_envs.record.reach import Reach
from test_costs_in_home import PROVOCATIONS
from test_movers import POLISHER

from safevla_envs.costs import CostTerm, default_terms
from safevla_envs.costs.clock import REST_SPEED
from safevla_envs.env import SafeVLAEnv
from safevla_envs.generate import generate
from safevla_envs.record.separation import SEPARATION_CUTOFF


def charge_all(env):
    """Makes an environment charge every tick."""
    env._quiet.possible = False


def remembered(env, *, bodies):
    """What the cost model remembers, as comparable arrays; poses of movers apart."""
    env._quiet.catch_up()
    state, result = env.costs.state, {}
    for part in (state, state.events, state.arm, state.movers):
        for field in fields(part):
            value = getattr(part, field.name)
            if isinstance(value, np.ndarray):
                pose = field.name in ("resting", "reference_pos", "reference_quat")
                result[f"{type(part).__name__}.{field.name}"] = value[:, bodies] if pose else value
    return result


def compared(scenario, choose, steps, *, mode="discrete", timestep=0.005):
    """Runs a scenario both ways; returns the share of ticks that were passed over."""
    envs = [
        SafeVLAEnv(
            cameras=(), action_mode=mode, timestep=timestep, side_steps=True, max_actions=10**6
        )
        for _ in range(2)
    ]
    for env in envs:
        env.reset(options={"scenario": scenario})
    quick, slow = envs
    charge_all(slow)
    bodies = np.flatnonzero(~quick.signals.partners.tags["mover"])
    for step in range(steps):
        action = choose(quick, step)
        found = [env.step(action) for env in envs]
        assert found[0][-1] == found[1][-1]
        a, b = (remembered(env, bodies=bodies) for env in envs)
        distance = slow.signals.separation().get("separation", np.zeros(len(bodies)))
        for name in a:
            if "closing" in name:  # remembered only for a contact that the next tick could bring
                a[name], b[name] = (x[0, distance <= DRIFT * 0.05] for x in (a[name], b[name]))
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert quick.sim.state_hash() == slow.sim.state_hash()
    return quick._quiet.skipped / round(quick.sim.time / 0.05)


def scripted(*names):
    return lambda env, step: env.action_names.index(names[step])


@pytest.mark.parametrize("constraint", PROVOCATIONS)
def test_provocations_are_charged_alike(constraint):
    """Every constraint in turn, and a pause in which its events close and its clocks run out."""
    scenario, actions = PROVOCATIONS[constraint]
    actions = [*actions, *["sub_task_done"] * 40, "move_back", "move_back"]
    compared(scenario, scripted(*actions), len(actions))


BOX_AND_WALKER = bare_home(
    thing("box", "cardboard_box", 2.0, 5.0), movers=[walker((1.0, 5.0), (4.0, 5.0), speed=0.5)]
)
HEATER = thing("heater", "space_heater", 4.25, 3.0, role="equipment")
PAUSE = ["sub_task_done"] * 24
WORLDS = {
    "into the wall backwards": (bare_home(), ["move_back"] * 14 + PAUSE + ["move_ahead"]),
    "twice near a heater": (
        bare_home(HEATER),
        (["move_ahead"] * 2 + ["move_back"] * 2 + PAUSE) * 2 + ["move_ahead"] * 2,
    ),
    "at a joint's stop": (bare_home(), ["wrist_left"] * 14 + PAUSE + ["wrist_right"] * 2 + PAUSE),
    "towards a person": (
        bare_home(movers=[walker((5.4, 3.0), (4.2, 3.0), speed=0.4)]),
        ["move_ahead", "move_ahead", "move_back", "move_back"] * 4 + PAUSE,
    ),
    "among things that were pushed": (
        bare_home(*(thing(f"v{i}", "floor_vase", 4.1, 2.8 + 0.23 * i) for i in range(3))),
        ["move_ahead"] * 4 + ["move_back"] * 2 + PAUSE + ["move_ahead"] * 3,
    ),
    "while a person pushes a box": (BOX_AND_WALKER, ["sub_task_done"] * 70),
    "while a person creeps against a box": (
        bare_home(
            thing("box", "cardboard_box", 2.0, 5.0),
            movers=[walker((1.5, 5.0), (1.9, 5.0), speed=0.008)],
        ),
        ["sub_task_done"] * 160,
    ),
    "a hot arm": (bare_home(knobs={"thermal_start": 0.97}), ["arm_out"] * 2 + PAUSE * 3),
}


@pytest.mark.parametrize("timestep", [0.005, 0.002])
@pytest.mark.parametrize("world", WORLDS)
def test_passing_over_quiet_ticks_changes_nothing(world, timestep):
    scenario, actions = WORLDS[world]
    assert compared(scenario, scripted(*actions), len(actions), timestep=timestep) > 0.05


@pytest.mark.parametrize("mode", ["discrete", "continuous"])
def test_passing_over_quiet_ticks_in_a_home(mode):
    rng = np.random.default_rng(0)

    def wander(env, step):
        if mode == "continuous":
            return np.append(rng.uniform(-1, 1, 3), -1.0).astype(np.float32)
        names = [n for n in env.action_names if n != "end"]
        # mostly ahead: into things, so that quiet and busy ticks alternate
        name = "move_ahead" if rng.random() < 0.5 else names[int(rng.integers(len(names)))]
        return env.action_names.index(name)

    assert compared(generate(2, level=1.0), wander, 30 if mode == "discrete" else 80, mode=mode) > 0


def test_most_ticks_of_driving_about_are_passed_over():
    names = ["move_ahead", "rotate_left", "move_ahead", "rotate_right"] * 5
    assert compared(bare_home(), scripted(*names), len(names)) > 0.9


def test_ticks_in_which_bodies_move_unlinked_are_passed_over():
    """A box settles, then a person pushes it; the robot stands far away."""
    env = SafeVLAEnv(cameras=(), max_actions=10**6)
    env.reset(options={"scenario": BOX_AND_WALKER})
    box = env.signals.partners.names.index("box")
    start, moving, ticks = env.sim.partner_poses()[0][box], 0, 240
    for _ in range(ticks):
        env.step(env.SUB_DONE)
        moving += env.sim.partner_poses()[2][box] > 0.1
    position = env.sim.partner_poses()[0][box]
    assert env._quiet.skipped == ticks and moving > 20 and position[0] - start[0] > 0.5
    env._quiet.catch_up()
    np.testing.assert_allclose(env.costs.state.reference_pos[0, box], position, atol=1e-6)


def test_a_body_that_begins_to_creep_is_followed_from_then_on():
    """It lay still in ticks that were passed over, and did not at the end of the last one."""
    quick, slow = (SafeVLAEnv(cameras=(), max_actions=10**6) for _ in range(2))
    for env in (quick, slow):
        env.reset(options={"scenario": WORLDS["while a person creeps against a box"][0]})
    charge_all(slow)
    box = quick.signals.partners.names.index("box")
    lay = speed = 0.0
    while not (lay > 20 and speed > 0.0):
        lay = lay + 1 if speed == 0.0 else 0
        assert quick.sim.time < 10.0
        for env in (quick, slow):
            env._tick()
        speed = quick.sim.partner_poses()[2][box]
    assert speed < REST_SPEED and quick._quiet.skipped == round(quick.sim.time / 0.05)
    a, b = (remembered(env, bodies=[box]) for env in (quick, slow))
    for name in ("resting", "reference_pos", "reference_quat"):
        np.testing.assert_array_equal(a[f"CostState.{name}"], b[f"CostState.{name}"])


def test_unknown_terms_are_always_asked():
    """A term of the user's own may be violated where nothing is near."""
    known = default_terms()[0]
    measure = replace(known.measures[0], func=lambda view: (view.contact, view.contact < -1.0))
    mine = CostTerm(constraint=replace(known.constraint, name="mine"), measures=(measure,))
    for extra, possible in (((), True), ((mine,), False)):
        env = SafeVLAEnv(cameras=(), extra_terms=extra)
        env.reset(seed=0)
        assert env._quiet.possible is possible


@pytest.fixture
def watch():
    """The watch of an environment in which the robot has just stood still for a while."""
    env = SafeVLAEnv(cameras=())
    env.reset(options={"scenario": bare_home(HEATER)})
    for _ in range(4):
        env.step(env.SUB_DONE)
    assert _glance(*env._quiet._look, False) == _AT_EASE
    return env._quiet


@pytest.mark.parametrize("end", [0, 1])
def test_each_quantity_of_each_joint_is_watched(watch, end):
    """In the last substep; what the servos ask for counts with the weight that they carry."""
    log, limits, gravity, *_ = watch._look
    carried = np.append(np.zeros(log.shape[1] - len(gravity)), gravity)
    assert np.abs(carried).max() > 5.0
    outward = 1e-6 if end else -1e-6
    for column in range(log.shape[1]):
        before = log[-1, column]
        for beyond, verdict in ((outward, _BUSY), (-outward, _AT_EASE)):
            log[-1, column] = limits[end, column] - carried[column] + beyond
            assert _glance(*watch._look, False) == verdict, (column, beyond)
        log[-1, column] = before


def test_a_joint_that_may_become_hot_is_not_passed_over(watch):
    *_, hot = watch._warm
    watch._heat[3] = np.nextafter(hot, 0.0)
    assert _glance(*watch._look, True) == _PASSED and watch._heat[3] != np.nextafter(hot, 0.0)
    watch._heat[3] = hot
    assert _glance(*watch._look, True) == _AT_EASE and watch._heat[3] == hot


@pytest.mark.parametrize(
    ("apart", "robot_speed", "walker_speed", "near"),
    [
        (0.12, 0.4, 0.7, True),  # S_p is 0.29 m
        (0.40, 0.4, 0.7, False),
        (0.12, 0.4, -0.7, False),  # it walks away: 0.08 m
        (0.30, -0.4, 0.7, False),  # the robot backs off
        (0.30, 0.9, 0.7, True),  # 0.68 m
    ],
)
def test_persons_nearer_than_their_distance_are_measured(apart, robot_speed, walker_speed, near):
    """The walker is ahead of the robot; positive speeds are towards each other."""
    env = SafeVLAEnv(cameras=())
    env.reset(options={"scenario": bare_home(movers=[walker((5.0, 3.0), (5.2, 3.0), speed=0.4)])})
    sim, reach = env.sim, env._quiet
    data = sim.data

    def place(x):
        data.qpos[sim._base_q], data.qpos[sim._mover_q[0, :2]] = (2.0, 3.0, 0.0), (x, 3.0)
        data.qvel[:] = 0.0
        data.qvel[sim._base_v[0]], data.qvel[sim._mover_v[0, 0]] = robot_speed, -walker_speed
        mujoco.mj_forward(sim.model, data)
        return Reach(sim.model, data, sim.home.movers).bounds()[0].min()

    gap = place(4.0)
    assert place(4.0 - gap + apart) == pytest.approx(apart, abs=0.02)
    assert reach.near().tolist() == [near]


@pytest.fixture
def walker_ahead():
    """The watch of an environment with a walker 2 m ahead; the robot stands at (3, 3)."""
    env = SafeVLAEnv(cameras=())
    env.reset(options={"scenario": bare_home(movers=[walker((5.0, 3.0), (5.2, 3.0), speed=0.4)])})
    return env._quiet


@given(st.floats(0.0, 3.0), st.floats(0.0, 1.0))
def test_how_far_is_far_enough_not_to_look(speed, part):
    """Whoever closes in, S_p is at most what is asked for; see `_find_near`."""
    needed = protective_distance(part * speed, (1 - part) * speed, reaction=0.1, braking=2.0)
    assert needed <= 0.1 * speed + speed**2 / 4 + 1e-9


@pytest.mark.parametrize("speed", [0.2, 1.0, 3.0])
def test_movers_are_looked_at_only_when_they_may_be_near(walker_ahead, speed):
    """They are `known` m away and close in at `speed` at most: needed are S_p and the way ahead."""
    least = walker_ahead._least
    far = max(0.1 * speed + speed**2 / 4, 0.10, (speed + DRIFT) * 0.05)
    for known, looked in ((far + 1e-6, False), (far - 1e-6, True)):
        least[:, 0] = known + speed * 0.05, speed * 0.05
        assert not walker_ahead.near().any()
        # a look finds that both stand still
        assert least[1, 0] == pytest.approx((0.0 if looked else speed) * 0.05 + DRIFT * 0.05)
    least[:, 0] = 2.5, 0.05
    assert not walker_ahead.near().any()
    assert least[:, 0] == pytest.approx([2.45, 0.1])


def test_moving_equipment_is_looked_at_when_it_or_its_volume_is_near():
    """The two may close in by 1 m/s and what is added in a tick; a look finds them at rest."""
    env = SafeVLAEnv(cameras=())
    env.reset(options={"scenario": bare_home(movers=[POLISHER])})
    quiet = env._quiet
    ahead = (1.0 + DRIFT) * 0.05
    for volume, known, looked, near in (
        (0.25, 5.0, False, False),
        (0.25, ahead + 1e-6, False, False),
        (0.25, ahead - 1e-6, True, False),
        (ahead - 0.01, 5.0, True, False),
        (0.04, 5.0, True, True),
    ):
        env.sim.recorder.volumes[:] = volume
        quiet._least[:, 0] = known + 0.05, 0.05
        assert quiet.near().tolist() == [near]
        assert quiet._least[1, 0] == pytest.approx((0.0 if looked else 0.05) + DRIFT * 0.05)


@pytest.mark.parametrize("seed", range(4))
def test_movers_are_never_nearer_than_it_is_known(seed):
    """Now and a tick later, whatever the robot and they do."""
    rng, env = np.random.default_rng(seed), SafeVLAEnv(cameras=(), max_actions=10**6)
    scenario = next(s for s in (generate(k, level=2.0) for k in range(seed, 99)) if s.movers)
    env.reset(options={"scenario": scenario})
    quiet, checked = env._quiet, 0
    later = np.zeros(len(scenario.movers))
    skip = quiet.skip

    def watched():
        nonlocal checked, later
        result = skip()
        if not result:
            quiet.near()
            quiet._known = True
        distance = np.minimum(env.sim.separation().distance, SEPARATION_CUTOFF)
        known = np.minimum(quiet._least[0], SEPARATION_CUTOFF)
        assert (known <= distance + 1e-9).all() and (later <= distance + 1e-9).all()
        later = np.minimum(quiet._least[0] - quiet._least[1], SEPARATION_CUTOFF)
        checked += np.count_nonzero(distance < SEPARATION_CUTOFF)
        return result

    quiet.skip = watched
    moves = [n for n in env.action_names if n not in ("end", "sub_task_done")]
    for _ in range(60):
        name = "move_ahead" if rng.random() < 0.4 else moves[int(rng.integers(len(moves)))]
        env.step(env.action_names.index(name))
    assert checked > 10
