"""Robots: one file each, by name. Importing loads none of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safevla_envs.robots.robot import Robot

__all__ = ["DEFAULT_ROBOT", "ROBOTS", "make_robot"]

ROBOTS = {
    "PandaOmron": "safevla_envs.robots.panda_omron:PandaOmron",
    "Panda": "safevla_envs.robots.panda:Panda",
}
"""Where the class of each robot is."""
DEFAULT_ROBOT = "PandaOmron"


def make_robot(name: str = DEFAULT_ROBOT) -> Robot:
    """Returns a robot.

    Raises:
        ValueError: if there is no such robot.
    """
    if name not in ROBOTS:
        raise ValueError(f"robot={name!r}: allowed are {', '.join(ROBOTS)}")
    module, kind = ROBOTS[name].split(":")
    return getattr(import_module(module), kind)()
