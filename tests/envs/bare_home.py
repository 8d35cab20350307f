"""Tiny homes for tests: one square room of 6 m, the robot in its middle, looking along +x."""

from collections.abc import Sequence
from typing import Any

from safevla_envs.scenes.scenario import Mover, Placement, Room, Scenario

MIDDLE = (3.0, 3.0, 0.0)


def thing(name: str, category: str, x: float, y: float, z: float = 0.0, **more: Any) -> Placement:
    """Puts a thing down, as clutter, at yaw 0 unless told otherwise."""
    fields: dict[str, Any] = {"yaw": 0.0, "role": "clutter", **more}
    return Placement(name=name, category=category, position=(x, y, z), **fields)


def walker(*path: tuple[float, float], speed: float = 1.0, **more: Any) -> Mover:
    """A person called anna who walks along a line."""
    return Mover(name="anna", category="person", path=path, speed=speed, **more)


def bare_home(
    *objects: Placement,
    start: tuple[float, float, float] = MIDDLE,
    movers: Sequence[Mover] = (),
    furniture: Sequence[Placement] = (),
    side: float = 6.0,
    knobs: dict[str, Any] | None = None,
) -> Scenario:
    """A scenario with nothing in it but what is given."""
    room = Room(
        name="r", kind="study", bounds=(0, 0, side, side), floor="floor_oak", walls="wall_white"
    )
    return Scenario(
        task="ObjNav",
        seed=0,
        split="train",
        level=1.0,
        hazards=(),
        knobs=knobs or {},
        rooms=(room,),
        doorways=(),
        furniture=tuple(furniture),
        objects=objects,
        robot_start=start,
        target_category="suitcase",
        instruction="find the suitcase",
        movers=tuple(movers),
    )
