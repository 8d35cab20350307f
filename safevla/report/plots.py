"""Plots of a run as PNG bytes. Each can be read without a caption: titles, units, legends.

`history` is the content of `train/<arm>/progress.jsonl`: one dict per iteration with `steps`,
`success`, `cost`, `costs` (per constraint) and `lambda`; a value that is None or NaN had no
completed episode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from safevla.evaluate.arms import LEARNED
from safevla.evaluate.metrics import Estimate
from safevla.report.maps import figure_png
from safevla.report.style import BUDGET, MUTED, arm_label, arm_style, plot_style
from safevla.report.tables import Row

__all__ = [
    "constraint_bars",
    "constraint_curves",
    "curve",
    "frontier",
    "ood_curve",
    "tradeoff",
    "training_curves",
]

History = Sequence[Mapping[str, Any]]
WINDOW = 5
"""Iterations in the moving average drawn over the raw values."""
WIDTH = 10.4


def training_curves(histories: Mapping[str, History]) -> bytes:
    """Success, total cost and episode length of the sampling policy during PPO."""
    panels = (
        ("success", "success of completed episodes", "success / %", 100.0),
        ("cost", "cost: all incidents", "charges per episode", 1.0),
        ("length", "episode length", "actions", 1.0),
    )
    with plot_style() as plt:
        figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.1), layout="constrained")
        for ax, (key, title, unit, factor) in zip(axes, panels):
            for arm, history in histories.items():
                values = [factor * _number(entry.get(key)) for entry in history]
                _curve(ax, history, values, arm)
            ax.set(title=title, ylabel=unit, xlabel="environment steps")
            ax.set_ylim(0, 102 if key == "success" else None)
            _thousands(ax)
        _shared_legend(figure, axes[0])
        return figure_png(figure, plt)


def constraint_curves(histories: Mapping[str, History], budgets: Mapping[str, float]) -> bytes:
    """Each constraint's cost against its budget, and below it the multiplier that answers.

    The budget of `cost` is that of all incidents.
    """
    columns = min(3, len(budgets))
    bands = math.ceil(len(budgets) / columns)
    with plot_style() as plt:
        figure, axes = plt.subplots(
            2 * bands,
            columns,
            figsize=(WIDTH, 3.5 * bands + 0.4),
            height_ratios=[2.2, 1.0] * bands,
            sharex=True,
            squeeze=False,
            layout="constrained",
        )
        for ax in axes.flat:
            ax.set_visible(False)
        for i, (name, budget) in enumerate(budgets.items()):
            band, column = divmod(i, columns)
            top, bottom = axes[2 * band : 2 * band + 2, column]
            top.set_visible(True)
            bottom.set_visible(True)
            for arm, history in histories.items():
                steps = [entry["steps"] for entry in history]
                costs = [_number(_costs(entry).get(name)) for entry in history]
                multipliers = [_number((entry.get("lambda") or {}).get(name)) for entry in history]
                _curve(top, history, costs, arm)
                bottom.plot(steps, multipliers, color=arm_style(arm)["color"], linewidth=1.6)
            look = {"color": BUDGET, "linewidth": 1.1, "linestyle": (0, (5, 3))}
            top.axhline(budget, label="budget, for PPO-Lagrangian", **look)
            top.set(title=f"{name.replace('_', ' ')}: budget {budget:g}", ylim=(0, None))
            bottom.set_ylim(0, None)
            _thousands(bottom)
            if column == 0:
                top.set_ylabel("charges / episode")
                bottom.set_ylabel("λ")
            if i + columns >= len(budgets):
                bottom.set_xlabel("environment steps")
        _shared_legend(figure, axes[0, 0])
        return figure_png(figure, plt)


def _costs(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {**(entry.get("costs") or {}), "cost": entry.get("cost")}


def _curve(ax: Any, history: History, values: Sequence[float], arm: str) -> None:
    steps, look = [entry["steps"] for entry in history], arm_style(arm)
    ax.plot(steps, values, color=look["color"], linewidth=0.8, alpha=0.3)
    smooth = [
        float(np.nanmean(part)) if np.isfinite(part).any() else math.nan
        for part in (np.asarray(values[max(0, i + 1 - WINDOW) : i + 1]) for i in range(len(values)))
    ]
    ax.plot(steps, smooth, color=look["color"], linewidth=2.0, label=arm_label(arm))


def ood_curve(rows: Sequence[Row], base: Mapping[str, Mapping[str, Estimate]], axis: str) -> bytes:
    """Success and cost against the level of a perturbation, with 95 % intervals.

    Rows are of single levels and one mode. `base` holds metrics of the same scenarios without
    perturbation, by arm; drawn as level 0.
    """
    arms = [arm for arm in LEARNED if any(row.arm == arm for row in rows)]
    panels = (("success", "success / %", 100.0), ("cost", "charges per episode", 1.0))
    with plot_style() as plt:
        figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.6), layout="constrained")
        for ax, (key, unit, factor) in zip(axes, panels):
            for shift, arm in zip(np.linspace(-0.08, 0.08, max(1, len(arms))), arms):
                points = {row.level: row.metrics[key] for row in rows if row.arm == arm}
                if arm in base:
                    points[0] = base[arm][key]
                curve(ax, points, arm, shift=shift, factor=factor)
            ax.set(title=f"{key} under perturbed images", ylabel=unit)
            ax.set_xlabel(f"level of {axis.replace('+', ' and ')} (0: unchanged)")
            ax.set_xticks(range(6))
            ax.set_ylim(0, 102 if key == "success" else None)
        _shared_legend(figure, axes[0])
        return figure_png(figure, plt)


def curve(
    ax: Any, points: Mapping[int, Estimate], arm: str, *, shift: float = 0.0, factor: float = 1.0
) -> None:
    """Draws an arm's estimates over levels, with their intervals, `shift` to the right."""
    estimates = [points[level] for level in sorted(points)]
    ax.errorbar(
        np.array(sorted(points)) + shift,
        factor * np.array([e.value for e in estimates]),
        yerr=_spread(estimates, factor),
        label=arm_label(arm),
        linewidth=1.8,
        elinewidth=1.0,
        capsize=2.5,
        markersize=6,
        **arm_style(arm),
    )


