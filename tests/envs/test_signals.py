"""What the arm, the hand and the eyes report, against mechanics worked out another way."""

from collections import OrderedDict

import mujoco
import numpy as np
import pytest
from bare_home import bare_home, thing, walker

from safevla_envs.reader import WorldLog
from safevla_envs.record.looks import LOOKS_FRESH, LOOKS_KEPT
from safevla_envs.record.support import support_margins
from safevla_envs.record.watch import add_touch_counter
from safevla_envs.robots.panda_arm import TORQUE_LIMITS
from safevla_envs.robots.panda_omron import HOME_ARM, ROBOT
from safevla_envs.world import TICK, World

GRAVITY = 9.81
STRETCHED = np.array([0.3, 0.4, -0.2, -1.6, 0.3, 2.0, 0.5])


@pytest.fixture(scope="module")
def sim():
    return World()


def load(sim, scenario):
    sim.load(scenario)
    return WorldLog(sim, scenario)


def run(sim, log, ticks):
    """Runs some ticks with the set-points as they are; the log reads the last of them."""
    for _ in range(ticks):
        log.begin(sim.tick())


def move_arm(sim, goal, ticks=40):
    start = sim.arm_reference
    for share in np.linspace(0, 1, ticks):
        sim.set_arm(start + share * (goal - start))
        sim.tick()


@pytest.mark.parametrize("pose", [np.array(HOME_ARM), STRETCHED])
def test_static_torque_is_the_weight_of_the_arm(sim, pose):
    log = load(sim, bare_home())
    move_arm(sim, pose)
    run(sim, log, 40)
    assert np.abs(log.joint_vel).max() < 1e-3
    # Newton-Euler on its own: the torques that keep this pose at rest
    twin = mujoco.MjData(sim.model)
    twin.qpos[:] = sim.data.qpos
    mujoco.mj_inverse(sim.model, twin)
    weight = twin.qfrc_inverse[sim._arm_v]
    assert np.abs(weight).max() > 15.0
    for measured in (log.joint_torque, log.joint_demand):
        np.testing.assert_allclose(measured[-1], weight, atol=0.02 * np.abs(weight).max())
    assert not log.external_torque.any()


def test_a_joint_driven_at_a_known_rate_reads_it(sim):
    log = load(sim, bare_home())
    rate, goal = 0.5, np.array(HOME_ARM)
    for _ in range(20):
        goal[0] += rate * TICK
        sim.set_arm(goal)
        run(sim, log, 1)
    assert log.joint_vel[:, 0].mean() == pytest.approx(rate, rel=0.02)
    moved = np.diff(log.joint_pos[:, 0]) / sim.timestep
    np.testing.assert_allclose(log.joint_vel[1:, 0], moved, atol=1e-9)
    radius = np.hypot(
        *(sim.grip_position - sim.data.xpos[sim.model.body(ROBOT.arm_links[1]).id])[:2]
    )
    assert log.tcp_speed.mean() == pytest.approx(rate * radius, rel=0.02)


def test_tip_speed_ignores_the_motion_of_the_base(sim):
    """Driving at 0.5 m/s and turning at 0.6 rad/s, the hand itself does both; the arm stands."""
    log = load(sim, bare_home())
    pose, twist = sim.base_pose, np.array([0.5, 0.0, 0.6])
    for _ in range(20):
        pose = pose + twist * TICK
        sim.set_base(pose, twist)
        run(sim, log, 1)
    velocity = np.zeros(6)
    site = sim.model.site(ROBOT.grip_site).id
    mujoco.mj_objectVelocity(sim.model, sim.data, mujoco.mjtObj.mjOBJ_SITE, site, velocity, 0)
    assert np.linalg.norm(velocity[3:]) > 0.4
    assert log.tcp_speed.max() < 0.02


def test_a_saturated_joint_reads_its_limit_while_more_is_asked_for(sim):
    log = load(sim, bare_home())
    sim.set_arm(np.array(HOME_ARM) + np.array([0.6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9]))
    run(sim, log, 1)  # in its last substep: set-points move in the course of a tick
    limit = np.array(TORQUE_LIMITS)
    for joint in (0, 6):
        assert log.joint_torque[-1, joint] == pytest.approx(limit[joint])
        assert log.joint_demand[-1, joint] > 3 * limit[joint]
    assert (np.abs(log.joint_torque) <= limit + 1e-9).all()
    within = np.abs(log.joint_demand) < limit
    np.testing.assert_allclose(log.joint_torque[within], log.joint_demand[within], atol=0.1)


