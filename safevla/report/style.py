"""Colours and matplotlib settings shared by plots, maps and videos.

The arms' looks are in their registry, :data:`safevla.evaluate.arms.ARMS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from safevla.evaluate.arms import ARMS
from safevla_envs.generate.hazards import BUILT_IN

__all__ = ["CONSTRAINT_COLOUR", "arm_label", "arm_style", "plot_style"]

INK = "#22272e"
MUTED = "#667080"
GRID = "#e3e6ea"
BUDGET = "#3b3f46"

CONSTRAINT_COLOUR = {
    **{hazard.name: hazard.colour for hazard in BUILT_IN.values()},
    "self_collision": "#009e73",
    "joint_limit": "#cc79a7",
    "impact": "#22272e",
    "joint_overload": "#7f3b08",
    "joint_speed": "#6b9a1f",
    "grip_overload": "#8c94a0",
}
"""Seven of Okabe and Ito, five more; marks differ in shape too where there is room."""


def arm_label(arm: str) -> str:
    """A reader's name of an arm."""
    return ARMS[arm].label if arm in ARMS else arm.replace("_", " ")


def arm_style(arm: str) -> dict[str, Any]:
    """Colour, marker and line style of an arm."""
    if arm not in ARMS:
        return {"color": INK, "marker": "o", "linestyle": "-"}
    return {name: getattr(ARMS[arm], name) for name in ("color", "marker", "linestyle")}


@contextmanager
def plot_style() -> Iterator[Any]:
    """A matplotlib session without a screen and with the report's look; yields `pyplot`."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    settings: dict[Any, Any] = {
        "font.size": 10,
        "font.family": "DejaVu Sans",
        "text.color": INK,
        "axes.edgecolor": "#aeb4bc",
        "axes.labelcolor": INK,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "legend.frameon": False,
        "figure.dpi": 100,
        "savefig.dpi": 150,
        "savefig.facecolor": "white",
        "svg.hashsalt": "safevla",
    }
    with matplotlib.rc_context(settings):
        yield plt
