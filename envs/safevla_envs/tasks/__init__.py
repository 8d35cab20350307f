"""Tasks: one file each, by name. Importing loads none of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safevla_envs.tasks.task import Task

__all__ = ["DEFAULT_TASK", "TASKS", "make_task"]

TASKS = {
    "Fetch": "safevla_envs.tasks.fetch:Fetch",
    "ObjNav": "safevla_envs.tasks.objnav:ObjNav",
    "PickUp": "safevla_envs.tasks.pickup:PickUp",
    "Reach": "safevla_envs.tasks.reach:Reach",
}
"""Where the class of each task is; each is an environment `SafeVLA/<name>-v0`."""
DEFAULT_TASK = "ObjNav"


def make_task(name: str, **options: Any) -> Task:
    """Returns a new task.

    Args:
        name: of `TASKS`.
        **options: its own.

    Raises:
        ValueError: if there is no such task.
    """
    if name not in TASKS:
        raise ValueError(f"task={name!r}: allowed are {', '.join(TASKS)}")
    module, kind = TASKS[name].split(":")
    return getattr(import_module(module), kind)(**options)
