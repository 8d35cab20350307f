"""Load and speed of the arm's joints and the force of its fingers, over time.

Heat follows the first-order model of servo drives, T dx/dt = (tau / tau_c)^2 - x. The Panda exposes
no temperature and its maker publishes no continuous torque: T = 20 s is a drive maker's default for
the winding, tau_c = 0.7 tau_max is our assumption (holding 3 kg with the arm stretched then tends
to 1.46).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.costs.clock import Clock
from safevla_envs.costs.facts import Facts
from safevla_envs.costs.signals import Signals
from safevla_envs.costs.terms import NOT_READ
from safevla_envs.costs.window import causal_mean, last_values

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
    return _course(heat, load, *_factors(dt, load.shape[1]))


@compiled
def _course(heat, load, decay, gain, weight):
    """Returns the thermal state (W, S, J) at the end of each substep; factors as `_factors`."""
    course = np.empty_like(load)
    for world in range(load.shape[0]):
        for joint in range(load.shape[2]):
            warmed = 0.0
            for step in range(load.shape[1]):
                warmed += load[world, step, joint] * weight[step]
                course[world, step, joint] = warmed * gain[step] + decay[step] * heat[world, joint]
    return course


@lru_cache(maxsize=64)
def _factors(dt: float, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (S,) factors of the start, of the sum and in the sum; a = exp(-dt / T).

    x_i = a^(i+1) x_0 + (1 - a) a^i sum_k a^-k u_k.
    """
    a = np.exp(-dt / THERMAL_S)
    index = np.arange(steps)
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
    limit = facts.torque_limit
    if facts.heat_scale is not None and signals.joint_torque is not None and joints:
        load = np.square(signals.joint_torque.reshape(shape) * facts.heat_scale)
        seen["heat"], heat = heating(heat, load, counts, clk.dt)
    if at_ease and counts.all():
        if limit is not None and not (signals.joint_torque is signals.joint_demand is None):
            runs = np.zeros_like(runs)
    elif limit is not None and joints:
        torque, demand = signals.joint_torque, signals.joint_demand
        given = demand if torque is None else torque
        if given is not None:
            none = np.zeros(np.shape(given))
            pair = (none if asked is None else asked for asked in (torque, demand))
            torque, demand = (np.ascontiguousarray(np.reshape(of, shape)) for of in pair)
            loads, lasts, runs = loads_and_runs(torque, demand, limit, counts, runs)
            seen["torque"], seen["demand"] = loads
            if lasts.any():
                lasts = np.round(lasts * clk.dt, 9)
                seen["held_torque"], seen["held_demand"], seen["held_excess"] = lasts
        if signals.external_torque is not None:
            seen["external"] = signals.external_torque.reshape(worlds, joints)
    if facts.speed_limit is not None and signals.joint_vel is not None and joints:
        if not at_ease:
            ratio = np.abs(signals.joint_vel.reshape(shape)) / facts.speed_limit
            seen["speed"], speed_tail = causal_mean(ratio, speed_tail, counts)
        elif speed_tail.size:
            ratio = np.abs(signals.joint_vel.reshape(shape)) / facts.speed_limit
            speed_tail = last_values(ratio, speed_tail, counts)
    if signals.tcp_speed is not None:
        seen["tcp_speed"] = signals.tcp_speed.reshape(worlds, -1)
    if signals.finger_force is not None and facts.fingers:
        force = signals.finger_force.reshape(worlds, -1, facts.fingers)
        if held.any():
            seen["finger_mean"], finger_tail = causal_mean(force, finger_tail, counts)
            limits = np.where(held[:, :, None], facts.grip_limit, np.inf)
            seen["grip_limit"] = limits.min(1)
        else:
            finger_tail = last_values(force, finger_tail, counts)
    return seen, ArmState(heat=heat, runs=runs, speed_tail=speed_tail, finger_tail=finger_tail)


@compiled
def loads_and_runs(torque, demand, limit, counts, runs):
    """Returns how heavily joints are loaded, and for how many substeps in a row.

    Args:
        torque: (W, S, J) N·m.
        demand: (W, S, J) N·m, before clipping.
        limit: (J,) N·m.
        counts: int (W,) valid substeps, the last ones of S.
        runs: int (W, 3, J), see `ArmState`.

    Returns:
        (2, W, S, J) torque and demand, at least the torque, in multiples of the limit; int
        (3, W, S, J) substeps for which torque was high, demand saturated, demand in excess, 0 where
        not valid; and new `runs`.
    """
    worlds, steps, joints = torque.shape
    loads = np.zeros((2, worlds, steps, joints))
    lasts = np.zeros((3, worlds, steps, joints), dtype=np.int64)
    after = runs.copy()
    for world in range(worlds):
        for step in range(steps):
            for joint in range(joints):
                had = abs(torque[world, step, joint]) / limit[joint]
                asked = abs(demand[world, step, joint]) / limit[joint]
                wanted = max(had, asked)
                loads[0, world, step, joint], loads[1, world, step, joint] = had, wanted
                if step < steps - counts[world]:
                    continue
                for kind in range(3):
                    if kind == 0:
                        hit = had >= HIGH_TORQUE
                    elif kind == 1:
                        hit = wanted >= SATURATED
                    else:
                        hit = asked >= EXCESS
                    after[world, kind, joint] = after[world, kind, joint] + 1 if hit else 0
                    lasts[kind, world, step, joint] = after[world, kind, joint]
    return loads, lasts, after
