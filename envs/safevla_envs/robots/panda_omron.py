"""PandaOmron: the Franka Panda on the Omron base, the robot of homes.

The base's joint origin lies at the model's origin: `qpos` of its three joints *is* the pose
(x, y in m, yaw in rad) of the point about which the robot turns. The arm: `panda_arm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import mujoco
import numpy as np

from safevla_envs.robots.panda_arm import (
    ARM_JOINTS,
    ARM_LINKS,
    FINGER_JOINTS,
    FINGER_TIPS,
    FINGERS,
    GRIP_SITE,
    HAND_BODY,
    PandaArm,
    View,
    add_arm,
    add_camera,
    exclude,
    load_part,
)
from safevla_envs.robots.robot import Pose, RobotNames

__all__ = ["HOME_ARM", "ROBOT", "PandaOmron"]

BASE_FORCE, BASE_TORQUE = 400.0, 200.0
HOME_ARM = (0.0, -1.2, 0.0, -2.7, 0.0, 1.6, np.pi / 4)
"""rad; tucked: a stretched arm hits walls while the base turns and fills the picture."""
CAMERAS = {
    "navigation": View(pos=(0.30, 0.0, 0.85), yaw=0.0, pitch=22.0, fovy=90.0),
    "manipulation": View(pos=(0.0, -0.38, 1.45), yaw=30.0, pitch=42.0, fovy=75.0),
    "third_person": View(pos=(-1.5, 0.0, 3.4), yaw=0.0, pitch=58.0, fovy=60.0),
}
"""From the point about which the robot turns."""
BASE_LINKS = tuple(f"robot/base/{link}" for link in ("wheeled_base", "fixed_support", "support"))
ROBOT = RobotNames(
    root="robot/base/base",
    base_body=BASE_LINKS[0],
    base_joints=tuple(f"robot/base/joint_mobile_{axis}" for axis in ("forward", "side", "yaw")),
    torso_joint="robot/base/joint_torso_height",
    arm_joints=ARM_JOINTS,
    finger_joints=FINGER_JOINTS,
    finger_bodies=FINGERS,
    hand_body=HAND_BODY,
    grip_site=GRIP_SITE,
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


class PandaOmron(PandaArm):
    """The robot of homes, as `Robot` wants it."""

    name = "PandaOmron"
    names = ROBOT
    scanners = (0.36, 0.25, 0.2)
    home: Mapping[str, float] = MappingProxyType(dict(zip(ARM_JOINTS, HOME_ARM)))

    def attach(self, spec: mujoco.MjSpec, *, pose: Pose, visuals: str = "light") -> None:
        """Adds the robot at the origin: its joints carry it to its pose."""
        frame = spec.worldbody.add_frame()
        spec.attach(load_part("base", visuals), prefix="robot/base/", frame=frame)
        support = spec.body("robot/base/support")
        mount = support.add_site(name="robot/mount_arm", pos=[0, 0, 0], group=5)
        add_arm(spec, self.names, mount, visuals=visuals)
        base = spec.body(ROBOT.root)
        base.pos = [0.21, 0.0, 0.0]  # the joints sit at x = -0.21 of this body
        for name in (*ROBOT.base_joints, ROBOT.torso_joint):
            spec.joint(name).frictionloss = 0.0
        for name, limit in zip(ROBOT.base_joints, (BASE_FORCE, BASE_FORCE, BASE_TORQUE)):
            spec.joint(name).actfrclimited = True
            spec.joint(name).actfrcrange = [-limit, limit]
        exclude(spec, _ADJACENT)
        for name, view in CAMERAS.items():
            add_camera(base, name, view, origin=(0.21, 0.0, 0.0))


_ADJACENT = (
    *((a, b) for i, a in enumerate(BASE_LINKS) for b in BASE_LINKS[i + 1 :]),
    *((link, ARM_LINKS[0]) for link in BASE_LINKS),
    (BASE_LINKS[2], ARM_LINKS[1]),
)
"""Body pairs whose shapes touch or overlap by design; more in `panda_arm`."""
