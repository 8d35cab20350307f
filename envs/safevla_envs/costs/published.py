"""The published table: every threshold of every measure, with a version.

A changed number changes every result, so `THRESHOLDS_VERSION` names one set of numbers for ever: a
test pins the hash of the table to it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from safevla_envs.costs import blame, classes, clock, facts, hazards, joints, severity, values, view
from safevla_envs.costs.constraint import CostTerm
from safevla_envs.costs.defaults import default_terms
from safevla_envs.costs.regions import REGION_LIMITS

THRESHOLDS_VERSION = "3"
"""Version of the numbers below. Any change of one raises it."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """One row: how one measure violates a constraint.

    Attributes:
        constraint: Name of the constraint.
        measure: Name of the measure, as events report it.
        unit: Unit of the cut-offs.
        below: Whether less is worse.
        cutoffs: Minor, moderate, severe; infinite where the measure does not reach a level.
        lasting: s for which the value must have been beyond the limit.
    """

    constraint: str
    measure: str
    unit: str
    below: bool
    cutoffs: tuple[float, float, float]
    lasting: float


def thresholds(terms: Sequence[CostTerm] | None = None) -> tuple[Threshold, ...]:
    """Return a row per measure of `terms`, by default of all twelve constraints."""
    return tuple(
        Threshold(
            constraint=term.name,
            measure=measure.name,
            unit="limit" if measure.scale == "fragile_limit" else measure.value.unit,
            below=measure.value.sense < 0,
            cutoffs=measure.cutoffs,
            lasting=measure.lasting,
        )
        for term in (default_terms() if terms is None else terms)
        for measure in term.measures
    )


def thresholds_hash() -> str:
    """Return 16 hex digits of everything that decides what is charged and how severe it is."""
    table = {
        "measures": [asdict(row) for row in thresholds()],
        "regions": {name: asdict(limit) for name, limit in REGION_LIMITS.items()},
        "classes": {name: asdict(c) for name, c in classes.FRAGILITY_CLASSES.items()},
        "rugged": asdict(classes.RUGGED),
        "constants": {
            f"{module.__name__.rpartition('.')[2]}.{name}": value
            for module in (blame, clock, facts, hazards, joints, values, view)
            for name, value in sorted(vars(module).items())
            if name.isupper() and isinstance(value, float)
        },
        "weights": {mode: list(severity.severity_weights(mode)) for mode in severity.COST_MODES},
    }
    # the same 12 digits on every machine, whatever the last bit of a square root
    text = json.dumps(_rounded(table), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _rounded(value: Any) -> Any:
    """Return a copy with floats as text of 12 digits."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return f"{value:.12g}" if isinstance(value, int | float) else value
