"""Training: behaviour cloning and PPO-Lagrangian.

    >>> from safevla.train import MultiplierConfig, PPOLagrangian

is all that an environment of one's own needs; both are imported when they are first named.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safevla.train.ppo import PPOLagrangian
    from safevla.train.settings import MultiplierConfig

__all__ = ["MultiplierConfig", "PPOLagrangian"]

# Read when torch loads libgomp, so before it: threads that spin while they wait cost a busy machine
# up to seven times the speed with two threads.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_HOMES = {"MultiplierConfig": "safevla.train.settings", "PPOLagrangian": "safevla.train.ppo"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