def test_contact_torque_is_what_the_actuators_bear_beyond_the_weight(sim):
    """The hand rests on a table: torque = weight - J^T f in every joint, at rest."""
    table = thing("table", "dining_table", 3.75, 3.0, fixed=True, role="furniture")
    log = load(sim, bare_home(furniture=[table]))
    move_arm(sim, STRETCHED * [0, 1, 0, 1, 0, 1, 1])
    jacobian = sim.grip_jacobian()
    while not sim.external_torque().any() and sim.grip_position[2] > 0.7:
        sim.set_arm(sim.arm_reference + jacobian.T @ [0, 0, -0.01, 0, 0, 0])
        run(sim, log, 2)
    sim.set_arm(sim.arm_reference + jacobian.T @ [0, 0, -0.03, 0, 0, 0])
    run(sim, log, 40)
    external = log.external_torque
    assert np.abs(external).max() > 2.0
    bears = log.joint_torque[-1] - sim.recorder.rows.gravity[-1]
    np.testing.assert_allclose(bears, -external, atol=0.02 * np.abs(external).max() + 0.02)


def grasped_bottle(sim):
    """A bottle held by its neck, the arm at home: its weight hangs at the grip point."""
    log = load(sim, bare_home(thing("bottle", "glass_bottle", 5.0, 5.0)))
    run(sim, log, 5)
    model, data = sim.model, sim.data
    adr = model.joint("bottle/free").qposadr[0]
    neck = model.geom_pos[model.geom("bottle/neck").id] + [0, 0, 0.05]  # its upper end
    for _ in range(8):  # brought there, and kept there while the fingers close
        data.qpos[adr : adr + 3] = sim.grip_position - neck
        data.qpos[adr + 3 : adr + 7] = [1, 0, 0, 0]
        data.qvel[model.joint("bottle/free").dofadr[0] :][:6] = 0
        sim.set_gripper(0.0)
        run(sim, log, 1)
    return log


def test_a_known_weight_in_the_hand(sim):
    log = grasped_bottle(sim)
    run(sim, log, 140)  # it swings for a while
    assert log.held[sim.home.partners.index("bottle")]
    mass = sim.model.body_mass[sim.model.body("bottle").id]
    centre = sim.data.xipos[sim.model.body("bottle").id]
    jacobian = np.zeros((3, sim.model.nv))
    hand = sim.model.body(ROBOT.hand_body).id
    mujoco.mj_jac(sim.model, sim.data, jacobian, None, centre, hand)
    expected = jacobian[:, sim._arm_v].T @ [0, 0, -mass * GRAVITY]
    assert np.abs(expected).max() > 3.0
    allowed = 0.03 * np.abs(expected).max()
    np.testing.assert_allclose(log.external_torque, expected, atol=allowed)
    bears = log.joint_torque[-1] - sim.recorder.rows.gravity[-1]
    np.testing.assert_allclose(bears, -expected, atol=allowed)


def test_finger_force_is_the_servo_s(sim):
    log = grasped_bottle(sim)
    run(sim, log, 60)
    servos = [sim.model.actuator(f"position/{n}").id for n in ROBOT.finger_joints]
    asked = np.abs(sim.data.actuator_force[servos])
    assert asked.min() > 20.0
    np.testing.assert_allclose(log.finger_force[-1], asked, rtol=0.05)


def test_seen_then_lost_is_blind_and_never_seen_is_not(sim):
    """The box ahead is lost by turning round, comes back, and is forgotten after 20 looks."""
    ahead, behind = thing("ahead", "cardboard_box", 4.6, 3.0), thing("b", "cardboard_box", 1.2, 3.0)
    log = load(sim, bare_home(ahead, behind))
    assert log.blind is None
    names = sim.home.partners
    everything = np.ones(len(names), bool)

    def look(yaw):
        sim.data.qpos[sim._base_q[2]] = yaw
        mujoco.mj_forward(sim.model, sim.data)
        log.look()
        log.begin(sim.time)
        assert not log.blind.any(), "nothing is touched"
        return {n for n, blind in zip(names, log.blind_among(everything)) if blind}

    assert [look(0.0), look(0.0)] == [set(), set()]
    turned = [look(np.pi) for _ in range(LOOKS_KEPT + 2)]
    assert turned[: LOOKS_FRESH - 1] == [set()] * (LOOKS_FRESH - 1)
    assert turned[LOOKS_FRESH - 1 : LOOKS_KEPT - 1] == [{"ahead"}] * (LOOKS_KEPT - LOOKS_FRESH)
    assert turned[LOOKS_KEPT - 1 :] == [set()] * 3
    assert [look(0.0), look(0.0)] == [set(), {"b"}]
    assert "room" not in look(0.0) and "floor" not in look(0.0)


