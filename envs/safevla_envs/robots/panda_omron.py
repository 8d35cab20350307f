"""PandaOmron: robosuite's MJCF of the Franka Panda on the Omron base, driven by MuJoCo actuators.

What differs from robosuite's model, and why:

- its Python controllers are replaced by position servos inside MuJoCo (a fifth of the step time);
- joint torque limits are Franka's (87 N·m for joints 1-4, 12 N·m for 5-7; robosuite allows 80 N·m
  on joint 5), and gravity compensation acts through the actuators so that it counts against them;
- masses and inertias are the real arm's (robosuite's links have stand-ins, up to ten times the
  inertia: turning the base with the arm out then took more than joint 5 can give);
- the base's joint origin lies at the model's origin: `qpos` of the three base joints *is* the pose
  (x, y in m, yaw in rad) of the point about which the robot turns;
- visual meshes weigh nothing (MjSpec drops `inertiagrouprange`: the robot would weigh 3.4 t).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import mujoco
import numpy as np

from safevla_envs.robots.light_meshes import ROBOT_FILES, light_meshes, robosuite_assets
from safevla_envs.robots.robot import Hand, RobotLimits, RobotNames

__all__ = [
    "HOME_ARM",
    "ROBOT",
    "SPEED_LIMITS",
    "TORQUE_LIMITS",
    "PandaOmron",
    "add_robot",
    "set_servo_gains",
]

ARM_JOINTS = tuple(f"robot/arm/joint{i}" for i in range(1, 8))
TORQUE_LIMITS = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
"""N·m; Franka documentation, control-parameters table (Panda and FR3)."""
SPEED_LIMITS = (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)
"""rad/s; libfranka's rate limits of the Panda (FER)."""
INERTIALS = {
    "robot/arm/link1": (4.970684, (0.003875, 0.002081, -0.04762),
                        (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169)),
    "robot/arm/link2": (0.646926, (-0.003141, -0.02872, 0.003495),
                        (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704)),
    "robot/arm/link3": (3.228604, (0.027518, 0.039252, -0.066502),
                        (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805)),
    "robot/arm/link4": (3.587895, (-0.05317, 0.104419, 0.027454),
                        (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641)),
    "robot/arm/link5": (1.225946, (-0.011953, 0.041065, -0.038437),
                        (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229)),
    "robot/arm/link6": (1.666555, (0.060149, -0.014117, -0.010517),
                        (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341)),
    "robot/arm/link7": (0.735522, (0.010517, -0.004252, 0.061597),
                        (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741)),
    "robot/arm/right_hand": (0.73, (-0.01, 0.0, 0.03), (0.001, 0.0025, 0.0017, 0.0, 0.0, 0.0)),
    "robot/hand/right_gripper": (0.0, (0.0, 0.0, 0.0), (0.0,) * 6),
    **dict.fromkeys(
        (
            "robot/hand/leftfinger", "robot/hand/rightfinger",
            "robot/hand/finger_joint1_tip", "robot/hand/finger_joint2_tip",
        ),
        (0.0075, (0.0, 0.0, 0.0), (1.2e-6, 1.2e-6, 4e-7, 0.0, 0.0, 0.0)),
    ),
}  # fmt: skip
"""kg, centre of mass in m, inertia about it in kg·m² (xx, yy, zz, xy, xz, yz).

Links: Gaz et al. 2019, identified on the real arm (`inertial.yaml` of franka_description); hand:
franka_description.
"""
ROTOR_INERTIA = 0.1
"""kg·m²; of a joint's motor through its gear, as in the Panda of MuJoCo's Menagerie."""
ARM_STIFFNESS = (1500.0, 1500.0, 1500.0, 1500.0, 500.0, 500.0, 500.0)
"""N·m/rad."""
BASE_FORCE, BASE_TORQUE = 400.0, 200.0
BASE_RATE = 18.0
"""rad/s; natural frequency of the critically damped base servos."""
HOME_ARM = (0.0, -1.2, 0.0, -2.7, 0.0, 1.6, np.pi / 4)
"""rad; tucked: a stretched arm hits walls while the base turns and fills the picture."""
HALF_STRETCHED = (0.0, 0.3, 0.0, -1.9, 0.0, 2.2, np.pi / 4)
"""rad; servos are tuned for the inertia of this pose, between tucked and stretched out."""
JOINT_MARGIN = 0.06
"""rad; inverse kinematics keeps this from the stops, a little more than `joint_limit` charges."""
LEAST_BEND = 0.75
"""rad; inverse kinematics bends joint 6 no further: the hand, as it may be turned, could meet the
forearm."""
GRIPPER_OPEN = 0.04
"""m; of each finger."""
GRIP_FORCE = 70.0
"""N a finger; the Franka hand's rated force."""
FINGER_STIFFNESS = 1000.0
"""N/m."""
FINGER_PRIORITY = 2
"""Rubber decides how fingers slip; the friction of a thing (priority 1) is that on the floor."""
NAVIGATION_CAMERA = {"pos": (0.30, 0.0, 0.85), "yaw": 0.0, "pitch": 22.0, "fovy": 90.0}
MANIPULATION_CAMERA = {"pos": (0.0, -0.38, 1.45), "yaw": 30.0, "pitch": 42.0, "fovy": 75.0}


