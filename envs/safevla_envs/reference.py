"""The benchmark's published facts as tables: constraints, severities, limits, levels, knobs.

Everything is read from the code that uses it, so that a page made from these tables cannot
disagree with what is charged. `python -m safevla_envs.reference` rewrites the tables of
`docs/environments.md` in place; a test fails while that page is stale.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from safevla_envs.resources import assets_dir, data_root

__all__ = ["TABLES", "Table", "refresh", "table"]

PAGE = Path("docs") / "environments.md"
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under their heads; what is code is set in code type."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    code: tuple[int, ...] = (0,)

    def markdown(self) -> str:
        """Returns a GitHub table, lines ending in a newline."""

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"

        rows = [
            tuple(f"`{c}`" if i in self.code and c else c for i, c in enumerate(row))
            for row in self.rows
        ]
        return line(self.heads) + "|" + "---|" * len(self.heads) + "\n" + "".join(map(line, rows))

    def html(self) -> str:
        """Returns a `<table>` element."""

        def cell(tag: str, text: str, code: bool = False) -> str:
            inner = html.escape(text)
            return f"<{tag}>{f'<code>{inner}</code>' if code and text else inner}</{tag}>"

        head = "".join(cell("th", text) for text in self.heads)
        rows = "".join(
            "<tr>" + "".join(cell("td", c, i in self.code) for i, c in enumerate(row)) + "</tr>\n"
            for row in self.rows
        )
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>"


def table(name: str) -> Table:
    """Returns one of `TABLES` by name.

    Raises:
        ValueError: if there is no such table.
    """
    if name not in TABLES:
        raise ValueError(f"table {name!r}: allowed are {', '.join(TABLES)}")
    return TABLES[name]()


def refresh(text: str) -> str:
    """Returns a page with every block `<!-- table: NAME --> ... <!-- end -->` made anew.

    Rows keep the order that they have on the page; new ones come last.

    Raises:
        ValueError: if a block names no table.
    """

    def anew(found: re.Match[str]) -> str:
        made = table(found[2])
        old = [line.split("|")[1].strip(" `") for line in found[0].splitlines() if "|" in line]
        rows = sorted(made.rows, key=lambda row: old.index(row[0]) if row[0] in old else len(old))
        return found[1] + replace(made, rows=tuple(rows)).markdown() + found[3]

    return _BLOCK.sub(anew, text)


def _number(value: Any) -> str:
    """Formats a parameter, cut-off or knob; what can never be reached is a dash."""
    if isinstance(value, float):
        return "–" if math.isinf(value) else f"{value:.4g}".replace("-", "−")
    if isinstance(value, (tuple, list)):
        return ", ".join(map(_number, value))
    return str(value)


def _steps(values: Sequence[Any]) -> str:
    return " / ".join(map(_number, values))


def _constraints() -> Table:
    from safevla_envs.costs import CONSTRAINTS

    return Table(
        heads=("constraint", "kind", "signal", "threshold", "unit", "budget", "source"),
        rows=tuple(
            (c.name, c.kind, c.signal, _number(c.threshold), c.unit, f"{c.budget:g}", c.source)
            for c in CONSTRAINTS
        ),
    )


def _measures() -> Table:
    from safevla_envs.costs import default_terms

    rows = []
    for term in default_terms():
        for measure in term.measures:
            value = measure.value
            unit, cutoffs = value.unit.removesuffix("1"), measure.cutoffs
            if measure.scale == "fragile_limit":
                unit = "× the body's limit"
            elif unit == "rad" and cutoffs[0] > 0.1:
                unit, cutoffs = "deg", tuple(map(math.degrees, cutoffs))
            if value.sense < 0:
                unit += ", less is worse"
            rows.append(
                (
                    term.name,
                    measure.name,
                    measure.quantity or value.quantity,
                    measure.dwell,
                    value.axis.replace("_", " "),
                    f"{_steps(cutoffs)} {unit}".rstrip(),
                )
            )
    heads = ("constraint", "measure", "value", "for", "per", "minor / moderate / severe")
    return Table(heads=heads, rows=tuple(rows), code=(0, 1))


def _versions() -> Table:
    from safevla_envs import ENV_IDS
    from safevla_envs.costs import COST_SEMANTICS, THRESHOLDS_VERSION, thresholds_hash
    from safevla_envs.scenes.scenario import SCHEMA_VERSION

    rows = (
        ("environment", ", ".join(ENV_IDS)),
        ("cost semantics", COST_SEMANTICS),
        ("thresholds", f"version {THRESHOLDS_VERSION}, hash {thresholds_hash()}"),
        ("scenario schema", str(SCHEMA_VERSION)),
    )
    return Table(heads=("what", "version"), rows=rows, code=())


def _classes() -> Table:
    from safevla_envs.costs import FRAGILITY_CLASSES, RUGGED

    rows = tuple(
        (name, _steps(c.grip), _steps(c.drop), _steps([round(v, 2) for v in c.delta_v]))
        for name, c in (*FRAGILITY_CLASSES.items(), ("rugged (all others)", RUGGED))
    )
    return Table(heads=("class", "grip N per finger", "drop m", "Δv m/s"), rows=rows, code=())


def _regions() -> Table:
    from safevla_envs.costs import REGION_LIMITS

    rows = tuple(
        (
            name.replace("_", " "),
            f"{r.quasi_static:g}",
            "none" if r.transient is None else f"{r.transient:g}",
            f"{r.stiffness / 1000:g}",
            f"{r.mass:g}",
            f"{r.robot_mass:g}",
            f"{r.impact_limit / r.impedance:.2f}",
        )
        for name, r in REGION_LIMITS.items()
    )
    heads = ("region", "F_QS N", "F_T N", "k N/mm", "m_H kg", "m_R kg", "limit reached at m/s")
    return Table(heads=heads, rows=rows, code=())


def _joints() -> Table:
    from safevla_envs.robots.panda_omron import SPEED_LIMITS, TORQUE_LIMITS

    heads = ("", *(f"joint {i}" for i in range(1, len(TORQUE_LIMITS) + 1)))
    rows = (
        ("torque N·m", *(f"{v:g}" for v in TORQUE_LIMITS)),
        ("speed rad/s", *(f"{v:g}" for v in SPEED_LIMITS)),
    )
    return Table(heads=heads, rows=rows, code=())


def _observations() -> Table:
    from safevla_envs.env import SafeVLAEnv

    env = SafeVLAEnv()
    rows = []
    for name, space in env.observation_space.spaces.items():  # type: ignore[attr-defined]
        low, high = (f"{float(v.flat[0]):g}".replace("-", "−") for v in (space.low, space.high))
        rows.append((name, str(space.dtype), str(space.shape), f"{low} to {high}"))
    env.close()
    return Table(heads=("key", "type", "shape", "range"), rows=tuple(rows))


def _levels() -> Table:
    from safevla_envs.generate.knobs import LEVELS

    return Table(
        heads=("knob", "level 0", "level 1", "level 2"),
        rows=tuple((name, *map(_number, values)) for name, values in LEVELS.items()),
    )


def _knobs() -> Table:
    from safevla_envs.generate.knobs import LEVELS, Knobs

    rows = []
    for field in fields(Knobs):
        bounds = field.metadata.get("range")
        allowed = " to ".join(map(_number, bounds)) if bounds else "a list of names"
        default = "by level" if field.name in LEVELS else _number(field.default)
        rows.append((field.name, default, allowed))
    return Table(heads=("knob", "default", "allowed"), rows=tuple(rows))


def _actions() -> Table:
    from safevla_envs.control.actions import PRIMITIVES, SIDE_STEPS
    from safevla_envs.world import TICK

    rows = []
    for number, action in enumerate((*PRIMITIVES, *SIDE_STEPS)):
        amount = ""
        if action.kind == "wrist" or (action.kind == "base" and action.amount[2]):
            amount = f"{math.degrees(action.amount[-1]):+.0f}°"
        elif action.amount:
            amount = f"{sum(action.amount):+.2f} m"
        shown = str(number) if number < len(PRIMITIVES) else f"{number} (`side_steps`)"
        lasts = f"{action.ticks * TICK:.2f} s"
        rows.append((action.name, shown, amount.replace("-", "−"), lasts))
    return Table(heads=("action", "number", "moves", "lasts"), rows=tuple(rows))


def _categories() -> Table:
    from safevla_envs.scenes.catalog import CATALOG

    kinds = list(dict.fromkeys(spec.kind for spec in CATALOG.values()))
    names = {k: ", ".join(c for c, s in CATALOG.items() if s.kind == k) for k in kinds}
    return Table(heads=("kind", "categories"), rows=tuple(names.items()), code=())


def _lists() -> Table:
    from safevla_envs.scenes.scenario import list_hash, load_list

    rows = []
    for path in sorted((assets_dir() / "scenarios").glob("*.jsonl.gz")):
        scenarios = load_list(path)
        rows.append((path.name, str(len(scenarios)), list_hash(scenarios)))
    return Table(heads=("file", "scenarios", "hash"), rows=tuple(rows), code=(0, 2))


TABLES: dict[str, Callable[[], Table]] = {
    "constraints": _constraints,
    "measures": _measures,
    "versions": _versions,
    "classes": _classes,
    "regions": _regions,
    "joints": _joints,
    "observations": _observations,
    "levels": _levels,
    "knobs": _knobs,
    "actions": _actions,
    "categories": _categories,
    "lists": _lists,
}
"""Every table by name."""


def main() -> None:
    """Rewrites the tables of `docs/environments.md`."""
    page = data_root() / PAGE
    page.write_text(refresh(page.read_text(encoding="utf-8")), encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
