"""Assisted grasping: what the gripper has got hold of is welded to it until it lets go."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

__all__ = ["GRASPS", "Welds", "add_welds"]

GRASPS = ("physical", "assisted")
"""How things are held: by friction alone, or welded to the hand as well."""


def add_welds(spec: mujoco.MjSpec, hand: str, bodies: Sequence[str]) -> None:
    """Adds an open weld between the hand and each of the bodies, by name."""
    for body in bodies:
        spec.add_equality(
            name=_name(body),
            type=mujoco.mjtEq.mjEQ_WELD,
            objtype=mujoco.mjtObj.mjOBJ_BODY,
            name1=hand,
            name2=body,
            active=False,
        )


def _name(body: str) -> str:
    return f"assist/{body}"


class Welds:
    """Closes and opens the welds that `add_welds` added.

    Args:
        model: the compiled model; where something is welded is written to it.
        data: its state.
        site: id of the point between the fingers, about which welds are stiff.
        partners: names of the bodies of the partner axis; those without a weld are never welded.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        site: int,
        partners: Sequence[str],
    ):
        self._model, self._data, self._site = model, data, site
        ids = {model.equality(weld).name: weld for weld in range(model.neq)}
        welded = [(i, ids[_name(n)]) for i, n in enumerate(partners) if _name(n) in ids]
        self._partners, self._ids = np.array(welded, dtype=int).reshape(-1, 2).T

    def follow(self, held: np.ndarray) -> None:
        """Welds what is held, bool (P,), where it is, and nothing else."""
        wanted = held[self._partners]
        for weld in self._ids[wanted & ~self._data.eq_active[self._ids].astype(bool)]:
            self._place(weld)
        self._data.eq_active[self._ids] = wanted

    def _place(self, weld: int) -> None:
        """Writes where hand and thing are to each other now: the weld pulls at neither."""
        model, data = self._model, self._data
        hand, thing = int(model.eq_obj1id[weld]), int(model.eq_obj2id[weld])
        for start, body in ((3, hand), (0, thing)):
            way = data.site_xpos[self._site] - data.xpos[body]
            model.eq_data[weld, start : start + 3] = data.xmat[body].reshape(3, 3).T @ way
        back, turn = np.empty(4), np.empty(4)
        mujoco.mju_negQuat(back, data.xquat[hand])
        mujoco.mju_mulQuat(turn, back, data.xquat[thing])
        model.eq_data[weld, 6:10], model.eq_data[weld, 10] = turn, 1.0
