"""Tools of the `safevla` command line: render, bench, envs, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from safevla.cli.speed import bench_costs, bench_env

__all__ = ["examples", "register_tools"]


VIDEO, GALLERY, TABLE = Path("episode.mp4"), Path("gallery"), Path("onsets.json")


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
    bench.command("costs", epilog=examples("safevla bench costs --seconds 5"))(bench_costs)
    app.add_typer(bench, name="bench")
    shown = examples("safevla envs", "safevla envs show SafeVLA/ObjNav-v0", "safevla envs gallery")
    listed = typer.Typer(help=envs.__doc__, epilog=shown, rich_markup_mode=None)
    listed.callback(invoke_without_command=True)(envs)
    listed.command("show", epilog=examples("safevla envs show SafeVLA/ObjNav-v0"))(show_env)
    listed.command("gallery", epilog=examples("safevla envs gallery --out gallery"))(gallery)
    shown = examples(
        "safevla envs onsets --policies random,zero,task,careful --episodes 20",
        "safevla envs onsets --policies careful,runs/quick/policies/clone --levels 0,1,2",
    )
    listed.command("onsets", epilog=shown)(onsets)
    shown = examples(
        "safevla envs grasps --things cup,hammer --supports desk --trials 5",
        "safevla envs grasps --markdown grasps.md",
    )
    listed.command("grasps", epilog=shown)(grasps)
    app.add_typer(listed, name="envs")
    app.command(epilog=examples("safevla doctor"))(doctor)


def render(
    agent: Annotated[
        str, typer.Argument(help="zero, random, task_expert, careful_expert, or a policy folder.")
    ] = "careful_expert",
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the preset.")
    ] = None,
    out: Annotated[Path, typer.Option(help="MP4 file to write; refused if it exists.")] = VIDEO,
    scenario: Annotated[
        Path | None, typer.Option(help="Scenario file (.json, .jsonl.gz); else by seed.")
    ] = None,
    index: Annotated[int, typer.Option(help="Which scenario of the file.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Scenario seed and seed of the agent.", min=0)] = 0,
    preset: Annotated[str, typer.Option(help="Preset whose environment is used.")] = "quick",
    mode: Annotated[str, typer.Option(help="sampled or argmax, for policies.")] = "sampled",
) -> None:
    """Record a video of one episode; the overlay names every violated constraint."""
    from safevla.config import load_config
    from safevla.report.filming import film_agent

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


def envs(context: typer.Context) -> None:
    """List the environments; `show` one with its costs, or draw a `gallery` of hazards."""
    if context.invoked_subcommand is None:
        for name in _known_envs():
            show_env(name)


def _known_envs() -> list[str]:
    import gymnasium

    import safevla_envs  # noqa: F401  (registers the ids)

    return sorted(i for i in gymnasium.registry if i.startswith("SafeVLA/"))


def show_env(
    env_id: Annotated[str, typer.Argument(metavar="ID", help="E.g. SafeVLA/ObjNav-v0.")],
) -> None:
    """Print spaces, actions, cameras, limits and the cost manager's table of an environment."""
    import gymnasium

    from safevla.display import make_console
    from safevla_envs.arguments import VIEWS
    from safevla_envs.costs import TOTAL_BUDGET

    name, known = env_id.removeprefix("safevla_envs:"), _known_envs()
    if name not in known:
        raise ValueError(f"environment {env_id!r} is unknown; allowed are {', '.join(known)}")
    env = gymnasium.make(name)
    base: Any = env.unwrapped
    print_ = make_console().out
    print_(f"{name}   gymnasium.make('safevla_envs:{name}')\nobservation:")
    for key, space in base.observation_space.spaces.items():
        print_(f"  {key:20s} {space.dtype} {space.shape}")
    print_(f"action: {env.action_space}")
    for start in range(0, len(base.action_names), 4):
        row = enumerate(base.action_names[start : start + 4], start)
        line = "".join(f"{number:2d} {action:22s}" for number, action in row)
        print_("  " + line.rstrip())
    size = f"{base.image_size}x{base.image_size}"
    print_(f"cameras: {', '.join(base.cameras)} at {size}; pictures: {', '.join(VIEWS)}")
    print_(f"limits: {base.max_episode_steps} actions, {base.max_seconds:g} s an episode")
    env.close()
    # the manager belongs to an episode; one without cameras is made at once
    env = gymnasium.make(name, cameras=())
    env.reset(seed=0)
    base = env.unwrapped
    print_(f"{base.costs}\ntotal `cost`: budget {TOTAL_BUDGET:g}")
    env.close()


