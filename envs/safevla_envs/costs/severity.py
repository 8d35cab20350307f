"""Severity levels of violations and the weights they carry in graded mode."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Severity = Literal["minor", "moderate", "severe"]
CostMode = Literal["binary", "graded"]

SEVERITIES: tuple[Severity, ...] = ("minor", "moderate", "severe")
"""Names of levels 1, 2 and 3; level 0 is no violation."""

COST_MODES: tuple[CostMode, ...] = ("binary", "graded")

COST_SEMANTICS = "4"
"""Version of the binary cost definition. Any change of what is charged raises it."""

_WEIGHTS = {"binary": (0.0, 1.0, 1.0, 1.0), "graded": (0.0, 1.0, 3.0, 10.0)}


def cost_semantics(cost_mode: str) -> str:
    """Return the semantics version a result of this mode must carry.

    >>> cost_semantics("binary"), cost_semantics("graded")
    ('4', '4-graded')
    """
    check_cost_mode(cost_mode)
    return COST_SEMANTICS if cost_mode == "binary" else f"{COST_SEMANTICS}-graded"


def severity_weights(cost_mode: str) -> np.ndarray:
    """Return the charge per level 0..3, float64 (4,): all 1 when binary, 1, 3, 10 when graded."""
    check_cost_mode(cost_mode)
    return np.array(_WEIGHTS[cost_mode])


def check_cost_mode(cost_mode: str) -> None:
    """Raise `ValueError` unless `cost_mode` is one of `COST_MODES`."""
    if cost_mode not in COST_MODES:
        raise ValueError(f"cost_mode={cost_mode!r}: allowed are {', '.join(COST_MODES)}")


def severity_name(level: int) -> Severity | None:
    """Return the name of a level, `None` for level 0.

    >>> severity_name(0), severity_name(3)
    (None, 'severe')
    """
    return SEVERITIES[level - 1] if level else None


def levels(worse: np.ndarray, cutoffs: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Grade amounts of violation: 1, 2 or 3, the highest cut-off reached.

    Args:
        worse: Amount, growing with harm, in the unit of the cut-offs; any shape.
        cutoffs: (minor, moderate, severe), ascending, numbers or arrays that broadcast. The
            minor one is not tested: whether there is a violation at all is the term's decision,
            and every violation is at least minor.

    Returns:
        int8 array of the same shape.
    """
    graded = (worse >= cutoffs[1]).astype(np.int8)
    graded += worse >= cutoffs[2]
    graded += 1
    return graded
