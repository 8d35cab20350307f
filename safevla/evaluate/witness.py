"""What a record adds to the events of a SafeVLA environment: was it in view, what became of it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from safevla_envs.costs.links import displacement, tilt_angle
from safevla_envs.env import SafeVLAEnv
from safevla_envs.record.looks import ALWAYS_IN_VIEW, Looks

__all__ = ["Witness"]


class Witness:
    """Watches one episode, by geometry alone; of an environment that is no SafeVLA's it is silent.

    Args:
        env: just reset.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]):
        bare = env.unwrapped
        self._looks: Looks | None = None
        self._names: tuple[str, ...] = ()
        if isinstance(bare, SafeVLAEnv):
            self._sim, self._names = bare.sim, bare.sim.home.partners
            self._start = self._sim.partner_poses()
            if bare.cameras:
                self._looks = Looks(self._sim, bare.cameras)

    def look(self) -> None:
        """The cameras look; call it before each action."""
        if self._looks is not None:
            self._looks.note()

    def seen(self, partner: str) -> bool | None:
        """Says whether an observed camera saw a body before one of the last 20 actions.

        None where that is no question: of walls, the robot itself, and without a camera.
        """
        if self._looks is None or partner not in self._names or partner in ALWAYS_IN_VIEW:
            return None
        return bool(self._looks.seen([partner])[0])

    def fate(self, partner: str) -> dict[str, float]:
        """Returns how far a body has `moved`, m, and `tilted`, rad, since the start.

        Empty for walls, the robot itself and what moves by itself.
        """
        if partner not in self._names or partner in (*ALWAYS_IN_VIEW, *self._sim.home.movers):
            return {}
        i, (position, turn, _) = self._names.index(partner), self._sim.partner_poses()
        moved = float(displacement(position[i], self._start[0][i]))
        tilted = float(tilt_angle(turn[i], self._start[1][i]))
        finite = np.isfinite([moved, tilted]).all()
        return {"moved": round(moved, 4), "tilted": round(tilted, 4)} if finite else {}
