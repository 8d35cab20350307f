"""Out-of-distribution wrappers: five published levels on every axis."""

from safevla_envs.perturb.visual import (
    AXES,
    LEVELS,
    STRENGTHS,
    VisualPerturbation,
    make_perturbed,
)

__all__ = ["AXES", "LEVELS", "STRENGTHS", "VisualPerturbation", "make_perturbed"]
