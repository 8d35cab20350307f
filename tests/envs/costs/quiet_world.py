"""Ticks of a world in which nothing happens, to be disturbed one field at a time."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from safevla_envs.costs import (
    PARTNER_TAGS,
    BodyRegion,
    CostManager,
    CostTerm,
    Partners,
    RobotInfo,
    default_terms,
    grip_limits,
)
from safevla_envs.record.log import TickLog

NAMES = (
    "vase", "cup", "mug", "stove", "chair", "room", "floor", "jug", "anna", "polisher", "ben"
)  # fmt: skip
VASE, CUP, MUG, STOVE, CHAIR, ROOM, FLOOR, JUG, ANNA, POLISHER, BEN = range(len(NAMES))
TAGS = {
    "movable": "vase cup mug chair jug polisher",
    "fragile": "vase cup mug",
    "clustered": "vase mug chair",
    "equipment": "stove polisher",
    "floor": "floor",
    "fixed": "stove room floor",
    "target": "mug",
    "critical": "jug",
    "person": "anna ben",
    "mover": "anna ben polisher",
}
"""vase: fragile in a cluster; cup: fragile alone; mug: fragile, clustered and the target; jug: at
the edge of something; anna and ben walk about, polisher is equipment that drives."""
CLASSES = {"vase": "ceramic", "cup": "thin_glass", "mug": "ceramic", "jug": "egg"}
REGIONS = (
    BodyRegion(partner="anna", name="lower_leg"),
    BodyRegion(partner="anna", name="chest"),
    BodyRegion(partner="anna", name="skull"),
    BodyRegion(partner="ben", name="chest"),
    BodyRegion(partner="ben", name="neck"),
)
FRAGILE_LIMIT = 30.0
PAIRS = ("hand|base", "hand|link1")
JOINTS = ("j1", "j2")
UPPER, LOWER = 2.8973, -2.8973
TORQUE, SPEED = (87.0, 12.0), (2.175, 2.61)
DT = 0.005
STEPS = 10


def partners() -> Partners:
    tags = {key: np.array([name in TAGS[key].split() for name in NAMES]) for key in PARTNER_TAGS}
    return Partners(
        names=NAMES,
        tags=tags,
        fragile_limit=np.full(len(NAMES), FRAGILE_LIMIT),
        grip_limit=grip_limits(CLASSES.get(name) for name in NAMES),
        regions=REGIONS,
    )


def robot(**changes: Any) -> RobotInfo:
    made = RobotInfo(
        self_pairs=PAIRS,
        joints=JOINTS,
        joint_range=np.array([[LOWER, UPPER], [-0.0698, 3.0]]),
        torque_limit=np.array(TORQUE),
        speed_limit=np.array(SPEED),
        fingers=("left", "right"),
    )
    return replace(made, **changes)


def tagged(**more: int | tuple[int, ...]) -> Partners:
    """Partners of which only these have some tags."""
    base = partners()
    tags = {key: only(*(who if isinstance(who, tuple) else (who,))) for key, who in more.items()}
    return replace(base, tags={**base.tags, **tags})


OPTIONAL = (
    "joint_vel", "joint_torque", "joint_demand", "tcp_speed", "external_torque", "base_distance",
    "blind", "separation", "closing_robot", "closing_mover",
)  # fmt: skip
"""Fields that are None where they are not measured."""


def quiet(time: float = 0.0, *, dt: float = DT, steps: int = STEPS, **changes: Any) -> TickLog:
    count = len(NAMES)
    at_rest: dict[str, Any] = {
        "substep_dt": dt,
        "time": time,
        "contact_force": np.zeros((steps, count)),
        # all contact is the arm's, unless told otherwise
        "arm_force": changes.get("contact_force", np.zeros((steps, count))),
        "contact_speed": np.zeros((steps, count)),
        "self_force": np.zeros((steps, len(PAIRS))),
        "region_force": np.zeros((steps, len(REGIONS))),
        "finger_force": np.zeros((steps, 2)),
        "joint_pos": np.tile([0.0, 1.0], (steps, 1)),
        "keepout_distance": np.full((steps, count), np.inf),
        "body_pos": np.zeros((count, 3)),
        "body_quat": np.tile([1.0, 0.0, 0.0, 0.0], (count, 1)),
        "body_speed": np.zeros(count),
        "contact_graph": np.zeros((count + 1, count + 1), dtype=bool),
        "free_share": 1.0,
        "held": np.zeros(count, dtype=bool),
        "permitted": np.zeros(count, dtype=bool),
    }
    assert set(changes) <= {f.name for f in fields(TickLog)}
    return TickLog(**{**dict.fromkeys(OPTIONAL), **at_rest, **changes})


def force(partner: int, newton: float, *, first: int = 0, last: int = STEPS) -> np.ndarray:
    """Contact force (S, P) in N, on one partner, from substep `first` up to `last`."""
    array = np.zeros((STEPS, len(NAMES)))
    array[first:last, partner] = newton
    return array


def joint(index: int, value: float, *, first: int = 0, last: int = STEPS) -> np.ndarray:
    """Array (S, J), zero but for one joint from substep `first` up to `last`."""
    array = np.zeros((STEPS, len(JOINTS)))
    array[first:last, index] = value
    return array


def body(partner: int, value: float, other: float = 0.0) -> np.ndarray:
    """Array (P,), `other` but for one body."""
    return np.where(only(partner), value, other)


def only(*indices: int) -> np.ndarray:
    return np.isin(np.arange(len(NAMES)), indices)


def touch(*pairs: tuple[int, int]) -> np.ndarray:
    """Contact graph; -1 is the robot."""
    graph = np.zeros((len(NAMES) + 1, len(NAMES) + 1), dtype=bool)
    for a, b in pairs:
        graph[a + 1, b + 1] = graph[b + 1, a + 1] = True
    return graph


def manager(
    cost_mode: str = "binary",
    *,
    terms: Sequence[CostTerm] | None = None,
    bodies: Partners | None = None,
    dt: float = DT,
    **of_robot: Any,
) -> CostManager:
    made = CostManager(
        default_terms() if terms is None else terms,
        partners() if bodies is None else bodies,
        robot(**of_robot),
        cost_mode,
    )
    made.reset(quiet(dt=dt))
    return made


def charge(*ticks: TickLog, made: CostManager | None = None, **how: Any) -> dict[str, Any]:
    """What one environment step made of these ticks is charged; `how`: see `manager`."""
    made = manager(dt=ticks[0].substep_dt, **how) if made is None else made
    for tick in ticks:
        made.update(tick)
    return made.end_step()


def fired(result: dict[str, Any]) -> dict[str, float]:
    """The costs that are not zero."""
    return {name: value for name, value in result["costs"].items() if value}
