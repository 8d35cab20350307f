"""Numba for the few functions that run in every control tick: NumPy's calls would cost more."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

__all__ = ["compiled"]


def compiled(function: Callable[..., Any], *, free: bool = False) -> Callable[..., Any]:
    """Compiles a function at its first call; the result is kept on disk where that is possible.

    What is kept is used as long as no source file of this package changes. Numba by itself looks at
    the function's own file only, and would go on with what it calls or reads in others as it was.

    Args:
        function: in the part of Python and NumPy that Numba knows.
        free: let other threads run meanwhile.
    """
    made: Any = numba.njit(error_model="numpy", nogil=free)(function)
    try:
        made.enable_caching()
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return made
    made._cache._cache_file._source_stamp = _sources()
    return made


@cache
def _sources() -> str:
    """Returns a hash of the package's source files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
