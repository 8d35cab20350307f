"""`safevla bench`: speed beside robosuite's, and what the safety costs cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from safevla.bench import Comparison
    from safevla.bench.costs import Medians, Overhead

__all__ = ["bench_costs", "bench_env"]

DEFAULT_ID = "safevla_envs:SafeVLA/ObjNav-v0"
TIMESTEPS = (0.005, 0.002)
Numbers = Annotated[Path | None, typer.Option(help="Also write the numbers to this JSON file.")]


def bench_costs(
    seconds: Annotated[float, typer.Option(help="CPU seconds per measurement.")] = 20.0,
    level: Annotated[float, typer.Option(help="Hazard level of the homes.")] = 1.0,
    camera: Annotated[bool, typer.Option(help="Also measure with both cameras at 128x128.")] = True,
    scenarios: Annotated[int, typer.Option(help="Homes for the medians of build and reset.")] = 20,
    out: Numbers = None,
) -> None:
    """Time our environment beside itself without safety sensors and cost terms.

    Both sides take the same random actions in the same homes and must reach the same states to the
    last bit; short segments alternate. The overhead is extra CPU time over the bare side's.
    """
    from safevla.bench.costs import cost_overhead, medians, silent_term
    from safevla.display import make_console

    console = make_console()
    variants: dict[str, dict[str, Any]] = {
        "": {},
        ", one more term": {"extra_terms": [silent_term()]},
    }
    if camera:
        variants[", cameras"] = {"cameras": ("navigation", "manipulation")}
    with console.status("starting") as status:
        found = [
            cost_overhead(
                f"{1000 * timestep:g} ms{name}",
                timestep=timestep,
                level=level,
                seconds=seconds,
                progress=status.update,
                **options,
            )
            for timestep in TIMESTEPS
            for name, options in variants.items()
        ]
        status.update("building and resetting")
        typical = medians(scenarios, level=level)
    for table in _tables(found, typical):
        console.print(table)
    _save(out, {"overhead": found, "medians": typical}, console)


def _save(out: Path | None, content: Any, console: Console) -> None:
    from safevla.files import write_json

    if out is not None:
        write_json(out, content)
        console.print(f"numbers: {out}")


def _tables(found: list[Overhead], typical: Medians) -> list[Table]:
    from safevla.display import table

    heads = ("physics step", "overhead", "95 % interval", "tick ms", "bare tick ms")
    parts = ("recording", "reading", "terms")
    rows = [
        (
            item.name,
            f"{item.share:.1%}",
            f"{item.low:.1%} to {item.high:.1%}",
            f"{item.tick_ms:.3f}",
            f"{item.bare_tick_ms:.3f}",
            *(f"{item.parts[part]:.1%}" for part in parts),
        )
        for item in found
    ]
    names = ("generate", "build", "reset", "tick")
    times = [("", *(f"{getattr(typical, name):.2f}" for name in names))]
    return [
        table(f"overhead of {found[0].facts['constraints']} constraints", (*heads, *parts), rows),
        table(f"medians over {typical.scenarios} homes, CPU ms", ("", *names), times),
    ]


def bench_env(
    env_id: Annotated[str, typer.Option("--env", help="Gymnasium id.")] = DEFAULT_ID,
    rounds: Annotated[int, typer.Option(help="Rounds; every side runs once in each.")] = 5,
    seconds: Annotated[float, typer.Option(help="Seconds per side and round.")] = 2.0,
    size: Annotated[int, typer.Option(help="Camera image size in pixels.")] = 128,
    out: Numbers = None,
) -> None:
    """Time our environment beside robosuite's Lift with the same robot, and raw physics.

    All sides run in this one call and take turns, one thread each. Ours has all costs on; it and
    robosuite take the same number of 2 ms substeps per 20 Hz tick. Ratios are of ticks/s within a
    round.
    """
    from safevla.bench import compare, environment_sides
    from safevla.display import make_console

    console = make_console()
    with console.status("starting") as status:
        sides = environment_sides(env_id, size)
        result = compare(sides, rounds=rounds, seconds=seconds, progress=status.update)
    for table in _rates(result, size):
        console.print(table)
    _save(out, result, console)


def _rates(result: Comparison, size: int) -> list[Table]:
    from statistics import median

    from safevla.display import table

    rates = [
        (
            timing.name,
            f"{median(timing.calls):.0f}",
            f"{median(timing.ticks):.0f}",
            f"{timing.facts['substeps']} x {1000 * timing.facts['timestep']:g} ms",
            str(timing.facts["dofs"]),
        )
        for timing in result.timings.values()
    ]
    ratios = [
        (name, *(f"{v:.2f}" for v in found.values())) for name, found in result.ratios.items()
    ]
    title = f"rates, median over rounds (cameras {size}x{size}, one process, one thread)"
    return [
        table(title, ("side", "actions/s", "ticks/s", "substeps per tick", "dofs"), rates),
        table(
            "ratios of ticks/s within a round", ("ratio", "smallest", "median", "largest"), ratios
        ),
    ]
