"""Panda: the arm alone, bolted to what stands under it, the robot of tables."""

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
)
from safevla_envs.robots.robot import Pose, RobotNames

__all__ = ["Panda"]

HOME_ARM = (0.0, 0.2, 0.0, -2.1, 0.0, 2.3, np.pi / 4)
"""rad; the hand hangs 0.5 m ahead, 0.3 m above the table."""
CAMERAS = {
    "navigation": View(pos=(1.5, 0.0, 0.95), yaw=180.0, pitch=36.0, fovy=60.0),
    "third_person": View(pos=(1.2, -1.0, 0.95), yaw=128.0, pitch=33.0, fovy=50.0),
}
HAND_CAMERA = {"pos": (0.07, 0.0, 0.0), "xyaxes": [0, -1, 0, -1, 0, 0], "fovy": 75.0}
"""Looks past the fingers along the approach."""


class Panda(PandaArm):
    """A fixed arm, as `Robot` wants it."""

    name = "Panda"
    names = RobotNames(
        root=ARM_LINKS[0],
        base_body=ARM_LINKS[0],
        arm_joints=ARM_JOINTS,
        finger_joints=FINGER_JOINTS,
        finger_bodies=FINGERS,
        hand_body=HAND_BODY,
        grip_site=GRIP_SITE,
        arm_links=ARM_LINKS,
        link_pairs=(
            *((ARM_LINKS[5], link) for link in ARM_LINKS[:4]),
            (HAND_BODY, ARM_LINKS[5]),
        ),
        keepout_bodies=(*ARM_LINKS[2:], HAND_BODY, *FINGERS, *FINGER_TIPS),
    )
    home: Mapping[str, float] = MappingProxyType(dict(zip(ARM_JOINTS, HOME_ARM)))

    def attach(self, spec: mujoco.MjSpec, *, pose: Pose, visuals: str = "light") -> None:
        """Adds the arm at `pose`."""
        *position, yaw = pose
        turn = [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
        mount = spec.worldbody.add_site(pos=position, quat=turn, group=5)
        add_arm(spec, self.names, mount, visuals=visuals)
        for name, view in CAMERAS.items():
            add_camera(spec.body(ARM_LINKS[0]), name, view)
        spec.body(HAND_BODY).add_camera(name="manipulation", **HAND_CAMERA)
