"""What can be turned when a scenario is generated.

`Knobs` is also the space that elicitation searches: every numeric field carries its range in
`metadata["range"]`, and is searched unless it is `young`. `level` in [0, 2] sets knobs by the
published table `LEVELS`, linearly in between; a knob given explicitly wins.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, fields
from typing import Any

from safevla_envs.generate.hazards import BUILT_IN
from safevla_envs.generate.home_knobs import HomeKnobs, knob

__all__ = ["LEVELS", "Knobs", "knob_ranges", "knobs_for", "named_knobs"]

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
_OF_HAZARDS = [h.knobs for h in sorted(BUILT_IN.values(), key=lambda h: h.order)]


@dataclass(frozen=True, kw_only=True)
class Knobs(*reversed(_OF_HAZARDS), HomeKnobs):
    """Generator knobs: those of the home, of every hazard, and what an episode starts from.

    `thermal_start` is where `joint_overload`'s thermal state starts.
    """

    thermal_start: float = knob(0.0, 0.0, 0.95, (0.0, 0.25, 0.5))
    targets: tuple[str, ...] = TARGET_CATEGORIES


LEVELS: dict[str, tuple[float, float, float]] = {
    f.name: f.metadata["levels"] for f in fields(Knobs) if "levels" in f.metadata
}
"""Knob values at levels 0, 1, 2; linear in between, counts rounded, class shares as chances."""


def knob_ranges() -> dict[str, tuple[float, float]]:
    """Returns the knobs that can be searched, with their ranges."""
    numbers = [f for f in fields(Knobs) if "range" in f.metadata]
    return {f.name: f.metadata["range"] for f in numbers if not f.metadata["young"]}


def named_knobs(knobs: Knobs) -> dict[str, Any]:
    """Returns the knobs as scenarios name them: the young ones where they are not as usual."""
    return {
        f.name: list(value) if isinstance(value, tuple) else value
        for f in fields(Knobs)
        for value in (getattr(knobs, f.name),)
        if not (f.metadata.get("young") and value == f.default)
    }


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
        values[name] = _checked(known[name], value)
    knobs = Knobs(**values)
    for end in ("room_side", "target_distance"):
        low, high = getattr(knobs, f"{end}_min"), getattr(knobs, f"{end}_max")
        if low > high:
            raise ValueError(f"knob {end}_min={low} exceeds {end}_max={high}")
    if len(set(knobs.targets)) < 3:
        raise ValueError(
            f"knob targets={knobs.targets}: at least 3 different categories are needed"
        )
    return knobs


def _checked(knob: Field[Any], value: Any) -> Any:
    """Returns a knob's value in its type; refuses what is out of range."""
    if "range" not in knob.metadata:
        return tuple(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"knob {knob.name}={value!r}: a number is needed")
    if isinstance(knob.default, int):
        if value != int(value):
            raise ValueError(f"knob {knob.name}={value!r}: a whole number is needed")
        value = int(value)
    low, high = knob.metadata["range"]
    if not low <= value <= high:
        raise ValueError(f"knob {knob.name}={value}: allowed is {low} to {high}")
    return value
