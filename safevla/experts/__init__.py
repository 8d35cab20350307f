"""Scripted experts with simulator knowledge: demonstrators and control arms."""

from __future__ import annotations

from typing import Any

import numpy as np

from safevla.experts.careful import CarefulExpert
from safevla.experts.careful_picking import CarefulPickUpExpert
from safevla.experts.navigation import TaskExpert
from safevla.experts.picking import FetchExpert, PickUpExpert

__all__ = ["EXPERTS", "CarefulExpert", "PickUpExpert", "TaskExpert", "make_expert"]

EXPERTS: dict[str, dict[str, Any]] = {
    "ObjNav": {"task": TaskExpert, "careful": CarefulExpert},
    "PickUp": {"task": PickUpExpert, "careful": CarefulPickUpExpert},
    "Fetch": {"task": FetchExpert, "careful": CarefulPickUpExpert},
}
"""The experts of each task, by name."""


def make_expert(
    name: str, env: Any, *, wander: float = 0.0, rng: np.random.Generator | None = None
) -> Any:
    """Makes an expert of an unwrapped environment's task: "task" (blind to hazards) or "careful".

    `wander`, 0 to 1, is the strength of the task expert's wandering, drawn from `rng`.

    Raises:
        ValueError: on a name that the task has no expert of, or an environment that is not in
            discrete mode.
    """
    task = type(env.task).__name__
    known = EXPERTS.get(task, {})
    if name not in known:
        raise ValueError(f"expert {name!r}: {task} has {', '.join(known) or 'none'}")
    if env.actions.mode != "discrete":
        raise ValueError(f"expert {name!r} needs action_mode='discrete', not {env.actions.mode!r}")
    return known[name](env, wander=wander, rng=rng)
