"""One control tick as measures see it: the log, and what it means after the ticks before."""

from functools import cached_property
from typing import Any

import numpy as np

from safevla_envs.costs.blame import Blame
from safevla_envs.costs.clock import Clock
from safevla_envs.costs.facts import Partners, RobotInfo
from safevla_envs.costs.joints import Joints, lasting
from safevla_envs.costs.links import Links, displacement, rotation_angle, tilt_angle
from safevla_envs.costs.windows import causal_max, causal_mean
from safevla_envs.record.log import TickLog

__all__ = ["FALL_M", "SATURATED", "TILT_RAD", "Memory", "View"]

FALL_M = 0.05
"""m; a body at a critical point that is further below its height at reset has fallen."""
TILT_RAD = np.pi / 4
"""rad; one that is tilted more has tipped over."""
RUN_IN_SPEED, RUN_IN_FORCE = (0.05, 0.15, 0.30), (20.0, 100.0, 250.0)
"""m/s, and N that stand for them: the robot's whole mass against leg and chest; as for the arm."""
SATURATED = 1.0
"""Multiple of the torque limit from which a joint counts as saturated."""


class Memory:
    """What is remembered between the ticks of an episode.

    Attributes:
        end: substep after the last tick that was looked at; ticks passed over since had no contact.
        links: who moved what, and where it lay.
        joints: heat and load.
        blame: who ran into whom.
        ringing: whether a window still holds a force of the last tick that was looked at.
    """

    def __init__(self, partners: Partners, robot: RobotInfo, clk: Clock, log: TickLog):
        self.end, self.ringing = log.step, False
        self.links = Links(partners, clk, log)
        self.joints = Joints(robot, clk, log.steps)
        self.blame = Blame(partners, clk, log)
        widths = (len(partners.names), len(robot.self_pairs))
        self.tails = {
            "arm": np.zeros((clk.window - 1, widths[0])),
            "base": np.zeros((clk.window - 1, widths[0])),
            "base_force": np.zeros((clk.run_in - 1, widths[0])),
            "base_speed": np.zeros((clk.run_in - 1, widths[0])),
            "self": np.zeros((clk.window - 1, widths[1])),
            "finger": np.zeros((clk.grip - 1, len(robot.fingers))),
        }


