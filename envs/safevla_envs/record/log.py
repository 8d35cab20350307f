"""What one control tick showed: the one carrier between physics and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["LiveLog", "TickLog"]


@dataclass(kw_only=True)
class TickLog:
    """One control tick of S substeps: P partners, L link pairs, R regions, J joints, F fingers.

    A substep's value is that of the state *before* the substep; what the last integration caused is
    in the next tick. Values without a substep axis are those of the end of the tick. Arrays may be
    written to again in the next tick: copy what is kept. A field that is None was not measured:
    measures that read it are silent.

    Attributes:
        substep_dt: Length of a substep in s.
        time: Start of the tick in s.
        contact_force: (S, P) N, sum of normal-force magnitudes robot <-> partner; what the robot
            holds counts as the robot.
        arm_force: (S, P) N, the part of it that acts on arm, hand or load.
        contact_speed: (S, P) m/s, at which base or torso run into the partner in a substep with
            contact, from the velocities before it; 0 without.
        self_force: (S, L) N, the same between non-adjacent robot links.
        region_force: (S, R) N, the same between robot and region of a person.
        finger_force: (S, F) N, each finger's sum of normal forces with anything.
        joint_pos: (S, J) rad.
        joint_vel: (S, J) rad/s.
        joint_torque: (S, J) N·m, what the actuators apply (clipped).
        joint_demand: (S, J) N·m, the same before clipping, gravity compensation included.
        tcp_speed: (S,) m/s, grip point relative to the arm's base.
        keepout_distance: (S, P) m, signed distance robot <-> keep-out volume of the partner,
            negative inside, +inf where it has none.
        external_torque: (J,) N·m, J^T f of the robot's contacts.
        body_pos: (P, 3) m.
        body_quat: (P, 4) unit quaternion wxyz.
        body_speed: (P,) m/s, the greater of linear speed and 0.1 m x angular speed.
        contact_graph: (P + 1, P + 1) bool, symmetric; 0 is the robot with what it holds.
        free_share: Share in [0, 1] of the floor around the base that the base can reach.
        held: (P,) bool, what the gripper holds.
        permitted: (P,) bool, what may be touched now: the task says so (`Task.permits`).
        base_distance: (P,) m, horizontal distance from the base's centre to the origin of each
            body. No built-in term reads it.
        blind: (P,) bool, seen at some action of the last 20 and at none of the last 2; may be
            False for bodies that the robot does not touch in this tick.
        separation: (P,) m, distance robot <-> mover, +inf for others.
        closing_robot: (P,) m/s, the part of the closing speed that the robot's own motion makes,
            >= 0; 0 for bodies that are no movers.
        closing_mover: (P,) m/s, the mover's own part, >= 0.
    """

    substep_dt: float
    time: float
    contact_force: np.ndarray
    arm_force: np.ndarray
    contact_speed: np.ndarray
    self_force: np.ndarray
    region_force: np.ndarray
    finger_force: np.ndarray
    joint_pos: np.ndarray
    joint_vel: np.ndarray | None
    joint_torque: np.ndarray | None
    joint_demand: np.ndarray | None
    tcp_speed: np.ndarray | None
    keepout_distance: np.ndarray
    external_torque: np.ndarray | None
    body_pos: np.ndarray
    body_quat: np.ndarray
    body_speed: np.ndarray
    contact_graph: np.ndarray
    free_share: float
    held: np.ndarray
    permitted: np.ndarray
    base_distance: np.ndarray | None
    blind: np.ndarray | None
    separation: np.ndarray | None
    closing_robot: np.ndarray | None
    closing_mover: np.ndarray | None

    @property
    def steps(self) -> int:
        """Substeps of the tick, S."""
        return len(self.contact_force)

    @property
    def step(self) -> int:
        """Number of the first substep, counted from time 0."""
        return round(self.time / self.substep_dt)


class LiveLog(TickLog):
    """A `TickLog` that follows a running simulation, as the gate of the costs needs it.

    Attributes:
        recorder: its `Recorder`.
        meter: its `SeparationMeter`.
    """

    recorder: Any
    meter: Any

    @property
    def moving(self) -> bool:
        """Whether any body moved in the tick but the robot and movers."""
        raise NotImplementedError

    def measure(self, within: Sequence[float] | np.ndarray | None) -> np.ndarray:
        """Measures movers no further away than (M,) m, all if None; returns `separation`."""
        raise NotImplementedError

    def assume_far(self) -> None:
        """Reads all movers as far away in this tick, without measuring."""
        raise NotImplementedError
