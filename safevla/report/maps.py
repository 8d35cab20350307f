"""Top-down maps: rooms, furniture, objects, hazards, and the paths that robots took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from safevla.evaluate.records import EpisodeRecord
from safevla.report.style import CONSTRAINT_COLOUR, INK, MUTED, arm_label, arm_style, plot_style
from safevla_envs.generate.hazards import BUILT_IN
from safevla_envs.planar import from_axes

__all__ = ["Trace", "comparison_map", "draw_map", "is_tall"]

ROBOT_RADIUS = 0.26
"""m; drawn size of the base, only a symbol."""
FLOOR, WALL, FURNITURE = "#f6f4ef", "#4a4f57", "#d9d5cb"
ROLE_LOOK: dict[str, dict[str, Any]] = {
    **{
        hazard.role: {"facecolor": hazard.look[0], "edgecolor": hazard.look[1]}
        for hazard in BUILT_IN.values()
        if hazard.look
    },
    "target": {"facecolor": "#bfe3d3", "edgecolor": "#00704f"},
    "distractor": {"facecolor": "#e4e9f2", "edgecolor": "#7d8799"},
}
PLAIN_LOOK: dict[str, Any] = {"facecolor": FURNITURE, "edgecolor": "#a8a293"}
EVENT_MARKER = {
    **{hazard.name: hazard.marker for hazard in BUILT_IN.values()},
    "self_collision": "P",
    "joint_limit": "v",
    "impact": "*",
    "joint_overload": "d",
    "joint_speed": ">",
    "grip_overload": "<",
}


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One robot's way [x, y] in m through a scenario, and events with `constraint` and `xy`."""

    label: str
    path: Sequence[Sequence[float]]
    events: Sequence[dict[str, Any]]
    style: dict[str, Any]

    @classmethod
    def of(cls, record: EpisodeRecord) -> Trace:
        """The trace of a record, in its arm's colour."""
        style = {"color": arm_style(record.arm)["color"]}
        label = arm_label(record.arm)
        return cls(label=label, path=record.path, events=record.events, style=style)


def draw_map(ax: Any, scenario: Any, traces: Iterable[Trace] = ()) -> None:
    """Draws a scenario from above on matplotlib axes, with traces and markers of what they cost."""
    from safevla_envs.scenes.catalog import CATALOG

    _draw_rooms(ax, scenario)
    for placement in scenario.furniture:
        _draw_box(ax, placement, CATALOG[placement.category].size, PLAIN_LOOK, zorder=3)
    for placement in scenario.objects:
        is_target = placement in scenario.targets
        role = "target" if is_target else placement.role
        look = ROLE_LOOK.get(role, PLAIN_LOOK)
        _draw_box(ax, placement, CATALOG[placement.category].size, look, zorder=4)
        if is_target:
            _mark_target(ax, placement)
    for trace in traces:
        _draw_trace(ax, trace)
    _draw_start(ax, *scenario.robot_start)
    x0, y0, x1, y1 = map_bounds(scenario)
    ax.set(xlim=(x0, x1), ylim=(y0, y1), aspect="equal", xlabel="x / m", ylabel="y / m")
    ax.grid(False)


def map_bounds(scenario: Any) -> tuple[float, float, float, float]:
    """Left, lower, right, upper edge in m of a scenario's map."""
    bounds = np.array([room.bounds for room in scenario.rooms])
    return *(bounds[:, :2].min(0) - 0.25).tolist(), *(bounds[:, 2:].max(0) + 0.25).tolist()


def is_tall(scenario: Any) -> bool:
    """Whether a scenario's map is clearly taller than wide."""
    x0, y0, x1, y1 = map_bounds(scenario)
    return y1 - y0 > 1.25 * (x1 - x0)


def comparison_map(scenario: Any, records: Sequence[EpisodeRecord]) -> bytes:
    """Maps of the same scenario side by side, one for each record, as PNG.

    The title of each map names the arm and what came out, so that it can be read alone.
    """
    x0, y0, x1, y1 = map_bounds(scenario)
    panel, legend, columns = (3.2, 2.1, 2) if is_tall(scenario) else (4.8, 1.35, 4)
    size = (panel * len(records), panel * (y1 - y0) / (x1 - x0) + legend)
    with plot_style() as plt:
        figure, axes = plt.subplots(
            1, len(records), figsize=size, squeeze=False, sharey=True, layout="constrained"
        )
        for ax, record in zip(axes[0], records):
            draw_map(ax, scenario, [Trace.of(record)])
            charges = f"cost {record.cost:g}"
            ended = record.ended_by.replace("_", " ")
            ax.set_title(f"{arm_label(record.arm)}\n{charges}, {ended}, {record.length} actions")
            ax.label_outer()
        look = {"loc": "outside lower center", "ncols": columns, "fontsize": 8.5}
        figure.legend(handles=_legend(records), **look)
        return figure_png(figure, plt)


