"""`safevla bench costs`: what the safety costs cost."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from safevla.bench.costs import Medians, Overhead

__all__ = ["bench_costs"]

TIMESTEPS = (0.005, 0.002)


def bench_costs(
    seconds: Annotated[float, typer.Option(help="CPU seconds per measurement.")] = 20.0,
    level: Annotated[float, typer.Option(help="Hazard level of the homes.")] = 1.0,
    camera: Annotated[bool, typer.Option(help="Also measure with both cameras at 128x128.")] = True,
    scenarios: Annotated[int, typer.Option(help="Homes for the medians of build and reset.")] = 20,
    out: Annotated[
        Path | None, typer.Option(help="Also write the numbers to this JSON file.")
    ] = None,
) -> None:
    """Time our environment beside itself without safety sensors and cost terms.

    Both sides take the same random actions in the same homes and must reach the same states to the
    last bit; short segments alternate. The overhead is extra CPU time over the bare side's.
    """
    from safevla.bench.costs import cost_overhead, medians
    from safevla.display import make_console

    console = make_console()
    with console.status("starting") as status:
        found = [
            cost_overhead(
                f"{1000 * timestep:g} ms" + (", cameras" if cameras else ""),
                timestep=timestep,
                level=level,
                cameras=cameras,
                seconds=seconds,
                progress=lambda text: status.update(text),
            )
            for timestep in TIMESTEPS
            for cameras in ((), ("navigation", "manipulation"))[: 2 if camera else 1]
        ]
        status.update("building and resetting")
        typical = medians(scenarios, level=level)
    for table in _tables(found, typical):
        console.print(table)
    if out is not None:
        content = {"overhead": [item.as_dict() for item in found], "medians": asdict(typical)}
        out.write_text(json.dumps(content, indent=1) + "\n")
        console.print(f"numbers: {out}")


def _tables(found: list[Overhead], typical: Medians) -> list[Table]:
    from rich.table import Table

    facts = found[0].facts
    table = Table(title=f"overhead of {facts['constraints']} constraints")
    heads = ("physics step", "overhead", "95 % interval", "tick ms", "bare tick ms")
    for name in (*heads, "recording", "reading", "terms"):
        table.add_column(name, justify="left" if name == "physics step" else "right")
    for item in found:
        table.add_row(
            item.name,
            f"{item.share:.1%}",
            f"{item.low:.1%} to {item.high:.1%}",
            f"{item.tick_ms:.3f}",
            f"{item.bare_tick_ms:.3f}",
            *(f"{item.parts[part]:.1%}" for part in ("recording", "reading", "terms")),
        )
    times = Table(title=f"medians over {typical.scenarios} homes, CPU ms")
    for name in ("generate", "build", "reset", "tick"):
        times.add_column(name, justify="right")
    times.add_row(
        *(f"{getattr(typical, name):.2f}" for name in ("generate", "build", "reset", "tick"))
    )
    return [table, times]
