"""Who moved it: which bodies are linked to the robot through chains of contact.

A body is *robot-linked* while it touches the robot, what the robot holds or a robot-linked body,
and for 1.0 s after. Read literally, two resting bodies that touch would keep each other linked for
ever, so a body whose own link is only lingering passes it on while it *moves* (a falling domino
does, a settled pile does not). Immovable bodies pass nothing on: everything stands on the floor.
"""

import numpy as np

from safevla_envs.compiled import compiled


def linked_bodies(
    since: np.ndarray,
    *,
    direct: np.ndarray,
    touching: np.ndarray,
    movable: np.ndarray,
    moving: np.ndarray,
    ticks: np.ndarray,
    linger: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Advance the clocks of attribution by one tick.

    Args:
        since: int (W, P) substeps since the body was last in a chain to the robot; more than
            `linger` means not linked.
        direct: bool (W, P) bodies the robot or its load touched in this tick.
        touching: bool (W, P, P) symmetric, bodies that touch each other.
        movable: bool (W or 1, P).
        moving: bool (W, P) bodies not at rest now.
        ticks: int (W, 1) valid substeps in this tick.
        linger: Substeps for which a link outlives the last touch.

    Returns:
        New `since` and bool (W, P) linked.
    """
    lingering = since <= linger
    seeds = direct
    if lingering.any():
        seeds = seeds | neighbours(lingering & moving & movable, touching)
    if seeds.any():
        chain = closure(seeds, touching, movable)
        since = np.where(chain, 0, np.minimum(since + ticks, linger + 1))
    elif lingering.any():
        since = np.minimum(since + ticks, linger + 1)
    else:
        return since, lingering
    return since, since <= linger


def neighbours(bodies: np.ndarray, touching: np.ndarray) -> np.ndarray:
    """Return bool (W, P), the bodies that touch one of `bodies` (bool (W, P))."""
    return np.any(touching & bodies[..., :, None], axis=-2)


@compiled
def closure(seeds, touching, movable):
    """Return `seeds` and all bodies joined to them by chains whose inner links are movable."""
    reached = seeds.copy()
    for world in range(len(seeds)):
        inner, grows = movable[min(world, len(movable) - 1)], True
        while grows:
            grows = False
            for a in range(seeds.shape[1]):
                if not (reached[world, a] and inner[a]):
                    continue
                for b in range(seeds.shape[1]):
                    if touching[world, a, b] and not reached[world, b]:
                        reached[world, b] = grows = True
    return reached