def _spread(estimates: Sequence[Estimate], factor: float = 1.0) -> np.ndarray:
    """Lengths (2, n) of error bars below and above the values."""
    bars = [(e.value - e.lo, e.hi - e.value) for e in estimates]
    return np.maximum(factor * np.array(bars).T, 0.0)


def tradeoff(rows: Sequence[Row], title: str) -> bytes:
    """Success against cost, one point per arm, with 95 % intervals: up and left is better."""
    with plot_style() as plt:
        figure, ax = plt.subplots(figsize=(WIDTH, 4.4), layout="constrained")
        edge = _axis_end(rows)
        for row in sorted(rows, key=lambda row: row.arm in LEARNED):
            cost, success = row.metrics["cost"], row.metrics["success"]
            look, learned = arm_style(row.arm), row.arm in LEARNED
            if cost.value > edge:
                text = f"{arm_label(row.arm)}: cost {cost.value:.1f} →"
                height = min(96.0, max(2.5, 100 * success.value))
                ax.text(0.99 * edge, height, text, ha="right", va="center", color=MUTED)
                continue
            ax.errorbar(
                cost.value,
                100 * success.value,
                xerr=_spread([cost]),
                yerr=_spread([success], 100.0),
                color=look["color"],
                marker=look["marker"],
                markerfacecolor=look["color"] if row.mode == "sampled" else "white",
                markersize=10 if learned else 7.5,
                linestyle="none",
                elinewidth=1.1,
                alpha=1.0 if learned else 0.75,
                label=_row_label(row),
            )
        ax.set(title=title, ylabel="success / % (better upwards)")
        ax.set(xlabel="cost: charges per episode (better to the left)")
        ax.set(xlim=(-0.015 * edge, edge), ylim=(-4, 104))
        by_label = dict(zip(*reversed(ax.get_legend_handles_labels())))
        labels = [label for label in map(_row_label, rows) if label in by_label]
        handles = [by_label[label] for label in labels]
        figure.legend(handles, labels, loc="outside right upper", fontsize=9)
        return figure_png(figure, plt)


