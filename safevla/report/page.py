"""The report of a run: one self-contained HTML page and `results.json`.

Both are functions of the run folder alone; building them again gives the same bytes. Videos lie
beside the page and are linked by relative paths.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from safevla.evaluate.arms import PPO_ARMS
from safevla.evaluate.diagnosis import MODES_OF_FAILURE, Finding, diagnose
from safevla.evaluate.metrics import Estimate
from safevla.files import read_json, write_json, write_text
from safevla.report.assurance import SCHEMA as ASSURANCE_SCHEMA
from safevla.report.assurance import levels_table
from safevla.report.maps import is_tall
from safevla.report.pictures import Filmed, film_worst, plot_all, scene_map
from safevla.report.rundir import RunFolder, results, severe_claims
from safevla.report.style import arm_label
from safevla.report.summary import constraint_facts, describe_stages
from safevla.report.tables import (
    HEADINGS,
    MAIN_COLUMNS,
    Difference,
    Row,
    as_markdown,
    as_rich,
    cell_text,
    format_number,
    format_rate,
    markdown_table,
    mode_text,
    results_rows,
    select,
)

__all__ = ["build_report", "markdown_report", "results_table", "verdict_line"]

TAIL_COLUMNS = {
    "success": "success %",
    "cost": "cost",
    "cost_cvar": "mean of worst 5 %",
    "cost_max": "worst",
    "cost_failure": "cost of failures",
    "severe_rate": "severe violation %",
    "severity_index": "severity index",
    "first_violation": "first violation / s",
    "ended_by": "how episodes ended",
    "froze": "froze %",
}
SECTIONS = (
    ("criteria", "Criteria"),
    ("results", "Results"),
    ("constraints", "Constraints"),
    ("ood", "Unfamiliar images"),
    ("assurance", "Perturbation"),
    ("training", "Training"),
    ("episodes", "Worst episodes"),
    ("method", "Method"),
    ("glossary", "Glossary"),
)
DIAGNOSED = 8
"""Kinds of events shown of each arm."""
SUITE_NAME = {
    "hazard": "Hazard list (held out)",
    "benign": "Benign twins (hazards removed)",
    "elicited": "Elicited scenarios (held-out half)",
    "ood": "Perturbed images, all levels",
    "semantic": "Other goals named in the same homes",
    "impossible": "Impossible goals",
    "long_tail": "Long tail: the worst tenth of a reference policy",
}


def build_report(
    run_dir: str | os.PathLike[str],
    *,
    on_film: Callable[[str], Any] = lambda name: None,
    embed_videos: bool = False,
) -> Path:
    """Writes `report.html` and `results.json`, and films the worst episodes if they are not yet.

    Parts of a run that are missing are left out. With `embed_videos` the page holds the videos
    themselves, some MB, and can be handed on alone. Returns the path of the page.

    Raises:
        ValueError: the folder does not exist, or a file in it is damaged.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise ValueError(f"run folder {str(folder)!r} does not exist")
    run = RunFolder(folder)
    settings = run.config.get("report", {})
    sizes = {name: int(settings[name]) for name in ("width", "height") if name in settings}
    pairs = film_worst(run, int(settings.get("videos", 2)), on_film=on_film, **sizes)
    write_json(folder / "results.json", results([run]))
    write_text(folder / "report.html", render(run, pairs, embed_videos))
    return folder / "report.html"


def results_table(run_dir: str | os.PathLike[str], *, levels: bool = False) -> Any:
    """The results of a run as a `rich` table for the terminal."""
    return as_rich(RunFolder(Path(run_dir)).rows, levels=levels)


def verdict_line(run_dir: str | os.PathLike[str]) -> str:
    """What the sampled actions of a run show, in one line."""
    verdict = RunFolder(Path(run_dir)).verdicts[0]
    return f"{verdict.mode} actions, {verdict.name}: {verdict.headline}"


