"""The quiet path: most ticks violate nothing, and to see that costs less than to work it out.

`Quiet.step` looks at a tick through tests that are quick and on the safe side. If nothing can be
violated and nothing is under way that a later tick would need to know, it returns the very state
that the full path returns, else None. A test holds both against each other on random streams.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from safevla_envs.costs import terms
from safevla_envs.costs.arm import HIGH_TORQUE, ArmState, heat_course
from safevla_envs.costs.clock import REST_SPEED, Clock
from safevla_envs.costs.constraint import Measure
from safevla_envs.costs.facts import Facts
from safevla_envs.costs.motion import rest_clock
from safevla_envs.costs.movers import MoverState, closing_speeds, remembered_speeds
from safevla_envs.costs.signals import Signals
from safevla_envs.costs.state import CostState, changed
from safevla_envs.costs.window import roll

_SAFE = 1.0 + 1e-9
"""Limits are tightened by this factor: rounding must not hide a violation."""
_SILENT = {"contact", "blind", "motion", "critical", "region", "self_contact", "grip"}
"""Sources that are silent without contact, link and load: no need to ask the measure."""
_BOUNDED = {
    terms.equipment_keepout: "distance",
    terms.joint_margin: "radians",
    terms.joint_heat: "heat",
    terms.joint_speed: "ratio",
    terms.tcp_speed: "speed",
}
"""Other measures, with the parameter that bounds them, and below those with bounds of their own."""
_OTHERS = {
    terms.held_torque,
    terms.held_demand,
    terms.excess_demand,
    terms.saturation,
    terms.external_torque,
    terms.separation_share,
    terms.near_person,
}

_some = np.count_nonzero
_greatest, _least = np.maximum.reduce, np.minimum.reduce


class Quiet:
    """Decides quickly whether a tick is quiet.

    Args:
        facts: Tags and limits.
        measures: All measures of the model. If one is unknown here and its source never falls
            silent (a user's own term), no tick is quiet.
    """

    def __init__(self, facts: Facts, measures: Sequence[Measure]):
        self.facts = facts
        self.possible = facts.mover.size > 0 and all(
            m.source in _SILENT or m.func in _BOUNDED or m.func in _OTHERS for m in measures
        )
        params = [(m.func, m.params) for m in measures]
        bound = {func: [p[key] for f, p in params if f is func] for func, key in _BOUNDED.items()}
        self.keepout = max([0.0, *bound[terms.equipment_keepout]])
        self.heat = min([np.inf, *bound[terms.joint_heat]])
        self.tcp = min([np.inf, *bound[terms.tcp_speed]])
        # rows of metres, reaction, braking, closing: rules of separation from persons
        spacing = [
            [p.get("metres", 0.0), p.get("reaction", 0.0), p.get("braking", np.inf), p["closing"]]
            for f, p in params
            if f in (terms.separation_share, terms.near_person)
        ]
        self.spacing = np.array(spacing, dtype=float).reshape(-1, 4)
        self.person = facts.tags["person"]
        self.external = self._external(params)
        margin = max([0.0, *bound[terms.joint_margin]])
        self.ratio = min([np.inf, *bound[terms.joint_speed]])
        lower, upper = facts.joint_range.T
        room = np.maximum(0.5 * (upper - lower) - margin, 1e-9)
        none, torque = np.zeros_like(lower), facts.torque_limit
        speed = facts.speed_limit
        # (offset, factor) bring each quantity of a joint into (-1, 1) while it is harmless
        self.position = (0.5 * (upper + lower), _SAFE / room)
        self.speed = None if speed is None else (none, _SAFE / (self.ratio * speed))
        self.torque = None if torque is None else (none, _SAFE / (HIGH_TORQUE * torque))
        self._scales: dict[tuple[bool, ...], tuple[np.ndarray, np.ndarray]] = {}

    def _external(self, params: list[tuple[Any, Any]]) -> np.ndarray:
        """Return (J,) the external torque in N·m that violates."""
        limit = np.full(len(self.facts.joint_range), np.inf)
        for func, given in params:
            if func is terms.external_torque:
                chosen = self.facts.strong == given["strong"]
                limit[chosen] = np.minimum(limit[chosen], given["torque"])
        return limit

    def joints_at_ease(self, signals: Signals, state: CostState) -> bool:
        """Say that no joint is near a stop, fast, or heavily loaded by actuators or contacts."""
        if not self.possible:
            return False
        tail = state.arm.speed_tail
        if tail.size and not _greatest(tail, axis=None) < self.ratio:
            return False
        parts = [(signals.joint_pos, self.position)]
        if self.speed is not None and signals.joint_vel is not None:
            parts.append((signals.joint_vel, self.speed))
        if self.torque is not None:
            for torque in (signals.joint_torque, signals.joint_demand):
                if torque is not None:
                    parts.append((torque, self.torque))
            twist = signals.external_torque
            if twist is not None and _some(twist) and not (np.abs(twist) < self.external).all():
                return False
        key = tuple(scale is self.speed for _, scale in parts)
        if key not in self._scales:
            offsets, factors = zip(*(scale for _, scale in parts))
            self._scales[key] = np.concatenate(offsets), np.concatenate(factors)
        offset, factor = self._scales[key]
        share = np.concatenate([values for values, _ in parts], axis=-1)
        share = np.abs((share - offset) * factor)
        return not share.size or bool(_greatest(share, axis=None) < 1.0)

    def step(
        self, signals: Signals, state: CostState, clk: Clock, valid: np.ndarray
    ) -> CostState | None:
        """Return the next state if the tick is quiet; `joints_at_ease` must hold.

        Args:
            signals: The tick.
            state: Before the tick.
            clk: Rule times.
            valid: bool (W, S).
        """
        if not (valid.all() and self._untouched(signals, state, clk)):
            return None
        worlds, steps = valid.shape
        movers = self._movers(signals, state, clk)
        arm = self._arm(signals, state, clk, worlds, steps)
        if movers is None or arm is None:
            return None
        count = state.since_link.shape[1]
        position = np.array(signals.body_pos, dtype=float).reshape(worlds, count, 3)
        quaternion = np.array(signals.body_quat, dtype=float).reshape(worlds, count, 4)
        speed = np.reshape(signals.body_speed, (worlds, count))
        resting = state.resting
        still = _least(resting, axis=None) >= clk.rest
        if not (still and _greatest(speed, axis=None) < REST_SPEED):
            resting = rest_clock(resting, speed, np.full((worlds, 1), steps), clk.rest)
            settled = (resting >= clk.rest)[:, :, None]
            position = np.where(settled, position, state.reference_pos)
            quaternion = np.where(settled, quaternion, state.reference_quat)
        return changed(
            state,
            resting=resting,
            reference_pos=position,
            reference_quat=quaternion,
            movers=movers,
            arm=arm,
        )

    def _untouched(self, signals: Signals, state: CostState, clk: Clock) -> bool:
        """Say that there is no contact, load, link or open event, and no keep-out is entered."""
        return not (
            _some(signals.contact_force)
            or _some(signals.self_force)
            or _some(signals.held)
            or _some(np.asarray(signals.contact_graph)[..., 0, 1:])
            or _some(state.events.open)
            or _some(state.contact_tail)
            or _some(state.self_tail)
            or (state.since_link.size and _least(state.since_link, axis=None) <= clk.linger)
            or (
                np.size(signals.keepout_distance)
                and not _least(signals.keepout_distance, axis=None) >= self.keepout
            )
        )

    def _movers(self, signals: Signals, state: CostState, clk: Clock) -> MoverState | None:
        """Return the next state of the movers, or None if they are not quiet."""
        before = state.movers
        if signals.region_force is not None and (
            _some(signals.region_force) or _some(before.region_last) or _some(before.region_tail)
        ):
            return None
        if signals.closing_robot is None and signals.closing_mover is None:
            return before
        robot, mover = closing_speeds(signals, before.peak.shape)
        if self.facts.any_mover and not (
            _least(before.apart, axis=None) > clk.close
            and _least(before.quiet, axis=None) > clk.close
            and self.apart(signals.separation, robot, mover)
        ):
            return None
        robot, closing = remembered_speeds(signals, robot, mover)
        return changed(before, closing_robot=robot, closing=closing)

    def apart(self, separation: np.ndarray | None, robot: np.ndarray, mover: np.ndarray) -> bool:
        """Say that every person is further away than they must be at these closing speeds."""
        if not self.possible:
            return False
        if separation is None or not len(self.spacing):
            return True
        fastest, needed = float(_greatest(robot, axis=None)), 0.0
        others = float(_greatest(mover, axis=None))
        for metres, reaction, braking, closing in self.spacing.tolist():
            if fastest > closing:
                wanted = terms.protective_distance(
                    fastest, others, reaction=reaction, braking=braking
                )
                needed = max(needed, metres + wanted)
        return not _some((np.reshape(separation, robot.shape) < _SAFE * needed) & self.person)

    def _arm(
        self, signals: Signals, state: CostState, clk: Clock, worlds: int, steps: int
    ) -> ArmState | None:
        """Return the next state of the arm, or None if it is not quiet."""
        before, facts = state.arm, self.facts
        speed = signals.tcp_speed
        if speed is not None and not _greatest(speed, axis=None) < self.tcp:
            return None
        changes: dict[str, np.ndarray] = {}
        joints = before.heat.shape[1]
        if facts.heat_scale is not None and joints:
            if signals.joint_torque is not None:
                torque = np.reshape(signals.joint_torque, (worlds, steps, joints))
                load = np.square(torque * facts.heat_scale)
                course = heat_course(before.heat, load, clk.dt)
                if not _greatest(course, axis=None) < self.heat:
                    return None
                changes["heat"] = course[:, -1]
            measured = signals.joint_torque is not None or signals.joint_demand is not None
            if measured and _some(before.runs):
                changes["runs"] = np.zeros_like(before.runs)
        limit, speed, tail = facts.speed_limit, signals.joint_vel, before.speed_tail
        if limit is not None and speed is not None and tail.size:
            ratio = np.abs(np.reshape(speed, (worlds, steps, joints))) / limit
            changes["speed_tail"] = roll(ratio, tail)
        if signals.finger_force is not None and facts.fingers:
            force = np.reshape(signals.finger_force, (worlds, steps, facts.fingers))
            changes["finger_tail"] = roll(force, before.finger_tail)
        return changed(before, **changes)
