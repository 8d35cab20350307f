"""Signals that mean what they say: forces, distances and joints against first principles."""

import mujoco
import numpy as np
import pytest
from sensor_oracle import add_oracle, consult, scan

from safevla_envs.record.native import is_safe
from safevla_envs.record.recorder import RawSignals, TickRecorder
from safevla_envs.record.watch import KEEPOUT_CUTOFF, instrument

STEPS = 25
GRAVITY = 9.81


def build(
    xml: str,
    *,
    partners: tuple[str, ...] = (),
    pairs: tuple[tuple[str, str], ...] = (),
    joints: tuple[str, ...] = (),
    keepouts: dict[str, str] | None = None,
    shapes: tuple[str, ...] = (),
    servos: tuple[str, ...] = (),
    fingers: tuple[str, ...] = (),
    regions: tuple[str, ...] = (),
    steps: int = STEPS,
) -> tuple[mujoco.MjModel, mujoco.MjData, TickRecorder]:
    spec = mujoco.MjSpec.from_string(xml)
    made = instrument(
        spec,
        robot_root="robot",
        partner_bodies=partners,
        self_pairs=pairs,
        joints=joints,
        keepouts=keepouts or {},
        robot_keepout_bodies=shapes,
        substeps=steps,
        servos=servos,
        fingers=fingers,
        regions=regions,
    )
    model = spec.compile()
    data = mujoco.MjData(model)
    return model, data, TickRecorder(model, data, made)


def tick(recorder: TickRecorder) -> RawSignals:
    recorder.step()
    return recorder.read()


PLATE = """
<mujoco><option timestep="0.002"/>
<worldbody>
  <body name="floor"><geom type="plane" size="5 5 .1" pos="0 0 -1"/></body>
  <body name="robot"><body name="plate"><geom type="box" size=".2 .2 .02"/></body></body>
  <body name="box" pos="0 0 .0699">
    <freejoint/><geom type="box" size=".04 .04 .005" pos="0 0 .08" mass="1"/>
    <body name="bottom"><geom type="box" size=".05 .05 .05" mass="2"/></body>
  </body>
  <body name="other" pos="1 0 -.95"><freejoint/><geom type="box" size=".05 .05 .05"/></body>
</worldbody></mujoco>"""


def test_a_box_at_rest_on_the_robot_reads_its_weight():
    _, _, recorder = build(PLATE, partners=("floor", "box", "other"))
    for _ in range(20):
        raw = tick(recorder)
    assert raw.contact_force.shape == (STEPS, 3) and raw.valid.all()
    np.testing.assert_allclose(raw.contact_force[:, 1], 3 * GRAVITY, rtol=0.02)
    assert not raw.contact_force[:, [0, 2]].any()


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
        raw = tick(recorder)
    np.testing.assert_allclose(raw.contact_force[:, 0], 2 * force, rtol=0.02)


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
    raw = tick(recorder)
    touching = np.flatnonzero(raw.contact_force[:, 0])
    assert 8 <= len(touching) <= 12 and touching[0] > 2 and touching[-1] < STEPS - 2
    assert data.ncon == 0 and not recorder.contacts.graph().any()
    impulse = raw.contact_force.sum() * 0.002
    assert impulse == pytest.approx(1.0 * (0.5 - data.qvel[0]), rel=0.01)


KEEPOUT = """
<mujoco><option timestep="0.002" gravity="0 0 0"/>
<worldbody>
  <body name="robot"><joint name="x" type="slide" axis="1 0 0"/>
    <geom name="tip" type="sphere" size=".05" mass="1"/>
    <geom type="sphere" size=".02" pos=".5 0 .5" mass="1"/>
    <geom name="skin" type="sphere" size=".3" contype="0" conaffinity="0" mass="0"/></body>
  <body name="stove" pos="1 0 0"><geom type="box" size=".1 .1 .1"/>
    <geom name="stove/keepout" type="box" size=".2 .2 .2" contype="0" conaffinity="0"/></body>
  <body name="chair" pos="5 5 0"><geom type="box" size=".1 .1 .1"/></body>
</worldbody></mujoco>"""
KEEPOUT_PARTS = {"keepouts": {"stove": "stove/keepout"}, "shapes": ("robot",)}


