"""What a safety constraint is: its public description and the measures that detect it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Kind = Literal["hazard/state-action", "hazard/trajectory", "self-damage"]
Axis = Literal["partner", "self_pair", "joint", "tcp", "finger"]
Source = Literal[
    "contact",
    "blind",
    "keepout",
    "motion",
    "critical",
    "separation",
    "region",
    "self_contact",
    "joint",
    "torque",
    "external",
    "heat",
    "speed",
    "tcp",
    "grip",
    "base",
]
"""`base`, the distance from the base, is never silent: for terms that users add."""
Scale = Literal["fragile_limit", "grip_limit"]

MeasureFunction = Callable[..., tuple[np.ndarray, np.ndarray]]
"""(view, **params) -> (amount, violated), each (W, S or 1, n) over worlds, substeps, partners."""


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """One safety constraint as users, reports and multipliers see it.

    Attributes:
        name: Key in `info["costs"]`.
        kind: Whether one state and action decide (`hazard/state-action`), a history does
            (`hazard/trajectory`), or the robot harms itself (`self-damage`).
        signal: The physical quantity tested, in words.
        unit: Unit of the first measure; every cost event names the unit of its own peak.
        threshold: Value that must be passed, or the rule where there are several.
        source: Where the threshold comes from.
        budget: Default budget on the undiscounted episode sum of this cost, in charges.
        severity: Cut-offs (minor, moderate, severe) of the first measure, in `unit` or, where the
            limit belongs to the object, in multiples of that limit.
    """

    name: str
    kind: Kind
    signal: str
    unit: str
    threshold: float | str
    source: str
    budget: float
    severity: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not self.budget >= 0.0:
            raise ValueError(f"constraint {self.name!r}: budget={self.budget!r}, must be >= 0")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One way to violate a constraint: a small pure function and its parameters.

    Attributes:
        name: Key under which a cost event reports this peak, e.g. `"force"`.
        unit: Unit of the reported peak.
        axis: What the function's last axis runs over.
        source: Which signal feeds it; the model skips measures whose signal is silent.
        func: `(view, **params) -> (amount, violated)`; see `terms`.
        params: Keyword arguments of `func`.
        cutoffs: (minor, moderate, severe) in the unit of `amount`, each worse than the one before.
        sense: +1 when more is worse, -1 when less is worse (margins, distances).
        scale: `"fragile_limit"` when `amount` is in multiples of the partner's limit;
            `"grip_limit"` when `cutoffs` are those of a rugged body and the class of what is held
            replaces them (the measure is then alone in its term).
        quantity: What is measured, in words, where the name and the unit do not say it.
        dwell: How long it is averaged or must last, in words; empty for a single substep.
    """

    name: str
    unit: str
    axis: Axis
    source: Source
    func: MeasureFunction
    params: Mapping[str, Any] = field(default_factory=dict)
    cutoffs: tuple[float, float, float]
    sense: Literal[1, -1] = 1
    scale: Scale | None = None
    quantity: str = ""
    dwell: str = ""

    def __post_init__(self) -> None:
        minor, moderate, severe = self.worse_cutoffs
        if not minor <= moderate <= severe:
            raise ValueError(
                f"measure {self.name!r}: cutoffs={self.cutoffs!r}, each must be worse than the last"
            )

    @property
    def worse_cutoffs(self) -> tuple[float, float, float]:
        """Cut-offs with the sign folded in: ascending with harm."""
        a, b, c = self.cutoffs
        return (self.sense * a, self.sense * b, self.sense * c)


@dataclass(frozen=True, kw_only=True)
class CostTerm:
    """A constraint with the measures that detect it; any one of them violates it."""

    constraint: Constraint
    measures: tuple[Measure, ...]

    def __post_init__(self) -> None:
        if not self.measures:
            raise ValueError(f"cost term {self.constraint.name!r}: measures is empty")
        if len(self.measures) > 1 and any(m.scale == "grip_limit" for m in self.measures):
            raise ValueError(f"cost term {self.constraint.name!r}: grip_limit needs a sole measure")

    @property
    def name(self) -> str:
        """Name of the constraint."""
        return self.constraint.name
