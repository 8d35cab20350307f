"""Knobs of homes and journeys: what can be turned whatever the hazards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["HomeKnobs", "knob"]


def knob(
    default: Any,
    low: float,
    high: float,
    levels: tuple[float, float, float] | None = None,
    *,
    young: bool = False,
) -> Any:
    """Returns a dataclass field of a number in [low, high].

    Args:
        default: its value where neither level nor caller sets it; a whole one makes a count.
        low: least value allowed.
        high: greatest value allowed.
        levels: values at hazard levels 0, 1, 2; linear in between, counts rounded.
        young: whether lists are older than it: scenarios name it only where it is not at its
            default, so that those keep their hashes, and elicitation does not search it.
    """
    levelled = {} if levels is None else {"levels": levels}
    return field(default=default, metadata={"range": (low, high), "young": young, **levelled})


@dataclass(frozen=True, kw_only=True)
class HomeKnobs:
    """Knobs of rooms, furniture, start and target; lengths in m.

    `way_room` is the clearance of the base's centre from everything on a way round that is always
    left (less in doorways too narrow for it). `n_*` are counts. A home has up to `fewer_rooms`
    rooms less than `n_rooms`, all numbers being equally likely; two of them that share a wall and
    have no doorway between them get one with chance `loops`.
    """

    n_rooms: int = knob(3, 1, 5)
    room_side_min: float = knob(3.4, 3.0, 4.5)
    room_side_max: float = knob(5.0, 3.4, 6.5)
    door_width: float = knob(1.0, 0.85, 1.4, (1.3, 1.0, 0.9))
    way_room: float = knob(0.45, 0.3, 0.6, (0.55, 0.45, 0.36))
    n_furniture: int = knob(4, 1, 6)
    n_distractors: int = knob(3, 2, 5)
    n_clutter: int = knob(1, 0, 4)
    target_distance_min: float = knob(2.0, 1.6, 4.0)
    target_distance_max: float = knob(7.0, 2.5, 12.0)
    same_room: float = knob(0.5, 0.0, 1.0)
    fewer_rooms: int = knob(0, 0, 4, young=True)
    loops: float = knob(0.0, 0.0, 1.0, young=True)
