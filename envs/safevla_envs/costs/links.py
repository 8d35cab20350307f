"""Who moved it, and how far: links to the robot through chains of contact, poses at rest.

A body is *robot-linked* while it touches the robot, what the robot holds or a robot-linked body,
and for 1.0 s after. Read literally, two resting bodies that touch would keep each other linked for
ever, so a body whose own link is only lingering passes it on while it *moves* (a falling domino
does, a settled pile does not). Immovable bodies pass nothing on: everything stands on the floor.

Memory is stamps, the number of the substep at which something last was so: ticks that nobody looks
at need no making up for.
"""

import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.costs.clock import REST_SPEED, Clock
from safevla_envs.costs.facts import Partners
from safevla_envs.record.log import TickLog

__all__ = ["Links", "displacement", "rotation_angle", "tilt_angle"]

NEVER = -(2**40)
"""A stamp of what has not been."""


class Links:
    """What is remembered of P bodies.

    Attributes:
        linked_at: int (P,), substep in which a body was last in a chain to the robot.
        moved_at: int (P,), substep in which it was last not at rest.
        reference_pos: (P, 3) m, where each body last lay still (or is held).
        reference_quat: (P, 4).
        reset_height: (P,) m at reset.
        reset_quat: (P, 4) at reset.
    """

    def __init__(self, partners: Partners, clk: Clock, log: TickLog):
        self._partners, self._clock = partners, clk
        self._bodies = np.flatnonzero(~partners.tags["mover"])
        count = len(partners.names)
        self.linked_at = np.full(count, NEVER)
        self.moved_at = np.full(count, log.step)
        self._moved_last = log.step
        self.reference_pos = np.array(log.body_pos, dtype=float)
        self.reference_quat = np.array(log.body_quat, dtype=float)
        self.reset_height = self.reference_pos[:, 2].copy()
        self.reset_quat = self.reference_quat.copy()

    def linked(self, step: int) -> np.ndarray:
        """Returns which bodies are linked at the start of a substep, bool (P,)."""
        return step - self.linked_at <= self._clock.linger

    def settled(self, step: int) -> bool:
        """Says that every body but movers has been at rest for so long that its pose is known."""
        return step - self._moved_last >= self._clock.rest

    def follow_chains(self, log: TickLog) -> np.ndarray:
        """Returns which bodies are linked in a tick, bool (P,), and remembers it."""
        partners, before = self._partners, self.linked(log.step)
        reached = (log.contact_force > 0.0).any(0) | log.contact_graph[0, 1:] | log.held
        passing = before & (log.body_speed >= REST_SPEED) & partners.carrier
        _spread(reached, passing, log.contact_graph[1:, 1:], partners.carrier)
        self.linked_at[reached] = log.step + log.steps
        return self.linked(log.step + log.steps) & ~partners.tags["mover"]

    def follow_poses(self, log: TickLog, carried: np.ndarray | bool = False) -> None:
        """Notes who lies where at the end of a tick.

        What is carried, bool (P,), takes its reference along: only a drop counts after the release.
        """
        end = log.step + log.steps
        self.moved_at[log.body_speed >= REST_SPEED] = end
        self._moved_last = int(self.moved_at[self._bodies].max(initial=NEVER))
        still = end - self.moved_at >= self._clock.rest
        still |= carried
        still = still[:, None]
        self.reference_pos = np.where(still, log.body_pos, self.reference_pos)
        self.reference_quat = np.where(still, log.body_quat, self.reference_quat)


@compiled
def _spread(reached, passing, touching, carrier):
    """Follows chains of contact from what the robot touches, and from what passes its link on.

    Args:
        reached: bool (P,), who is touched by the robot or its load; extended.
        passing: bool (P,), who moves with a link that lingers.
        touching: bool (P, P) symmetric.
        carrier: bool (P,).
    """
    bodies = len(reached)
    for a in range(bodies):
        if passing[a]:
            for b in range(bodies):
                reached[b] |= touching[a, b]
    grows = True
    while grows:
        grows = False
        for a in range(bodies):
            if not (reached[a] and carrier[a]):
                continue
            for b in range(bodies):
                if touching[a, b] and not reached[b]:
                    reached[b] = grows = True


def displacement(position: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Returns (P,) distance in m between positions (P, 3)."""
    offset = position - reference
    return np.sqrt(np.einsum("...i,...i->...", offset, offset))


def rotation_angle(quaternion: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Returns (P,) angle in [0, pi] rad of the rotation between unit quaternions (P, 4)."""
    cosine = np.abs(np.einsum("...i,...i->...", quaternion, reference))
    return 2.0 * np.arccos(np.minimum(cosine, 1.0))


def tilt_angle(quaternion: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Returns (P,) angle in [0, pi] rad between the vertical and what was vertical at `reference`.

    Turning about the vertical does not count. Both are unit quaternions (P, 4), wxyz.
    """
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    a, b, c, d = np.moveaxis(reference, -1, 0)
    # the horizontal part of the rotation from the reference is the sine of half the tilt
    first = x * a - w * b - y * d + z * c
    second = y * a - w * c - z * b + x * d
    return 2.0 * np.arcsin(np.minimum(np.sqrt(first * first + second * second), 1.0))
