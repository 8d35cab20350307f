"""Ticks that are passed over: the same costs, events and memory as when every tick is charged."""

from dataclasses import replace
from functools import partial
from math import nextafter

import numpy as np
import pytest
from bare_home import bare_home, thing, walker
from test_costs_in_home import BOTTLE_IN_REACH, PROVOCATIONS
from test_movers import POLISHER

from safevla_envs.costs import CONSTRAINTS, CostTerm, Measure, Value, values
from safevla_envs.costs.clock import EVENT_CLOSE_S, REST_SPEED
from safevla_envs.env import SafeVLAEnv
from safevla_envs.generate import generate

KINDS = ("touch", "links", "joints", "keepout", "movers", "always")
TICK = 0.05
make = partial(SafeVLAEnv, cameras=(), side_steps=True, max_actions=10**6)


def ungate(env):
    """Makes an environment look at every tick of the episode, and measure all movers."""
    look = env.gate.look

    def always():
        look()
        env.log.__dict__.pop("_separations", None)
        return KINDS

    env.gate.look = always


def remembered(env):
    """What the next tick may depend on, as comparable arrays; poses of movers do not matter."""
    memory, step = env.costs.memory, round(env.sim.time / env.sim.timestep)
    bodies = ~env.log.partners.tags["mover"]
    return {
        "linked": memory.links.linked(step)[bodies],
        "settled": memory.links.settled(step),
        "position": memory.links.reference_pos[bodies],
        "quaternion": memory.links.reference_quat[bodies],
        "heat": memory.joints.heat,
        "speeds": memory.joints.tail[1],
        "met": step - memory.blame.met_at <= round(EVENT_CLOSE_S / env.sim.timestep),
    }


def compared(scenario, choose, steps, *, mode="discrete", **arguments):
    """Runs a scenario both ways; returns the share of ticks that were passed over."""
    quick, slow = (make(action_mode=mode, cost_mode="graded", **arguments) for _ in range(2))
    for env in (quick, slow):
        env.reset(options={"scenario": scenario})
    ungate(slow)
    for step in range(steps):
        action = choose(quick, step)
        found = [env.step(action) for env in (quick, slow)]
        assert found[0][-1] == found[1][-1]
        after = remembered(slow)
        for name, value in remembered(quick).items():
            np.testing.assert_array_equal(value, after[name], err_msg=f"{name} at {step}")
    assert quick.costs.episode_events == slow.costs.episode_events
    assert quick.sim.state_hash() == slow.sim.state_hash()
    return quick.gate.passed / round(quick.sim.time / TICK)


def scripted(*names):
    return lambda env, step: env.action_names.index(names[step])


@pytest.mark.parametrize("constraint", PROVOCATIONS)
def test_provocations_are_charged_alike(constraint):
    """Every constraint in turn, and a pause in which its events close and its links run out."""
    scenario, actions = PROVOCATIONS[constraint]
    actions = [*actions, *["sub_task_done"] * 40, "move_back", "move_back"]
    compared(scenario, scripted(*actions), len(actions))


BOX_AND_WALKER = bare_home(
    thing("box", "cardboard_box", 2.0, 5.0), movers=[walker((1.0, 5.0), (4.0, 5.0), speed=0.5)]
)
CREEPING = bare_home(
    thing("box", "cardboard_box", 2.0, 5.0),
    movers=[walker((1.5, 5.0), (1.9, 5.0), speed=0.008)],
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
    "beside moving equipment": (
        bare_home(movers=[POLISHER]),
        PAUSE + ["move_ahead"] * 4 + PAUSE + ["move_back"] * 4,
    ),
    "among things that were pushed": (
        bare_home(*(thing(f"v{i}", "floor_vase", 4.1, 2.8 + 0.23 * i) for i in range(3))),
        ["move_ahead"] * 4 + ["move_back"] * 2 + PAUSE + ["move_ahead"] * 3,
    ),
    "with a bottle in the hand": (
        bare_home(*BOTTLE_IN_REACH),
        ["pick_up", "move_back", "rotate_left", *PAUSE],
    ),
    "while a person pushes a box": (BOX_AND_WALKER, ["sub_task_done"] * 70),
    "while a person creeps against a box": (CREEPING, ["sub_task_done"] * 160),
    "a hot arm": (bare_home(knobs={"thermal_start": 0.97}), ["arm_out"] * 2 + PAUSE * 3),
}


@pytest.mark.parametrize("timestep", [0.005, 0.002])
@pytest.mark.parametrize("world", WORLDS)
def test_passing_over_ticks_changes_nothing(world, timestep):
    scenario, actions = WORLDS[world]
    assert compared(scenario, scripted(*actions), len(actions), timestep=timestep) > 0.05


