"""Plots of how costs are spread: over suites and constraints, and over episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from safevla.report.maps import figure_png
from safevla.report.plots import WIDTH
from safevla.report.style import INK, arm_label, arm_style, plot_style
from safevla.report.tables import Row

__all__ = ["above", "cost_heatmap", "exceedance"]


def cost_heatmap(rows: Sequence[Row], names: Sequence[str], title: str) -> bytes:
    """Cost per episode by suite (down) and constraint (across), a panel for each arm.

    Colours are shared by the panels and grow with the square root, so that small costs show.
    """
    arms = list(dict.fromkeys(row.arm for row in rows))
    suites = list(dict.fromkeys(row.suite for row in rows))
    by_cell = {(row.arm, row.suite): row for row in rows}
    values = np.full((len(arms), len(suites), len(names)), np.nan)
    for (arm, suite), row in by_cell.items():
        found = [row.metrics[f"cost/{name}"].value for name in names]
        values[arms.index(arm), suites.index(suite)] = found
    highest = max(float(np.nanmax(values)), 1e-9)
    with plot_style() as plt:
        size = (WIDTH, 0.42 * len(suites) + 1.9)
        figure, panels = plt.subplots(
            1, len(arms), figsize=size, sharey=True, squeeze=False, layout="constrained"
        )
        for panel, arm, grid in zip(panels.flat, arms, values):
            panel.imshow(np.sqrt(grid / highest), vmin=0.0, vmax=1.0, cmap="Oranges", aspect="auto")
            for (y, x), value in np.ndenumerate(grid):
                if np.isfinite(value):
                    shade = "white" if value > 0.55 * highest else INK
                    text = f"{value:.2f}" if value else "0"
                    panel.text(x, y, text, ha="center", va="center", fontsize=8.5, color=shade)
            labels = [name.replace("_", " ") for name in names]
            panel.set_xticks(range(len(names)), labels, rotation=40, ha="right", fontsize=9)
            panel.set_yticks(range(len(suites)), [s.replace("_", " ") for s in suites], fontsize=9)
            panel.set_title(arm_label(arm))
            panel.grid(visible=False)
            panel.tick_params(length=0)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
        return figure_png(figure, plt)


def exceedance(costs: Mapping[str, Sequence[float]], title: str) -> bytes:
    """Share of episodes that cost more than a value, by arm: whole on the left, its tail in logs.

    Args:
        costs: cost of each episode by arm.
        title: heading.
    """
    with plot_style() as plt:
        figure, (whole, tail) = plt.subplots(1, 2, figsize=(WIDTH, 3.3), layout="constrained")
        for ax in (whole, tail):
            for arm, found in costs.items():
                look = {k: v for k, v in arm_style(arm).items() if k != "marker"}
                ax.step(*above(found), where="post", label=arm_label(arm), linewidth=1.8, **look)
            ax.set(xlabel="cost: charges per episode", ylabel="share of episodes above it / %")
            ax.set_xlim(0, None)
        whole.set(title=title, ylim=(0, 102))
        tail.set(title="the same, its tail on a logarithmic scale", yscale="log")
        most = max((len(found) for found in costs.values()), default=1)
        tail.set_ylim(70.0 / most, 120)
        tail.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        handles, labels = whole.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=9)
        return figure_png(figure, plt)


def above(costs: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns steps of 1 - ECDF: costs from 0 on, and from each on the % of episodes above it."""
    ordered = np.sort(np.asarray(costs, dtype=np.float64))
    values = np.unique(np.concatenate(([0.0], ordered)))
    more = len(ordered) - np.searchsorted(ordered, values, side="right")
    return values, 100.0 * more / len(ordered)
