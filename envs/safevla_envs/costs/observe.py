"""From the signals of a tick and the state before it to what terms see and the next state."""

import numpy as np

from .arm import watch_arm
from .attribution import linked_bodies
from .clock import REST_SPEED, Clock
from .facts import Facts
from .motion import displacement, rest_clock, rotation_angle, tilt_angle
from .movers import watch_movers
from .signals import Signals
from .state import CostState, changed
from .terms import NOT_READ, View
from .window import causal_mean

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
    contact = np.reshape(signals.contact_force, (worlds, steps, p))
    keepout = np.reshape(signals.keepout_distance, (worlds, steps, p))
    self_force = np.reshape(signals.self_force, (worlds, steps, pairs))
    held = np.reshape(signals.held, (worlds, p))
    position = np.reshape(signals.body_pos, (worlds, p, 3))
    quaternion = np.reshape(signals.body_quat, (worlds, p, 4))
    speed = np.reshape(signals.body_speed, (worlds, p))
    graph = np.reshape(signals.contact_graph, (worlds, p + 1, p + 1))
    ticks = counts[:, None]

    touched = bool(contact.any())
    direct = graph[:, 0, 1:] | held
    if touched:
        direct = direct | ((contact > 0.0) & valid[:, :, None]).any(1)
    since, linked = linked_bodies(
        state.since_link,
        direct=direct,
        touching=graph[:, 1:, 1:],
        movable=facts.carrier,
        moving=speed >= REST_SPEED,
        ticks=ticks,
        linger=clk.linger,
    )
    linked = linked & ~facts.mover
    resting = rest_clock(state.resting, speed, ticks, clk.rest)
    # A held target carries its reference along, so that only a drop counts after the release.
    settled = ((resting >= clk.rest) | (held & facts.tags["target"]))[:, :, None]
    reference_pos = np.where(settled, position, state.reference_pos)
    reference_quat = np.where(settled, quaternion, state.reference_quat)
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
    blind = NOT_READ if signals.blind is None else np.reshape(signals.blind, (worlds, p))
    distance = signals.base_distance
    view = View(
        names=facts.names,
        base_distance=NOT_READ if distance is None else np.reshape(distance, (worlds, p)),
        contact=contact,
        contact_mean=contact_mean,
        keepout=keepout,
        blind=blind,
        held=held,
        support_exempt=np.reshape(signals.support_exempt, (worlds, p)),
        linked=linked,
        displacement=away,
        rotation=turned,
        fall=fall,
        tilt=tilt,
        free_share=np.reshape(signals.free_share, (worlds,)),
        self_mean=self_mean,
        joint_pos=np.reshape(signals.joint_pos, (worlds, steps, len(facts.joint_range))),
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
