"""Load and speed of the arm's joints and the force of its fingers, over time.

Heat follows the first-order model of servo drives, T dx/dt = (tau / tau_c)^2 - x. The Panda exposes
no temperature and its maker publishes no continuous torque: T = 20 s is a drive maker's default for
the winding, tau_c = 0.7 tau_max is our assumption (holding 3 kg with the arm stretched then tends
to 1.46).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .clock import Clock
from .facts import Facts
from .signals import Signals
from .terms import NOT_READ
from .window import causal_mean, last_values, run_lengths

THERMAL_S = 20.0
"""Thermal time constant of a joint."""
HIGH_TORQUE, SATURATED, EXCESS = 0.90, 1.0, 1.5
"""Multiples of the torque limit whose duration is counted."""

FIELDS: tuple[str, ...] = (
    "speed",
    "torque",
    "demand",
    "held_torque",
    "held_demand",
    "held_excess",
    "external",
    "heat",
    "tcp_speed",
    "finger_mean",
    "grip_limit",
)
"""Fields of `View` about the arm."""


@dataclass(frozen=True, kw_only=True)
class ArmState:
    """What is remembered of the arm between ticks.

    Attributes:
        heat: (W, J) thermal state.
        runs: int (W, 3, J) substeps for which torque was high, demand saturated, demand in excess.
        speed_tail: (W, window - 1, J), ratios, for the 5 ms mean.
        finger_tail: (W, window - 1, F) N, for the 50 ms mean.
    """

    heat: np.ndarray
    runs: np.ndarray
    speed_tail: np.ndarray
    finger_tail: np.ndarray

    @classmethod
    def start(cls, worlds: int, facts: Facts, clk: Clock, heat: float) -> "ArmState":
        """Return the state of an arm at rest with this thermal state."""
        joints = len(facts.joint_range)
        return cls(
            heat=np.full((worlds, joints), float(heat)),
            runs=np.zeros((worlds, 3, joints), dtype=np.int64),
            speed_tail=np.zeros((worlds, clk.window - 1, joints)),
            finger_tail=np.zeros((worlds, clk.grip - 1, facts.fingers)),
        )


def heating(
    heat: np.ndarray, load: np.ndarray, counts: np.ndarray, dt: float
) -> tuple[np.ndarray, np.ndarray]:
    """Integrate the thermal model exactly for a load that is constant within each substep.

    Args:
        heat: (W, J) at the start of the tick.
        load: (W, S, J), (tau / tau_c)^2; invalid substeps come first.
        counts: int (W,) valid substeps.
        dt: Substep in s.

    Returns:
        (W, S, J) at the end of each substep, and (W, J) at the end of the tick.
    """
    steps = load.shape[1]
    if (counts == steps).all():
        if steps == 0:
            return load, heat
        course = heat_course(heat, load, dt)
        return course, course[:, -1]
    course, end = np.repeat(heat[:, None], steps, axis=1), heat.copy()
    for count in np.unique(counts):
        rows, first = counts == count, steps - int(count)
        part, end[rows] = heating(heat[rows], load[rows, first:], counts[rows], dt)
        course[rows, first:] = part
    return course, end


def heat_course(heat: np.ndarray, load: np.ndarray, dt: float) -> np.ndarray:
    """Return the first result of `heating` for a tick of which every substep is valid."""
    decay, gain, weight = _factors(dt, load.shape[1])
    course = np.cumsum(load * weight, axis=1)
    course *= gain
    course += decay * heat[:, None]
    return course


@lru_cache(maxsize=64)
def _factors(dt: float, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (S, 1) factors of the start, of the sum and in the sum; a = exp(-dt / T).

    x_i = a^(i+1) x_0 + (1 - a) a^i sum_k a^-k u_k.
    """
    a = np.exp(-dt / THERMAL_S)
    index = np.arange(steps)[:, None]
    return a ** (index + 1), (1.0 - a) * a**index, a ** (-1.0 * index)


