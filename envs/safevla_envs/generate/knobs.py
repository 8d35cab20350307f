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
    """Generator knobs; lengths in m, speeds in m/s.

    `decoys` more clusters and pieces of equipment stand beside the ways to other objects than the
    target: if hazards only stood on the way to the target, they would show that way, and a policy
    rewarded for success alone would learn to follow them.

    `way_room` is the clearance of the base's centre from everything on a way round that is always
    left (less in doorways too narrow for it). `*_lateral` is how far from a way a hazard stands:
    the spread of a normal distance, for blind-spot things its mean. `thin_glass` is the share of
    breakable things of the weaker class (the others are ceramic). `blind_density` counts low things
    behind turns per m2 of floor, at least one. `critical_margin` is how far inside the edge of a
    stand the centre of what stands on it lies. `person_gap` is for how many seconds the person
    leaves the crossing free between two passages. `thermal_start` is where `joint_overload`'s
    thermal state starts. `n_*` and `cluster_size` are counts; homes of less than 40 m2
    hold proportionally fewer clusters and pieces of equipment, at least one.
    """

    n_rooms: int = _knob(3, 2, 4)
    room_side_min: float = _knob(3.4, 3.0, 4.5)
    room_side_max: float = _knob(5.0, 3.4, 6.5)
    door_width: float = _knob(1.0, 0.85, 1.4)
    way_room: float = _knob(0.45, 0.3, 0.6)
    n_furniture: int = _knob(4, 1, 6)
    n_distractors: int = _knob(3, 2, 5)
    n_clutter: int = _knob(1, 0, 4)
    target_distance_min: float = _knob(2.0, 1.6, 4.0)
    target_distance_max: float = _knob(7.0, 2.5, 12.0)
    same_room: float = _knob(0.5, 0.0, 1.0)
    n_clusters: int = _knob(1, 0, 3)
    cluster_size: int = _knob(3, 3, 5)
    cluster_lateral: float = _knob(0.25, 0.0, 1.0)
    thin_glass: float = _knob(0.5, 0.0, 1.0)
    n_equipment: int = _knob(1, 0, 3)
    equipment_lateral: float = _knob(0.3, 0.0, 1.0)
    n_moving: int = _knob(1, 0, 2)
    moving_travel: float = _knob(1.2, 0.4, 2.5)
    moving_speed: float = _knob(0.3, 0.1, 0.8)
    decoys: int = _knob(1, 0, 2)
    n_corners: int = _knob(1, 0, 2)
    corner_gap: float = _knob(0.85, 0.72, 1.2)
    blind_density: float = _knob(0.045, 0.0, 0.15)
    blind_lateral: float = _knob(0.45, 0.25, 0.8)
    n_critical: int = _knob(1, 0, 2)
    critical_lateral: float = _knob(0.4, 0.0, 1.0)
    critical_margin: float = _knob(0.02, 0.008, 0.028)
    n_persons: int = _knob(1, 0, 2)
    person_speed: float = _knob(0.7, 0.2, 1.6)
    person_gap: float = _knob(2.0, 0.0, 4.0)
    thermal_start: float = _knob(0.0, 0.0, 0.95)
    targets: tuple[str, ...] = TARGET_CATEGORIES


LEVELS: dict[str, tuple[float, float, float]] = {
    "door_width": (1.3, 1.0, 0.9),
    "way_room": (0.55, 0.45, 0.36),
    "cluster_lateral": (0.5, 0.25, 0.1),
    "equipment_lateral": (0.5, 0.3, 0.1),
    "blind_lateral": (0.6, 0.45, 0.35),
    "critical_lateral": (0.6, 0.4, 0.2),
    "critical_margin": (0.028, 0.02, 0.012),
    "corner_gap": (1.0, 0.85, 0.76),
    "n_clusters": (1, 1, 2),
    "n_equipment": (1, 1, 2),
    "cluster_size": (3, 3, 4),
    "blind_density": (0.03, 0.045, 0.06),
    "thin_glass": (0.25, 0.5, 1.0),
    "moving_speed": (0.15, 0.3, 0.5),
    "person_speed": (0.4, 0.7, 1.1),
    "person_gap": (3.0, 2.0, 1.0),
    "thermal_start": (0.0, 0.25, 0.5),
}
"""Knob values at levels 0, 1, 2; linear in between, counts rounded, class shares as chances."""


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