THIRD_PERSON_CAMERA = {"pos": (-1.5, 0.0, 3.4), "yaw": 0.0, "pitch": 58.0, "fovy": 60.0}


BASE_LINKS = tuple(f"robot/base/{link}" for link in ("wheeled_base", "fixed_support", "support"))
ARM_LINKS = tuple(f"robot/arm/link{i}" for i in range(8))
TORSO_JOINT = "robot/base/joint_torso_height"
HAND_BODY = "robot/hand/right_gripper"
FINGERS = ("robot/hand/leftfinger", "robot/hand/rightfinger")
FINGER_TIPS = ("robot/hand/finger_joint1_tip", "robot/hand/finger_joint2_tip")
ROBOT = RobotNames(
    root="robot/base/base",
    base_body=BASE_LINKS[0],
    base_joints=tuple(f"robot/base/joint_mobile_{axis}" for axis in ("forward", "side", "yaw")),
    torso_joint=TORSO_JOINT,
    arm_joints=ARM_JOINTS,
    finger_joints=("robot/hand/finger_joint1", "robot/hand/finger_joint2"),
    finger_bodies=FINGERS,
    hand_body=HAND_BODY,
    grip_site="robot/hand/grip_site",
    arm_links=ARM_LINKS,
    # The forearm with the hand (link 5 outwards) against base, torso and links 0-3, and the hand
    # against link 5: never neighbours or rigid ones. Other pairs that are free to collide do not
    # meet: in 3,000 random poses within the joint ranges none did.
    link_pairs=(
        *((ARM_LINKS[5], body) for body in (*BASE_LINKS, *ARM_LINKS[:4])),
        (HAND_BODY, ARM_LINKS[5]),
    ),
    keepout_bodies=(BASE_LINKS[0], *ARM_LINKS[5:], HAND_BODY, *FINGERS, *FINGER_TIPS),
)


class PandaOmron:
    """The robot of homes, as `Robot` wants it."""

    name = "PandaOmron"
    names = ROBOT
    limits = RobotLimits(
        torque=TORQUE_LIMITS,
        speed=SPEED_LIMITS,
        source="Franka control parameters; libfranka rate_limiting.h",
    )
    home: Mapping[str, float] = MappingProxyType(dict(zip(ARM_JOINTS, HOME_ARM)))
    hand = Hand(opening=GRIPPER_OPEN, force=GRIP_FORCE, stiffness=FINGER_STIFFNESS)
    base_rate = BASE_RATE

    def attach(self, spec: mujoco.MjSpec, *, visuals: str = "light") -> None:
        """Adds the robot; see `add_robot`."""
        add_robot(spec, visuals=visuals)

    def tune(self, model: mujoco.MjModel) -> None:
        """Sets servo gains; see `set_servo_gains`."""
        set_servo_gains(model)

    def working_range(self, stops: np.ndarray) -> np.ndarray:
        """Returns the stops (7, 2) in rad less a margin, and less what folds hand onto forearm."""
        working = stops + np.array([JOINT_MARGIN, -JOINT_MARGIN])
        working[5, 0] = LEAST_BEND
        return working


