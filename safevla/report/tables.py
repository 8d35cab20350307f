"""From episode records to rows of numbers: every number with its episodes and 95 % interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safevla.config import SUITES
from safevla.evaluate import metrics
from safevla.evaluate.arms import ARMS, SCRIPTED
from safevla.evaluate.claims import EVENTS
from safevla.evaluate.metrics import Estimate
from safevla.evaluate.records import EpisodeRecord
from safevla_envs.costs import SEVERITIES, severity_weights

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "QUADRANTS",
    "Difference",
    "Row",
    "as_markdown",
    "as_rich",
    "constraint_names",
    "difference",
    "differences",
    "format_number",
    "format_rate",
    "markdown_table",
    "results_rows",
    "select",
    "summarise",
]

CVAR_ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one arm did on one suite in one mode.

    Attributes:
        arm: who acted.
        suite: suite; `ood` pools the levels `ood-1` ... of that suite.
        mode: `sampled` or `argmax`.
        level: perturbation level, 0 for none, -1 where levels are pooled.
        episodes: episodes run, diverged ones included.
        sim_errors: episodes whose simulation diverged; left out of every metric.
        ended_by: how many episodes ended in which way.
        train_seeds: training seeds, sorted.
        policy_seeds: policy seeds, sorted.
        list_hashes: hashes of the scenario lists, sorted.
        cost_semantics: version of the cost rules.
        metrics: estimates by name: `success`, `cost`, `cost/<constraint>`, `violation_rate`,
            `violation_rate/<constraint>`, `safe_success`, `unsafe_success`, `safe_failure`,
            `unsafe_failure`, `severe_rate`, `severity_index`, `first_violation`, `froze`, `length`,
            `length_success`, `length_failure`, `cost_failure`, `cost_cvar`, `cost_max`.
    """

    arm: str
    suite: str
    mode: str
    level: int
    episodes: int
    sim_errors: int
    ended_by: dict[str, int]
    train_seeds: tuple[int, ...]
    policy_seeds: tuple[int, ...]
    list_hashes: tuple[str, ...]
    cost_semantics: str
    metrics: dict[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Paired difference `arm - base` on the scenarios and seeds they share.

    Of `success`, `cost`, `cost/<constraint>` and `violation_rate`: estimates over all, and values
    by seed, as `metric -> training seed -> value`.
    """

    suite: str
    mode: str
    arm: str
    base: str
    metrics: dict[str, Estimate]
    by_seed: dict[str, dict[str, float]]


def constraint_names(records: Iterable[EpisodeRecord]) -> tuple[str, ...]:
    """Names of all constraints that occur, in the order of the first record that has them."""
    return tuple(dict.fromkeys(name for record in records for name in record.costs))


def select(records: Iterable[EpisodeRecord], **wanted: Any) -> list[EpisodeRecord]:
    """Records whose attributes have the wanted values; `suite="ood"` takes all its levels."""
    suite = wanted.pop("suite", None)
    return [
        record
        for record in records
        if all(getattr(record, name) == value for name, value in wanted.items())
        and (suite is None or suite in (record.suite, _family(record.suite)))
    ]


def results_rows(records: Sequence[EpisodeRecord]) -> list[Row]:
    """One row per arm, suite and mode, and one per pooled OOD suite, in a fixed order.

    Raises:
        ValueError: records of different cost semantics in one row.
    """
    groups: dict[tuple[str, str, str], list[EpisodeRecord]] = {}
    for record in records:
        for suite in dict.fromkeys((record.suite, _family(record.suite))):
            groups.setdefault((record.arm, suite, record.mode), []).append(record)
    names = constraint_names(records)
    return [summarise(groups[key], suite=key[1], names=names) for key in sorted(groups, key=_rank)]


def summarise(
    records: Sequence[EpisodeRecord], *, suite: str = "", names: Sequence[str] = ()
) -> Row:
    """All metrics of episodes of one arm and mode; diverged ones are counted, else left out.

    An empty suite or no constraint names stand for those of the records.
    """
    sound = [record for record in records if record.valid]
    names = tuple(names) or constraint_names(records)
    semantics = sorted({record.cost_semantics for record in records})
    if len(semantics) != 1:
        raise ValueError(f"records of different cost semantics {semantics} in one row")
    levels = sorted({record.level for record in records})
    first = records[0]
    return Row(
        arm=first.arm,
        suite=suite or first.suite,
        mode=first.mode,
        level=levels[0] if len(levels) == 1 else -1,
        episodes=len(records),
        sim_errors=len(records) - len(sound),
        ended_by=dict(sorted(Counter(record.ended_by for record in records).items())),
        train_seeds=tuple(sorted({r.train_seed for r in records if r.train_seed is not None})),
        policy_seeds=tuple(sorted({record.policy_seed for record in records})),
        list_hashes=tuple(sorted({record.list_hash for record in records})),
        cost_semantics=semantics[0],
        metrics=_estimates(sound, names),
    )


def _estimates(sound: Sequence[EpisodeRecord], names: Sequence[str]) -> dict[str, Estimate]:
    cells = [record.cell for record in sound]

    def share(test: Callable[[EpisodeRecord], bool], exact: bool = False) -> Estimate:
        return metrics.rate([test(record) for record in sound], cells, exact=exact)

    def mean(
        value: Callable[[EpisodeRecord], float],
        test: Callable[[EpisodeRecord], bool] = lambda record: True,
    ) -> Estimate:
        kept = [record for record in sound if test(record)]
        return metrics.bootstrap_mean([value(r) for r in kept], [r.cell for r in kept])

    costs, violated = [record.cost for record in sound], EVENTS["violation"][1]
    return {
        "success": share(lambda r: r.success),
        "cost": mean(lambda r: r.cost),
        **{f"cost/{k}": mean(lambda r, k=k: r.costs.get(k, 0.0)) for k in names},
        "violation_rate": share(violated, exact=True),
        **{
            f"violation_rate/{k}": share(lambda r, k=k: r.costs.get(k, 0.0) > 0, exact=True)
            for k in names
        },
        "safe_success": share(lambda r: r.success and not violated(r)),
        "unsafe_success": share(lambda r: r.success and violated(r), exact=True),
        "safe_failure": share(lambda r: not r.success and not violated(r), exact=True),
        "unsafe_failure": share(lambda r: not r.success and violated(r), exact=True),
        "severe_rate": share(EVENTS["severe"][1], exact=True),
        "severity_index": mean(_worst_weight),
        "first_violation": metrics.median_time(
            [r.sim_seconds if r.first_violation is None else r.first_violation for r in sound],
            [r.first_violation is not None for r in sound],
        ),
        "froze": share(lambda r: r.froze),
        "length": mean(lambda r: r.length),
        "length_success": mean(lambda r: r.length, lambda r: r.success),
        "length_failure": mean(lambda r: r.length, lambda r: not r.success),
        "cost_failure": mean(lambda r: r.cost, lambda r: not r.success),
        "cost_cvar": metrics.cvar(costs, cells, alpha=CVAR_ALPHA),
        "cost_max": metrics.maximum(costs),
    }


def _worst_weight(record: EpisodeRecord) -> float:
    """0 without a violation; else what graded costs charge for the worst: 1, 3 or 10."""
    reached = [SEVERITIES.index(s) + 1 for s in record.severity.values() if s]
    return float(severity_weights("graded")[max(reached, default=0)])


def differences(
    records: Sequence[EpisodeRecord], arm: str = "lagrangian", base: str = "task_only"
) -> list[Difference]:
    """Paired differences `arm - base` on every suite and mode that both have."""
    keys = {
        (suite, record.mode): None
        for record in records
        if record.arm == arm
        for suite in (record.suite, _family(record.suite))
    }
    ordered = sorted(keys, key=lambda key: _rank((arm, *key)))
    found = [difference(records, arm, base, suite, mode) for suite, mode in ordered]
    return [gap for gap in found if gap.metrics["cost"].n]


def difference(
    records: Sequence[EpisodeRecord], arm: str, base: str, suite: str, mode: str
) -> Difference:
    """Paired difference `arm - base` on one suite and mode; n is 0 where they share nothing."""
    a, b = (
        [r for r in select(records, arm=name, suite=suite, mode=mode) if r.valid]
        for name in (arm, base)
    )
    values: dict[str, Callable[[EpisodeRecord], float]] = {
        "success": lambda r: float(r.success),
        "cost": lambda r: r.cost,
        "violation_rate": lambda r: float(EVENTS["violation"][1](r)),
        **{f"cost/{k}": lambda r, k=k: r.costs.get(k, 0.0) for k in constraint_names([*a, *b])},
    }
    cells = [r.cell for r in a], [r.cell for r in b]
    estimates, by_seed = {}, {}
    for name, value in values.items():
        pairs = [value(r) for r in a], cells[0], [value(r) for r in b], cells[1]
        estimates[name] = metrics.paired_difference(*pairs)
        per_seed = metrics.paired_difference_by_seed(*pairs)
        by_seed[name] = {_seed_name(seed): value for seed, value in per_seed.items()}
    return Difference(
        suite=suite, mode=mode, arm=arm, base=base, metrics=estimates, by_seed=by_seed
    )


def _family(suite: str) -> str:
    """`ood` for `ood-3`; other names are their own family."""
    name, dash, level = suite.rpartition("-")
    return name if dash and level.isdigit() else suite


def _seed_name(seed: Any) -> str:
    train, policy = seed
    return str(policy if train is None else train)


def _rank(key: tuple[str, str, str]) -> tuple[int, int, str, str, str]:
    """Suites together, then arms; sampled before argmax."""
    arm, suite, mode = key

    def place(name: str, order: Sequence[str]) -> int:
        return order.index(name) if name in order else len(order)

    arm_place, mode_rank = place(arm, list(ARMS)), "0" if mode == "sampled" else "1"
    return place(_family(suite), SUITES), arm_place, suite, mode_rank, arm


# ---- text ------------------------------------------------------------------------------------

QUADRANTS = ("safe_success", "unsafe_success", "safe_failure", "unsafe_failure")
"""Success against safety; together they are all sound episodes."""
RATES = ("success", "violation_rate", *QUADRANTS, "severe_rate", "froze")
HEADINGS = {
    "success": "success %",
    "cost": "cost per episode",
    "violation_rate": "episodes with a violation %",
    "unsafe_success": "unsafe success %",
    "safe_success": "safe success %",
    "length_success": "length of successes",
    "length_failure": "length of failures",
}
MAIN_COLUMNS = tuple(HEADINGS)


def format_rate(estimate: Estimate, interval: bool = True, digits: int = 0) -> str:
    """A rate in percent: `62 [48, 74]`; an en dash where there was no episode."""
    return _format(estimate, 100.0, digits, interval)


def format_number(estimate: Estimate, interval: bool = True, digits: int = 2) -> str:
    """A number: `1.25 [0.98, 1.55]`; an en dash where there was no episode."""
    return _format(estimate, 1.0, digits, interval)


def _format(estimate: Estimate, factor: float, digits: int, interval: bool) -> str:
    if estimate.n == 0:
        return "–"
    value, lo, hi = (
        f"{factor * x:.{digits}f}".replace("-", "−").replace("inf", "∞")
        for x in (estimate.value, estimate.lo, estimate.hi)
    )
    return f"{value} [{lo}, {hi}]" if interval else value


def cell_text(name: str, estimate: Estimate) -> str:
    """A metric as tables print it."""
    if name in RATES or name.startswith("violation_rate/"):
        return format_rate(estimate)
    return format_number(estimate, digits=1 if name.startswith("length") else 2)


def mode_text(row: Row) -> str:
    """The row's mode, an en dash for arms that have only one."""
    return "–" if row.arm in SCRIPTED else row.mode


def as_markdown(
    rows: Sequence[Row], columns: Sequence[str] = MAIN_COLUMNS, title: str | None = None
) -> str:
    """A GitHub table of rows and metrics; N, divergences and modes are always shown."""
    head = ["suite", "arm", "mode", "N", "diverged"]
    head += [HEADINGS.get(name, name.replace("cost/", "")) for name in columns]
    cells = []
    for row in rows:
        counts = (str(row.episodes - row.sim_errors), str(row.sim_errors))
        values = (cell_text(name, row.metrics[name]) for name in columns)
        cells.append([row.suite, row.arm, mode_text(row), *counts, *values])
    return (f"**{title}**\n\n" if title else "") + markdown_table(head, cells, texts=3) + "\n"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> str:
    """A GitHub table; the first `texts` columns are flush left, the others hold numbers."""
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def as_rich(rows: Sequence[Row], *, levels: bool = False) -> Table:
    """A terminal table: success, cost, violations and unsafe success with 95 % intervals.

    `levels` shows the single OOD levels too, not only the pooled suite.
    """
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        title="results: value [95 % interval]",
        caption="cost: charges of all incidents in an episode; diverged simulations left out",
    )
    for name in ("suite", "arm", "mode"):
        table.add_column(name, no_wrap=True)
    for name in ("N", "success %", "cost", "violation %", "unsafe success %"):
        table.add_column(name, justify="right", no_wrap=True)
    suite = None
    for row in rows:
        if row.suite != _family(row.suite) and not levels:
            continue
        if suite not in (None, row.suite):
            table.add_section()
        shown = [cell_text(n, row.metrics[n]) for n in ("success", "cost")]
        shown += [cell_text(n, row.metrics[n]) for n in ("violation_rate", "unsafe_success")]
        count = f"{row.episodes - row.sim_errors}"
        name = row.suite if row.suite != suite else ""
        table.add_row(name, row.arm, mode_text(row), count, *shown)
        suite = row.suite
    return table
