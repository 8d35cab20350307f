"""What a closing gripper has got hold of: contacts come and go, the hold does not."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

__all__ = ["Holding"]

MIN_GRASP = 0.004
"""m; a closed gripper that is open by less gets hold of nothing."""
RELEASED = 2
"""Ticks, 0.1 s; what neither finger has touched for so long is not held any more."""


class Holding:
    """Follows a gripper while it is closed or closing.

    Attributes:
        held: bool (P,), what both fingers have touched at once and one of them since.

    Args:
        model: the compiled model.
        partners: ids (P,) of the bodies, each with its subtree.
        movable: indices of those that can be held.
        fingers: ids of the two fingers, each with its subtree.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        partners: np.ndarray,
        movable: np.ndarray,
        fingers: Sequence[int],
    ):
        # per geom: the partner it belongs to and the finger it is part of, -1 for none
        partner, finger = np.full(model.nbody, -1), np.full(model.nbody, -1)
        partner[partners[movable]] = movable
        finger[list(fingers)] = 0, 1
        for body in range(1, model.nbody):
            for owner in (partner, finger):
                owner[body] = max(owner[body], owner[model.body_parentid[body]])
        self._partner, self._finger = partner[model.geom_bodyid], finger[model.geom_bodyid]
        self._count = len(partners)
        self.release()

    def release(self) -> None:
        """Lets go of everything."""
        self.held = np.zeros(self._count, bool)
        self._untouched = np.full(self._count, RELEASED)

    @property
    def touched(self) -> bool:
        """Whether a finger touches anything that can be held, or just did."""
        return bool((self._untouched < RELEASED).any())

    def follow(self, contacts: np.ndarray, opening: float) -> None:
        """Notes what a tick has changed.

        Args:
            contacts: (n, 2) geoms that touch at its end.
            opening: m between the fingers.
        """
        touching = np.zeros((self._count, 2), bool)
        for one, other in (contacts.T, contacts.T[::-1]):
            partner, finger = self._partner[one], self._finger[other]
            pairs = (partner >= 0) & (finger >= 0)
            touching[partner[pairs], finger[pairs]] = True
        self._untouched = np.where(touching.any(1), 0, self._untouched + 1)
        self.held &= self._untouched < RELEASED
        if opening >= MIN_GRASP:
            self.held |= touching.all(1)
