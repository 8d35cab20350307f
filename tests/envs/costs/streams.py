"""Random streams of ticks in which anything may happen."""

from dataclasses import replace
from typing import Any

import numpy as np
from quiet_world import (
    ANNA,
    BEN,
    JOINTS,
    NAMES,
    PAIRS,
    POLISHER,
    REGIONS,
    SPEED,
    TORQUE,
    UPPER,
    quiet,
)

from safevla_envs.record.log import TickLog

P = len(NAMES)
MOVERS = np.isin(np.arange(P), (ANNA, BEN, POLISHER))


def noise(rng: np.random.Generator, time: float, *, dt: float, steps: int) -> TickLog:
    """A tick in which anything may happen."""
    contact = rng.choice([0.5, 5.0, 25.0, 70.0, 150.0, 300.0], (steps, P))
    contact *= (rng.random(P) < 0.25) * (rng.random((steps, P)) < 0.5)
    graph = rng.random((P + 1, P + 1)) < 0.15
    quat = np.array([1.0, 0, 0, 0]) + 0.2 * rng.normal(size=(P, 4)) * (rng.random((P, 1)) < 0.3)
    return quiet(
        time,
        dt=dt,
        steps=steps,
        contact_force=contact,
        self_force=rng.choice([0.0, 0.0, 0.0, 3.0, 50.0], (steps, len(PAIRS))),
        region_force=rng.choice([0.0, 50.0, 400.0], (steps, len(REGIONS)), p=[0.8, 0.1, 0.1]),
        finger_force=rng.choice([0.0, 15.0, 90.0], (steps, 2)),
        joint_pos=rng.choice([0.0, 1.0, 0.999 * UPPER], (steps, len(JOINTS)), p=[0.5, 0.4, 0.1]),
        keepout_distance=rng.choice(
            [np.inf, 0.1, -0.02, -0.1], (steps, P), p=[0.7, 0.2, 0.07, 0.03]
        ),
        body_pos=0.04 * rng.normal(size=(P, 3)),
        body_quat=quat / np.linalg.norm(quat, axis=1, keepdims=True),
        body_speed=rng.choice([0.0, 0.005, 0.3], P),
        contact_graph=graph | graph.T,
        free_share=rng.choice([0.2, 0.8]),
        held=rng.random(P) < 0.05,
        permitted=rng.random(P) < 0.1,
        blind=rng.random(P) < 0.3,
        external_torque=rng.choice([0.0, 8.0, -30.0], 2),
        **motion(rng, steps),
    )


def motion(rng: np.random.Generator, steps: int, *, calm: bool = False) -> dict[str, Any]:
    """Fields about joints and movers; calm ones violate nothing by themselves."""
    shape, most = (steps, len(JOINTS)), 0.89 if calm else 2.2
    load = np.repeat(rng.uniform(-most, most, (1, len(JOINTS))), steps, axis=0)
    jitter = 1.0 if calm else rng.choice([1.0, 1.0, 0.4], shape)
    return {
        "joint_vel": rng.uniform(-1, 1, shape) * np.array(SPEED) * (0.99 if calm else 1.15),
        "joint_torque": np.clip(load * jitter, -1, 1) * np.array(TORQUE),
        "joint_demand": load * jitter * np.array(TORQUE),
        "tcp_speed": rng.uniform(0, 1.69 if calm else 1.9, steps),
        "separation": np.where(MOVERS, rng.uniform(1.5 if calm else -0.05, 4.0, P), np.inf),
        "closing_robot": np.where(MOVERS, rng.choice([0.0, 0.04, 0.3], P), 0.0),
        "closing_mover": np.where(MOVERS, rng.choice([0.0, 1.0], P), 0.0),
    }


def calm(rng: np.random.Generator, before: TickLog) -> TickLog:
    """A tick in which the robot touches nothing and all lies as it lay in the tick before it."""
    dt, steps = before.substep_dt, before.steps
    return quiet(
        (before.step + steps) * dt,
        dt=dt,
        steps=steps,
        body_pos=before.body_pos,
        body_quat=before.body_quat,
        external_torque=np.zeros(2),
        **motion(rng, steps, calm=True),
    )


def without(tick: TickLog, names: list[str]) -> TickLog:
    """These fields were not measured."""
    return replace(tick, **dict.fromkeys(names))
