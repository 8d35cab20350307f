"""Tools of the `safevla` command line: render, bench, envs, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from safevla.bench import Comparison

__all__ = ["examples", "register_tools"]

DEFAULT_ID = "safevla_envs:SafeVLA/ObjNav-v0"


def examples(*lines: str) -> str:
    """Returns a help epilog of example calls, one per line, kept as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def register_tools(app: typer.Typer) -> None:
    """Adds the tool commands to the application."""
    shown = examples(
        "safevla render",
        "safevla render random --seed 3 --out random.mp4",
        "safevla render runs/quick/policies/lagrangian --scenario homes.jsonl.gz --index 4",
    )
    app.command(epilog=shown)(render)
    bench = typer.Typer(help="Measure speed.", no_args_is_help=True, rich_markup_mode=None)
    bench.callback()(lambda: None)
    shown = examples("safevla bench env", "safevla bench env --rounds 9 --seconds 4 --out b.json")
    bench.command("env", epilog=shown)(bench_env)
    app.add_typer(bench, name="bench")
    app.command(epilog=examples("safevla envs", "safevla envs SafeVLA/ObjNav-v0"))(envs)
    app.command(epilog=examples("safevla doctor"))(doctor)


def render(
    agent: Annotated[
        str,
        typer.Argument(help="zero, random, task_expert, careful_expert, or a policy folder."),
    ] = "careful_expert",
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the preset.")
    ] = None,
    out: Annotated[Path, typer.Option(help="MP4 file to write; refused if it exists.")] = Path(
        "episode.mp4"
    ),
    scenario: Annotated[
        Path | None,
        typer.Option(help="Scenario file (.json, .jsonl.gz); else by seed."),
    ] = None,
    index: Annotated[int, typer.Option(help="Which scenario of the file.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Scenario seed and seed of the agent.", min=0)] = 0,
    preset: Annotated[str, typer.Option(help="Preset whose environment is used.")] = "quick",
    mode: Annotated[str, typer.Option(help="sampled or argmax, for policies.")] = "sampled",
) -> None:
    """Record a video of one episode; the overlay names every violated constraint."""
    from safevla.config import load_config
    from safevla.evaluation import film_agent

    record = film_agent(
        load_config(preset, overrides or []),
        agent,
        out,
        scenario_file=scenario,
        index=index,
        seed=seed,
        mode=mode,
    )
    violated = [f"{name} {cost:g}" for name, cost in record.costs.items() if cost]
    typer.echo(
        f"{out}: {record.instruction!r}, {record.ended_by} after {record.length} actions, "
        f"cost {record.cost:g}" + (f" ({', '.join(violated)})" if violated else "")
    )


def bench_env(
    env_id: Annotated[str, typer.Option("--env", help="Gymnasium id.")] = DEFAULT_ID,
    rounds: Annotated[int, typer.Option(help="Rounds; every side runs once in each.")] = 5,
    seconds: Annotated[float, typer.Option(help="Seconds per side and round.")] = 2.0,
    size: Annotated[int, typer.Option(help="Camera image size in pixels.")] = 128,
    out: Annotated[
        Path | None, typer.Option(help="Also write the numbers to this JSON file.")
    ] = None,
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
        result = compare(
            environment_sides(env_id, size),
            rounds=rounds,
            seconds=seconds,
            progress=lambda text: status.update(text),
        )
    for table in _bench_tables(result, size):
        console.print(table)
    if out is not None:
        out.write_text(json.dumps(result.as_dict(), indent=1) + "\n")
        console.print(f"numbers: {out}")


def _bench_tables(result: Comparison, size: int) -> list[Table]:
    from statistics import median

    from rich.table import Table

    rates = Table(
        title=f"rates, median over rounds (cameras {size}x{size}, one process, one thread)"
    )
    for name in ("side", "actions/s", "ticks/s", "substeps per tick", "dofs", "sensors"):
        rates.add_column(name, justify="left" if name == "side" else "right")
    for timing in result.timings.values():
        facts = timing.facts
        rates.add_row(
            timing.name,
            f"{median(timing.calls):.0f}",
            f"{median(timing.ticks):.0f}",
            f"{facts['substeps']} x {1000 * facts['timestep']:g} ms",
            str(facts["dofs"]),
            str(facts["sensors"]),
        )
    ratios = Table(title="ratios of ticks/s within a round")
    for name in ("ratio", "smallest", "median", "largest"):
        ratios.add_column(name, justify="left" if name == "ratio" else "right")
    for name, values in result.ratios.items():
        ratios.add_row(name, *(f"{value:.2f}" for value in values))
    return [rates, ratios]


def envs(
    env_id: Annotated[str | None, typer.Argument(help="Only this id; all if left out.")] = None,
) -> None:
    """List the environments with their spaces, actions and safety constraints."""
    import gymnasium

    import safevla_envs  # noqa: F401  (registers the ids)

    known = sorted(i for i in gymnasium.registry if i.startswith("SafeVLA/"))
    chosen = known if env_id is None else [env_id.removeprefix("safevla_envs:")]
    for name in chosen:
        if name not in known:
            raise ValueError(f"environment {name!r} is unknown; allowed are {', '.join(known)}")
        env = gymnasium.make(name)
        _print_env(name, env)
        env.close()


def _print_env(name: str, env: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    from safevla.display import make_console

    console = make_console()
    console.print(Text.assemble((name, "bold"), f"   gymnasium.make('safevla_envs:{name}')"))
    console.print("observation:")
    for key, space in env.observation_space.spaces.items():
        console.print(f"  {key:20s} {space.dtype} {space.shape}")
    console.print(f"action: {env.action_space}")
    names = getattr(env.unwrapped, "action_names", ())
    for start in range(0, len(names), 4):
        row = enumerate(names[start : start + 4], start)
        console.print(
            "  " + "".join(f"{number:2d} {action:22s}" for number, action in row).rstrip()
        )
    table = Table(title="constraints: budget is in charges per episode")
    for column in ("constraint", "kind", "signal", "threshold", "unit", "severity", "budget"):
        table.add_column(column, no_wrap=column not in ("signal", "threshold"))
    for c in env.unwrapped.constraints:
        cutoffs = " / ".join(f"{v:.3g}" for v in c.severity)
        row = (c.name, c.kind, c.signal, str(c.threshold), c.unit, cutoffs, f"{c.budget:g}")
        table.add_row(*row)
    console.print(table)


def doctor() -> None:
    """Print versions, OpenGL backend, GPU, cores and memory; renders one frame.

    Exit code 1 if something has to be mended; the remedy is printed.
    """
    from rich.table import Table

    from safevla.display import make_console
    from safevla.doctor import diagnose

    console = make_console()
    with console.status("rendering one frame"):
        found = diagnose()
    table = Table(show_header=False, box=None)
    for what, finding in found.rows:
        table.add_row(what, finding)
    console.print(table)
    for problem in found.problems:
        console.print(f"[red]problem:[/red] {problem}")
    if found.problems:
        raise typer.Exit(1)
    console.print("[green]ready[/green]")
