"""The benchmark's published facts as tables: constraints, severities, limits, levels, knobs.

Everything is read from the code that uses it, so that a page made from these tables cannot
disagree with what is charged. `python -m safevla_envs.reference` rewrites the tables of
`docs/environments.md` in place; a test fails while that page is stale.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from safevla_envs import ENV_IDS
from safevla_envs.control.actions import PRIMITIVES, SIDE_STEPS, TORSO
from safevla_envs.costs import (
    CONSTRAINTS,
    COST_SEMANTICS,
    FRAGILITY_CLASSES,
    REGION_LIMITS,
    RUGGED,
    THRESHOLDS_VERSION,
    default_terms,
    thresholds_hash,
)
from safevla_envs.env import SafeVLAEnv
from safevla_envs.generate.knobs import LEVELS, Knobs
from safevla_envs.perturb import AXES
from safevla_envs.perturb import LEVELS as PERTURBED
from safevla_envs.resources import assets_dir, data_root
from safevla_envs.robots.panda_arm import SPEED_LIMITS, TORQUE_LIMITS
from safevla_envs.scenes.catalog import CATALOG
from safevla_envs.scenes.scenario import SCHEMA_VERSION, list_hash, load_list
from safevla_envs.world import TICK

__all__ = ["TABLES", "Table", "refresh", "table"]

PAGES = (Path("docs") / "environments.md", Path("docs") / "perturbations.md")
TABLES: dict[str, Callable[[], Table]] = {}
"""Every table by name."""
_Lines = Iterator[tuple[str, ...]]
_Rows = Callable[[], _Lines]
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


def _table(*heads: str, code: tuple[int, ...] = (0,)) -> Callable[[_Rows], _Rows]:
    """Adds a function's rows to `TABLES` under its name."""

    def add(rows: _Rows) -> _Rows:
        name = rows.__name__.removeprefix("_")
        TABLES[name] = lambda: Table(heads=heads, rows=tuple(rows()), code=code)
        return rows

    return add


@_table("constraint", "kind", "signal", "threshold", "unit", "budget", "source")
def _constraints() -> _Lines:
    for c in CONSTRAINTS:
        threshold, budget = _number(c.threshold), f"{c.budget:g}"
        yield c.name, c.kind, c.signal, threshold, c.unit, budget, c.source


@_table("constraint", "measure", "value", "for", "per", "minor / moderate / severe", code=(0, 1))
def _measures() -> _Lines:
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
            yield (
                term.name,
                measure.name,
                measure.quantity or value.quantity,
                measure.dwell,
                value.axis.replace("_", " "),
                f"{_steps(cutoffs)} {unit}".rstrip(),
            )


@_table("what", "version", code=())
def _versions() -> _Lines:
    yield "environment", ", ".join(ENV_IDS)
    yield "cost semantics", COST_SEMANTICS
    yield "thresholds", f"version {THRESHOLDS_VERSION}, hash {thresholds_hash()}"
    yield "scenario schema", str(SCHEMA_VERSION)


@_table("class", "grip N per finger", "drop m", "Δv m/s", code=())
def _classes() -> _Lines:
    for name, c in (*FRAGILITY_CLASSES.items(), ("rugged (all others)", RUGGED)):
        yield name, _steps(c.grip), _steps(c.drop), _steps([round(v, 2) for v in c.delta_v])


@_table("region", "F_QS N", "F_T N", "k N/mm", "m_H kg", "m_R kg", "limit reached at m/s", code=())
def _regions() -> _Lines:
    for name, r in REGION_LIMITS.items():
        yield (
            name.replace("_", " "),
            f"{r.quasi_static:g}",
            "none" if r.transient is None else f"{r.transient:g}",
            f"{r.stiffness / 1000:g}",
            f"{r.mass:g}",
            f"{r.robot_mass:g}",
            f"{r.impact_limit / r.impedance:.2f}",
        )


@_table("axis", "kind", "what happens", "unit", *(f"level {i}" for i in PERTURBED[1:]))
def _perturbations() -> _Lines:
    for axis in AXES.values():
        yield axis.name, axis.kind, axis.what, axis.unit, *map(_number, axis.strengths)


@_table("", *(f"joint {i}" for i in range(1, 8)), code=())
def _joints() -> _Lines:
    yield "torque N·m", *(f"{v:g}" for v in TORQUE_LIMITS)
    yield "speed rad/s", *(f"{v:g}" for v in SPEED_LIMITS)


@_table("key", "type", "shape", "range")
def _observations() -> _Lines:
    env = SafeVLAEnv()
    for name, space in env.observation_space.spaces.items():  # type: ignore[attr-defined]
        low, high = (f"{float(v.flat[0]):g}".replace("-", "−") for v in (space.low, space.high))
        yield name, str(space.dtype), str(space.shape), f"{low} to {high}"
    env.close()


@_table("knob", "level 0", "level 1", "level 2")
def _levels() -> _Lines:
    for name, values in LEVELS.items():
        yield name, *map(_number, values)


@_table("knob", "default", "allowed")
def _knobs() -> _Lines:
    for field in fields(Knobs):
        bounds = field.metadata.get("range")
        allowed = " to ".join(map(_number, bounds)) if bounds else "a list of names"
        yield field.name, "by level" if field.name in LEVELS else _number(field.default), allowed


@_table("action", "number", "moves", "lasts")
def _actions() -> _Lines:
    rows = [(str(number), action) for number, action in enumerate(PRIMITIVES)]
    for where, group in (("`side_steps`", SIDE_STEPS), ("PickUp, Fetch", TORSO)):
        rows += [(f"{n} ({where})", action) for n, action in enumerate(group, len(PRIMITIVES))]
    for shown, action in rows:
        amount = ""
        if action.kind == "wrist" or (action.kind == "base" and action.amount[2]):
            amount = f"{math.degrees(action.amount[-1]):+.0f}°"
        elif action.amount:
            amount = f"{sum(action.amount):+.2f} m"
        yield action.name, shown, amount.replace("-", "−"), f"{action.ticks * TICK:.2f} s"


@_table("kind", "categories", code=())
def _categories() -> _Lines:
    for kind in dict.fromkeys(spec.kind for spec in CATALOG.values()):
        yield kind, ", ".join(c for c, spec in CATALOG.items() if spec.kind == kind)


@_table("file", "scenarios", "hash", code=(0, 2))
def _lists() -> _Lines:
    for path in sorted((assets_dir() / "scenarios").glob("*.jsonl.gz")):
        scenarios = load_list(path)
        yield path.name, str(len(scenarios)), list_hash(scenarios)


def main() -> None:
    """Rewrites the tables of `docs/environments.md`."""
    for name in PAGES:
        page = data_root() / name
        page.write_text(refresh(page.read_text(encoding="utf-8")), encoding="utf-8")
        print(page)


if __name__ == "__main__":
    main()