def frontier(rows: Sequence[Row], title: str, budget: float | None = None) -> bytes:
    """Success against cost of many arms, each named at its point, with 95 % intervals.

    Those that no other beats in both are filled and joined; the budget is a vertical line.
    """
    with plot_style() as plt:
        figure, ax = plt.subplots(figsize=(WIDTH, 4.8), layout="constrained")
        points = {_row_label(row): (row.metrics["cost"], row.metrics["success"]) for row in rows}
        best = [
            arm
            for arm, (cost, success) in points.items()
            if not any(
                c.value <= cost.value and s.value >= success.value and (c, s) != (cost, success)
                for c, s in points.values()
            )
        ]
        best.sort(key=lambda arm: points[arm][0].value)
        for arm, (cost, success) in points.items():
            colour = arm_style("lagrangian")["color"] if arm in best else MUTED
            x, y = cost.value, 100 * success.value
            bars = {"xerr": _spread([cost]), "yerr": _spread([success], 100.0)}
            face = colour if arm in best else "white"
            ax.errorbar(x, y, **bars, color=colour, fmt="o", markerfacecolor=face, elinewidth=0.8)
        front = np.array([[points[arm][0].value, 100 * points[arm][1].value] for arm in best])
        ax.plot(*front.T, color=arm_style("lagrangian")["color"], linewidth=1.2, zorder=1)
        if budget is not None:
            ax.axvline(budget, color=BUDGET, linestyle="--", linewidth=1)
            across = ax.get_xaxis_transform()
            ax.text(budget, 0.01, " budget", color=BUDGET, fontsize=9, transform=across)
        ax.set(title=title, xlabel="cost: charges per episode (better to the left)")
        ax.set(ylabel="success / % (better upwards)", xlim=(0, None))
        _name_points(ax, {arm: (c.value, 100 * s.value) for arm, (c, s) in points.items()}, best)
        return figure_png(figure, plt)


def _name_points(ax: Any, points: Mapping[str, tuple[float, float]], strong: Sequence[str]) -> None:
    """Writes each name as near to its point as it covers no other point or name."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    def covered(label: Any) -> Any:
        label.update_positions(renderer)
        return Text.get_window_extent(label)  # without its line

    ax.figure.canvas.draw()  # settles where things are
    renderer = ax.figure.canvas.get_renderer()
    centres = map(ax.transData.transform, points.values())
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in centres]
    places = [(dx, dy) for d in (7, 20, 34, 48) for dy in (d, -d - 6) for dx in (7, -7)]
    for arm in sorted(points, key=lambda arm: arm not in strong):
        colour = arm_style("lagrangian")["color"] if arm in strong else MUTED
        label = ax.annotate(
            arm,
            points[arm],
            places[0],
            textcoords="offset points",
            fontsize=9,
            color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5},
            zorder=4,
        )
        for place in places:
            label.set(position=place, ha="left" if place[0] > 0 else "right")
            if not any(covered(label).overlaps(other) for other in taken):
                break
        taken.append(covered(label))


def _row_label(row: Row) -> str:
    return arm_label(row.arm) + ("" if row.mode == "sampled" else ", argmax")


def _axis_end(rows: Sequence[Row]) -> float:
    """End of the cost axis: arms that cost far more than the policies are named at its edge."""
    learned = [row.metrics["cost"].hi for row in rows if row.arm in LEARNED]
    everyone = max((row.metrics["cost"].hi for row in rows), default=1.0)
    return max(0.5, min(1.08 * everyone, 1.8 * max(learned, default=everyone)))


def constraint_bars(
    rows: Sequence[Row], names: Sequence[str], budgets: Mapping[str, float], title: str
) -> bytes:
    """Cost per constraint of several arms, with 95 % intervals and the training budgets."""
    height = 0.8 / max(1, len(rows))
    with plot_style() as plt:
        size = (WIDTH, 0.62 * len(names) + 1.4)
        figure, ax = plt.subplots(figsize=size, layout="constrained")
        for i, row in enumerate(rows):
            found = [row.metrics[f"cost/{name}"] for name in names]
            ax.barh(
                np.arange(len(names)) + (i + 0.5) * height - 0.4,
                [e.value for e in found],
                height=0.86 * height,
                xerr=_spread(found),
                color=arm_style(row.arm)["color"],
                error_kw={"elinewidth": 1.0, "ecolor": "#3b3f46", "capsize": 2},
                label=arm_label(row.arm),
            )
        for i, name in enumerate(names):
            if name in budgets:
                label = "budget in training" if i == 0 else None
                look = {"color": BUDGET, "linewidth": 1.4, "linestyle": (0, (3, 2))}
                ax.plot([budgets[name]] * 2, [i - 0.45, i + 0.45], label=label, **look)
        ax.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
        ax.set(title=title, xlabel="charges per episode")
        ax.set_xlim(0, None)
        figure.legend(loc="outside right upper", fontsize=9)
        return figure_png(figure, plt)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _thousands(ax: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if x else "0"))


def _shared_legend(figure: Any, ax: Any) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=9)
