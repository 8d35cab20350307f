"""Safety costs: constraints, terms, events and incidents, the cost manager. Pure NumPy."""

from .constraint import Constraint, CostTerm, Measure
from .defaults import CONSTRAINT_NAMES, CONSTRAINTS, TOTAL_BUDGET, default_terms
from .manager import CostManager
from .model import CostModel
from .regions import REGION_LIMITS, RegionLimit
from .severity import (
    COST_MODES,
    COST_SEMANTICS,
    SEVERITIES,
    cost_semantics,
    severity_weights,
)
from .signals import PARTNER_TAGS, BodyRegion, Partners, RobotInfo, Signals
from .state import CostState

__all__ = [
    "CONSTRAINTS",
    "CONSTRAINT_NAMES",
    "COST_MODES",
    "COST_SEMANTICS",
    "PARTNER_TAGS",
    "REGION_LIMITS",
    "SEVERITIES",
    "TOTAL_BUDGET",
    "BodyRegion",
    "Constraint",
    "CostManager",
    "CostModel",
    "CostState",
    "CostTerm",
    "Measure",
    "Partners",
    "RegionLimit",
    "RobotInfo",
    "Signals",
    "cost_semantics",
    "default_terms",
    "severity_weights",
]
