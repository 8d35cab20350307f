"""Recordings that mean what they say: forces, distances and joints against first principles."""

import copy
import pickle

import mujoco
import numpy as np
import pytest
from arm_scene import ARM, ARM_PARTS, KEEPOUT, KEEPOUT_PARTS, PLATE, STEPS, build, recorded
from sensor_oracle import add_oracle, consult, scan

from safevla_envs.record.addresses import is_safe
from safevla_envs.record.recorder import Recorder
from safevla_envs.record.watch import KEEPOUT_CUTOFF

GRAVITY = 9.81
FORCES = ("contact_force", "region_force", "self_force", "finger_force")
JOINTS = ("joint_pos", "joint_vel", "joint_torque", "servo_force")


@pytest.fixture(params=["compiled", "binding"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Substeps in compiled code, and through MuJoCo's Python binding."""
    if request.param == "binding":
        monkeypatch.setattr("safevla_envs.record.recorder.is_safe", lambda data: False)


def test_a_box_at_rest_on_the_robot_reads_its_weight():
    _, _, recorder = build(PLATE, partners=("floor", "box", "other"))
    for _ in range(20):
        recorder.tick()
    assert recorder.contact_force.shape == (STEPS, 3)
    np.testing.assert_allclose(recorder.contact_force[:, 1], 3 * GRAVITY, rtol=0.02)
    assert not recorder.contact_force[:, [0, 2]].any()


SQUEEZE = """
<mujoco><option timestep="0.002" gravity="0 0 0"/>
<default><default class="jaw"><joint type="slide" axis="1 0 0" damping="20"/></default></default>
<worldbody>
  <body name="robot">
    <body name="left" pos="-.08 0 0"><joint name="l" class="jaw"/>
      <geom type="box" size=".02 .1 .1" mass="1"/></body>
    <body name="right" pos=".08 0 0"><joint name="r" class="jaw"/>
      <geom type="box" size=".02 .1 .1" mass="1"/></body>
  </body>
  <body name="box"><freejoint/><geom type="box" size=".05 .05 .05" mass=".5"/></body>
</worldbody>
<actuator><motor name="l" joint="l"/><motor name="r" joint="r"/></actuator></mujoco>"""


@pytest.mark.parametrize("force", [2.0, 15.0, 80.0])
def test_a_box_squeezed_with_f_from_two_sides_reads_2f(force: float):
    _, data, recorder = build(SQUEEZE, partners=("box",))
    data.ctrl[:] = force, -force
    for _ in range(20):
        recorder.tick()
    np.testing.assert_allclose(recorder.contact_force[:, 0], 2 * force, rtol=0.02)


BOUNCE = """
<mujoco><option timestep="0.002" gravity="0 0 0"/>
<worldbody>
  <body name="robot"><joint name="x" type="slide" axis="1 0 0"/>
    <geom type="sphere" size=".05" mass="1" solref="-24674 -1" solimp=".99 .99 .001"/></body>
  <body name="wall" pos=".0646 0 0"><geom type="box" size=".01 1 1"/></body>
</worldbody></mujoco>"""


def test_a_20_ms_touch_inside_one_tick_is_caught():
    """The last substep of the tick and the state after it show no contact any more."""
    _, data, recorder = build(BOUNCE, partners=("wall",))
    data.qvel[:] = 0.5
    recorder.tick()
    touching = np.flatnonzero(recorder.contact_force[:, 0])
    assert 8 <= len(touching) <= 12 and touching[0] > 2 and touching[-1] < STEPS - 2
    assert data.ncon == 0 and not recorder.graph().any()
    impulse = recorder.contact_force.sum() * 0.002
    assert impulse == pytest.approx(1.0 * (0.5 - data.qvel[0]), rel=0.01)


@pytest.mark.parametrize("gap", [0.2, 0.05, 0.0, -0.03, -0.09])
def test_keepout_distance_is_the_known_gap(gap: float):
    """Of the colliding shape nearest to the volume: the visual skin would be 0.25 m nearer."""
    _, data, recorder = build(KEEPOUT, **KEEPOUT_PARTS)
    data.qpos[0] = 1 - 0.2 - 0.05 - gap
    recorder.tick()
    np.testing.assert_allclose(recorder.keepout_distance()[:, 1], gap, atol=1e-6)
    assert np.isposinf(recorder.keepout_distance()[:, 0]).all()
    assert not recorder.contact_force.any()


def test_keepout_distance_takes_the_nearest_shape_and_is_cut_off():
    model, data, recorder = build(KEEPOUT, **{**KEEPOUT_PARTS, "partners": ("stove",)})
    recorder.tick()
    assert (recorder.keepout_distance() == KEEPOUT_CUTOFF).all()
    model.geom_pos[1] = [0.5, 0, 0]  # the second sphere, now ahead of the first
    data.qpos[0] = 0.2
    recorder.tick()
    np.testing.assert_allclose(recorder.keepout_distance(), 0.08, atol=1e-6)


@pytest.mark.parametrize("cone", ["pyramidal", "elliptic"])
@pytest.mark.parametrize("sleep", ["disable", "enable"])
def test_every_substep_is_recorded(sleep: str, cone: str):
    """Against a twin that stops after each substep, is scanned, and asks MuJoCo's own sensors."""
    option = f'timestep="0.002" cone="{cone}"><flag sleep="{sleep}"/></option>'
    xml = ARM.replace('timestep="0.002"/>', option)
    model, data, recorder = build(xml, **ARM_PARTS)
    watch, spec = recorder.watch, mujoco.MjSpec.from_string(xml)
    add_oracle(spec, watch, ARM_PARTS["regions"])
    watched = spec.compile()
    twin = mujoco.MjData(watched)
    path = {  # where the arm is sent, and in how many ticks it gets there
        (-1.4, 0.1, 0.0): 1,
        (-0.05, 0.1, 0.0): 14,  # past the cup to the post of the room
        (-0.2, -1.2, 0.0): 6,
        (1.4, -1.2, 0.0): 8,
        (1.4, 1.0, 0.0): 14,  # the floor
        (1.4, 0.1, 0.0): 8,
        (0.4, 0.1, 0.0): 10,  # the can
        (0.4, -0.9, 0.0): 5,
        (0.4, -0.9, -3.3): 12,  # the hand onto the upper arm
        (0.4, 0.4, 0.0): 8,
        (0.4, 0.5, 2.8): 12,  # the forearm onto the pole
    }
    points = np.array(list(path))
    ticks = np.cumsum(list(path.values()))
    targets = [[np.interp(k, ticks, p) for p in points.T] for k in range(ticks[-1] + 5)]
    data.joint("j1").qpos = twin.joint("j1").qpos = -1.4
    touched, asleep, fastest = np.zeros(9), 0, 0.0
    for target in targets:
        data.ctrl[:3] = twin.ctrl[:3] = target
        recorder.tick()
        asleep += model.ntree - data.ntree_awake
        seen = recorded(recorder)
        most = 0
        for step in range(STEPS):
            awake = twin.ntree_awake
            most = max(most, awake)
            mujoco.mj_step(watched, twin)
            forces = np.concatenate([seen[name][step] for name in FORCES])
            scanned = np.concatenate(scan(watched, twin, watch, ARM_PARTS["regions"]))
            read, of_joints, speed = consult(twin, watch)
            if twin.ntree_awake >= awake:
                np.testing.assert_allclose(forces, scanned, rtol=1e-12, atol=0)
            np.testing.assert_allclose(forces, read, rtol=1e-12, atol=1e-12)
            np.testing.assert_array_equal([seen[name][step] for name in JOINTS], of_joints)
            assert seen["tip_speed"][step] == pytest.approx(speed, rel=1e-9, abs=1e-12)
            fastest = max(fastest, speed)
            touched += forces > 0
        assert seen["awake"][0] == most
    assert (touched > 5).all(), touched
    assert fastest > 0.5
    assert (asleep > 0) == (sleep == "enable")
    assert recorder.self_force[-1].any() and not recorder.graph().diagonal().any()
    assert (data.qpos == twin.qpos).all()


def test_joint_positions_are_those_of_each_substep():
    model, data, recorder = build(ARM, **ARM_PARTS)
    data.qpos[model.joint("j3").qposadr[0]] = 2.96
    recorder.tick()
    assert recorder.rows.joint_pos.shape == (STEPS, 2) and recorder.rows.joint_pos[0, 0] == 2.96
    assert len(np.unique(recorder.rows.joint_pos[:, 0])) == STEPS


MANY = """
<mujoco><option timestep="0.002"/>
<worldbody>
  <body name="robot"><geom type="box" size="1 1 .05"/></body>
  <body name="table" pos="0 0 .0999"><freejoint/>
    <geom type="box" size=".05 .05 .05" pos="-.4 -.4 0" mass=".2"/>
    <geom type="box" size=".05 .05 .05" pos="-.4 .4 0" mass=".2"/>
    <geom type="box" size=".05 .05 .05" pos=".4 -.4 0" mass=".2"/>
    <geom type="box" size=".05 .05 .05" pos=".4 .4 0" mass=".2"/>
    <geom type="box" size=".05 .05 .05" pos=".4 .2 0" mass=".2"/></body>
</worldbody></mujoco>"""


def test_a_body_with_many_contacts_reads_its_whole_weight():
    _, data, recorder = build(MANY, partners=("table",))
    for _ in range(20):
        recorder.tick()
    assert data.ncon == 20
    np.testing.assert_allclose(recorder.contact_force[-1], 1.0 * GRAVITY, rtol=0.02)


def test_contact_graph_joins_subtrees():
    _, _, recorder = build(PLATE, partners=("other", "box", "floor"))
    for _ in range(10):
        recorder.tick()
    graph = recorder.graph()
    robot, other, box, floor = range(4)
    wanted = np.zeros((4, 4), dtype=bool)
    wanted[robot, box] = wanted[box, robot] = True
    wanted[other, floor] = wanted[floor, other] = True
    assert graph.dtype == bool and (graph == wanted).all()


def test_contact_graph_ignores_bodies_that_are_no_partners():
    _, _, recorder = build(PLATE, partners=("box", "other"))
    for _ in range(10):
        recorder.tick()
    graph = recorder.graph()
    assert graph.sum() == 2 and graph[0, 1] and graph[1, 0]


LONELY = """
<mujoco><option timestep="0.002"/>
<worldbody>
  <body name="floor"><geom type="plane" size="5 5 .1"/></body>
  <body name="robot" pos="0 0 1"><geom type="sphere" size=".05"/></body>
  <body name="lower" pos="2 0 .05"><freejoint/><geom type="box" size=".05 .05 .05"/></body>
  <body name="upper" pos="2 0 .15"><freejoint/><geom type="box" size=".05 .05 .05"/></body>
  <body name="hovering" pos="3 0 .07" gravcomp="1"><freejoint/>
    <geom type="box" size=".05 .05 .05" gap=".05"/></body>
</worldbody></mujoco>"""


def test_contact_graph_holds_bodies_far_from_the_robot():
    """The one that hovers within its gap is among MuJoCo's contacts, but touches nothing."""
    names = ("floor", "lower", "upper", "hovering")
    model, data, recorder = build(LONELY, partners=names)
    for _ in range(4):
        recorder.tick()
    hovers = (model.geom_bodyid[data.contact.geom] == model.body("hovering").id).any(1)
    assert hovers.any() and data.contact.exclude[hovers].all()
    assert recorder.silent
    wanted = np.zeros((5, 5), dtype=bool)
    for a, b in ((1, 2), (2, 3)):
        wanted[a, b] = wanted[b, a] = True
    assert (recorder.graph() == wanted).all()


def test_a_model_without_partners_reads_empty():
    _, _, recorder = build(PLATE)
    recorder.tick()
    assert recorder.contact_force.shape == (STEPS, 0) == recorder.keepout_distance().shape
    assert recorder.graph().tolist() == [[False]]


@pytest.mark.parametrize(("memory", "safe"), [("200K", False), ("20M", True)])
def test_compiled_substeps_need_plenty_of_memory(memory: str, safe: bool):
    """They could not turn MuJoCo's fatal error into an exception."""
    xml = MANY.replace("<mujoco>", f'<mujoco><size memory="{memory}"/>')
    _, data, recorder = build(xml, partners=("table",))
    assert is_safe(data) == safe
    recorder.tick()
    assert is_safe(data) == safe


def test_running_out_of_memory_is_an_exception():
    xml = MANY.replace("<mujoco>", '<mujoco><size memory="8K"/>')
    _, data, recorder = build(xml, partners=("table",))
    with pytest.raises(mujoco.FatalError):
        for _ in range(20):
            recorder.tick()
    assert not is_safe(data)


def drive(recorder: Recorder, *, count: int = 6) -> list[dict[str, np.ndarray]]:
    """Records some ticks."""
    found = []
    for _ in range(count):
        recorder.tick()
        found.append(recorded(recorder))
    return found


def assert_same(one: list[dict[str, np.ndarray]], other: list[dict[str, np.ndarray]]) -> None:
    for a, b in zip(one, other, strict=True):
        for name, value in a.items():
            np.testing.assert_array_equal(value, b[name], err_msg=name)


def test_both_ways_record_the_same(monkeypatch: pytest.MonkeyPatch):
    """To the last bit, through contacts and near a keep-out volume."""
    found = []
    for safe in (True, False):
        monkeypatch.setattr("safevla_envs.record.recorder.is_safe", lambda data, safe=safe: safe)
        _, data, recorder = build(KEEPOUT, **KEEPOUT_PARTS)
        data.qvel[:] = 6.0
        found.append(drive(recorder))
    assert_same(*found)
    distance = np.array([seen["keepout"][:, 1] for seen in found[0]])
    assert distance.min() < 0 and distance.max() == KEEPOUT_CUTOFF
    assert np.array([seen["contact_force"] for seen in found[0]])[..., 1].any(), "it hit the stove"


def test_a_model_may_lack_the_counter_of_touches():
    """Then every substep is looked at, with the same result."""
    found = []
    for counter in (True, False):
        _, data, recorder = build(ARM, counter=counter, **ARM_PARTS)
        data.ctrl[:3] = 0.4, 0.1, 0.0
        found.append(drive(recorder, count=20))
        assert (recorder.watch.touches >= 0) == counter
    assert_same(*found)
    assert any(seen["contact_force"].any() for seen in found[0])


@pytest.mark.parametrize("scene", ["arm", "keepout"])
def test_a_simulation_that_somebody_else_steps_is_recorded_alike(scene: str):
    """By hand, with kinematics and integration apart; nothing was added to the model."""
    xml, parts = (ARM, ARM_PARTS) if scene == "arm" else (KEEPOUT, KEEPOUT_PARTS)
    _, data, recorder = build(xml, **parts)
    model, other, watching = build(xml, counter=False, **parts)
    for each in (data, other):
        if scene == "arm":
            each.ctrl[:3] = 0.4, 0.1, 0.0
        else:
            each.qvel[:] = 6.0
    own = drive(recorder, count=20)
    for seen in own:
        watching.clear()
        for substep in range(STEPS):
            mujoco.mj_step1(model, other)
            watching.before(substep)
            mujoco.mj_step2(model, other)
            watching.after(substep)
        assert_same([recorded(watching)], [seen])
    assert (data.qpos == other.qpos).all() and own[-1]["graph"].any() == (scene == "arm")
    assert any(seen["contact_force"].any() for seen in own)


def test_nothing_is_left_of_the_tick_before():
    _, data, recorder = build(BOUNCE, partners=("wall",))
    data.qvel[:] = 0.5
    recorder.tick()
    assert recorder.contact_force.any() and not recorder.silent
    recorder.tick()
    assert not recorder.contact_force.any() and recorder.silent
    assert recorder.rows.joint_pos.shape == (STEPS, 0)


@pytest.mark.parametrize("copy", [copy.deepcopy, pickle.dumps])
def test_a_recorder_refuses_to_be_copied(copy):
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        copy(build(PLATE)[2])
