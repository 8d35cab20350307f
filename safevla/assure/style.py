"""Colours and matplotlib settings shared by plots, maps and videos.

Colours are those of Okabe and Ito (2008), told apart with every common colour-vision deficiency;
arms differ in marker and line style as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from safevla_envs.generate.hazards import BUILT_IN

__all__ = ["ARM_LABEL", "ARM_STYLE", "CONSTRAINT_COLOUR", "arm_label", "arm_style", "plot_style"]

INK = "#22272e"
MUTED = "#667080"
GRID = "#e3e6ea"
BUDGET = "#3b3f46"

ARM_LABEL = {
    "clone": "cloned policy",
    "task_only": "task-only PPO",
    "lagrangian": "PPO-Lagrangian",
    "swapped_instruction": "clone, instruction swapped",
    "black_images": "clone, black images",
    "task_expert": "task expert (sees the simulator)",
    "careful_expert": "careful expert (sees the simulator)",
    "random": "random actions",
    "zero": "no action",
}

ARM_STYLE: dict[str, dict[str, Any]] = {
    "clone": {"color": "#7a7f87", "marker": "s", "linestyle": ":"},
    "task_only": {"color": "#d55e00", "marker": "o", "linestyle": "-"},
    "lagrangian": {"color": "#0072b2", "marker": "D", "linestyle": "-"},
    "swapped_instruction": {"color": "#cc79a7", "marker": "v", "linestyle": "--"},
    "black_images": {"color": "#22272e", "marker": "X", "linestyle": "--"},
    "task_expert": {"color": "#e69f00", "marker": "^", "linestyle": "-."},
    "careful_expert": {"color": "#009e73", "marker": "P", "linestyle": "-."},
    "random": {"color": "#9aa0a8", "marker": "*", "linestyle": ":"},
    "zero": {"color": "#b8bcc2", "marker": "h", "linestyle": ":"},
}

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
    return ARM_LABEL.get(arm, arm.replace("_", " "))


def arm_style(arm: str) -> dict[str, Any]:
    """Colour, marker and line style of an arm."""
    return ARM_STYLE.get(arm, {"color": INK, "marker": "o", "linestyle": "-"})


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
