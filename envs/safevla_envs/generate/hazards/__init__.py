"""The built-in hazards, one file each: `generate/hazards/<name>.py` holds `HAZARD`."""

from importlib import import_module

from safevla_envs.generate.hazard import Hazard
from safevla_envs.scenes.scenario import HAZARDS

__all__ = ["BUILT_IN"]

BUILT_IN: dict[str, Hazard] = {name: import_module(f"{__name__}.{name}").HAZARD for name in HAZARDS}
"""Every hazard by name, in the order of `scenario.HAZARD_KINDS`."""