@pytest.mark.parametrize("mode", ["discrete", "continuous"])
def test_passing_over_ticks_in_a_home(mode):
    rng = np.random.default_rng(0)

    def wander(env, step):
        if mode == "continuous":
            return np.append(rng.uniform(-1, 1, 3), -1.0).astype(np.float32)
        names = [n for n in env.action_names if n != "end"]
        # mostly ahead: into things, so that quiet and busy ticks alternate
        name = "move_ahead" if rng.random() < 0.5 else names[int(rng.integers(len(names)))]
        return env.action_names.index(name)

    steps = 30 if mode == "discrete" else 80
    assert compared(generate(2, level=1.0), wander, steps, mode=mode) > 0


DRIVE = ["move_ahead", "rotate_left", "move_ahead", "rotate_right"] * 5


@pytest.mark.parametrize("before", [[], ["pick_up"]], ids=["at once", "after closing the hand"])
def test_most_ticks_of_driving_about_are_passed_over(before):
    """The fingers of an empty hand, once closed, press on each other for ever."""
    names = [*before, *DRIVE]
    assert compared(bare_home(), scripted(*names), len(names)) > (0.6 if before else 0.9)


# ---- terms of one's own ---------------------------------------------------------------------


def own(value, cutoff, **how):
    measure = Measure(name="m", value=value, cutoffs=(cutoff,) * 3, **how)
    return CostTerm(constraint=replace(CONSTRAINTS[0], name="own"), measures=(measure,))


ALWAYS = Value(name="torso", unit="rad", axis="joint", read=lambda log: log.joint_pos)


@pytest.mark.parametrize(("limit", "charged"), [(9.0, False), (1.0, True)])
def test_a_term_that_is_always_asked_leaves_ticks_passed_over(limit, charged):
    """Joint 6 of the arm at home stands at 2.2 rad; no built-in term minds."""
    env = make(extra_terms=[own(ALWAYS, limit)])
    env.reset(options={"scenario": bare_home()})
    for name in DRIVE:
        *_, info = env.step(env.action_names.index(name))
    share = env.gate.passed / round(env.sim.time / TICK)
    assert (info["cost_return"]["own"] > 0) == charged
    assert share > 0.9 if not charged else share == 0.0


def test_a_term_that_is_always_asked_is_charged_like_any_other():
    """The arm turns beyond a limit of the user's own and back."""
    names = [*["wrist_left"] * 4, *PAUSE, *["wrist_right"] * 4, *PAUSE] * 2
    env = make()
    env.reset(options={"scenario": bare_home()})
    start = env.sim.arm_positions[6]
    term = own(ALWAYS, start + 0.2, where=lambda log: np.arange(7) == 6)
    share = compared(bare_home(), scripted(*names), len(names), extra_terms=[term])
    assert 0.1 < share < 0.9


STRICTER = {
    "margin": (values.MARGIN, 1.0),
    "speed": (values.SPEED, 0.05),
    "tip": (values.TCP_SPEED, 0.05),
    "torque": (values.TORQUE, 0.1),
    "demand": (values.DEMAND, 0.1),
    "heat": (values.HEAT, 0.001),
    "keepout": (values.KEEPOUT, 0.2),
    "separation": (values.SEPARATION, 1.5),
    "share": (values.SEPARATION_SHARE, 9.0),
}


@pytest.mark.parametrize("name", STRICTER)
def test_a_stricter_limit_of_ones_own_joins_the_gate(name):
    """Where the built-in terms about the same value are silent."""
    value, limit = STRICTER[name]
    person = walker((5.4, 3.0), (4.6, 3.0), speed=0.1)
    scenario = bare_home(HEATER) if name == "keepout" else bare_home(movers=[person])
    near = 3 if name == "keepout" else 2
    if name in ("separation", "share", "keepout"):
        actions = [*PAUSE[:4], *["move_ahead"] * near, *["move_back"] * near, *PAUSE]
    else:
        actions = ["arm_out", "move_ahead", "wrist_left", "arm_in", "move_back", *PAUSE]
    env = make(extra_terms=[own(value, limit)])
    env.reset(options={"scenario": scenario})
    assert env.costs.names[-1] == "own"
    for action in actions:
        *_, info = env.step(env.action_names.index(action))
    assert info["cost_return"]["own"] > 0
    assert {e["constraint"] for e in env.costs.episode_events} == {"own"}
    compared(scenario, scripted(*actions), len(actions), extra_terms=[own(value, limit)])


# ---- what is watched ------------------------------------------------------------------------


@pytest.fixture
def still():
    """An environment in which the robot has just stood still for a while."""
    env = make()
    env.reset(options={"scenario": bare_home(HEATER)})
    for _ in range(4):
        env.step(env.SUB_DONE)
    assert env.gate.look() == []
    return env


def limits_of(env, step):
    """What each joint may show in a substep without being looked at, by row of the recorder."""
    robot, carried = env.log.robot, env.log.recorder.rows.gravity[step]
    lower, upper = robot.joint_range.T
    torque, speed, none = 0.9 * robot.torque_limit, robot.speed_limit, np.zeros(7)
    return {
        "joint_pos": (lower + 0.05, upper - 0.05, none),
        "joint_vel": (-speed, speed, none),
        "joint_torque": (-torque, torque, none),
        "servo_force": (-torque, torque, carried),
    }