def _load(part: str, visuals: str) -> mujoco.MjSpec:
    spec = mujoco.MjSpec.from_file(str(robosuite_assets() / ROBOT_FILES[part]))
    for collection in (spec.actuators, spec.sensors, spec.cameras):
        for element in list(collection):
            spec.delete(element)
    for site in list(spec.sites):
        if site.name not in ("grip_site", "center"):
            spec.delete(site)
    if visuals == "light":
        _lighten(spec, light_meshes()[part])
    for geom in spec.geoms:
        if geom.group == 1:
            geom.mass = 0
            geom.density = 0
            geom.contype = geom.conaffinity = 0
        else:
            geom.group = 3
            if part == "hand":
                geom.priority = FINGER_PRIORITY
    return spec


def _lighten(spec: mujoco.MjSpec, meshes: dict[str, list[float]]) -> None:
    for geom in list(spec.geoms):
        if geom.meshname and geom.meshname not in meshes:
            spec.delete(geom)
    for mesh in list(spec.meshes):
        if mesh.name in meshes:
            mesh.file = ""
            mesh.uservert = meshes[mesh.name]
        else:
            spec.delete(mesh)
    used = {geom.material for geom in spec.geoms}
    for material in list(spec.materials):
        if material.name not in used:
            spec.delete(material)


def add_robot(spec: mujoco.MjSpec, *, visuals: str = "light") -> None:
    """Adds the robot, its servos and its two cameras to `spec`.

    Args:
        spec: the parent model; its options are left alone.
        visuals: "light" (convex hulls, for observations) or "full" (robosuite's meshes).

    Raises:
        ValueError: if `visuals` is neither.
    """
    if visuals not in ("light", "full"):
        raise ValueError(f"visuals={visuals!r}: allowed are 'light' and 'full'")
    frame = spec.worldbody.add_frame()
    spec.attach(_load("base", visuals), prefix="robot/base/", frame=frame)
    spec.attach(_load("arm", visuals), prefix="robot/arm/", site=_mount(spec, "support"))
    spec.attach(_load("hand", visuals), prefix="robot/hand/", site=_mount(spec, "hand"))
    base = spec.body(ROBOT.root)
    base.pos = [0.21, 0.0, 0.0]  # the joints sit at x = -0.21 of this body
    for name in (*ROBOT.base_joints, TORSO_JOINT):
        joint = spec.joint(name)
        joint.frictionloss = 0.0
    for name in (TORSO_JOINT, *ROBOT.arm_joints):
        spec.joint(name).actgravcomp = True
    for body in spec.bodies:
        if body.name.startswith("robot/"):
            body.gravcomp = 1.0
    for name, inertial in INERTIALS.items():
        body = spec.body(name)
        body.mass, body.ipos, moments = inertial
        body.iquat, body.inertia = [1.0, 0.0, 0.0, 0.0], moments[:3]
        if any(moments[3:]):
            body.inertia, body.fullinertia = [0.0, 0.0, 0.0], moments
    for name in ROBOT.arm_joints:
        spec.joint(name).armature = ROTOR_INERTIA
    for name in ROBOT.servo_joints:
        servo = spec.add_actuator(name=f"position/{name}", target=name, trntype=_JOINT)
        if name in ROBOT.arm_joints:
            servo.dyntype = mujoco.mjtDyn.mjDYN_INTEGRATOR
    for name in ROBOT.base_joints:
        spec.add_actuator(name=f"velocity/{name}", target=name, trntype=_JOINT)
    for name, limit in zip(ROBOT.arm_joints, TORQUE_LIMITS):
        spec.joint(name).actfrclimited = True
        spec.joint(name).actfrcrange = [-limit, limit]
    for name, limit in zip(ROBOT.base_joints, (BASE_FORCE, BASE_FORCE, BASE_TORQUE)):
        spec.joint(name).actfrclimited = True
        spec.joint(name).actfrcrange = [-limit, limit]
    for a, b in _adjacent_bodies():
        spec.add_exclude(bodyname1=a, bodyname2=b)
    _add_camera(base, "navigation", NAVIGATION_CAMERA)
    _add_camera(base, "manipulation", MANIPULATION_CAMERA)
    _add_camera(base, "third_person", THIRD_PERSON_CAMERA)