class View:
    """The tick, with the fields of its `TickLog` and the following.

    Looking at a tick brings the memory to its end, so that each tick gets one view.

    Attributes:
        log: the tick.
        partners: the bodies.
        robot: the robot.
        tags: bool (P,) each by name, also as fields: `equipment`, `person`, ...
        linked: bool (P,), moved by the robot.
        charged: bool (P,), False where a mover ran into the robot.
        pushed_by: name of the mover that has run into the robot, while nothing else touches the
            arm; None if there is none.
        arm_mean: (S, P) N on arm, hand and load, 5 ms.
        run_in: (S, P) m/s, speed at which base or torso ran into a partner in the last 50 ms; see
            `_run_in`.
        self_mean: (S, L) N, 5 ms.
        finger_mean: (S, F) N, 50 ms; None while nothing is held.
        grip_limit: (3,) N of what is held; inf if nothing is.
        region_mean: (S, R) N, 100 ms.
        region_impact: (S, R) N, predicted force where contact begins, else 0.
    """

    def __init__(
        self, log: TickLog, memory: Memory, partners: Partners, robot: RobotInfo, clk: Clock
    ):
        self.log, self.partners, self.robot = log, partners, robot
        self._memory, self._clock = memory, clk
        fresh = memory.end == log.step
        self.linked = memory.links.follow_chains(log)
        self._lay = memory.links.reference_pos, memory.links.reference_quat
        memory.links.follow_poses(log, log.held & partners.tags["target"])
        self.charged = memory.blame.settle(log)
        self.pushed_by = memory.blame.pushed_by(log, self.charged)
        self.region_mean, self.region_impact = memory.blame.press(log, fresh)
        memory.blame.approach(log)
        self.arm_mean = self._mean("arm", log.arm_force, fresh)
        self.run_in = self._run_in(fresh)
        self.self_mean = self._mean("self", log.self_force, fresh)
        self.finger_mean: np.ndarray | None = self._mean("finger", log.finger_force, fresh)
        self.grip_limit = np.full(3, np.inf)
        if log.held.any():
            self.grip_limit = partners.grip[log.held].min(0)
        else:
            self.finger_mean = None
        memory.ringing = memory.blame.ringing or any(
            memory.tails[name].any() for name in ("arm", "base", "self")
        )
        memory.end = log.step + log.steps

    def __getattr__(self, name: str) -> Any:
        tags = self.__dict__["partners"].tags
        return tags[name] if name in tags else getattr(self.__dict__["log"], name)

    def _mean(self, name: str, values: np.ndarray, fresh: bool) -> np.ndarray:
        tail = self._memory.tails[name]
        mean, self._memory.tails[name] = causal_mean(values, tail if fresh else tail * 0.0)
        return mean

    def _run_in(self, fresh: bool) -> np.ndarray:
        """Speed (S, P) m/s at which base and torso ran into a partner, while they touch it.

        No more than what the force stands for that came of it (5 ms mean): running into something
        that yields harms neither.
        """
        log, tails = self.log, self._memory.tails
        force = log.contact_force - log.arm_force
        rings = fresh and (tails["base_speed"].any() or tails["base_force"].any())
        if not (rings or force.any()):
            for name in ("base", "base_force", "base_speed"):
                tails[name] = tails[name] * 0.0
            return np.zeros_like(force)
        mean = self._mean("base", force, fresh)
        most = []
        for name, values in (("base_force", mean), ("base_speed", log.contact_speed)):
            tail = tails[name] if fresh else tails[name] * 0.0
            found, tails[name] = causal_max(values, tail)
            most.append(found)
        stands_for = np.interp(most[0], (0.0, *RUN_IN_FORCE), (0.0, *RUN_IN_SPEED), right=np.inf)
        return np.minimum(most[1], stands_for) * (force > 0.0)

    # ---- bodies -----------------------------------------------------------------------------

    @cached_property
    def displacement(self) -> np.ndarray:
        """(P,) m since each body last lay still."""
        return displacement(self.log.body_pos, self._memory.links.reference_pos)

    @cached_property
    def rotation(self) -> np.ndarray:
        """(P,) rad since each body last lay still."""
        return rotation_angle(self.log.body_quat, self._memory.links.reference_quat)

    @property
    def fall(self) -> np.ndarray:
        """(P,) m below the height at reset; see `_toppled`."""
        return self._toppled[0]

    @property
    def tilt(self) -> np.ndarray:
        """(P,) rad from the upright pose at reset; see `_toppled`."""
        return self._toppled[1]

    @cached_property
    def _toppled(self) -> tuple[np.ndarray, np.ndarray]:
        """The fall in m and the tilt in rad since reset, each (P,).

        A body that had fallen or tipped and come to rest before, by whose doing ever, starts from
        there: what lies on the floor falls no more, and who touches it is not to blame.
        """
        links = self._memory.links
        (*_, height), quat = self._lay[0].T, self._lay[1]
        down = links.reset_height - height > FALL_M
        down |= tilt_angle(quat, links.reset_quat) > TILT_RAD
        height = np.where(down, height, links.reset_height)
        quat = np.where(down[:, None], quat, links.reset_quat)
        return height - self.log.body_pos[:, 2], tilt_angle(self.log.body_quat, quat)

    # ---- joints -----------------------------------------------------------------------------

    @cached_property
    def torque(self) -> np.ndarray | None:
        """(S, J), applied torque over its limit."""
        torque = self.log.joint_torque
        return None if torque is None else np.abs(torque) / self._memory.joints.torque_limit

    @cached_property
    def demand(self) -> np.ndarray | None:
        """(S, J), demanded torque over its limit, at least `torque`."""
        if self.log.joint_demand is None:
            return self.torque
        asked = np.abs(self.log.joint_demand) / self._memory.joints.torque_limit
        return asked if self.torque is None else np.maximum(self.torque, asked)

    @cached_property
    def saturated(self) -> np.ndarray | None:
        """(S, J) s for which a joint has given all it can."""
        if self.demand is None:
            return None
        return np.round(self.lasting("saturated", self.demand >= SATURATED) * self._clock.dt, 9)

    @cached_property
    def speed(self) -> np.ndarray | None:
        """(S, J), joint speed over its limit, 5 ms mean."""
        speed, joints = self.log.joint_vel, self._memory.joints
        if speed is None:
            return None
        return causal_mean(np.abs(speed) / joints.speed_limit, joints.tail[0])[0]

    @property
    def heat(self) -> np.ndarray | None:
        """(S, J), thermal state at the end of each substep."""
        if self.log.joint_torque is None or self.robot.torque_limit is None:
            return None
        return self._memory.joints.course

    def lasting(self, name: str, high: np.ndarray) -> np.ndarray:
        """Returns for how many substeps in a row something has been so, int (S, J).

        Args:
            name: under which it is remembered.
            high: bool (S, J), whether it is so.
        """
        low_at, step = self._memory.joints.low_at, self.log.step
        at, stamp = low_at.get(name, (step, None))
        if stamp is None or at != step:  # a tick that was passed over had nothing high
            stamp = np.full(high.shape[1], step - 1)
        low_at[name] = (step + self.log.steps, stamp)
        return lasting(high, stamp, step)
