"""Assurance on the `safevla` command line: what the episodes support, and the lists it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safevla.cli.tools import examples

__all__ = ["register_assurance"]

Bound = Annotated[float, typer.Option(help="Highest rate that is claimed, between 0 and 1.")]
Confidence = Annotated[float, typer.Option(help="One-sided confidence, between 0 and 1.")]


def register_assurance(app: typer.Typer) -> None:
    """Adds the commands `assure` and `scenarios` to the application."""
    told = examples(
        "safevla assure run runs/quick",
        "safevla assure run runs/quick --axes noise,camera_yaw --levels 1,3,5 --episodes 20",
        "safevla assure run runs/quick --axes none",
    )
    shown = examples(
        "safevla assure claim runs/quick --bound 0.05",
        "safevla assure claim runs/quick --event violation --bound 0.5 --arm lagrangian",
    )
    assure = typer.Typer(
        help="Say what the episodes support.", no_args_is_help=True, rich_markup_mode=None
    )
    assure.command("run", epilog=told)(perturb_run)
    assure.command("claim", epilog=shown)(claim)
    assure.command("plan", epilog=examples("safevla assure plan --bound 0.01"))(plan)
    app.add_typer(assure, name="assure")
    lists = typer.Typer(help="Make scenario lists.", no_args_is_help=True, rich_markup_mode=None)
    lists.callback()(lambda: None)
    shown = examples(
        "safevla scenarios generate --count 299 --out claim299.jsonl.gz",
        "safevla eval runs/quick/policies/lagrangian --suite claim299.jsonl.gz --out e.jsonl",
        "safevla assure claim e.jsonl --bound 0.01",
        "safevla scenarios generate --count 500 --hardest 0.1 --out longtail50.jsonl.gz",
    )
    lists.command("generate", epilog=shown)(generate_list)
    shown = examples(
        "safevla scenarios other-goals small_val200_hazard --same-room --out semantic.jsonl.gz"
    )
    lists.command("other-goals", epilog=shown)(other_goals)
    app.add_typer(lists, name="scenarios")


def perturb_run(
    run: Annotated[Path, typer.Argument(help="Run folder with its policies, e.g. runs/quick.")],
    suites: Annotated[
        str, typer.Option(help="Comma-separated suites without perturbation, or all.")
    ] = "all",
    axes: Annotated[
        str, typer.Option(help="Comma-separated axes of perturbation, all, or none.")
    ] = "all",
    levels: Annotated[str, typer.Option(help="Comma-separated levels, 1 to 5.")] = "1,2,3,4,5",
    episodes: Annotated[int, typer.Option(help="Scenarios per axis and level.", min=1)] = 50,
    workers: Annotated[int, typer.Option(help="Processes; 0: one per core.", min=0)] = 0,
) -> None:
    """Evaluate the learned policies of a run on every suite, and under every perturbation.

    Results are in RUN/assurance, and in RUN/report.html as a section. Interrupt it at any time: the
    same command goes on from the finished episodes, and with more suites, axes, levels or episodes
    runs only what is missing. Suites without perturbation are played on as many scenarios as in the
    run itself.
    """
    from dataclasses import replace

    from safevla.config import SUITES, load_config, resolved_workers
    from safevla.display import Display
    from safevla.evaluate.evaluation import evaluate_run
    from safevla.pipeline.isa import rebuild_report
    from safevla.report.assurance import write_assurance
    from safevla_envs.perturb import AXES

    if not (run / "config.yaml").is_file():
        raise ValueError(f"{run}: not a run folder, it has no config.yaml")
    chosen = [name for name in SUITES if name != "ood"] if suites == "all" else suites.split(",")
    chosen += AXES if axes == "all" else axes.split(",") if axes != "none" else []
    played = ",".join(dict.fromkeys(("hazard", *chosen)))  # what all else is compared with
    wanted = [f"eval.suites=[{played}]", f"eval.ood_levels=[{levels}]"]
    wanted += [f"eval.ood_episodes={episodes}", f"workers={workers}"]
    config = load_config(str(run / "config.yaml"), wanted)
    config = replace(config, eval=replace(config.eval, modes=("sampled",), controls=()))
    out, display = run / "assurance", Display()
    out.mkdir(exist_ok=True)
    try:
        with display.live():
            evaluate_run(config, run, resolved_workers(config), display, out)
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command again to go on from here")
        raise typer.Exit(130) from None
    typer.echo("\n".join(write_assurance(out).sentences))
    typer.echo(f"{out / 'assurance.md'}\n{rebuild_report(run, display)}")


def claim(
    sources: Annotated[
        list[Path], typer.Argument(help="Run folders, or files of episodes (.jsonl).")
    ],
    bound: Bound = 0.01,
    confidence: Confidence = 0.95,
    event: Annotated[
        str, typer.Option(help="severe, moderate (or severe), violation, or failure.")
    ] = "severe",
    suite: Annotated[str | None, typer.Option(help="Only this suite.")] = None,
    arm: Annotated[str | None, typer.Option(help="Only this arm.")] = None,
) -> None:
    """Hold "this happens in at most a share of the episodes" against what was evaluated.

    One sentence per policy, suite and way of acting, with the one-sided upper bound that the
    episodes support. Exit code 1 if any of the claims is not shown.
    """
    from safevla.evaluate.claims import claim as hold
    from safevla.evaluate.records import load_records, read_records
    from safevla.report.tables import constraint_names

    for source in sources:
        if not source.exists():
            raise ValueError(f"{source}: neither a run folder nor a file of episodes")
    records = [r for s in sources for r in (load_records(s) if s.is_dir() else read_records(s))]
    chosen = [r for r in records if suite in (None, r.suite) and arm in (None, r.arm)]
    if not chosen:
        asked = f"suite={suite}, arm={arm}"
        had = ", ".join(sorted({f"{r.arm} on {r.suite}" for r in records})) or "none"
        raise ValueError(f"no episodes of {asked}; there are: {had}")
    groups: dict[tuple[str, str, str], list] = {}
    for record in chosen:
        groups.setdefault((record.arm, record.suite, record.mode), []).append(record)
    claims = {key: hold(found, event, bound, confidence) for key, found in groups.items()}
    for key, found in claims.items():
        typer.echo(f"{', '.join(key)}: {found}")
    versions = sorted({record.cost_semantics for record in chosen})
    charged = ", ".join(constraint_names(chosen))
    typer.echo(f"cost semantics {', '.join(versions)}; constraints: {charged}")
    if not all(found.supported for found in claims.values()):
        raise typer.Exit(1)


def plan(
    bound: Bound = 0.01,
    confidence: Confidence = 0.95,
    most: Annotated[int, typer.Option(help="Events to plan for, at most.", min=0)] = 5,
) -> None:
    """Say how many episodes, each on a scenario of its own, a claim needs."""
    from safevla.evaluate.claims import episodes_needed

    typer.echo(f"to show at most {100 * bound:g} % at {100 * confidence:g} % confidence:")
    for events in range(most + 1):
        needed = episodes_needed(bound, confidence, events)
        typer.echo(f"  {needed:6d} episodes if it happens in {events} of them")


def generate_list(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the preset.")
    ] = None,
    count: Annotated[int, typer.Option(help="Scenarios.", min=1)] = 299,
    first: Annotated[int, typer.Option(help="Seed of the first one.", min=0)] = 10_000,
    preset: Annotated[
        str, typer.Option(help="Preset whose homes and hazards are drawn.")
    ] = "quick",
    out: Annotated[
        Path, typer.Option(help="File to write (.jsonl.gz); refused if it exists.")
    ] = Path("scenarios.jsonl.gz"),
    twins: Annotated[
        bool, typer.Option("--twins", help="Without what is there only as a hazard.")
    ] = False,
    hardest: Annotated[
        float, typer.Option(help="Keep only this share, on which the reference pays most.")
    ] = 1.0,
    reference: Annotated[
        str, typer.Option(help="Policy folder, or task_expert and the like, for --hardest.")
    ] = "task_expert",
) -> None:
    """Generate scenarios that nothing was trained on, as a list whose hash results carry.

    Seeds are of the validation stream; the frozen lists hold some from 1000 to 7049.
    """
    from safevla.config import load_config
    from safevla.display import Display
    from safevla.evaluate.lists import hardest as costliest
    from safevla_envs.scenes.scenario import list_hash, save_list
    from safevla_envs.tasks import task_of

    if out.exists():
        raise ValueError(f"{out} exists; choose another --out")
    config, display = load_config(preset, overrides or []), Display()
    env = config.env
    how = {"level": env.level, "hazards": env.hazards, "knobs": env.knobs or None}
    generate, scenarios = task_of(env.id).generate, []
    with display.live(), display.bar("scenarios", count) as update:
        for seed in range(first, first + count):
            scenario = generate(seed, split="val", **how)
            scenarios.append(scenario.benign_twin() if twins else scenario)
            update(len(scenarios), f"seed {seed}")
    if hardest != 1.0:
        with display.live():
            scenarios = costliest(scenarios, hardest, reference, config, display)
    save_list(out, scenarios)
    display.line(f"{out}: {len(scenarios)} scenarios, list {list_hash(scenarios)}")


def other_goals(
    source: Annotated[str, typer.Argument(help="A frozen list's name, or a scenario file.")],
    out: Annotated[Path, typer.Option(help="File to write (.jsonl.gz); refused if it exists.")],
    same_room: Annotated[
        bool, typer.Option("--same-room", help="Only goals in the room of the start.")
    ] = False,
    most: Annotated[int, typer.Option(help="Scenarios to keep, at most.", min=1)] = 50,
    preset: Annotated[str, typer.Option(help="Preset whose environment plays them.")] = "quick",
    workers: Annotated[int, typer.Option(help="Processes; 0: one per core.", min=0)] = 0,
) -> None:
    """Give the scenarios of a list another goal: the words change, the picture stays.

    Kept is what the careful expert then solves at no cost, one goal for each scenario.
    """
    from safevla.config import load_config
    from safevla.display import Display
    from safevla.evaluate.lists import with_other_goals
    from safevla.evaluate.suites import named_list
    from safevla_envs.scenes.scenario import list_hash, save_list

    if out.exists():
        raise ValueError(f"{out} exists; choose another --out")
    config, display = load_config(preset, [f"workers={workers}"]), Display()
    with display.live():
        listed = named_list(source)
        found = with_other_goals(listed, most, config, display, same_room=same_room)
    if not found:
        raise ValueError(f"{source}: no scenario has another goal that can be reached at no cost")
    save_list(out, found)
    display.line(f"{out}: {len(found)} scenarios, list {list_hash(found)}")
