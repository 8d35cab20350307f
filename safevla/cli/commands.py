"""The `safevla` command line: the pipeline. Tools (render, bench, envs, doctor): `tools`.

Nothing heavy is imported before a command needs it, so `--help` answers at once. What a user can
get wrong is one line on standard error and exit code 2; SAFEVLA_DEBUG=1 shows the trace instead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from safevla.cli.assure import register_assurance
from safevla.cli.tools import examples, register_tools
from safevla.errors import explained

__all__ = ["app", "main"]

app = typer.Typer(
    name="safevla",
    help="Safety alignment of vision-language-action robot policies.",
    epilog=examples(
        "safevla isa                  the whole method, quick preset: about 20 min on two cores",
        "safevla isa --preset base    the full table",
        "safevla doctor               what this machine offers",
        "safevla COMMAND --help       more on a command, with examples",
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Configuration overrides, e.g. seed=1 train.total_steps=20000.",
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        help="quick, base, gpu, pickup, fetch, or a YAML file with the same keys.",
        show_default=True,
    ),
]
Name = Annotated[str | None, typer.Option(help="Name of the run; the preset's name by default.")]
Runs = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
Force = Annotated[
    bool, typer.Option("--force", help="Throw away results made with other settings.")
]
Reuse = Annotated[
    Path | None,
    typer.Option(help="Folder of another run; stages that this one would repeat are copied."),
]
Last = Annotated[
    str | None, typer.Option(help="Last stage to run; by default what the command is for.")
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from safevla import __version__

        typer.echo(__version__)
        raise typer.Exit


STAGED = {
    "isa": (
        "report",
        """Run the Integrated Safety Approach: demonstrations to report.

    Stages: demos, clone, elicit, train (task-only and Lagrangian PPO), eval, report. Interrupt it
    at any time; the same command goes on where it stopped. Results are in RUNS/NAME.
    """,
        "safevla isa",
        "safevla isa seed=1 --name second-seed",
        "safevla isa --preset base workers=8 train.total_steps=200000",
        "safevla isa --reuse runs/quick --name rising train.multipliers.rate=0.1",
    ),
    "train": (
        "train",
        """Run the pipeline up to PPO: demos, clone, elicit, train.

    Stages that are done are not run again, so this trains only what is missing.
    """,
        "safevla train",
        "safevla train 'arms=[lagrangian]' train.multipliers.rate=0.1 --name faster-multipliers",
    ),
    "elicit": (
        "elicit",
        """Search scenarios in which the cloned policy is unsafe (runs demos and clone if needed).

    Writes RUNS/NAME/elicit/found.jsonl.gz, costliest first. Scenarios with an even hash join
    training, the others are held out for evaluation.
    """,
        "safevla elicit",
        "safevla elicit elicit.scenarios=500 elicit.rollouts=4 --name wide-search",
    ),
}
"""Commands that run the pipeline: up to which stage, what to say, and examples."""


def _staged(until: str) -> Callable[..., None]:
    def run(
        overrides: Overrides = None,
        preset: Preset = "quick",
        name: Name = None,
        runs: Runs = Path("runs"),
        force: Force = False,
        reuse: Reuse = None,
        last: Last = None,
    ) -> None:
        from safevla.config import load_config, run_name
        from safevla.pipeline.isa import STAGES, Pipeline

        last = last or until
        if last not in STAGES:
            raise ValueError(f"--last {last}: allowed are {', '.join(STAGES)}")
        config = load_config(preset, overrides or [])
        folder = runs / (name or run_name(preset, config.seed))
        try:
            Pipeline(config, folder, force=force, reuse=reuse).run(until=last)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return run


for _name, (_until, _help, *_examples) in STAGED.items():
    app.command(_name, help=_help, epilog=examples(*_examples))(_staged(_until))


@app.command(
    "eval",
    epilog=examples(
        "safevla eval runs/quick/policies/lagrangian",
        "safevla eval random --suite hazard --suite benign eval.episodes=20",
        "safevla eval runs/quick/policies/clone --suite my-homes.jsonl.gz --out clone.jsonl",
    ),
)
def evaluate(
    agent: Annotated[
        str, typer.Argument(help="Policy folder, or zero, random, task_expert, careful_expert.")
    ],
    overrides: Overrides = None,
    preset: Preset = "quick",
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="hazard, benign, semantic, impossible, long_tail, ood, an axis of perturbation "
            "such as noise or noise-3, or a file, of scenarios or of a suite in YAML; repeat for "
            "several."
        ),
    ] = None,
    mode: Annotated[str, typer.Option(help="sampled or argmax.")] = "sampled",
    out: Annotated[
        Path | None, typer.Option(help="Also write the episodes to this .jsonl file.")
    ] = None,
) -> None:
    """Evaluate one policy or control arm and print success, costs and violation rate.

    Every number comes with its episodes and a 95 % interval. Environment and suite sizes are those
    of the preset.
    """
    from safevla.config import load_config, resolved_workers
    from safevla.display import Display
    from safevla.evaluate.evaluation import evaluate_agent
    from safevla.report.tables import as_rich, results_rows

    config = load_config(preset, overrides or [])
    display = Display()
    records = evaluate_agent(
        config,
        agent,
        suite_names=suite or ["hazard", "benign"],
        mode=mode,
        out=out,
        display=display,
        workers=resolved_workers(config),
    )
    display.console.print(as_rich(results_rows(records), levels=True))
    if out is not None:
        display.line(f"episodes: {out}")


@app.command(
    epilog=examples(
        "safevla report runs/quick",
        "safevla report runs/quick runs/quick-seed1 runs/quick-seed2 --markdown quick.md",
    )
)
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, e.g. runs/quick.")],
    markdown: Annotated[
        Path | None, typer.Option(help="Write one table of all runs (seeds) here instead.")
    ] = None,
    embed_videos: Annotated[
        bool, typer.Option("--embed-videos", help="Put the videos into the page itself.")
    ] = False,
) -> None:
    """Rebuild report.html, results.json and pictures from run folders alone."""
    from safevla.display import Display
    from safevla.pipeline.isa import rebuild_report
    from safevla.report.page import markdown_report

    for run in runs:
        if not run.is_dir():
            raise ValueError(f"run folder {str(run)!r} does not exist")
    if markdown is not None:
        if markdown.exists():
            raise ValueError(f"{markdown} exists; choose another --markdown")
        markdown.write_text(markdown_report(runs), encoding="utf-8")
        typer.echo(markdown)
        return
    for run in runs:
        typer.echo(rebuild_report(run, Display(), embed_videos=embed_videos))


@app.command(
    "sweep",
    epilog=examples(
        "safevla sweep multipliers",
        "safevla sweep my-levers.yaml --processes 8",
        "safevla sweep multipliers --tables   tables of what there is, nothing is run",
    ),
)
def sweep(
    name: Annotated[str, typer.Argument(help="A sweep of configs/sweeps, or a YAML file.")],
    runs: Runs = Path("runs"),
    processes: Annotated[int, typer.Option(help="Runs at the same time; 0: one per core.")] = 0,
    tables: Annotated[bool, typer.Option("--tables", help="Only write the tables.")] = False,
) -> None:
    """Compare settings: runs of one preset that differ in some, on several seeds, in one table.

    Runs of a seed share the stages that they have in common. Interrupt it at any time; the same
    command goes on where it stopped. Results are in RUNS/NAME.
    """
    from safevla.display import Display
    from safevla.pipeline.sweep import load_sweep, run_sweep, write_tables
    from safevla.workers import usable_cores

    if processes < 0:
        raise ValueError(f"--processes {processes}: must be at least 0")
    found = load_sweep(name)
    if not tables:
        try:
            run_sweep(found, runs, processes or usable_cores(), Display())
        except KeyboardInterrupt:
            typer.echo("interrupted; run the same command again to go on from here")
            raise typer.Exit(130) from None
    typer.echo(write_tables(found, runs / found.name))


register_assurance(app)
register_tools(app)


def main() -> None:
    """Entry point: runs the command line, turns user errors into one line and exit code 2."""
    explained(app)
