"""Ticks in which nothing is measured: what they change is known without working them out.

Such a tick has no contact, no load, no joint near a limit and nobody too near, and movable bodies
lie where they lay or move unlinked to the robot. It can charge nothing, but clocks run on: open
events close, links run out, bodies come to rest. A number of them in a row is made up for at once.
"""

import numpy as np

from safevla_envs.costs.clock import Clock
from safevla_envs.costs.events import EventState
from safevla_envs.costs.state import CostState, changed


def may_pause(state: CostState) -> bool:
    """Says that nothing violated in a later tick is still remembered: no window holds a force.

    Beyond that, nothing may have been violated in the last tick that was charged: a thing that
    lies where it was pushed to stays displaced.
    """
    movers = state.movers
    held = (state.contact_tail, state.self_tail, movers.region_last, movers.region_tail)
    return not any(np.count_nonzero(part) for part in held)


def linked(state: CostState, clk: Clock) -> bool:
    """Says whether any body is linked to the robot; how the others move is nobody's concern."""
    return bool((state.since_link <= clk.linger).any())


def paused(
    state: CostState,
    clk: Clock,
    *,
    ticks: int,
    substeps: int,
    still: np.ndarray,
    moving: np.ndarray | None = None,
    position: np.ndarray,
    quaternion: np.ndarray,
    heat: np.ndarray,
    speed_tail: np.ndarray,
    closing: tuple[np.ndarray, np.ndarray],
) -> CostState:
    """Return the state after ticks without signals, as if each had been charged; one world.

    Args:
        state: Before them.
        clk: Rule times.
        ticks: How many, at least 1.
        substeps: Of a tick.
        still: bool (P,), bodies that do not move by themselves; the others' rest is not followed.
        moving: bool (P,), those of them that were not at rest in any of the ticks; None for none.
        position: (P, 3) m, of all bodies.
        quaternion: (P, 4).
        heat: (1, J) after them.
        speed_tail: (1, window - 1, J) after them.
        closing: the robot's closing speed and that of both, each (1, P) m/s, in the last of them.
    """
    steps = ticks * substeps
    resting = np.where(still, np.minimum(state.resting + steps, clk.rest), state.resting)
    if moving is not None:
        resting = np.where(still & moving, 0, resting)
    settled = ((resting >= clk.rest) & still)[:, :, None]
    arm, movers = state.arm, state.movers
    return changed(
        state,
        events=_closed(state.events, ticks, substeps, clk),
        since_link=np.minimum(state.since_link + steps, clk.linger + 1),
        resting=resting,
        reference_pos=np.where(settled, position, state.reference_pos),
        reference_quat=np.where(settled, quaternion, state.reference_quat),
        arm=changed(
            arm,
            heat=heat,
            speed_tail=speed_tail,
            runs=np.zeros_like(arm.runs),
            finger_tail=np.zeros_like(arm.finger_tail),
        ),
        movers=changed(
            movers,
            closing_robot=closing[0],
            closing=closing[1],
            apart=np.minimum(movers.apart + steps, clk.close + 1),
            quiet=np.minimum(movers.quiet + steps, clk.close + 1),
            peak=np.zeros_like(movers.peak),
        ),
    )


def _closed(events: EventState, ticks: int, substeps: int, clk: Clock) -> EventState:
    """Return events after ticks without violation; their clocks stand once none is open."""
    if not events.open.any():
        return events
    left = clk.close - events.quiet[events.open].min()  # substeps until the last one closes
    run = substeps * min(ticks, -(-int(left) // substeps))
    return events.idle(np.full(len(events.open), run), clk)
