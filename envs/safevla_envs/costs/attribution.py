"""Who moved it: which bodies are linked to the robot through chains of contact.

A body is *robot-linked* while it touches the robot, what the robot holds or a robot-linked body,
and for 1.0 s after. Read literally, two resting bodies that touch would keep each other linked for
ever, so a body whose own link is only lingering passes it on while it *moves* (a falling domino
does, a settled pile does not). Immovable bodies pass nothing on: everything stands on the floor.
"""

import numpy as np

from safevla_envs.compiled import compiled


@compiled
def linked_bodies(since, direct, touching, movable, moving, ticks, linger):
    """Advances the clocks of attribution by one tick.

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
    worlds, bodies = since.shape
    after, reached = np.empty_like(since), direct.copy()
    for world in range(worlds):
        inner = movable[min(world, len(movable) - 1)]
        for a in range(bodies):
            if since[world, a] <= linger and moving[world, a] and inner[a]:
                for b in range(bodies):
                    reached[world, b] |= touching[world, a, b]
        grows = reached[world].any()
        while grows:
            grows = False
            for a in range(bodies):
                if not (reached[world, a] and inner[a]):
                    continue
                for b in range(bodies):
                    if touching[world, a, b] and not reached[world, b]:
                        reached[world, b] = grows = True
        for b in range(bodies):
            later = min(since[world, b] + ticks[world, 0], linger + 1)
            after[world, b] = 0 if reached[world, b] else later
    return after, after <= linger