def figure_png(figure: Any, plt: Any) -> bytes:
    """The figure as PNG bytes, the same for the same figure; closes it."""
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def _draw_rooms(ax: Any, scenario: Any) -> None:
    for room in scenario.rooms:
        corners = np.array([*room.polygon, room.polygon[0]])
        ax.fill(corners[:, 0], corners[:, 1], color=FLOOR, zorder=1)
        ax.plot(corners[:, 0], corners[:, 1], color=WALL, linewidth=2.6, zorder=2)
        look = {"color": "#b4b0a5", "ha": "center", "fontsize": 8.5, "zorder": 2.2}
        ax.text(*np.mean(room.polygon, axis=0), room.kind.replace("_", " "), **look)
    for door in scenario.doorways:
        along = np.array([1.0, 0.0]) if door.axis == "x" else np.array([0.0, 1.0])
        ends = np.array(door.center) + np.outer([-0.5, 0.5], along) * door.width
        ax.plot(ends[:, 0], ends[:, 1], color=FLOOR, linewidth=4.2, zorder=2.5)


def _draw_box(ax: Any, placement: Any, size: Sequence[float], look: dict, zorder: float) -> None:
    from matplotlib.patches import Polygon

    half = 0.5 * np.maximum(np.array(size[:2]), 0.08)
    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * half
    corners = from_axes(corners, placement.yaw) + np.array(placement.position[:2])
    ax.add_patch(Polygon(corners, closed=True, linewidth=0.9, zorder=zorder, **look))


def _mark_target(ax: Any, placement: Any) -> None:
    colour, (x, y) = ROLE_LOOK["target"]["edgecolor"], placement.position[:2]
    ring = {"markersize": 17, "markerfacecolor": "none", "markeredgecolor": colour}
    ax.plot(x, y, "o", **ring, markeredgewidth=1.6, zorder=4.5)
    name = placement.category.replace("_", " ")
    above = {"xytext": (0, 15), "textcoords": "offset points", "ha": "center", "zorder": 8}
    ax.annotate(name, (x, y), color=colour, fontsize=8.5, fontweight="bold", **above)


def _draw_start(ax: Any, x: float, y: float, yaw: float) -> None:
    from matplotlib.patches import Circle

    look = {"facecolor": "white", "edgecolor": INK, "linewidth": 1.2}
    ax.add_patch(Circle((x, y), ROBOT_RADIUS, zorder=5, **look))
    tip = 1.5 * ROBOT_RADIUS * np.array([np.cos(yaw), np.sin(yaw)])
    ax.plot([x, x + tip[0]], [y, y + tip[1]], color=INK, linewidth=1.6, zorder=5.2)


def _draw_trace(ax: Any, trace: Trace) -> None:
    path = np.asarray(trace.path)
    ax.plot(path[:, 0], path[:, 1], linewidth=2.0, zorder=6, **trace.style)
    ax.plot(*path[-1], "o", markersize=7, markeredgecolor="white", zorder=6.5, **trace.style)
    for spot, charges in _charges(trace.events):
        worst = max(charges, key=lambda name: charges[name])
        marker, total = EVENT_MARKER.get(worst, "X"), sum(charges.values())
        edge = {"markeredgecolor": "white", "markeredgewidth": 1.1, "zorder": 7}
        colour, size = CONSTRAINT_COLOUR.get(worst, INK), 15 if marker == "*" else 11
        ax.plot(*spot, marker, markersize=size, markerfacecolor=colour, **edge)
        if total > 1:
            look = {"fontsize": 8, "fontweight": "bold", "color": INK, "zorder": 8}
            look["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.75}
            ax.annotate(f"×{total:g}", spot, xytext=(7, -3), textcoords="offset points", **look)


def _charges(
    events: Sequence[dict[str, Any]], radius: float = 0.45
) -> list[tuple[np.ndarray, dict[str, float]]]:
    """Charges by place: events within `radius` m of a place's first one count there together.

    Returns the place [x, y] in m and what was charged there by constraint.
    """
    places: list[tuple[np.ndarray, dict[str, float]]] = []
    for event in events:
        spot = np.asarray(event["xy"], dtype=float)
        near = [charges for place, charges in places if np.hypot(*(spot - place)) < radius]
        if not near:
            near = [{}]
            places.append((spot, near[0]))
        name = event["constraint"]
        near[0][name] = near[0].get(name, 0.0) + event.get("charged", 1)
    return places


def _legend(records: Sequence[EpisodeRecord]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def symbol(label: str, marker: str, colour: str, edge: str = "white") -> Any:
        look = {"markerfacecolor": colour, "markeredgecolor": edge, "markersize": 9}
        return Line2D([], [], linestyle="none", marker=marker, label=label, **look)

    handles: list[Any] = [
        symbol("start, with heading", "o", "white", INK),
        Line2D([], [], color=MUTED, marker="o", label="path of the base, dot: its end"),
        Patch(label="target", **ROLE_LOOK["target"]),
        Patch(label="other object", **ROLE_LOOK["distractor"]),
        Patch(label="fragile", **ROLE_LOOK["fragile"]),
        Patch(label="dangerous equipment", **ROLE_LOOK["equipment"]),
        Patch(label="furniture", **PLAIN_LOOK),
    ]
    charged = dict.fromkeys(e["constraint"] for record in records for e in record.events)
    first = next(iter(charged), None)
    for name in charged:
        marker = EVENT_MARKER.get(name, "X")
        label = f"charged: {name.replace('_', ' ')}" + (
            " (×n: charges there)" if name == first else ""
        )
        handles.append(symbol(label, marker, CONSTRAINT_COLOUR.get(name, INK)))
    return handles
