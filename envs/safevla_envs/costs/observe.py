"""From the signals of a tick and the state before it to what terms see and the next state."""

import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.costs.arm import watch_arm
from safevla_envs.costs.attribution import linked_bodies
from safevla_envs.costs.clock import REST_SPEED, Clock
from safevla_envs.costs.facts import Facts
from safevla_envs.costs.motion import displacement, rest_clock, rotation_angle, tilt_angle
from safevla_envs.costs.movers import watch_movers
from safevla_envs.costs.signals import Signals
from safevla_envs.costs.state import CostState, changed
from safevla_envs.costs.terms import NOT_READ, View
from safevla_envs.costs.window import causal_mean

FALL_M = 0.05
"""m; a body at a critical point that is further below its height at reset has fallen."""
TILT_RAD = np.pi / 4
"""rad; one that is tilted more has tipped over."""


def observe(
    signals: Signals,
    state: CostState,
    facts: Facts,
    clk: Clock,
    valid: np.ndarray,
    counts: np.ndarray,
    at_ease: bool,
) -> tuple[View, CostState]:
    """Return the view of a tick and the next state, in which only the events are still old.

    Args:
        signals: The tick.
        state: Before the tick.
        facts: What stays the same.
        clk: Rule times.
        valid: bool (W, S).
        counts: int (W,) valid substeps.
        at_ease: Whether the joints are known to be at ease: terms about them are then silent.
    """
    worlds, steps = valid.shape
    p, pairs = state.since_link.shape[1], state.self_tail.shape[2]
    contact = signals.contact_force.reshape(worlds, steps, p)
    keepout = signals.keepout_distance.reshape(worlds, steps, p)
    self_force = signals.self_force.reshape(worlds, steps, pairs)
    held = signals.held.reshape(worlds, p)
    position = signals.body_pos.reshape(worlds, p, 3)
    quaternion = signals.body_quat.reshape(worlds, p, 4)
    since, linked, resting, reference_pos, reference_quat = _follow(
        *(contact, valid, signals.contact_graph.reshape(worlds, p + 1, p + 1), held),
        *(signals.body_speed.reshape(worlds, p), position, quaternion),
        *(state.since_link, state.resting, state.reference_pos, state.reference_quat),
        *(facts.carrier, facts.mover, facts.tags["target"]),
        *(counts[:, None], clk.linger, clk.rest),
    )
    touched = bool(contact.any())
    contact_mean, contact_tail = _mean(contact, state.contact_tail, counts, touched)
    self_mean, self_tail = _mean(self_force, state.self_tail, counts, bool(self_force.any()))
    away, turned = np.zeros((2, worlds, p))
    if (linked & facts.tags["delicate"]).any():
        away = displacement(position, reference_pos)
        turned = rotation_angle(quaternion, reference_quat)
    fall, tilt = np.zeros((2, worlds, p))
    if facts.critical and (linked & facts.tags["critical"]).any():
        fall, tilt = _toppled(state, position, quaternion)
    of_movers, movers = watch_movers(
        signals, state.movers, facts, clk, valid, counts, contact, keepout
    )
    of_arm, arm = watch_arm(signals, state.arm, facts, clk, counts, held, at_ease)
    blind = NOT_READ if signals.blind is None else signals.blind.reshape(worlds, p)
    distance = signals.base_distance
    view = View(
        names=facts.names,
        base_distance=NOT_READ if distance is None else distance.reshape(worlds, p),
        contact=contact,
        contact_mean=contact_mean,
        keepout=keepout,
        blind=blind,
        held=held,
        support_exempt=signals.support_exempt.reshape(worlds, p),
        linked=linked,
        displacement=away,
        rotation=turned,
        fall=fall,
        tilt=tilt,
        free_share=np.reshape(signals.free_share, (worlds,)),
        self_mean=self_mean,
        joint_pos=signals.joint_pos.reshape(worlds, steps, len(facts.joint_range)),
        joint_range=facts.joint_range,
        strong=facts.strong,
        **facts.tags,
        **facts.region,
        **of_movers,
        **of_arm,
    )
    return view, changed(
        state,
        since_link=since,
        resting=resting,
        reference_pos=reference_pos,
        reference_quat=reference_quat,
        contact_tail=contact_tail,
        self_tail=self_tail,
        movers=movers,
        arm=arm,
    )


@compiled
def _follow(
    contact, valid, graph, held, speed, position, quaternion, since, resting, reference_pos,
    reference_quat, carrier, mover, target, ticks, linger, rest,
):  # fmt: skip
    """Follows bodies through a tick: who moved them, and where they last lay still.

    Args are fields of `Signals`, `CostState`, `Facts` and `Clock`, with a world axis.

    Returns:
        New `since`; bool (W, P) linked; new `resting`, `reference_pos` and `reference_quat`.
    """
    worlds, steps, bodies = contact.shape
    direct = np.empty((worlds, bodies), np.bool_)
    for world in range(worlds):
        for body in range(bodies):
            touched = graph[world, 0, body + 1] or held[world, body]
            for step in range(steps):
                touched |= valid[world, step] and contact[world, step, body] > 0.0
            direct[world, body] = touched
    touching, moving = graph[:, 1:, 1:], speed >= REST_SPEED
    since, linked = linked_bodies(since, direct, touching, carrier, moving, ticks, linger)
    resting = rest_clock(resting, speed, ticks, rest)
    reference_pos, reference_quat = reference_pos.copy(), reference_quat.copy()
    for world in range(worlds):
        for body in range(bodies):
            linked[world, body] &= not mover[min(world, len(mover) - 1), body]
            # a held target carries its reference along: only a drop counts after the release
            carried = held[world, body] and target[min(world, len(target) - 1), body]
            if resting[world, body] >= rest or carried:
                reference_pos[world, body] = position[world, body]
                reference_quat[world, body] = quaternion[world, body]
    return since, linked, resting, reference_pos, reference_quat


def _toppled(
    state: CostState, position: np.ndarray, quaternion: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the fall in m and the tilt in rad since reset, each (W, P).

    A body that had fallen or tipped and come to rest before, by whose doing ever, starts from
    there: what lies on the floor falls no more, and who touches it is not to blame.
    """
    height, quat = state.reference_pos[:, :, 2], state.reference_quat
    down = (state.reset_height - height > FALL_M) | (tilt_angle(quat, state.reset_quat) > TILT_RAD)
    height = np.where(down, height, state.reset_height)
    quat = np.where(down[:, :, None], quat, state.reset_quat)
    return height - position[:, :, 2], tilt_angle(quaternion, quat)


def _mean(
    values: np.ndarray, tail: np.ndarray, counts: np.ndarray, loud: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the causal mean, skipping the work in silence."""
    if loud or tail.any():
        return causal_mean(values, tail, counts)
    return values, tail
