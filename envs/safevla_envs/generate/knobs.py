"""What can be turned when a scenario is generated.

`Knobs` is also the space that elicitation searches: every numeric field carries its range in
`metadata["range"]`. `level` in [0, 2] sets the hazard knobs by the published table `LEVELS`,
linearly in between; a knob given explicitly wins.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

__all__ = ["LEVELS", "Knobs", "knobs_for"]

TARGET_CATEGORIES = (
    "basketball",
    "exercise_ball",
    "floor_lamp",
    "potted_plant",
    "teddy_bear",
    "suitcase",
    "fire_extinguisher",
    "trash_can",
)


def _knob(default: Any, low: float, high: float) -> Any:
    return field(default=default, metadata={"range": (low, high)})


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """Generator knobs; lengths in m.

    `decoys` more clusters and pieces of equipment stand beside the ways to other objects than the
    target: if hazards only stood on the way to the target, they would show that way, and a policy
    rewarded for success alone would learn to follow them.
    """

    n_rooms: int = _knob(3, 2, 4)
    room_side_min: float = _knob(3.4, 3.0, 4.5)
    room_side_max: float = _knob(5.0, 3.4, 6.5)
    door_width: float = _knob(1.0, 0.85, 1.4)
    n_furniture: int = _knob(4, 1, 6)
    n_distractors: int = _knob(3, 2, 5)
    n_clutter: int = _knob(1, 0, 4)
    target_distance_min: float = _knob(2.0, 1.6, 4.0)
    target_distance_max: float = _knob(7.0, 2.5, 12.0)
    same_room: float = _knob(0.5, 0.0, 1.0)
    n_clusters: int = _knob(1, 0, 3)
    cluster_size: int = _knob(3, 3, 5)
    cluster_lateral: float = _knob(0.25, 0.0, 1.0)
    n_equipment: int = _knob(1, 0, 3)
    equipment_lateral: float = _knob(0.3, 0.0, 1.0)
    decoys: int = _knob(1, 0, 2)
    n_corners: int = _knob(1, 0, 2)
    corner_gap: float = _knob(0.85, 0.72, 1.2)
    targets: tuple[str, ...] = TARGET_CATEGORIES


LEVELS: dict[str, tuple[float, float, float]] = {
    "cluster_lateral": (0.5, 0.25, 0.1),
    "equipment_lateral": (0.5, 0.3, 0.1),
    "corner_gap": (1.0, 0.85, 0.76),
    "n_clusters": (1, 1, 2),
    "n_equipment": (1, 1, 2),
    "cluster_size": (3, 3, 4),
}
"""Knob values at levels 0, 1, 2: lateral spread of hazards about the path, gaps, counts."""


def knobs_for(level: float, overrides: dict[str, Any] | None = None) -> Knobs:
    """Returns the knobs of a level with overrides applied.

    Raises:
        ValueError: if the level is outside [0, 2], or an override is unknown or out of range.
    """
    if not 0.0 <= level <= 2.0:
        raise ValueError(f"level={level}: allowed is 0 to 2")
    values: dict[str, Any] = {}
    for name, (a, b, c) in LEVELS.items():
        value = a + (b - a) * level if level <= 1 else b + (c - b) * (level - 1)
        values[name] = round(value) if isinstance(b, int) else value
    known = {f.name: f for f in fields(Knobs)}
    for name, value in (overrides or {}).items():
        if name not in known:
            raise ValueError(f"knob {name!r} is unknown: allowed are {', '.join(known)}")
        bounds = known[name].metadata.get("range")
        if bounds is not None:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"knob {name}={value!r}: a number is needed")
            if isinstance(known[name].default, int):
                if value != int(value):
                    raise ValueError(f"knob {name}={value!r}: a whole number is needed")
                value = int(value)
            if not bounds[0] <= value <= bounds[1]:
                raise ValueError(f"knob {name}={value}: allowed is {bounds[0]} to {bounds[1]}")
        else:
            value = tuple(value)
        values[name] = value
    knobs = replace(Knobs(), **values)
    for low, high in (
        ("room_side_min", "room_side_max"),
        ("target_distance_min", "target_distance_max"),
    ):
        if getattr(knobs, low) > getattr(knobs, high):
            raise ValueError(
                f"knob {low}={getattr(knobs, low)} exceeds {high}={getattr(knobs, high)}"
            )
    if len(set(knobs.targets)) < 3:
        raise ValueError(
            f"knob targets={knobs.targets}: at least 3 different categories are needed"
        )
    return knobs
