"""SafeVLA: safety alignment of vision-language-action policies by constrained learning.

This package holds the method: experts and demonstrations, the policy, cloning, PPO-Lagrangian,
elicitation, assurance and the command line. The benchmark itself is `safevla_envs`. Importing
`safevla` needs neither PyTorch nor MuJoCo.
"""

from importlib import metadata

__all__ = ["__version__"]

try:
    __version__ = metadata.version("safevla")
except metadata.PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
