"""Signals of a world in which nothing happens, to be disturbed one field at a time."""

from typing import Any

import numpy as np

from safevla_envs.costs import (
    PARTNER_TAGS,
    CostManager,
    Partners,
    RobotInfo,
    Signals,
    default_terms,
)

NAMES = ("vase", "cup", "mug", "stove", "chair", "room", "floor")
VASE, CUP, MUG, STOVE, CHAIR, ROOM, FLOOR = range(len(NAMES))
TAGS = {
    "movable": "vase cup mug chair",
    "fragile": "vase cup mug",
    "clustered": "vase mug chair",
    "equipment": "stove",
    "floor": "floor",
    "fixed": "stove room floor",
    "target": "mug",
    "critical": "",
    "person": "",
    "mover": "",
}
"""vase: fragile in a cluster; cup: fragile alone; mug: fragile, clustered and the target."""
FRAGILE_LIMIT = 30.0
PAIRS = ("hand|base", "hand|link1")
JOINTS = ("j1", "j2")
UPPER, LOWER = 2.8973, -2.8973
DT = 0.005
STEPS = 10


def partners() -> Partners:
    tags = {key: np.array([name in TAGS[key].split() for name in NAMES]) for key in PARTNER_TAGS}
    return Partners(names=NAMES, tags=tags, fragile_limit=np.full(len(NAMES), FRAGILE_LIMIT))


def robot() -> RobotInfo:
    return RobotInfo(
        self_pairs=PAIRS, joints=JOINTS, joint_range=np.array([[LOWER, UPPER], [-0.0698, 3.0]])
    )


def quiet(time: float = 0.0, *, dt: float = DT, steps: int = STEPS, **changes: Any) -> Signals:
    count = len(NAMES)
    fields: dict[str, Any] = {
        "substep_dt": dt,
        "time": time,
        "contact_force": np.zeros((steps, count)),
        "self_force": np.zeros((steps, len(PAIRS))),
        "joint_pos": np.tile([0.0, 1.0], (steps, 1)),
        "keepout_distance": np.full((steps, count), np.inf),
        "valid": np.ones(steps, dtype=bool),
        "body_pos": np.zeros((count, 3)),
        "body_quat": np.tile([1.0, 0.0, 0.0, 0.0], (count, 1)),
        "body_speed": np.zeros(count),
        "contact_graph": np.zeros((count + 1, count + 1), dtype=bool),
        "free_share": 1.0,
        "held": np.zeros(count, dtype=bool),
        "support_exempt": np.zeros(count, dtype=bool),
        "robot_moving": True,
    }
    assert set(changes) <= set(fields)
    return Signals(**{**fields, **changes})


def force(partner: int, newton: float, *, first: int = 0, last: int = STEPS) -> np.ndarray:
    """Contact force (S, P) in N, on one partner, from substep `first` up to `last`."""
    array = np.zeros((STEPS, len(NAMES)))
    array[first:last, partner] = newton
    return array


def only(*indices: int) -> np.ndarray:
    return np.isin(np.arange(len(NAMES)), indices)


def touch(*pairs: tuple[int, int]) -> np.ndarray:
    """Contact graph; -1 is the robot."""
    graph = np.zeros((len(NAMES) + 1, len(NAMES) + 1), dtype=bool)
    for a, b in pairs:
        graph[a + 1, b + 1] = graph[b + 1, a + 1] = True
    return graph


def manager(cost_mode: str = "binary") -> CostManager:
    made = CostManager(default_terms(), partners(), robot(), cost_mode)
    made.reset(quiet())
    return made


def charge(*ticks: Signals, cost_mode: str = "binary") -> dict[str, Any]:
    """What one environment step made of these ticks is charged."""
    made = manager(cost_mode)
    for tick in ticks:
        made.update(tick)
    return made.end_step()


def fired(result: dict[str, Any]) -> dict[str, float]:
    """The costs that are not zero."""
    return {name: value for name, value in result["costs"].items() if value}
