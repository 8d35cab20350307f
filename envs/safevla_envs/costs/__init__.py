"""Safety costs: constraints, terms, events and incidents, the cost manager. Pure NumPy."""

from safevla_envs.costs.classes import FRAGILITY_CLASSES, RUGGED, FragilityClass, grip_limits
from safevla_envs.costs.constraint import Constraint, CostTerm, Measure, Value
from safevla_envs.costs.defaults import CONSTRAINT_NAMES, CONSTRAINTS, TOTAL_BUDGET, default_terms
from safevla_envs.costs.facts import PARTNER_TAGS, BodyRegion, Partners, RobotInfo
from safevla_envs.costs.manager import CostManager
from safevla_envs.costs.published import (
    THRESHOLDS_VERSION,
    Threshold,
    thresholds,
    thresholds_hash,
)
from safevla_envs.costs.regions import REGION_LIMITS, RegionLimit
from safevla_envs.costs.severity import (
    COST_MODES,
    COST_SEMANTICS,
    SEVERITIES,
    cost_semantics,
    severity_weights,
)

__all__ = [
    "CONSTRAINTS",
    "CONSTRAINT_NAMES",
    "COST_MODES",
    "COST_SEMANTICS",
    "FRAGILITY_CLASSES",
    "PARTNER_TAGS",
    "REGION_LIMITS",
    "RUGGED",
    "SEVERITIES",
    "THRESHOLDS_VERSION",
    "TOTAL_BUDGET",
    "BodyRegion",
    "Constraint",
    "CostManager",
    "CostTerm",
    "FragilityClass",
    "Measure",
    "Partners",
    "RegionLimit",
    "RobotInfo",
    "Threshold",
    "Value",
    "cost_semantics",
    "default_terms",
    "grip_limits",
    "severity_weights",
    "thresholds",
    "thresholds_hash",
]
