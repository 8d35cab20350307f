"""What a robot is to the rest: names in the model, limits, home pose, how it gets there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import mujoco
import numpy as np

from safevla_envs.record.watch import RobotParts

__all__ = ["Hand", "Pose", "Robot", "RobotLimits", "RobotNames"]

Pose = tuple[float, float, float, float]
"""x, y, z in m, yaw in rad."""


@dataclass(frozen=True, kw_only=True)
class RobotNames:
    """Names of a robot's elements in the compiled model.

    Every servo is a position actuator `position/<joint>`; those of the arm integrate a velocity.
    Joints of the base have a velocity actuator `velocity/<joint>` too.

    Attributes:
        root: body whose subtree is the robot.
        base_body: body that may stand on the floor.
        base_joints: forward, left, turn; none if the robot stands fixed.
        torso_joint: vertical slide, None without one.
        arm_joints: J joints, from the shoulder.
        finger_joints: two opposed slides.
        finger_bodies: two bodies.
        hand_body: what carries the fingers.
        grip_site: between the fingers; they close along its first axis, its third is the approach.
        arm_links: from the arm's base outwards.
        link_pairs: (subtree, single body) of links that must not touch.
        keepout_bodies: bodies (without subtrees) that must stay out of keep-out volumes.
    """

    root: str
    base_body: str
    base_joints: tuple[str, ...] = ()
    torso_joint: str | None = None
    arm_joints: tuple[str, ...]
    finger_joints: tuple[str, str]
    finger_bodies: tuple[str, str]
    hand_body: str
    grip_site: str
    arm_links: tuple[str, ...]
    link_pairs: tuple[tuple[str, str], ...]
    keepout_bodies: tuple[str, ...]

    @property
    def parts(self) -> RobotParts:
        """What the costs watch of the robot."""
        return RobotParts(
            root=self.root,
            joints=self.arm_joints,
            servos=tuple(f"position/{joint}" for joint in self.arm_joints),
            tip=(self.grip_site, self.arm_links[0]),
            fingers=self.finger_bodies,
            self_pairs=self.link_pairs,
            arm=self.arm_links[0],
            keepout=self.keepout_bodies,
        )

    @property
    def fixed(self) -> bool:
        """Whether the robot stands where it was put."""
        return not self.base_joints

    @property
    def servo_joints(self) -> tuple[str, ...]:
        """Base, torso, arm, fingers."""
        torso = () if self.torso_joint is None else (self.torso_joint,)
        return (*self.base_joints, *torso, *self.arm_joints, *self.finger_joints)


@dataclass(frozen=True, kw_only=True)
class RobotLimits:
    """What the arm's joints stand.

    Attributes:
        torque: (J,) N·m.
        speed: (J,) rad/s.
        source: where these are from.
    """

    torque: tuple[float, ...]
    speed: tuple[float, ...]
    source: str


@dataclass(frozen=True, kw_only=True)
class Hand:
    """A parallel gripper: opening of each finger in m, rated force of each in N, servo in N/m."""

    opening: float
    force: float
    stiffness: float


class Robot(Protocol):
    """A robot; an implementation is one file and an entry of `ROBOTS`.

    Attributes:
        name: key of `ROBOTS`; two robots of one name are the same.
        names: of its elements.
        limits: of its arm.
        home: joint -> position in rad or m at the start of an episode; 0 where it is not named.
        hand: its gripper.
        base_rate: rad/s, natural frequency of the critically damped base servos, if it has any.
        scanners: half length, half width and height in m of the outline from which laser scanners
            look outwards; None without any.
    """

    name: str
    names: RobotNames
    limits: RobotLimits
    home: Mapping[str, float]
    hand: Hand
    base_rate: float
    scanners: tuple[float, float, float] | None

    def attach(self, spec: mujoco.MjSpec, *, pose: Pose, visuals: str = "light") -> None:
        """Adds the robot, its servos and its cameras to a model.

        Args:
            spec: the parent model; its options are left alone.
            pose: where a robot without base joints stands; with them, the joints go there.
            visuals: "light" or "full" meshes.

        Raises:
            ValueError: if `visuals` is neither.
        """
        ...

    def tune(self, model: mujoco.MjModel) -> None:
        """Sets servo gains; call once after compiling."""
        ...

    def working_range(self, stops: np.ndarray) -> np.ndarray:
        """Returns the range (J, 2) in rad within `stops` (J, 2) in which motion is planned."""
        ...
