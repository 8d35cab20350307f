import json
import re

import pytest
from fabricate import CONSTRAINTS, episodes, good_run

from safevla.evaluate.metrics import Estimate, clopper_pearson, wilson
from safevla.files import plain
from safevla.report.tables import (
    as_markdown,
    as_rich,
    differences,
    format_number,
    format_rate,
    results_rows,
    select,
    summarise,
)
from safevla_envs.costs import COST_SEMANTICS


def test_metrics_of_a_row_are_what_the_episodes_say():
    row = summarise(episodes("task_only", success=0.8, cost=1.25, n=40, wrong_end=0.1))
    m = row.metrics
    assert m["success"] == wilson(32, 40)
    assert m["cost"].value == pytest.approx(1.25)
    assert m["cost/corner"].value == pytest.approx(1.25)
    assert m["cost/impact"].value == 0.0
    assert m["violation_rate"] == clopper_pearson(40, 40)
    assert m["unsafe_success"].value == 0.8
    assert m["safe_success"].value == 0.0
    assert (m["length_success"].value, m["length_success"].n) == (20.0, 32)
    assert (m["length_failure"].value, m["length_failure"].n) == ((4 * 3 + 4 * 100) / 8, 8)
    assert m["cost_max"].value == 2.0
    assert m["cost_cvar"].value == pytest.approx(2.0)
    assert row.ended_by == {"max_steps": 4, "success": 32, "wrong_end": 4}
    assert (row.train_seeds, row.policy_seeds) == ((0,), (90_000,))
    assert (row.list_hashes, row.cost_semantics) == (("list-hazard",), COST_SEMANTICS)


def test_diverged_episodes_count_only_in_their_own_column():
    clean = summarise(episodes("random", success=0.5, n=20))
    row = summarise(episodes("random", success=0.5, n=20, sim_errors=4))
    assert (row.episodes, row.sim_errors) == (20, 4)
    assert all(e.n <= 16 for e in row.metrics.values())
    assert row.metrics["success"].value == 10 / 16
    assert row.metrics["safe_success"].value == 10 / 16
    assert clean.sim_errors == 0


def test_severe_rate_counts_episodes_with_a_severe_violation():
    records = episodes("random", cost=1.0, n=10)
    severe = [
        r.from_dict(r.as_dict() | {"severity": {"corner": "severe"}}) if i < 3 else r
        for i, r in enumerate(records)
    ]
    assert summarise(severe).metrics["severe_rate"].value == 0.3


def test_rows_are_ordered_and_levels_are_pooled():
    records = [
        *episodes("zero", n=5),
        *episodes("lagrangian", n=5, mode="argmax"),
        *episodes("lagrangian", n=5),
        *episodes("clone", n=5, suite="benign"),
        *episodes("clone", n=10, suite="ood-1", level=1, success=1.0),
        *episodes("clone", n=10, suite="ood-2", level=2, success=0.0),
    ]
    rows = results_rows(records)
    assert [(r.suite, r.arm, r.mode) for r in rows] == [
        ("hazard", "lagrangian", "sampled"),
        ("hazard", "lagrangian", "argmax"),
        ("hazard", "zero", "sampled"),
        ("benign", "clone", "sampled"),
        ("ood", "clone", "sampled"),
        ("ood-1", "clone", "sampled"),
        ("ood-2", "clone", "sampled"),
    ]
    pooled = rows[4]
    assert (pooled.metrics["success"].value, pooled.episodes, pooled.level) == (0.5, 20, -1)
    assert [r.level for r in rows[5:]] == [1, 2]
    assert len(select(records, suite="ood")) == 20
    assert len(select(records, suite="ood-2", arm="clone")) == 10


def test_mixed_cost_semantics_are_refused():
    records = episodes("zero", n=2)
    graded = [r.from_dict(r.as_dict() | {"cost_semantics": "1-graded"}) for r in records]
    with pytest.raises(ValueError, match="1-graded"):
        summarise([*records, *graded])


def test_differences_are_paired_and_given_per_seed():
    (gap,) = differences(good_run(seeds=(0, 1, 2)))
    assert (gap.suite, gap.mode, gap.arm, gap.base) == (
        "hazard", "sampled", "lagrangian", "task_only",
    )  # fmt: skip
    assert gap.metrics["cost"].n == 150
    assert gap.metrics["cost"].value == pytest.approx(-0.8, abs=0.02)
    assert gap.metrics["cost"].hi < -0.6
    assert gap.metrics["success"].value == pytest.approx(-0.04)
    assert set(gap.by_seed["cost"]) == {"0", "1", "2"}


def test_everything_becomes_json():
    records = good_run()
    text = json.dumps(
        {
            "rows": [plain(row) for row in results_rows(records)],
            "gaps": [plain(gap) for gap in differences(records)],
        },
        allow_nan=False,
    )
    row = json.loads(text)["rows"][0]
    assert row["metrics"]["success"]["n"] == 100
    assert row["metrics"]["cost_max"]["hi"] is None
    assert set(row["metrics"]) >= {f"cost/{name}" for name in CONSTRAINTS}


def test_markdown_holds_every_number_with_its_interval():
    rows = results_rows(episodes("lagrangian", success=0.5, cost=1.25, n=40))
    lines = as_markdown(rows).splitlines()
    assert len(lines) == 3
    assert len({line.count("|") for line in lines}) == 1
    assert "50 [35, 65]" in lines[2]
    assert re.search(r"\| 1\.25 \[1\.1\d, 1\.[34]\d\] \|", lines[2])
    assert "cost/corner" not in as_markdown(rows, ("cost/corner",))


def test_terminal_table_shows_pooled_levels_only_unless_asked():
    records = [
        *episodes("clone", n=10, suite="ood-1", level=1),
        *episodes("clone", n=10, suite="ood-2", level=2),
        *episodes("zero", n=10),
    ]
    rows = results_rows(records)
    assert as_rich(rows).row_count == 2
    assert as_rich(rows, levels=True).row_count == 4


def test_numbers_are_printed_plainly():
    e = Estimate(value=-0.5, n=4, lo=-1.0, hi=0.25, method="x")
    assert format_number(e) == "−0.50 [−1.00, 0.25]"
    assert format_rate(e) == "−50 [−100, 25]"
    assert format_number(e, interval=False) == "−0.50"
    nothing = Estimate(value=float("nan"), n=0, lo=float("nan"), hi=float("nan"), method="x")
    assert format_rate(nothing) == "–"
