"""The substeps of a control tick in compiled code, without returning to Python in between.

A tick in which the robot touches nothing is one call. Coming back after every substep to copy a few
numbers costs as much as all the constraints' terms together.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from safevla_envs.compiled import compiled
from safevla_envs.record.addresses import call_step
from safevla_envs.record.distance import distance_natively

__all__ = ["SLEEPY", "Ids", "Live", "Rows", "after", "before", "run"]

SLEEPY = 2
"""`tree_asleep` counts up to 0 while a body rests; from minus this on it may fall asleep."""


class Live(NamedTuple):
    """MuJoCo's arrays that are read in every substep: views that follow the simulation.

    And one number, the robot's contacts, or 1 to have every substep looked at.
    """

    qpos: np.ndarray
    qvel: np.ndarray
    qfrc_actuator: np.ndarray
    actuator_force: np.ndarray
    qfrc_gravcomp: np.ndarray
    tree_asleep: np.ndarray
    geom_xpos: np.ndarray
    site_xpos: np.ndarray
    cvel: np.ndarray
    subtree_com: np.ndarray
    touches: np.ndarray


class Ids(NamedTuple):
    """Where to look: fields of `Watch`, and the pairs of `Watch.pairs`."""

    qpos: np.ndarray
    dofs: np.ndarray
    servos: np.ndarray
    tip: np.ndarray
    root: int
    cutoff: float
    volumes: np.ndarray
    reach: np.ndarray


class Rows(NamedTuple):
    """What is recorded, by substep.

    Joint positions, speeds, torques, servo forces and gravity compensation (S, J); the tip's speed
    (S,); distances to keep-out volumes (D, S); and, int (1,), the most kinematic trees awake before
    any substep.
    """

    joint_pos: np.ndarray
    joint_vel: np.ndarray
    joint_torque: np.ndarray
    servo_force: np.ndarray
    gravity: np.ndarray
    tip_speed: np.ndarray
    volumes: np.ndarray
    awake: np.ndarray


@compiled
def before(live, ids, rows, substep):
    """Notes the state before a substep; says whether a body may fall asleep in it."""
    count, sleepy = 0, False
    for tree in live.tree_asleep:
        sleepy |= -SLEEPY <= tree < 0
        count += tree < 0
    rows.awake[0] = max(rows.awake[0], count)
    for j in range(len(ids.qpos)):
        rows.joint_pos[substep, j] = live.qpos[ids.qpos[j]]
    for j in range(len(ids.dofs)):
        rows.joint_vel[substep, j] = live.qvel[ids.dofs[j]]
    return sleepy


@compiled
def after(live, ids, rows, substep):
    """Notes what a substep showed of the joints and the tip."""
    for j in range(len(ids.dofs)):
        rows.joint_torque[substep, j] = live.qfrc_actuator[ids.dofs[j]]
        rows.servo_force[substep, j] = live.actuator_force[ids.servos[j]]
        rows.gravity[substep, j] = live.qfrc_gravcomp[ids.dofs[j]]
    site, body, base = ids.tip
    if site >= 0:
        # velocity of the site relative to what it would have as a part of the base
        spin = live.cvel[body] - live.cvel[base]
        x, y, z = live.site_xpos[site] - live.subtree_com[ids.root]
        vx = spin[3] + spin[1] * z - spin[2] * y
        vy = spin[4] + spin[2] * x - spin[0] * z
        vz = spin[5] + spin[0] * y - spin[1] * x
        rows.tip_speed[substep] = np.sqrt(vx * vx + vy * vy + vz * vz)


@partial(compiled, free=True)
def run(addresses, live, ids, rows, first):
    """Runs substeps until the robot touches something; returns which, or how many there are.

    Stops too, and returns -1 - n, before substep n in which a body may fall asleep.

    Args:
        addresses: see `addresses_of`.
        live: what is read.
        ids: where it stands.
        rows: what is written.
        first: number of the first substep.
    """
    for substep in range(first, len(rows.tip_speed)):
        if before(live, ids, rows, substep):
            return -1 - substep
        call_step(addresses[0], addresses[2], addresses[3])
        after(live, ids, rows, substep)
        rows.volumes[:, substep] = ids.cutoff
        for n in range(len(ids.volumes)):
            d, one, other = ids.volumes[n]
            x, y, z = live.geom_xpos[one] - live.geom_xpos[other]
            if not (np.sqrt(x * x + y * y + z * z) > ids.reach[n] + ids.cutoff):
                near = distance_natively(addresses, live.geom_xpos, one, other, ids.cutoff, None)
                rows.volumes[d, substep] = min(rows.volumes[d, substep], near)
        if live.touches[0] > 0.0:
            return substep
    return len(rows.tip_speed)