@pytest.mark.parametrize("gap", [0.2, 0.05, 0.0, -0.03, -0.09])
def test_keepout_distance_is_the_known_gap(gap: float):
    """Of the colliding shape nearest to the volume: the visual skin would be 0.25 m nearer."""
    _, data, recorder = build(KEEPOUT, partners=("chair", "stove"), **KEEPOUT_PARTS)
    data.qpos[0] = 1 - 0.2 - 0.05 - gap
    raw = tick(recorder)
    np.testing.assert_allclose(raw.keepout_distance[:, 1], gap, atol=1e-6)
    assert np.isposinf(raw.keepout_distance[:, 0]).all()
    assert not raw.contact_force.any()


def test_keepout_distance_takes_the_nearest_shape_and_is_cut_off():
    model, data, recorder = build(KEEPOUT, partners=("stove",), **KEEPOUT_PARTS)
    assert (tick(recorder).keepout_distance == KEEPOUT_CUTOFF).all()
    model.geom_pos[1] = [0.5, 0, 0]  # the second sphere, now ahead of the first
    data.qpos[0] = 0.2
    np.testing.assert_allclose(tick(recorder).keepout_distance, 0.08, atol=1e-6)


ARM = """
<mujoco><compiler angle="radian"/><option timestep="0.002"/>
<worldbody>
  <body name="floor"><geom type="plane" size="5 5 .1"/></body>
  <body name="room"><geom type="box" size=".05 .03 .35" pos=".85 0 .35"/>
    <body name="shelves"><geom type="box" size=".1 .1 .02" pos=".45 .45 .45"/>
      <geom type="box" size=".1 .1 .02" pos=".45 -.45 .45"/></body></body>
  <body name="robot" pos="0 0 .3"><joint name="base" type="slide" axis="1 0 0"/>
    <geom name="pole" type="capsule" size=".06" fromto="0 0 -.2 0 0 .1"/>
    <body name="upper" pos="0 0 .3"><joint name="j1" axis="0 0 1"/>
      <joint name="j2" axis="0 1 0" range="-2 2"/>
      <geom type="capsule" size=".04" fromto=".11 0 0 .4 0 0" mass="1"/>
      <body name="fore" pos=".45 0 0"><joint name="j3" axis="0 1 0" range="-3 3"/>
        <geom type="capsule" size=".03" fromto=".02 0 0 .3 0 0" mass=".5"/>
        <body name="hand" pos=".33 0 0"><joint name="j4" axis="1 0 0" stiffness="20" damping="1"/>
          <geom type="box" size=".03 .06 .03" mass=".2"/></body>
      </body></body></body>
  <body name="can" pos=".45 .45 .53"><freejoint/>
    <geom type="cylinder" size=".05 .06" mass=".3"/></body>
  <body name="cup" pos=".45 -.45 .53"><freejoint/>
    <geom type="box" size=".05 .05 .06" mass=".3"/></body>
</worldbody>
<actuator><position name="s1" joint="j1" kp="300" kv="15"/><position joint="j2" kp="300" kv="15"/>
  <position name="s3" joint="j3" kp="200" kv="6"/>
  <position joint="base" kp="100000" kv="2000"/></actuator>
</mujoco>"""
ARM_PARTS = {
    "partners": ("floor", "room", "can", "cup"),
    "pairs": (("fore", "robot"), ("hand", "upper")),
    "joints": ("j3", "j1"),
    "servos": ("s3", "s1"),
    "fingers": ("hand",),
    "regions": ("can", "room"),
}