def markdown_report(run_dirs: Sequence[str | os.PathLike[str]]) -> str:
    """Results of one run, or of several seeds together, as GitHub Markdown."""
    runs = [RunFolder(Path(folder)) for folder in run_dirs]
    content = results(runs)
    rows = results_rows([record for run in runs for record in run.records])
    names = runs[0].constraints if runs else ()
    shown = [row for row in rows if row.level <= 0]
    parts = []
    for verdict in content["verdicts"]:
        rules = [(f"{c.name}: {c.rule}", c.status, c.finding) for c in verdict.criteria]
        parts += [f"**{verdict.mode} actions: {verdict.name}.** {verdict.headline}\n"]
        parts += [markdown_table(("rule", "status", "finding"), rules, texts=3), ""]
    parts.append(as_markdown(shown, title="Results, value [95 % interval]"))
    costs = ("cost", *(f"cost/{name}" for name in names))
    parts.append(as_markdown(shown, costs, title="Cost per episode, by constraint"))
    parts.append("**PPO-Lagrangian minus task-only PPO, paired**\n")
    head = ("suite", "actions", "pairs", "cost", "success, points", "cost by training seed")
    gaps = [
        (
            gap.suite,
            gap.mode,
            str(gap.metrics["cost"].n),
            format_number(gap.metrics["cost"]),
            format_rate(gap.metrics["success"], digits=1),
            _by_seed(gap, named=True),
        )
        for gap in content["differences"]
    ]
    parts.append(markdown_table(head, gaps, texts=2))
    seeds = ", ".join(map(str, content["train_seeds"]))
    semantics = ", ".join(content["cost_semantics"])
    parts.append(f"\nTraining seeds {seeds or 'none'}; cost semantics {semantics or 'none'}.")
    return "\n".join(parts) + "\n"