def test_a_person_is_seen_and_hidden(sim):
    screen = thing("shelf", "bookshelf", 4.2, 3.0, fixed=True, role="furniture")
    for furniture, seen in (((), True), ((screen,), False)):
        sim.load(bare_home(movers=[walker((5.2, 2.9), (5.2, 3.1))], furniture=furniture))
        assert sim.visible(("anna",))[0] == seen


@pytest.mark.parametrize(
    ("offset", "margin"), [(0.0, 0.15), (0.115, 0.035), (0.125, 0.025), (0.145, 0.005)]
)
@pytest.mark.parametrize("yaw", [0.0, np.pi / 2])
def test_support_margin_by_hand(sim, offset, margin, yaw):
    """A bottle on a stand 30 cm wide: how far its middle is from the edge."""
    x, y = 3 + offset * np.cos(yaw), 4.5 + offset * np.sin(yaw)
    stand = thing("stand", "plant_stand", 3, 4.5, yaw=yaw, role="critical")
    bottle = thing("bottle", "glass_bottle", x, y, 0.65, role="critical")
    scenario = bare_home(stand, bottle, thing("doll", "figurine", 1, 1))
    log = load(sim, scenario)
    margins = support_margins(sim.model, scenario)
    assert set(margins) == {"bottle"}, "on the floor there is nothing to fall from"
    assert margins["bottle"] == pytest.approx(margin, abs=0.002)
    critical = log.partners.tags["critical"]
    assert critical.sum() == (margin < 0.03)
    assert critical[sim.home.partners.index("bottle")] == (margin < 0.03)


def test_grip_limits_are_those_of_the_class(sim):
    log = load(
        sim, bare_home(thing("bottle", "glass_bottle", 1, 1), thing("box", "suitcase", 5, 1))
    )
    names = list(sim.home.partners)
    assert log.partners.grip_limit is not None
    assert log.partners.grip_limit[names.index("bottle")].tolist() == [10, 20, 40]
    assert log.partners.grip_limit[names.index("box")].tolist() == [70, 100, 140]


def test_speed_is_the_greater_of_going_and_a_tenth_of_turning(sim):
    sim.load(bare_home(thing("box", "suitcase", 5, 1), movers=[walker((1, 1), (1, 5))]))
    box, anna = (sim.home.partners.index(name) for name in ("box", "anna"))
    free, mover = slice(*(sim._free_v[0] + np.array([0, 6]))), sim._mover_v[0]
    assert list(sim._free) == [box]
    for going, turning, speed in (((0.3, 0.0), 2.0, 0.3), ((0.03, 0.04), 2.0, 0.2)):
        sim.data.qvel[free] = (*going, 0.0, 0.0, turning, 0.0)
        sim.data.qvel[mover] = (*going, -turning)
        speeds = sim.partner_poses()[2]
        assert speeds[[box, anna]] == pytest.approx(speed)
        assert np.count_nonzero(speeds) == 2


def test_thermal_start_comes_from_the_knobs(sim):
    assert load(sim, bare_home(knobs={"thermal_start": 0.8})).robot.thermal_start == 0.8


@pytest.mark.parametrize("way", ["compiled", "binding"])
@pytest.mark.parametrize("timestep", [0.005, 0.002])
def test_a_body_that_falls_asleep_disturbs_no_reading(monkeypatch, timestep, way):
    """MuJoCo then works forces out again, for set-points of the next substep."""
    kind, joint = mujoco.mjtSensor.mjSENS_JOINTACTFRC, mujoco.mjtObj.mjOBJ_JOINT

    def with_sensors(spec, root):
        add_touch_counter(spec, root)
        for name in ROBOT.arm_joints:
            sensor = spec.add_sensor(name=f"own/{name}", type=kind, objtype=joint, objname=name)
            sensor.nsample = round(TICK / timestep)

    monkeypatch.setattr("safevla_envs.scenes.home.add_touch_counter", with_sensors)
    monkeypatch.setattr("safevla_envs.scenes.home._homes", OrderedDict())
    if way == "binding":
        monkeypatch.setattr("safevla_envs.record.recorder.is_safe", lambda data: False)
    sim = World(timestep=timestep)
    sim.load(bare_home(thing("vase", "floor_vase", 4.5, 3.0)))
    model, data, steps = sim.model, sim.data, sim.substeps
    starts = [model.sensor_historyadr[model.sensor(f"own/{n}").id] for n in ROBOT.arm_joints]
    slept = 0
    for tick in range(30):
        sim.set_arm(np.array(HOME_ARM) + 0.02 * tick)
        awake = data.ntree_awake
        sim.tick()
        slept += data.ntree_awake < awake
        torque = [data.history[start + 2 + steps :][:steps] for start in starts]
        np.testing.assert_array_equal(sim.recorder.rows.joint_torque.T, torque)
    assert slept == 1
