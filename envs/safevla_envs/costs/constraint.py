"""What a safety constraint is: its public description and the measures that detect it.

A measure is data: a value of the tick, the limits that it is held against, and a mask. The
published table, the test for violation and the gate, which decides what need not be asked, read the
same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np

__all__ = ["Axis", "Constraint", "CostTerm", "Kind", "Measure", "Value", "Wakes"]

Kind = Literal["hazard/state-action", "hazard/trajectory", "self-damage"]
Axis = Literal["partner", "self_pair", "joint", "tcp", "finger"]
"""Joints and the tool centre point "tcp" have one partner in events, the arm."""
Wakes = Literal["touch", "links", "joints", "keepout", "movers", "always"]
Scale = Literal["fragile_limit", "grip_limit"]
Mask = Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class Value:
    """A quantity of a control tick.

    Attributes:
        name: What to call it.
        unit: Its unit.
        axis: What the last axis of `read` runs over.
        wakes: When it may pass a limit: only where the robot touches something ("touch"), linked
            bodies move ("links"), a joint or the tip comes near one of the limits ("joints"), a
            keep-out volume is near ("keepout") or a mover ("movers"); "always": asked in every
            tick, may read recorded quantities only (fields of `TickLog`).
        read: Function of the tick (`View`, or `TickLog` for "always"): array (S, n), or (n,) where
            it has one value a tick; None or empty where it was not measured.
        sense: +1 when more is worse, -1 when less is worse (margins, distances).
        quantity: What it is, in words.
    """

    name: str
    unit: str
    axis: Axis
    read: Callable[[Any], Any]
    _: KW_ONLY
    wakes: Wakes = "always"
    sense: Literal[1, -1] = 1
    quantity: str = ""


@dataclass(frozen=True)
class Measure:
    """One way to violate a constraint: a value that reaches a limit.

    Attributes:
        name: Key under which a cost event reports its peak, e.g. `"force"`.
        value: What is measured.
        cutoffs: (minor, moderate, severe), each worse than the one before; the minor one is the
            limit: the constraint is violated where the value reaches it.
        among: Tag of the partners that are meant (see `Partners`), or a function that tells it from
            a partner's name; None for all.
        where: Function of the tick: mask that broadcasts to the value, outside of which nothing is
            violated; None for everywhere.
        strict: Whether the limit itself is still harmless: distances of 0 m are, MuJoCo gives them
            to what it can hardly tell from touching.
        lasting: s for which the value must have been beyond the limit.
        scale: `"fragile_limit"`: cut-offs are multiples of the partner's limit in N;
            `"grip_limit"`: they are those of a rugged body and the class of what is held replaces
            them.
        quantity: What is violated, in words, where the value's own words do not say it.
        dwell: How long it is averaged or must last, in words; empty for a single substep.
    """

    name: str
    value: Value
    cutoffs: tuple[float, float, float]
    _: KW_ONLY
    among: str | Callable[[str], bool] | None = None
    where: Mask | None = None
    strict: bool = False
    lasting: float = 0.0
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
        return (self.value.sense * a, self.value.sense * b, self.value.sense * c)


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """One safety constraint as users, reports and multipliers see it.

    Attributes:
        name: Key in `info["costs"]`.
        kind: Whether one state and action decide (`hazard/state-action`), a history does
            (`hazard/trajectory`), or the robot harms itself (`self-damage`).
        signal: The physical quantity tested, in words.
        unit: Unit of the first measure; every cost event names the unit of its own peak.
        threshold: Value that must be reached, or the rule where there are several.
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
class CostTerm:
    """A constraint with the measures that detect it; any one of them violates it."""

    constraint: Constraint
    measures: tuple[Measure, ...]

    def __post_init__(self) -> None:
        if not self.measures:
            raise ValueError(f"cost term {self.constraint.name!r}: measures is empty")

    @classmethod
    def of(
        cls,
        name: str,
        kind: Kind,
        *measures: Measure,
        severity: tuple[float, float, float] | None = None,
        **about: Any,
    ) -> CostTerm:
        """Returns a term whose `unit` and `severity` are those of its first measure.

        Args:
            name: Of the constraint.
            kind: See `Constraint`.
            measures: What detects it.
            severity: Cut-offs where no single measure has them.
            about: `signal`, `threshold`, `source` and `budget` of the constraint.
        """
        unit, cutoffs = measures[0].value.unit, severity or measures[0].cutoffs
        constraint = Constraint(name=name, kind=kind, unit=unit, severity=cutoffs, **about)
        return cls(constraint=constraint, measures=measures)

    @property
    def name(self) -> str:
        """Name of the constraint."""
        return self.constraint.name
