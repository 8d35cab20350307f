"""What the cameras saw at the last looks, worked out when a body is touched and not before.

Whether a body was seen matters only once the robot touches it, which is rare; casting rays at all
bodies before every action would cost more than all recording. So a look keeps the positions of
everything, and rays are cast at the touched bodies alone, from where the cameras then were.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import mujoco
import numpy as np

from safevla_envs.scenes.home import FLOOR, ROOM
from safevla_envs.world import World

__all__ = ["ALWAYS_IN_VIEW", "EYES", "LOOKS_FRESH", "LOOKS_KEPT", "Looks"]

LOOKS_KEPT, LOOKS_FRESH = 20, 2
"""Looks within which a body was seen, and the last ones in none of which it was: it is blind."""
ALWAYS_IN_VIEW = (FLOOR, ROOM)
"""Walls and fixed furniture are one body: somewhere it is always in view, as the floor is."""
EYES = ("navigation", "manipulation")
"""Cameras that look for `blind_spot`, whether they are observed or not."""


@dataclass
class _Look:
    qpos: np.ndarray
    seen: dict[str, bool] = field(default_factory=dict)


class Looks:
    """The last looks of an episode.

    Args:
        sim: The simulation, with the scenario in place.
        eyes: Cameras that look.
    """

    def __init__(self, sim: World, eyes: Sequence[str] = EYES):
        self._sim, self._eyes = sim, tuple(eyes)
        self._looks: deque[_Look] = deque(maxlen=LOOKS_KEPT)
        self._data: mujoco.MjData | None = None

    def __len__(self) -> int:
        return len(self._looks)

    def note(self) -> None:
        """Looks: remembers where everything is now."""
        self._looks.append(_Look(self._sim.data.qpos.copy()))

    def blind(self, names: Sequence[str]) -> np.ndarray:
        """Says which bodies were seen at a kept look and at none of the last `LOOKS_FRESH`."""
        ages = self._last_seen(names)
        return np.array([ages.get(name, 0) >= LOOKS_FRESH for name in names], dtype=bool)

    def seen(self, names: Sequence[str]) -> np.ndarray:
        """Says which bodies were seen at any kept look."""
        ages = self._last_seen(names)
        return np.array([name in ages for name in names], dtype=bool)

    def _last_seen(self, names: Sequence[str]) -> dict[str, int]:
        """Returns how many looks ago bodies were seen last, of those that were."""
        ages: dict[str, int] = {}
        left = list(names)
        for age, look in enumerate(reversed(self._looks)):
            if not left:
                break
            self._cast(look, left)
            ages |= {name: age for name in left if look.seen[name]}
            left = [name for name in left if name not in ages]
        return ages

    def _cast(self, look: _Look, names: Sequence[str]) -> None:
        """Works out whether a look saw these bodies, unless that is known."""
        missing = tuple(name for name in names if name not in look.seen)
        if not missing:
            return
        sim = self._sim
        data = self._data = self._data or mujoco.MjData(sim.model)
        data.qpos[:] = look.qpos
        mujoco.mj_kinematics(sim.model, data)
        mujoco.mj_camlight(sim.model, data)
        seen = np.zeros(len(missing), dtype=bool)
        for eye in self._eyes:
            seen |= sim._sight.visible(data, missing, eye)
        look.seen.update(zip(missing, seen.tolist()))
