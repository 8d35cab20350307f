import io

import numpy as np
import pytest
from fabricate import CONSTRAINTS, episodes, good_run
from matplotlib.text import Text
from PIL import Image

from safevla.evaluate.arms import ARMS
from safevla.report import plots, spreads
from safevla.report.tables import results_rows

BUDGETS = dict.fromkeys(CONSTRAINTS, 0.1)


def colours(png):
    """Share of pixels of each arm's colour."""
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    found = {}
    for arm, entry in ARMS.items():
        rgb = [int(entry.color[i : i + 2], 16) for i in (1, 3, 5)]
        found[arm] = (np.abs(image - rgb).max(-1) <= 8).mean()
    return found


def history(cost, steps=20):
    return [
        {
            "steps": 1024 * (i + 1),
            "success": None if i == 0 else float("nan") if i == 1 else 0.9,
            "cost": cost,
            "length": 20.0,
            "costs": dict.fromkeys(CONSTRAINTS, cost),
            "lambda": dict.fromkeys(CONSTRAINTS, 2.0),
        }
        for i in range(steps)
    ]


def hazard_rows(records=None):
    return [r for r in results_rows(records or good_run()) if r.mode == "sampled"]


@pytest.mark.parametrize(
    "png",
    [
        plots.training_curves({"task_only": history(1.0), "lagrangian": history(0.2)}),
        plots.constraint_curves(
            {"task_only": history(1.0), "lagrangian": history(0.2)}, BUDGETS
        ),
        plots.constraint_curves(
            {"task_only": history(1.0), "lagrangian": history(0.2)}, {"cost": 0.5}
        ),
        plots.constraint_bars(
            [r for r in hazard_rows() if r.arm in ("task_only", "lagrangian")],
            CONSTRAINTS, BUDGETS, "title",
        ),
        plots.tradeoff(hazard_rows(), "title"),
    ],
    ids=["training", "constraints", "total", "bars", "tradeoff"],
)  # fmt: skip
def test_both_arms_are_drawn(png):
    found = colours(png)
    assert found["task_only"] > 1e-4
    assert found["lagrangian"] > 1e-4


def test_iterations_without_an_episode_leave_a_gap_not_an_error():
    empty = [entry | {"success": None, "cost": None, "costs": {}} for entry in history(1.0)]
    assert colours(plots.training_curves({"lagrangian": empty}))["task_only"] == 0


def test_ood_levels_and_their_base_are_drawn():
    records = [r for level in (1, 2, 3) for r in episodes("lagrangian", n=5, level=level,
               suite=f"ood-{level}", success=1 - level / 5, cost=level / 5)]  # fmt: skip
    rows = [row for row in results_rows(records) if row.level > 0]
    base = {"lagrangian": rows[0].metrics}
    with_base = plots.ood_curve(rows, base, "lighting+colour")
    without = plots.ood_curve(rows, {}, "lighting+colour")
    assert colours(with_base)["lagrangian"] > colours(without)["lagrangian"] > 0


def test_an_arm_that_costs_far_more_does_not_squeeze_the_others():
    rows = hazard_rows([*good_run(), *episodes("random", cost=40.0, seeds=(5,))])
    assert plots._axis_end(rows) < 10
    assert plots._axis_end([]) > 0


def test_plots_are_the_same_every_time():
    assert plots.tradeoff(hazard_rows(), "t") == plots.tradeoff(hazard_rows(), "t")


def test_names_of_points_close_together_do_not_cover_each_other():
    points = {"first": (2.0, 79.0), "second": (2.02, 79.2), "third": (2.04, 78.9), "far": (6.0, 80)}
    with plots.plot_style() as plt:
        figure, ax = plt.subplots(figsize=(8, 4))
        ax.plot(*zip(*points.values()), "o")
        plots._name_points(ax, points, ["first"])
        renderer = figure.canvas.get_renderer()
        boxes = [Text.get_window_extent(label, renderer) for label in ax.texts]
        assert sorted(label.get_text() for label in ax.texts) == sorted(points)
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i])
        plt.close(figure)


def test_the_heatmap_darkens_with_cost():
    def mean_of(cost):
        rows = results_rows([*episodes("clone", cost=cost), *episodes("clone", suite="benign")])
        png = spreads.cost_heatmap(rows, CONSTRAINTS, "costs")
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(float)[..., 2].mean()

    assert mean_of(0.0) > mean_of(2.0) + 3.0


def test_the_share_above_a_cost_is_one_minus_the_ecdf():
    x, y = spreads.above([1, 0, 7, 1])
    np.testing.assert_array_equal(x, [0, 1, 7])
    np.testing.assert_array_equal(y, [75, 25, 0])
    x, y = spreads.above([2, 3])
    np.testing.assert_array_equal(y, [100, 50, 0])
    drawn = colours(spreads.exceedance({"clone": [1, 0, 7, 1], "lagrangian": [0, 0, 2]}, "costs"))
    assert drawn["clone"] > 1e-3 < drawn["lagrangian"] and drawn["task_only"] < 1e-4
