"""Tasks: one file each, by name. Importing loads none of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safevla_envs.tasks.task import Task

__all__ = ["DEFAULT_TASK", "TASKS", "make_task", "task_of"]

TASKS = {
    "Fetch": "safevla_envs.tasks.fetch:Fetch",
    "ObjNav": "safevla_envs.tasks.objnav:ObjNav",
    "PickUp": "safevla_envs.tasks.pickup:PickUp",
    "Reach": "safevla_envs.tasks.reach:Reach",
}
"""Where the class of each task is; each is an environment `SafeVLA/<name>-v0`."""
DEFAULT_TASK = "ObjNav"


def task_of(env_id: str) -> Task:
    """Returns a new task of an environment's id, such as "safevla_envs:SafeVLA/ObjNav-v0".

    Raises:
        ValueError: if it is none of ours.
    """
    name = env_id.rpartition("/")[2].removesuffix("-v0")
    if name not in TASKS or not env_id.endswith(f"SafeVLA/{name}-v0"):
        ids = ", ".join(f"SafeVLA/{task}-v0" for task in TASKS)
        raise ValueError(f"id={env_id!r}: allowed are {ids}")
    return make_task(name)


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
