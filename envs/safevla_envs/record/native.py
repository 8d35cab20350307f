"""The substeps of a control tick in compiled code, without returning to Python in between.

A tick in which the robot touches nothing is one call. Coming back after every substep to copy a few
numbers costs as much as all the constraints' terms together.

MuJoCo's functions are called by their address in the library that its Python package loads. The
binding would turn MuJoCo's fatal errors into exceptions; called like this they end the process. The
one that a simulation can meet is running out of memory for contacts: `is_safe` says when there is
plenty, and `TickRecorder` takes the binding otherwise.
"""

from __future__ import annotations

import ctypes
from functools import partial
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from safevla_envs.compiled import compiled

__all__ = ["SLEEPY", "addresses_of", "is_safe", "run"]

SLEEPY = 2
"""`tree_asleep` counts up to 0 while a body rests; from minus this on it may fall asleep."""
SPARE = 4 * 2**20
"""Bytes of working memory that must never have been in use so far. A home has 20 MiB and uses 0.3;
a thousand contacts at once would take 4."""


def addresses_of(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Returns where `run` finds two of MuJoCo's functions, the model and the data: int64 (4,).

    Both must outlive its use.

    Raises:
        OSError: If the library cannot be loaded.
        AttributeError: If it lacks a function.
    """
    library = ctypes.CDLL(str(_library()))
    functions = (library.mj_step, library.mj_geomDistance)
    found = [ctypes.cast(function, ctypes.c_void_p).value for function in functions]
    return np.array([*found, model._address, data._address], dtype=np.int64)


def is_safe(data: mujoco.MjData) -> bool:
    """Says that memory for contacts and forces cannot run out in a tick."""
    return data.narena - data.maxuse_arena > SPARE


def _library() -> Path:
    """Returns MuJoCo's shared library, which its Python package has loaded already."""
    for found in sorted(Path(mujoco.__file__).parent.glob("libmujoco.so*")):
        return found
    raise OSError(f"no libmujoco.so beside {mujoco.__file__}")


def _call_step(typing: Any, function: Any, model: Any, data: Any) -> Any:
    """Calls `void mj_step(model, data)` at an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = args[0].type
        kind = ir.FunctionType(ir.VoidType(), [word, word])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), list(args[1:]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _call_distance(
    typing: Any, function: Any, model: Any, data: Any, first: Any, second: Any, most: Any
) -> Any:
    """Calls `double mj_geomDistance(model, data, geom1, geom2, distmax, NULL)` at an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, number, real = args[0].type, ir.IntType(32), ir.DoubleType()
        kind = ir.FunctionType(real, [word, word, number, number, real, word])
        geoms = [builder.trunc(arg, number) for arg in args[3:5]]
        rest = [*args[1:3], *geoms, args[5], ir.Constant(word, 0)]
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), rest)

    return types.float64(*[types.int64] * 5, types.float64), generate


_step: Any = intrinsic(_call_step)
_distance: Any = intrinsic(_call_distance)


@partial(compiled, free=True)
def run(
    addresses, qpos, qvel, torque, force, velocity, touches, asleep, geom_xpos, pairs, reach,
    cutoff, awake, log, tip, distances, first,
):  # fmt: skip
    """Runs substeps until the robot touches something; returns which, or how many there are.

    Stops too, and returns -1 - n, before substep n in which a body may fall asleep.

    Args:
        addresses: see `addresses_of`.
        qpos: live view, what is copied to `log` before the substep,
        qvel: likewise,
        torque: and after it,
        force: likewise.
        velocity: likewise, its norm to `tip`.
        touches: (1,) live view, the number of the robot's contacts.
        asleep: MuJoCo's `tree_asleep`.
        geom_xpos: MuJoCo's.
        pairs: int (n, 3), row of `distances` and two geoms whose distance is measured.
        reach: (n,) m, sum of the radii of their bounding spheres.
        cutoff: m; larger distances read as this.
        awake: int (1,), raised to the number of trees that are awake before a substep.
        log: (S, n), to be filled.
        tip: (S,), to be filled.
        distances: (D, S) m, to be filled with the least of a row's pairs.
        first: number of the first substep.
    """
    a = len(qpos)
    b = a + len(qvel)
    c = b + len(torque)
    for substep in range(first, len(log)):
        count = 0
        for tree in asleep:
            if -SLEEPY <= tree < 0:
                return -1 - substep
            count += tree < 0
        awake[0] = max(awake[0], count)
        row = log[substep]
        row[:a], row[a:b] = qpos, qvel
        _step(addresses[0], addresses[2], addresses[3])
        row[b:c], row[c:] = torque, force
        squared = 0.0
        for part in velocity:
            squared += part * part
        tip[substep] = np.sqrt(squared)
        distances[:, substep] = cutoff
        for n in range(len(pairs)):
            d, one, other = pairs[n]
            x = geom_xpos[one, 0] - geom_xpos[other, 0]
            y = geom_xpos[one, 1] - geom_xpos[other, 1]
            z = geom_xpos[one, 2] - geom_xpos[other, 2]
            if not (np.sqrt(x * x + y * y + z * z) > reach[n] + cutoff):
                near = _distance(addresses[1], addresses[2], addresses[3], one, other, cutoff)
                distances[d, substep] = min(distances[d, substep], near)
        if touches[0] > 0.0:
            return substep
    return len(log)
