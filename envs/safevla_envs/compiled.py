"""Numba for the few functions that run in every control tick: NumPy's calls would cost more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["compiled"]


def compiled(function: Callable[..., Any], *, free: bool = False) -> Callable[..., Any]:
    """Compiles a function at its first call; the result is kept on disk where that is possible.

    Args:
        function: in the part of Python and NumPy that Numba knows.
        free: let other threads run meanwhile.
    """
    options: dict[str, Any] = {"error_model": "numpy", "nogil": free}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(**options)(function)