@pytest.fixture(params=["compiled", "binding"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Substeps in compiled code, and through MuJoCo's Python binding."""
    if request.param == "binding":
        monkeypatch.setattr("safevla_envs.record.recorder.is_safe", lambda data: False)


@pytest.mark.parametrize("cone", ["pyramidal", "elliptic"])
@pytest.mark.parametrize("sleep", ["disable", "enable"])
def test_every_substep_is_recorded(sleep: str, cone: str):
    """Against a twin that stops after each substep, is scanned, and asks MuJoCo's own sensors."""
    option = f'timestep="0.002" cone="{cone}"><flag sleep="{sleep}"/></option>'
    xml = ARM.replace('timestep="0.002"/>', option)
    model, data, recorder = build(xml, **ARM_PARTS)
    made, spec = recorder.made, mujoco.MjSpec.from_string(xml)
    add_oracle(spec, made)
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
    touched, asleep = np.zeros(9), 0
    for target in targets:
        data.ctrl[:3] = twin.ctrl[:3] = target
        raw = tick(recorder)
        asleep += model.ntree - data.ntree_awake
        assert raw.valid.all()
        recorded = (raw.contact_force, raw.self_force, raw.region_force, raw.finger_force)
        joints = (raw.joint_pos, raw.joint_vel, raw.joint_torque, raw.servo_force)
        most = 0
        for step in range(STEPS):
            awake = twin.ntree_awake
            most = max(most, awake)
            mujoco.mj_step(watched, twin)
            forces = np.concatenate([of[step] for of in recorded])
            scanned = np.concatenate(scan(watched, twin, made))
            read, of_joints = consult(twin, made)
            if twin.ntree_awake >= awake:
                np.testing.assert_allclose(forces, scanned, rtol=1e-12, atol=0)
            np.testing.assert_allclose(forces, read, rtol=1e-12, atol=1e-12)
            np.testing.assert_array_equal([of[step] for of in joints], of_joints)
            touched += forces > 0
        assert recorder.awake[0] == most
    assert (touched > 5).all(), touched
    assert (asleep > 0) == (sleep == "enable")
    assert raw.self_force[-1].any() and not recorder.contacts.graph().diagonal().any()
    assert (data.qpos == twin.qpos).all()


def test_joint_positions_are_those_of_each_substep():
    model, data, recorder = build(ARM, **ARM_PARTS)
    data.qpos[model.joint("j3").qposadr[0]] = 2.96
    raw = tick(recorder)
    assert raw.joint_pos.shape == (STEPS, 2) and raw.joint_pos[0, 0] == 2.96
    assert len(np.unique(raw.joint_pos[:, 0])) == STEPS


def test_nothing_is_valid_before_the_first_tick_and_after_a_reset():
    model, data, recorder = build(ARM, **ARM_PARTS)
    mujoco.mj_forward(model, data)
    assert not recorder.read().valid.any()
    assert tick(recorder).valid.all() and recorder.read().valid.all()
    data.joint("j3").qpos = 2.96
    assert tick(recorder).joint_pos[0, 0] == 2.96
    mujoco.mj_resetData(model, data)
    raw = recorder.read()
    assert not raw.valid.any() and not raw.touching and recorder.contacts.silent


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
        raw = tick(recorder)
    assert data.ncon == 20
    np.testing.assert_allclose(raw.contact_force[-1], 1.0 * GRAVITY, rtol=0.02)


def test_contact_graph_joins_subtrees():
    _, _, recorder = build(PLATE, partners=("other", "box", "floor"))
    for _ in range(10):
        tick(recorder)
    graph = recorder.contacts.graph()
    robot, other, box, floor = range(4)
    wanted = np.zeros((4, 4), dtype=bool)
    wanted[robot, box] = wanted[box, robot] = True
    wanted[other, floor] = wanted[floor, other] = True
    assert graph.dtype == bool and (graph == wanted).all()


def test_contact_graph_ignores_bodies_that_are_no_partners():
    _, _, recorder = build(PLATE, partners=("box", "other"))
    for _ in range(10):
        tick(recorder)
    graph = recorder.contacts.graph()
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
        raw = tick(recorder)
    hovers = (model.geom_bodyid[data.contact.geom] == model.body("hovering").id).any(1)
    assert hovers.any() and data.contact.exclude[hovers].all()
    assert recorder.contacts.silent and not raw.touching
    wanted = np.zeros((5, 5), dtype=bool)
    for a, b in ((1, 2), (2, 3)):
        wanted[a, b] = wanted[b, a] = True
    assert (recorder.contacts.graph() == wanted).all()


def test_a_model_without_partners_reads_empty():
    _, _, recorder = build(PLATE)
    raw = tick(recorder)
    assert raw.contact_force.shape == (STEPS, 0) == raw.keepout_distance.shape
    assert recorder.contacts.graph().tolist() == [[False]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partners": ("floor", "vase")}, r"partner_bodies: \['vase'\] not in the model"),
        ({"partners": ("can", "can")}, r"partner_bodies: \['can'\] named twice"),
        ({"pairs": (("hand", "leg"),)}, r"self_pairs: \['leg'\]"),
        ({"pairs": (("hand", "robot"),) * 2}, "self_pairs: a pair is named twice"),
        ({"joints": ("j9",)}, r"joints: \['j9'\]"),
        ({"keepouts": {"can": "ring"}, "shapes": ("hand",)}, r"keepouts: \['ring'\]"),
        ({"keepouts": {"lamp": "pole"}, "shapes": ("hand",)}, r"keepouts: \['lamp'\]"),
        ({"keepouts": {"can": "pole"}}, r"robot_keepout_bodies=\[\]: no colliding"),
        ({"shapes": ("leg",)}, r"robot_keepout_bodies: \['leg'\]"),
        ({"steps": 0}, "substeps=0"),
    ],
)
def test_bad_requests_are_named(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build(ARM, **{**ARM_PARTS, **changes})


def test_a_static_robot_in_a_sleeping_world_is_refused():
    """MuJoCo skips sensors between static bodies there: the arm on the floor would read 0."""
    sleepy = PLATE.replace('"0.002"/>', '"0.002"><flag sleep="enable"/></option>')
    with pytest.raises(ValueError, match="robot_root='robot' is static"):
        build(sleepy, partners=("floor", "box"))


def test_a_model_without_the_sensors_is_refused():
    _, _, recorder = build(KEEPOUT, partners=("stove",), **KEEPOUT_PARTS)
    bare = mujoco.MjModel.from_xml_string(KEEPOUT)
    with pytest.raises(ValueError, match="no sensor 'safety/touches'"):
        TickRecorder(bare, mujoco.MjData(bare), recorder.made)


@pytest.mark.parametrize(("memory", "safe"), [("200K", False), ("20M", True)])
def test_compiled_substeps_need_plenty_of_memory(memory: str, safe: bool):
    """They could not turn MuJoCo's fatal error into an exception."""
    xml = MANY.replace("<mujoco>", f'<mujoco><size memory="{memory}"/>')
    _, data, recorder = build(xml, partners=("table",))
    assert is_safe(data) == safe
    tick(recorder)
    assert is_safe(data) == safe


def test_running_out_of_memory_is_an_exception():
    xml = MANY.replace("<mujoco>", '<mujoco><size memory="8K"/>')
    _, data, recorder = build(xml, partners=("table",))
    with pytest.raises(mujoco.FatalError):
        for _ in range(20):
            recorder.step()
    assert not is_safe(data)


def test_both_ways_record_the_same(monkeypatch: pytest.MonkeyPatch):
    """To the last bit, through contacts and near a keep-out volume."""
    found = []
    for safe in (True, False):
        monkeypatch.setattr("safevla_envs.record.recorder.is_safe", lambda data, safe=safe: safe)
        _, data, recorder = build(KEEPOUT, partners=("chair", "stove"), **KEEPOUT_PARTS)
        data.qvel[:] = 6.0
        raws = [tick(recorder) for _ in range(6)]
        found.append([np.concatenate((r.keepout_distance, r.contact_force), 1) for r in raws])
    np.testing.assert_array_equal(*found)
    distance = np.array(found[0])[:, :, 1]
    assert distance.min() < 0 and distance.max() == KEEPOUT_CUTOFF
    assert np.array(found[0])[:, :, 3].any(), "it hit the stove"
