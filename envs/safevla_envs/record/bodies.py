"""Bodies of a model by name, and what hangs on them."""

from __future__ import annotations

import mujoco
import numpy as np

__all__ = ["body_id", "subtree"]


def body_id(model: mujoco.MjModel, name: str) -> int:
    """Returns a body's id.

    Raises:
        ValueError: if the model has no such body.
    """
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
    if body < 0:
        raise ValueError(f"model has no body {name!r}")
    return body


def subtree(model: mujoco.MjModel, root: int) -> np.ndarray:
    """Returns which bodies are in the subtree of a body, by id: bool (nbody,)."""
    inside = np.zeros(model.nbody, dtype=bool)
    inside[root] = True
    for body in range(root + 1, model.nbody):
        inside[body] |= inside[model.body_parentid[body]]
    return inside