def watch_arm(
    signals: Signals,
    state: ArmState,
    facts: Facts,
    clk: Clock,
    counts: np.ndarray,
    held: np.ndarray,
    at_ease: bool,
) -> tuple[dict[str, np.ndarray], ArmState]:
    """Return the fields of `View` about the arm, and the next state.

    Args:
        signals: The tick.
        state: Before the tick.
        facts: Limits of the robot.
        clk: Rule times.
        counts: int (W,) valid substeps.
        held: bool (W, P).
        at_ease: Whether torques and speeds are known to violate nothing.
    """
    seen = dict.fromkeys(FIELDS, NOT_READ)
    worlds, joints = state.heat.shape
    shape = (worlds, -1, joints)
    heat, runs, speed_tail, finger_tail = (
        state.heat,
        state.runs,
        state.speed_tail,
        state.finger_tail,
    )
    limit, asked = facts.torque_limit, NOT_READ
    if facts.heat_scale is not None and signals.joint_torque is not None and joints:
        load = np.square(np.reshape(signals.joint_torque, shape) * facts.heat_scale)
        seen["heat"], heat = heating(heat, load, counts, clk.dt)
    if at_ease and counts.all():
        if limit is not None and not (signals.joint_torque is signals.joint_demand is None):
            runs = np.zeros_like(runs)
    elif limit is not None and joints:
        if signals.joint_torque is not None:
            seen["torque"] = np.abs(np.reshape(signals.joint_torque, shape)) / limit
        if signals.joint_demand is not None:
            asked = np.abs(np.reshape(signals.joint_demand, shape)) / limit
        torque, asked = _both(seen["torque"], asked)
        if torque.size:
            seen["torque"], seen["demand"] = torque, np.maximum(torque, asked)
            hit = np.stack((torque >= HIGH_TORQUE, seen["demand"] >= SATURATED, asked >= EXCESS), 2)
            if hit.any() or runs.any():
                flat = hit.reshape(worlds, hit.shape[1], -1)
                lasts, runs = run_lengths(flat, runs.reshape(worlds, -1), counts)
                runs = runs.reshape(worlds, 3, joints)
                lasts = np.moveaxis(np.round(lasts.reshape(hit.shape) * clk.dt, 9), 2, 0)
                seen["held_torque"], seen["held_demand"], seen["held_excess"] = lasts
        if signals.external_torque is not None:
            seen["external"] = np.reshape(signals.external_torque, (worlds, joints))
    if facts.speed_limit is not None and signals.joint_vel is not None and joints:
        if not at_ease:
            ratio = np.abs(np.reshape(signals.joint_vel, shape)) / facts.speed_limit
            seen["speed"], speed_tail = causal_mean(ratio, speed_tail, counts)
        elif speed_tail.size:
            ratio = np.abs(np.reshape(signals.joint_vel, shape)) / facts.speed_limit
            speed_tail = last_values(ratio, speed_tail, counts)
    if signals.tcp_speed is not None:
        seen["tcp_speed"] = np.reshape(signals.tcp_speed, (worlds, -1))
    if signals.finger_force is not None and facts.fingers:
        force = np.reshape(signals.finger_force, (worlds, -1, facts.fingers))
        if held.any():
            seen["finger_mean"], finger_tail = causal_mean(force, finger_tail, counts)
            limits = np.where(held[:, :, None], facts.grip_limit, np.inf)
            seen["grip_limit"] = limits.min(1)
        else:
            finger_tail = last_values(force, finger_tail, counts)
    return seen, ArmState(heat=heat, runs=runs, speed_tail=speed_tail, finger_tail=finger_tail)


def _both(torque: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both ratios, zero for the one that was not measured."""
    if not torque.size:
        torque = np.zeros_like(asked)
    if not asked.size:
        asked = np.zeros_like(torque)
    return torque, asked