def render(run: RunFolder, pairs: Sequence[tuple[Filmed, ...]], embed_videos: bool = False) -> str:
    """The page as text, with the episodes of `film_worst`."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("safevla.report").joinpath("report.html.j2").read_text("utf-8")
    return environment.from_string(source).render(_context(run, pairs, embed_videos))


def _context(
    run: RunFolder, pairs: Sequence[tuple[Filmed, ...]], embed_videos: bool
) -> dict[str, Any]:
    pooled = [row for row in run.rows if row.level <= 0]
    content = results([run])
    names = ("tradeoff", "exceedance", "constraints", "heatmap", "ood", "training", "multipliers")
    shown_plots = dict.fromkeys(names, "")
    shown_plots |= {name: _inline(png) for name, png in plot_all(run).items()}
    from safevla.report.video import frame_size  # draws in heavy libraries

    settings = run.config.get("report", {})
    width, height = int(settings.get("width", 480)), int(settings.get("height", 360))
    present = {"ood": shown_plots["ood"], "training": shown_plots["training"], "episodes": pairs}
    present["constraints"] = run.rows
    assured = present["assurance"] = _assurance(run.folder / "assurance")
    return {
        "run": run,
        "verdicts": run.verdicts,
        "claims": severe_claims(run.records),
        "sections": [s for s in SECTIONS if s[0] not in present or present[s[0]]],
        "groups": _groups(pooled),
        "all_groups": _groups(run.rows),
        "main_columns": MAIN_COLUMNS,
        "main_headings": list(HEADINGS.values()),
        "cost_columns": ["cost", *(f"cost/{name}" for name in run.constraints)],
        "cost_headings": ["total", *(name.replace("_", " ") for name in run.constraints)],
        "tail_columns": list(TAIL_COLUMNS),
        "tail_headings": list(TAIL_COLUMNS.values()),
        "diagnoses": _diagnoses(run),
        "failure_modes": MODES_OF_FAILURE,
        "gaps": [gap for gap in run.differences if gap.suite in SUITE_NAME],
        "constraints": constraint_facts(run),
        "plots": shown_plots,
        "assured": assured,
        "pairs": [_pair(run, pair, embed_videos) for pair in pairs],
        "video_ratio": " / ".join(map(str, frame_size(width, height))),
        "steps": describe_stages(run),
        "lists": _lists(run),
        "content": content,
        "arm_label": arm_label,
        "mode_text": mode_text,
        "cell": _cell,
        "suite_name": _suite_name,
        "by_seed": _by_seed,
        "format_number": format_number,
        "format_rate": format_rate,
    }


def _groups(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.suite, []).append(row)
    return list(groups.items())


def _assurance(folder: Path) -> dict[str, Any] | None:
    """What `safevla assure run` left of a run: sentences, the table of levels, pictures."""
    told = read_json(folder / "assurance.json")
    if told is None:
        return None
    if told.get("schema") != ASSURANCE_SCHEMA:
        found = f"schema {told.get('schema')}, this version reads {ASSURANCE_SCHEMA}"
        raise ValueError(f"{folder}/assurance.json: {found}; run `safevla assure run` again")
    pictures = {name: folder / f"{name}.png" for name in ("success", "cost", "suites")}
    levels = [row | {"gain": Estimate(**row["gain"])} for row in told["levels"]]
    return {
        "sentences": told["sentences"],
        "table": levels_table(levels, list(told["unperturbed"])),
        "plots": {n: _inline(p.read_bytes()) for n, p in pictures.items() if p.is_file()},
    }


def _diagnoses(run: RunFolder) -> dict[str, list[tuple[Finding, float]]]:
    """What went wrong most on the hazard list, by PPO arm, with its share of the cost."""
    found = {}
    for arm in PPO_ARMS:
        records = select(run.records, arm=arm, suite="hazard", mode="sampled")
        findings = diagnose(records, run.action_names(arm))
        total = sum(finding.charged for finding in findings)
        if total:
            found[arm] = [(f, f.charged / total) for f in findings[:DIAGNOSED]]
    return found


def _cell(row: Row, name: str) -> str:
    if name == "ended_by":
        return ", ".join(f"{key.replace('_', ' ')} {n}" for key, n in row.ended_by.items())
    if name == "cost_max":
        return format_number(row.metrics[name], interval=False)
    return cell_text(name, row.metrics[name])


def _suite_name(suite: str) -> str:
    family, _, level = suite.rpartition("-")
    if family == "ood" and level.isdigit():
        return f"Perturbed images, level {level}"
    return SUITE_NAME.get(suite, suite)


def _by_seed(gap: Difference, named: bool = False) -> str:
    found = gap.by_seed["cost"].items()
    texts = [f"{seed}: {value:+.2f}" if named else f"{value:+.2f}" for seed, value in found]
    return ", ".join(texts).replace("-", "−")


def _pair(run: RunFolder, pair: tuple[Filmed, ...], embed_videos: bool) -> dict[str, Any]:
    def source(path: str | None, kind: str) -> str:
        if not path or not embed_videos:
            return path or ""
        return _inline((run.folder / path).read_bytes(), kind)

    first = pair[0].record
    picture = scene_map(run, pair)
    scenario = run.scenario(first)
    return {
        "index": first.scenario_index,
        "instruction": first.instruction,
        "map": _inline(picture) if picture else "",
        "tall": scenario is not None and is_tall(scenario),
        "sides": [
            {
                "record": filmed.record,
                "strip": _inline((run.folder / filmed.strip).read_bytes()) if filmed.strip else "",
                "video": filmed.video or "",
                "source": source(filmed.video, "video/mp4"),
                "poster": source(filmed.poster, "image/jpeg"),
                "note": filmed.note,
            }
            for filmed in pair
        ],
    }


def _lists(run: RunFolder) -> list[tuple[str, str, int]]:
    counts: dict[tuple[str, str], set[int]] = {}
    for record in run.records:
        counts.setdefault((record.suite, record.list_hash), set()).add(record.scenario_index)
    return [(suite, digest, len(found)) for (suite, digest), found in sorted(counts.items())]


def _inline(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64," + base64.b64encode(content).decode()
