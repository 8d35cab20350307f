"""The pictures of a report: plots, maps, and replays of the worst episodes of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from safevla.evaluate.arms import LEARNED
from safevla.evaluate.metrics import Estimate
from safevla.evaluate.records import EpisodeRecord
from safevla.files import read_json, write_json
from safevla.report import plots, spreads
from safevla.report.maps import comparison_map
from safevla.report.rundir import RunFolder
from safevla.report.tables import select, summarise

__all__ = ["Filmed", "film_worst", "plot_all", "scene_map"]

INDEX = "videos/episodes.json"


@dataclass(frozen=True, kw_only=True)
class Filmed:
    """One episode of a before-and-after pair: MP4, JPEG and PNG file relative to the run folder.

    They are None where it was not filmed; the note says how the replay differs from the record.
    """

    record: EpisodeRecord
    video: str | None = None
    poster: str | None = None
    strip: str | None = None
    note: str = ""


def film_worst(
    run: RunFolder,
    count: int,
    *,
    width: int = 480,
    height: int = 360,
    on_film: Callable[[str], Any] = lambda name: None,
) -> list[tuple[Filmed, ...]]:
    """Replays the worst episodes before and after, as videos and film strips.

    Episodes that have been filmed are not filmed again; `on_film` is called with the name of each
    that is. See `RunFolder.worst_pairs` and `record_episode`.
    """
    index = read_json(run.folder / INDEX) or {}
    return [
        tuple(_film(run, record, index, width, height, on_film) for record in pair)
        for pair in run.worst_pairs(count)
    ]


def _film(
    run: RunFolder,
    record: EpisodeRecord,
    index: dict[str, Any],
    width: int,
    height: int,
    on_film: Callable[[str], Any],
) -> Filmed:
    scenario = run.scenario(record)
    if scenario is None or not run.config.get("env"):
        return Filmed(record=record)
    name = f"{record.arm}.{record.suite}.{record.mode}.{record.scenario_index:03d}"
    if record.train_seed:
        name += f".seed{record.train_seed}"
    video, strip, poster = f"videos/{name}.mp4", f"strips/{name}.png", f"videos/{name}.jpg"
    key = {"setup": record.setup, "policy_seed": record.policy_seed, "size": [width, height]}
    known = index.get(name, {})
    made = all((run.folder / path).is_file() for path in (video, strip, poster))
    if not made or {k: known.get(k) for k in key} != key:
        from safevla.report.filming import replay_episode

        on_film(name)
        again = replay_episode(
            record,
            scenario,
            run.env_kwargs(),
            run.folder / video,
            strip=run.folder / strip,
            poster=run.folder / poster,
            width=width,
            height=height,
        )
        same = again.path == record.path and again.costs == record.costs
        index[name] = key | {"same": same, "cost": again.cost}
        write_json(run.folder / INDEX, index, sort_keys=True)
    entry = index[name]
    note = "" if entry["same"] else f"this replay took another course: cost {entry['cost']:g}"
    return Filmed(record=record, video=video, strip=strip, poster=poster, note=note)


def scene_map(run: RunFolder, pair: tuple[Filmed, ...]) -> bytes | None:
    """Maps of a pair's scenario with both paths, as PNG; None where the scenario is not kept."""
    scenario = run.scenario(pair[0].record)
    if scenario is None:
        return None
    return comparison_map(scenario, [filmed.record for filmed in pair])


def plot_all(run: RunFolder) -> dict[str, bytes]:
    """Every plot the run has data for, as PNG by name."""
    made: dict[str, bytes] = {}
    hazard = [row for row in run.rows if row.suite == "hazard" and row.mode == "sampled"]
    hazard = [row for row in hazard if row.episodes > row.sim_errors]
    if hazard:
        made["tradeoff"] = plots.tradeoff(
            hazard, "held-out hazard list: success against cost, 95 % intervals"
        )
    compared = [row for row in hazard if row.arm in LEARNED]
    if compared:
        made["constraints"] = plots.constraint_bars(
            compared, run.constraints, run.budgets, "hazard list: cost by constraint"
        )
        played = [r for r in select(run.records, suite="hazard", mode="sampled") if r.valid]
        costs = {row.arm: [r.cost for r in played if r.arm == row.arm] for row in compared}
        made["exceedance"] = spreads.exceedance(costs, "hazard list: cost of an episode")
    learned = [row for row in run.rows if row.arm in LEARNED and row.level <= 0]
    learned = [r for r in learned if r.mode == "sampled" and r.episodes > r.sim_errors]
    if learned:
        made["heatmap"] = spreads.cost_heatmap(
            learned, run.constraints, "cost per episode by suite and constraint"
        )
    if any(run.histories.values()):
        histories = {arm: history for arm, history in run.histories.items() if history}
        made["training"] = plots.training_curves(histories)
        if run.budgets:
            made["multipliers"] = plots.constraint_curves(histories, run.budgets)
    ood = _ood(run)
    if ood is not None:
        made["ood"] = ood
    return made


def _ood(run: RunFolder) -> bytes | None:
    """Curves over levels; level 0 is the unperturbed hazard list, on the same scenarios."""
    rows = [row for row in run.rows if row.level > 0 and row.mode == "sampled"]
    rows = [row for row in rows if row.arm in LEARNED and row.episodes > row.sim_errors]
    if not rows:
        return None
    base: dict[str, dict[str, Estimate]] = {}
    for arm in {row.arm for row in rows}:
        perturbed = select(run.records, arm=arm, suite="ood", mode="sampled")
        played = {(r.scenario_index, r.scenario_id) for r in perturbed}
        plain = select(run.records, arm=arm, suite="hazard", mode="sampled")
        plain = [r for r in plain if (r.scenario_index, r.scenario_id) in played]
        if any(r.valid for r in plain):
            base[arm] = summarise(plain).metrics
    axis = "+".join(run.config.get("eval", {}).get("ood_axes", ["images"]))
    return plots.ood_curve(rows, base, axis)
