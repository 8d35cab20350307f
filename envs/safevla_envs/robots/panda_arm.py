"""The Franka Panda arm and its hand: robosuite's MJCF, driven by MuJoCo actuators.

What differs from robosuite's model, and why:

- its Python controllers are replaced by position servos inside MuJoCo (a fifth of the step time);
- joint torque limits are Franka's (87 N·m for joints 1-4, 12 N·m for 5-7; robosuite allows 80 N·m
  on joint 5), and gravity compensation acts through the actuators so that it counts against them;
- masses and inertias are the real arm's (robosuite's links have stand-ins, up to ten times the
  inertia: turning the base with the arm out then took more than joint 5 can give);
- visual meshes weigh nothing (MjSpec drops `inertiagrouprange`: the robot would weigh 3.4 t).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import mujoco
import numpy as np

from safevla_envs.robots.light_meshes import ROBOT_FILES, light_meshes, robosuite_assets
from safevla_envs.robots.robot import Hand, RobotLimits, RobotNames

__all__ = [
    "ARM_JOINTS",
    "ARM_LINKS",
    "FINGERS",
    "FINGER_JOINTS",
    "FINGER_TIPS",
    "GRIPPER_OPEN",
    "GRIP_FORCE",
    "GRIP_SITE",
    "HAND_BODY",
    "SPEED_LIMITS",
    "TORQUE_LIMITS",
    "PandaArm",
    "View",
    "add_arm",
    "add_camera",
    "exclude",
    "load_part",
]

ARM_JOINTS = tuple(f"robot/arm/joint{i}" for i in range(1, 8))
ARM_LINKS = tuple(f"robot/arm/link{i}" for i in range(8))
HAND_BODY = "robot/hand/right_gripper"
FINGERS = ("robot/hand/leftfinger", "robot/hand/rightfinger")
FINGER_TIPS = ("robot/hand/finger_joint1_tip", "robot/hand/finger_joint2_tip")
FINGER_JOINTS = ("robot/hand/finger_joint1", "robot/hand/finger_joint2")
GRIP_SITE = "robot/hand/grip_site"
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
_JOINT = mujoco.mjtTrn.mjTRN_JOINT


class PandaArm:
    """What robots with this arm have in common; see `Robot`.

    Attributes:
        torso_stiffness: N/m of the torso's servo.
    """

    names: RobotNames
    limits = RobotLimits(
        torque=TORQUE_LIMITS,
        speed=SPEED_LIMITS,
        source="Franka control parameters; libfranka rate_limiting.h",
    )
    hand = Hand(opening=GRIPPER_OPEN, force=GRIP_FORCE, stiffness=FINGER_STIFFNESS)
    base_rate = 18.0
    torso_stiffness = 6e4
    scanners: tuple[float, float, float] | None = None

    def working_range(self, stops: np.ndarray) -> np.ndarray:
        """Returns the stops (7, 2) in rad less a margin, and less what folds hand onto forearm."""
        working = stops + np.array([JOINT_MARGIN, -JOINT_MARGIN])
        working[5, 0] = LEAST_BEND
        return working

    def tune(self, model: mujoco.MjModel) -> None:
        """Sets servo gains from the effective masses at `HALF_STRETCHED`.

        Base: position and velocity actuators, critically damped at `base_rate`. Arm:
        `ARM_STIFFNESS` about a set-point that moves at the velocity asked for, as a robot's own
        motion generator does at 1 kHz: one that jumped at every tick would ask for several times
        the torque limits. Arm and torso are critically damped there.
        """
        names = self.names
        data = mujoco.MjData(model)
        for name, value in zip(ARM_JOINTS, HALF_STRETCHED):
            data.qpos[model.joint(name).qposadr[0]] = value
        mujoco.mj_forward(model, data)
        mass = np.zeros((model.nv, model.nv))
        mujoco.mj_fullM(model, mass, data.qM)
        stiffness = {names.torso_joint: self.torso_stiffness}
        stiffness |= dict.fromkeys(FINGER_JOINTS, FINGER_STIFFNESS)
        stiffness |= dict(zip(ARM_JOINTS, ARM_STIFFNESS))
        for name in names.servo_joints:
            dof = model.joint(name).dofadr[0]
            inertia = float(mass[dof, dof])
            actuator = model.actuator(f"position/{name}").id
            model.actuator_biastype[actuator] = mujoco.mjtBias.mjBIAS_AFFINE
            gain = stiffness.get(name, inertia * self.base_rate**2)
            damping = 2.0 * np.sqrt(gain * inertia)
            model.actuator_gainprm[actuator, 0] = gain
            model.actuator_biasprm[actuator, :3] = [0.0, -gain, -damping]
            if name in names.base_joints:
                # two actuators: the reference may move, so damping acts on the velocity error
                model.actuator_biasprm[actuator, :3] = [0.0, -gain, 0.0]
                velocity = model.actuator(f"velocity/{name}").id
                model.actuator_biastype[velocity] = mujoco.mjtBias.mjBIAS_AFFINE
                model.actuator_gainprm[velocity, 0] = damping
                model.actuator_biasprm[velocity, :3] = [0.0, 0.0, -damping]
            if name in FINGER_JOINTS:
                model.actuator_forcelimited[actuator] = 1
                model.actuator_forcerange[actuator] = [-GRIP_FORCE, GRIP_FORCE]


def add_arm(spec: mujoco.MjSpec, names: RobotNames, mount: Any, *, visuals: str) -> None:
    """Adds arm and hand, and the servos of the whole robot.

    Args:
        spec: the parent model, with whatever carries the arm; its options are left alone.
        names: of the whole robot.
        mount: site on which the arm stands.
        visuals: "light" (convex hulls, for observations) or "full" (robosuite's meshes).
    """
    spec.attach(load_part("arm", visuals), prefix="robot/arm/", site=mount)
    hold = spec.body("robot/arm/right_hand").add_site(name="robot/mount_hand", group=5)
    spec.attach(load_part("hand", visuals), prefix="robot/hand/", site=hold)
    torso = () if names.torso_joint is None else (names.torso_joint,)
    for name in (*torso, *ARM_JOINTS):
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
    for name in ARM_JOINTS:
        spec.joint(name).armature = ROTOR_INERTIA
    for name in names.servo_joints:
        servo = spec.add_actuator(name=f"position/{name}", target=name, trntype=_JOINT)
        if name in ARM_JOINTS:
            servo.dyntype = mujoco.mjtDyn.mjDYN_INTEGRATOR
    for name in names.base_joints:
        spec.add_actuator(name=f"velocity/{name}", target=name, trntype=_JOINT)
    for name, limit in zip(ARM_JOINTS, TORQUE_LIMITS):
        spec.joint(name).actfrclimited = True
        spec.joint(name).actfrcrange = [-limit, limit]
    exclude(spec, _ADJACENT)


_ADJACENT = (
    *pairwise(ARM_LINKS),
    (ARM_LINKS[5], ARM_LINKS[7]),
    (ARM_LINKS[7], HAND_BODY),
    (ARM_LINKS[6], HAND_BODY),
    *((a, b) for a in (FINGERS[0], FINGER_TIPS[0]) for b in (FINGERS[1], FINGER_TIPS[1])),
    *((HAND_BODY, body) for body in (*FINGERS, *FINGER_TIPS)),
)
"""Body pairs whose shapes touch or overlap by design."""


def exclude(spec: mujoco.MjSpec, pairs: Iterable[tuple[str, str]]) -> None:
    """Keeps pairs of bodies from touching each other."""
    for a, b in pairs:
        spec.add_exclude(bodyname1=a, bodyname2=b)


class View(NamedTuple):
    """A camera: position (3,) in m, yaw to the left, pitch down and field of view in degrees."""

    pos: tuple[float, float, float]
    yaw: float
    pitch: float
    fovy: float


def add_camera(
    body: Any, name: str, view: View, origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> None:
    """Adds a camera to a body; `origin` (3,) in m of the body is where its view starts from."""
    tilt, turn = np.radians(view.pitch), np.radians(view.yaw)
    right = [np.sin(turn), -np.cos(turn), 0]
    up = [np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)]
    at = [a - b for a, b in zip(view.pos, origin)]
    body.add_camera(name=name, pos=at, fovy=view.fovy, xyaxes=[*right, *up])


def load_part(part: str, visuals: str) -> mujoco.MjSpec:
    """Returns a part of robosuite's robot without its actuators, sensors and cameras.

    Raises:
        ValueError: if `visuals` is neither "light" nor "full".
    """
    if visuals not in ("light", "full"):
        raise ValueError(f"visuals={visuals!r}: allowed are 'light' and 'full'")
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
