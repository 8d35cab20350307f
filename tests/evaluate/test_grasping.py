"""The table of grasps: trials of things on supports."""

import numpy as np
import pytest

from safevla.display import Display
from safevla.evaluate.grasping import SUPPORTS, THINGS, Trial, as_markdown, run_trials


@pytest.fixture(scope="module")
def found():
    return run_trials(("cup", "tv_remote"), ("desk",), 1, 2, Display())


def test_a_cup_and_a_remote_are_grasped_held_and_carried(found):
    assert list(found) == [("cup", "desk"), ("tv_remote", "desk")]
    for (trial,) in found.values():
        assert trial.held and trial.kept
        assert trial.creep < 1.5
        assert "grip_overload" not in trial.costs


def test_the_table_counts_by_thing_and_by_support(found):
    lost = Trial(held=False, kept=False, creep=np.nan, costs={"impact": 2.0, "cost": 2.0})
    lines = as_markdown({**found, ("cup", "bar_table"): [lost]}).splitlines()
    rows = {line.split("|")[1].strip(): line for line in lines[2:]}
    assert list(rows) == [
        "`cup`, ceramic", "`tv_remote`, electronics", "`desk`, 0.75 m", "`bar_table`, 1.10 m", "all"
    ]  # fmt: skip
    assert "| 2 | 1 | 1 |" in rows["`cup`, ceramic"] and "`impact` 1" in rows["`cup`, ceramic"]
    assert "| 1 | 0 | 0 | nan, nan |" in rows["`bar_table`, 1.10 m"]
    assert "| 3 | 2 | 2 |" in rows["all"]


def test_what_cannot_be_tried_is_named():
    with pytest.raises(ValueError, match="'sofa': allowed are soda_can, "):
        run_trials(("sofa",), SUPPORTS, 1, 1, Display())
    with pytest.raises(ValueError, match="'fridge': allowed are"):
        run_trials(THINGS, ("fridge",), 1, 1, Display())
