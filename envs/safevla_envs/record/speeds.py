"""How fast bodies move, from the joints' velocities."""

from __future__ import annotations

import numpy as np

from safevla_envs.compiled import compiled

__all__ = ["add_speeds"]


@compiled
def add_speeds(qvel, free, free_v, movers, mover_v, speed):
    """Enters the speeds of free bodies and movers, see `World.partner_poses`."""
    for i in range(len(free)):
        # a free joint's velocity: linear in the world frame, angular in the body's
        x, y, z = qvel[free_v[6 * i]], qvel[free_v[6 * i + 1]], qvel[free_v[6 * i + 2]]
        a, b, c = qvel[free_v[6 * i + 3]], qvel[free_v[6 * i + 4]], qvel[free_v[6 * i + 5]]
        speed[free[i]] = np.sqrt(max(x * x + y * y + z * z, 0.01 * (a * a + b * b + c * c)))
    for i in range(len(movers)):
        going, turning = np.hypot(qvel[mover_v[i, 0]], qvel[mover_v[i, 1]]), qvel[mover_v[i, 2]]
        speed[movers[i]] = max(going, 0.1 * abs(turning))
