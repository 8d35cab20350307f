"""Random streams of signals in which anything may happen, and how to run them."""

from dataclasses import fields
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
    partners,
    quiet,
    robot,
)

from safevla_envs.costs import CostModel, CostState, Signals, default_terms

P = len(NAMES)
MOVERS = np.isin(np.arange(P), (ANNA, BEN, POLISHER))
OPTIONAL = [f.name for f in fields(Signals) if f.default is None]


def model(mode: str = "binary", **changes: Any) -> CostModel:
    return CostModel(default_terms(), partners(), robot(**changes), mode)


def noise(rng: np.random.Generator, time: float, *, dt: float, steps: int) -> Signals:
    """A tick in which anything may happen, quiet ones among them."""
    busy = rng.random(P) < 0.25
    level = rng.choice([0.5, 5.0, 25.0, 70.0, 150.0, 300.0], (steps, P))
    graph = rng.random((P + 1, P + 1)) < 0.15
    quat = np.array([1.0, 0, 0, 0]) + 0.2 * rng.normal(size=(P, 4)) * (rng.random((P, 1)) < 0.3)
    contact = level * busy * (rng.random((steps, P)) < 0.5)
    return quiet(
        time,
        dt=dt,
        steps=steps,
        contact_force=contact,
        self_force=rng.choice([0.0, 0.0, 0.0, 3.0, 50.0], (steps, len(PAIRS))),
        joint_pos=rng.choice([0.0, 1.0, 0.999 * UPPER], (steps, len(JOINTS)), p=[0.5, 0.4, 0.1]),
        keepout_distance=rng.choice(
            [np.inf, 0.1, -0.02, -0.1], (steps, P), p=[0.7, 0.2, 0.07, 0.03]
        ),
        valid=np.arange(steps) >= rng.choice([0, 0, 0, 1, steps // 2, steps]),
        body_pos=0.04 * rng.normal(size=(P, 3)),
        body_quat=quat / np.linalg.norm(quat, axis=1, keepdims=True),
        body_speed=rng.choice([0.0, 0.005, 0.3], P),
        contact_graph=graph | graph.T,
        free_share=rng.choice([0.2, 0.8]),
        held=rng.random(P) < 0.05,
        support_exempt=rng.random(P) < 0.1,
        robot_moving=bool(rng.random() < 0.5),
        blind=rng.random(P) < 0.3,
        **motion(rng, steps),
        region_force=rng.choice([0.0, 50.0, 400.0], (steps, len(REGIONS)), p=[0.8, 0.1, 0.1]),
        finger_force=rng.choice([0.0, 15.0, 90.0], (steps, 2)),
        external_torque=rng.choice([0.0, 8.0, -30.0], 2),
    )


def motion(rng: np.random.Generator, steps: int, *, calm: bool = False) -> dict[str, np.ndarray]:
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


def calm(rng: np.random.Generator, time: float, *, dt: float, steps: int) -> Signals:
    """A tick that violates nothing, unless something goes on from before."""
    return quiet(
        time,
        dt=dt,
        steps=steps,
        body_pos=0.04 * rng.normal(size=(P, 3)),
        body_speed=rng.choice([0.0, 0.3], P, p=[0.8, 0.2]) * rng.choice([0.0, 1.0]),
        keepout_distance=rng.choice([np.inf, 0.1, 0.0], (steps, P)),
        joint_pos=rng.uniform([-2.8, 0.0], [2.8, 2.9], (steps, 2)),
        free_share=rng.choice([0.2, 0.8]),
        blind=rng.random(P) < 0.3,
        **motion(rng, steps, calm=True),
        region_force=np.zeros((steps, len(REGIONS))),
        finger_force=rng.choice([0.0, 90.0], (steps, 2)),
        external_torque=rng.choice([0.0, -5.9], 2),
    )


def without(signals: Signals, names: list[str]) -> Signals:
    """These fields were not measured."""
    kept = {f.name: getattr(signals, f.name) for f in fields(Signals) if f.name not in names}
    return Signals(**kept)


def stack(worlds: list[Signals]) -> Signals:
    arrays = {
        f.name: np.stack([np.asarray(getattr(w, f.name)) for w in worlds])
        for f in fields(Signals)
        if f.name != "substep_dt" and getattr(worlds[0], f.name) is not None
    }
    return Signals(substep_dt=worlds[0].substep_dt, **arrays)


def play(made: CostModel, ticks: list[Signals]) -> tuple[list[dict], list, CostState]:
    state, costs, events = made.init_state(ticks[0]), [], []
    for tick in ticks:
        cost, shots, state = made.step(tick, state)
        costs.append(cost)
        events.append(shots)
    return costs, events, state


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, types and shapes of arrays included, through dataclasses."""
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(
            same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)
        )
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return a is b or bool(np.array_equal(a, b))
