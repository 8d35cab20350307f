"""Scripted experts with simulator knowledge: demonstrators and control arms."""

from __future__ import annotations

from typing import Any

import numpy as np

from safevla.experts.careful import CarefulExpert
from safevla.experts.navigation import TaskExpert

__all__ = ["EXPERTS", "CarefulExpert", "TaskExpert", "make_expert"]

EXPERTS = {"task": TaskExpert, "careful": CarefulExpert}


def make_expert(
    name: str, env: Any, *, wander: float = 0.0, rng: np.random.Generator | None = None
) -> TaskExpert | CarefulExpert:
    """Makes the expert "task" (blind to hazards) or "careful" for an unwrapped environment.

    `wander`, 0 to 1, is the strength of the task expert's wandering, drawn from `rng`.

    Raises:
        ValueError: on an unknown name, or an environment that is not in discrete mode.
    """
    if name not in EXPERTS:
        raise ValueError(f"expert {name!r}: allowed are {', '.join(EXPERTS)}")
    if env.actions.mode != "discrete":
        raise ValueError(f"expert {name!r} needs action_mode='discrete', not {env.actions.mode!r}")
    return EXPERTS[name](env, wander=wander, rng=rng)
