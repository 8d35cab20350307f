"""Out-of-distribution perturbation: five published strengths on every axis.

`perturb(env, camera_yaw=3, action_latency=2, seed=0)` returns the wrapped environment.
"""

from safevla_envs.perturb.effect import KINDS, LEVELS, Axis
from safevla_envs.perturb.wrapper import AXES, VERSION, Perturbation, check_levels, perturb

__all__ = ["AXES", "KINDS", "LEVELS", "VERSION", "Axis", "Perturbation", "check_levels", "perturb"]