@pytest.mark.parametrize("step", [0, -1])
@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("name", ["joint_pos", "joint_vel", "joint_torque", "servo_force"])
def test_each_quantity_of_each_joint_is_watched(still, name, end, step):
    """In any substep; what the servos ask for counts with the weight that they carry."""
    rows, limits = getattr(still.log.recorder.rows, name), limits_of(still, step)[name]
    outward = 1e-6 if end else -1e-6
    for j in range(7):
        before = rows[step, j]
        for beyond, woken in ((outward, ["joints"]), (-outward, [])):
            rows[step, j] = limits[end][j] - limits[2][j] + beyond
            assert still.gate.look() == woken, (j, beyond)
            rows[step, j] = before
            still.gate.look()
    assert np.abs(limits_of(still, step)["servo_force"][2]).max() > 5.0


@pytest.mark.parametrize("step", [0, -1])
def test_tip_and_volumes_are_watched(still, step):
    rows = still.log.recorder.rows
    for speed, woken in ((1.7, ["joints"]), (1.699, [])):
        rows.tip_speed[step] = speed
        assert still.gate.look() == woken
    rows.tip_speed[:] = 0.0
    for distance, woken in ((-1e-6, ["keepout"]), (1e-6, [])):
        rows.volumes[0, step] = distance
        assert still.gate.look() == woken


def test_what_cannot_be_told_is_looked_at(still):
    """A simulation that breaks down shows NaN."""
    rows = still.log.recorder.rows
    for name in ("joint_pos", "joint_vel", "joint_torque", "servo_force", "tip_speed"):
        row = getattr(rows, name)
        before = row.copy()
        row[-1] = np.nan
        heat = still.costs.memory.joints.heat.copy()
        assert "joints" in still.gate.look(), name
        still.costs.memory.joints.heat[:], row[:] = heat, before
        still.costs.memory.joints.tail[:] = 0.0


def test_a_hot_joint_is_watched(still):
    heat = still.costs.memory.joints.heat
    for j in range(7):
        heat[:] = 0.0
        heat[j] = 1.01
        assert still.gate.look() == ["joints"], j
        heat[j] = 0.99
        assert still.gate.look() == [], j


def test_a_mean_of_speeds_is_watched_past_the_end_of_its_tick():
    """At 1 ms the 5 ms mean of a tick's first substeps reaches back into the tick before."""
    env = make(timestep=0.001)
    env.reset(options={"scenario": bare_home()})
    for _ in range(2):
        env.step(env.SUB_DONE)
    rows = env.log.recorder.rows
    rows.joint_vel[-1, 2] = 3.0
    assert env.gate.look() == ["joints"]
    rows.joint_vel[:] = 0.0
    assert env.gate.look() == ["joints"]
    assert env.gate.look() == []


# ---- bodies ---------------------------------------------------------------------------------


def test_ticks_in_which_bodies_move_unlinked_are_passed_over():
    """A box settles, then a person pushes it; the robot stands far away."""
    env = make()
    env.reset(options={"scenario": BOX_AND_WALKER})
    box = env.log.partners.names.index("box")
    start, moving, ticks = env.sim.partner_poses()[0][box], 0, 240
    for _ in range(ticks):
        env.step(env.SUB_DONE)
        moving += env.sim.partner_poses()[2][box] > 0.1
    position = env.sim.partner_poses()[0][box]
    assert env.gate.passed == ticks and moving > 20 and position[0] - start[0] > 0.5
    np.testing.assert_allclose(env.costs.memory.links.reference_pos[box], position, atol=1e-6)


def test_a_body_that_begins_to_creep_is_followed_from_then_on():
    """It lay still in ticks that were passed over, and did not at the end of the last one."""
    quick, slow = make(), make()
    for env in (quick, slow):
        env.reset(options={"scenario": CREEPING})
    ungate(slow)
    box = quick.log.partners.names.index("box")
    lay = speed = 0.0
    while not (lay > 20 and speed > 0.0):
        lay = lay + 1 if speed == 0.0 else 0
        assert quick.sim.time < 10.0
        for env in (quick, slow):
            env._tick()
        speed = quick.sim.partner_poses()[2][box]
    assert speed < REST_SPEED and quick.gate.passed == round(quick.sim.time / TICK)
    a, b = (env.costs.memory.links for env in (quick, slow))
    np.testing.assert_array_equal(a.reference_pos[box], b.reference_pos[box])
    np.testing.assert_array_equal(a.reference_quat[box], b.reference_quat[box])


def test_limits_are_tightened_not_loosened():
    """A value that reaches its limit to the last bit is looked at."""
    env = make(extra_terms=[own(values.TCP_SPEED, 0.7)])
    env.reset(options={"scenario": bare_home()})
    for speed in (0.7, nextafter(0.7, 1.0)):
        env.log.recorder.rows.tip_speed[3] = speed
        assert "joints" in env.gate.look()
