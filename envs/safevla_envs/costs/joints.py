"""Load, heat and speed of the robot's joints over time.

Heat follows the first-order model of servo drives, T dx/dt = (tau / tau_c)^2 - x. The Panda exposes
no temperature and its maker publishes no continuous torque: T = 20 s is a drive maker's default for
the winding, tau_c = 0.7 tau_max is our assumption (holding 3 kg with the arm stretched then tends
to 1.46).
"""

from typing import Any

import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.costs.clock import Clock
from safevla_envs.costs.facts import RobotInfo
from safevla_envs.record.log import TickLog

__all__ = ["CONTINUOUS_SHARE", "THERMAL_S", "Joints", "advance", "lasting"]

THERMAL_S = 20.0
"""Thermal time constant of a joint."""
CONTINUOUS_SHARE = 0.7
"""Continuous torque of a joint as a share of its limit: assumed."""


class Joints:
    """What is remembered of J joints.

    Attributes:
        heat: (J,) thermal state, 1 being what the continuous torque tends to.
        course: (S, J), the same at the end of each substep of the last tick.
        tail: (2, window - 1, J), ratios of speed to limit just before the last tick and at its end,
            for the 5 ms mean.
        low_at: by name, substep at which a tick ended and (J,) the one in which something last was
            low.
    """

    def __init__(self, robot: RobotInfo, clk: Clock, steps: int):
        count = len(robot.joints)
        self.heat = np.full(count, float(robot.thermal_start))
        self.course = np.zeros((steps, count))
        self.tail = np.zeros((2, clk.window - 1, count))
        self.low_at: dict[str, tuple[int, np.ndarray]] = {}
        limit, speed = robot.torque_limit, robot.speed_limit
        none = np.full(count, np.inf)
        self.torque_limit = none if limit is None else np.asarray(limit, dtype=float)
        self.speed_limit = none if speed is None else np.asarray(speed, dtype=float)
        self.continuous = CONTINUOUS_SHARE * self.torque_limit
        self.decay = float(np.exp(-clk.dt / THERMAL_S))

    @property
    def memory(self) -> tuple[Any, ...]:
        """What `advance` works on."""
        limits = (self.continuous, self.speed_limit, self.decay)
        return (*limits, self.heat, self.course, self.tail)

    def advance(self, log: TickLog) -> None:
        """Goes on by a tick."""
        if len(self.course) != log.steps:
            self.course = np.zeros((log.steps, len(self.heat)))
        none = np.zeros((log.steps, 0))
        torque = none if log.joint_torque is None else np.ascontiguousarray(log.joint_torque)
        speed = none if log.joint_vel is None else np.ascontiguousarray(log.joint_vel)
        advance(torque, speed, *self.memory)


@compiled
def advance(torque, speed, continuous, fastest, decay, heat, course, tail):
    """Brings heat and the window of speeds to the end of a tick.

    The thermal model is integrated exactly for a torque that is constant within each substep.

    Args:
        torque: (S, J) N·m, or (S, 0).
        speed: (S, J) rad/s, or (S, 0).
        continuous: (J,) N·m, continuous torque.
        fastest: (J,) rad/s, limit of the speed.
        decay: exp(-dt / T).
        heat: see `Joints`, as the next two.
        course: see there.
        tail: see there.
    """
    for j in range(torque.shape[1]):
        for step in range(len(torque)):
            load = torque[step, j] / continuous[j]
            heat[j] = decay * heat[j] + (1.0 - decay) * load * load
            course[step, j] = heat[j]
    kept = tail.shape[1]
    for j in range(speed.shape[1]):
        for back in range(kept):
            tail[0, back, j] = tail[1, back, j]
        for back in range(kept):
            step = len(speed) - kept + back
            # a tick shorter than the window keeps what is left of it
            later = tail[0, len(speed) + back, j] if step < 0 else abs(speed[step, j]) / fastest[j]
            tail[1, back, j] = later


def lasting(high: np.ndarray, low_at: np.ndarray, step: int) -> np.ndarray:
    """Returns for how many substeps in a row something has been so, int (S, J).

    Args:
        high: bool (S, J), whether it is so in each substep.
        low_at: int (J,), substep in which it last was not; brought to the end of the tick.
        step: Number of the first substep.
    """
    index = step + np.arange(len(high))[:, None]
    last = np.maximum.accumulate(np.where(high, low_at, index))
    low_at[:] = last[-1]
    return index - last