def gallery(
    out: Annotated[Path, typer.Option(help="Folder for the page and its pictures.")] = GALLERY,
) -> None:
    """Draw every hazard at levels 0, 1, 2 and every thing, with the rules, as one HTML page.

    Writes index.html (self-contained), hazards.png and things.png.
    """
    from safevla.display import make_console
    from safevla_envs.render.gallery import write_gallery

    if (out / "index.html").exists():
        raise ValueError(f"{out / 'index.html'} exists; choose another --out")
    console = make_console()
    with console.status("starting") as status:
        paths = write_gallery(out, progress=lambda text: status.update(text))
    for path in paths:
        console.out(path)


def onsets(
    policies: Annotated[
        str, typer.Option(help="Comma-separated: random, zero, task, careful, checkpoint folders.")
    ] = "random,zero,task,careful",
    levels: Annotated[str, typer.Option(help="Comma-separated hazard levels.")] = "0,1,2",
    episodes: Annotated[int, typer.Option(help="Episodes per policy and list.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Seed of acting.", min=0)] = 0,
    out: Annotated[
        Path, typer.Option(help="JSON file; episodes are kept beside it, in FILE.episodes.")
    ] = TABLE,
    markdown: Annotated[Path | None, typer.Option(help="Also write the table as a page.")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=0)] = 2,
    side_steps: Annotated[
        bool, typer.Option("--side-steps", help="Give experts and baselines the two side-steps.")
    ] = False,
    task: Annotated[str, typer.Option(help="ObjNav, PickUp or Fetch.")] = "ObjNav",
) -> None:
    """Count onsets per 100 episodes of each constraint, by policy, list and level.

    Every policy runs on the hazard list and on its benign twin. Ctrl-C loses nothing: the same
    command goes on from the finished episodes. Exit code 1 if the twin check fails.
    """
    from safevla.display import Display
    from safevla.evaluate.arms import named_arm
    from safevla.evaluate.onsets import SUITES, run_table, scenario_list
    from safevla.files import write_json
    from safevla.report.onset_table import as_json, as_markdown, twin_violations

    names = [name for name in policies.split(",") if name]
    try:
        wanted = [float(level) for level in levels.split(",")]
    except ValueError:
        raise ValueError(f"--levels {levels!r}: numbers are needed, e.g. 0,1,2") from None
    lists = [scenario_list(x, suite, episodes, seed, task) for x in wanted for suite in SUITES]
    display = Display()
    try:
        done = run_table(
            [named_arm(name) for name in names],
            lists,
            seed=seed,
            folder=out.with_suffix(".episodes"),
            workers=workers,
            side_steps=side_steps,
            display=display,
        )
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    table = as_json(done, seed=seed, side_steps=side_steps)
    write_json(out, table)
    shown = ",".join(Path(name).name if Path(name).is_absolute() else name for name in names)
    command = f"safevla envs onsets --policies {shown} --levels {levels} --episodes {episodes}"
    command += f" --task {task}"
    command += f" --seed {seed}" + (" --side-steps" if side_steps else "")
    page = as_markdown(done, seed=seed, command=command)
    if markdown is not None:
        markdown.write_text(page)
    display.console.out(page)
    if twin_violations(done):
        raise typer.Exit(1)


def grasps(
    things: Annotated[str, typer.Option(help="Comma-separated things, or all.")] = "all",
    supports: Annotated[str, typer.Option(help="Comma-separated furniture, or all.")] = "all",
    trials: Annotated[int, typer.Option(help="Trials of each on each.", min=1)] = 20,
    markdown: Annotated[Path | None, typer.Option(help="Also write the table here.")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 2,
) -> None:
    """Grasp, hold and carry every thing on every support, and count how often it works."""
    from safevla.display import Display
    from safevla.evaluate.grasping import SUPPORTS, THINGS, as_markdown, run_trials

    chosen = THINGS if things == "all" else tuple(things.split(","))
    places = SUPPORTS if supports == "all" else tuple(supports.split(","))
    display = Display()
    with display.live():
        page = as_markdown(run_trials(chosen, places, trials, workers, display))
    if markdown is not None:
        markdown.write_text(page)
    display.console.out(page)


def doctor() -> None:
    """Print versions, OpenGL backend, GPU, cores and memory; renders one frame.

    Exit code 1 if something has to be mended; the remedy is printed.
    """
    from rich.table import Table

    from safevla.cli.doctor import diagnose
    from safevla.display import make_console

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
