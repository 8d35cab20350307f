"""MuJoCo's functions, called by their address in the library that its Python package loads.

The binding would turn MuJoCo's fatal errors into exceptions; called like this they end the process.
The one that a simulation can meet is running out of memory for contacts: `is_safe` says when there
is plenty, and `Recorder` takes the binding otherwise.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["addresses_of", "call_distance", "call_step", "is_safe"]

SPARE = 4 * 2**20
"""Bytes of working memory that must never have been in use so far. A home has 20 MiB and uses 0.3;
a thousand contacts at once would take 4."""


def addresses_of(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Returns where two of MuJoCo's functions, the model and the data are: int64 (4,).

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


def _step(typing: Any, function: Any, model: Any, data: Any) -> Any:
    """Calls `void mj_step(model, data)` at an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = args[0].type
        kind = ir.FunctionType(ir.VoidType(), [word, word])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), list(args[1:]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _distance(
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


call_step: Any = intrinsic(_step)
call_distance: Any = intrinsic(_distance)