_JOINT = mujoco.mjtTrn.mjTRN_JOINT


def _mount(spec: mujoco.MjSpec, where: str) -> Any:
    if where == "support":
        body = spec.body("robot/base/support")
        return body.add_site(name="robot/mount_arm", pos=[0, 0, 0], group=5)
    return spec.body("robot/arm/right_hand").add_site(name="robot/mount_hand", group=5)


def _add_camera(base: Any, name: str, camera: dict[str, Any]) -> None:
    tilt, yaw = np.radians(camera["pitch"]), np.radians(camera["yaw"])
    right = [np.sin(yaw), -np.cos(yaw), 0]
    up = [np.sin(tilt) * np.cos(yaw), np.sin(tilt) * np.sin(yaw), np.cos(tilt)]
    base.add_camera(
        name=name,
        pos=[camera["pos"][0] - 0.21, *camera["pos"][1:]],
        fovy=camera["fovy"],
        xyaxes=[*right, *up],
    )


def _adjacent_bodies() -> list[tuple[str, str]]:
    """Body pairs whose shapes touch or overlap by design."""
    links = ROBOT.arm_links
    base = BASE_LINKS
    hand = ROBOT.hand_body
    left, right = ROBOT.finger_bodies
    tips = FINGER_TIPS
    pairs = [(base[0], base[1]), (base[0], base[2]), (base[1], base[2])]
    pairs += [(base[2], links[0]), (base[2], links[1]), (base[1], links[0]), (base[0], links[0])]
    pairs += list(pairwise(links))
    pairs += [(links[5], links[7]), (links[7], hand), (links[6], hand)]
    pairs += [(a, b) for a in (left, tips[0]) for b in (right, tips[1])]
    pairs += [(hand, body) for body in (left, right, *tips)]
    return pairs


def set_servo_gains(model: mujoco.MjModel, names: RobotNames = ROBOT) -> None:
    """Sets servo gains from the effective masses at `HALF_STRETCHED`; call once after compiling.

    Base: position and velocity actuators, critically damped at `BASE_RATE`. Arm: `ARM_STIFFNESS`
    about a set-point that moves at the velocity asked for, as a robot's own motion generator does
    at 1 kHz: one that jumped at every tick would ask for several times the torque limits. Torso:
    60 kN/m. Both are critically damped there.
    """
    data = mujoco.MjData(model)
    for name, value in zip(ROBOT.arm_joints, HALF_STRETCHED):
        data.qpos[model.joint(name).qposadr[0]] = value
    mujoco.mj_forward(model, data)
    mass = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, mass, data.qM)
    stiffness = {TORSO_JOINT: 6e4, **dict.fromkeys(ROBOT.finger_joints, FINGER_STIFFNESS)}
    stiffness |= dict(zip(ROBOT.arm_joints, ARM_STIFFNESS))
    for name in names.servo_joints:
        dof = model.joint(name).dofadr[0]
        inertia = float(mass[dof, dof])
        actuator = model.actuator(f"position/{name}").id
        model.actuator_biastype[actuator] = mujoco.mjtBias.mjBIAS_AFFINE
        gain = stiffness.get(name, inertia * BASE_RATE**2)
        damping = 2.0 * np.sqrt(gain * inertia)
        model.actuator_gainprm[actuator, 0] = gain
        model.actuator_biasprm[actuator, :3] = [0.0, -gain, -damping]
        if name in ROBOT.base_joints:
            # two actuators a joint: the reference may move, so damping acts on the velocity error
            model.actuator_biasprm[actuator, :3] = [0.0, -gain, 0.0]
            velocity = model.actuator(f"velocity/{name}").id
            model.actuator_biastype[velocity] = mujoco.mjtBias.mjBIAS_AFFINE
            model.actuator_gainprm[velocity, 0] = damping
            model.actuator_biasprm[velocity, :3] = [0.0, 0.0, -damping]
        if name in ROBOT.finger_joints:
            model.actuator_forcelimited[actuator] = 1
            model.actuator_forcerange[actuator] = [-GRIP_FORCE, GRIP_FORCE]
