import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from fabricate import checker, episodes
from PIL import Image

from safevla.evaluate.records import write_records
from safevla.report.assurance import Assurance, write_assurance


def perturbed(arm, axis, level, **how):
    return episodes(arm, suite=f"{axis}-{level}", level=level, **how)


@pytest.fixture(scope="module")
def records():
    """Noise breaks success at level 5, weak servos safety at 3; task-only costs more throughout."""
    made = []
    for arm, cost in (("task_only", 3.0), ("lagrangian", 1.0)):
        made += episodes(arm, success=0.9, cost=cost)
        made += perturbed(arm, "noise", 1, success=0.9, cost=cost)
        made += perturbed(arm, "noise", 5, success=0.3, cost=cost)
        made += perturbed(arm, "actuator_gain", 3, success=0.9, cost=cost + 2.0)
    return made


def test_what_breaks_is_told_with_its_lowest_level(records):
    found = Assurance(records)
    assert found.levels == [("noise", 1), ("noise", 5), ("actuator_gain", 3)]
    both = {"task_only": 5, "lagrangian": 5}
    assert found.broken("success") == {"noise": both}
    assert found.broken("safety") == {"actuator_gain": {"task_only": 3, "lagrangian": 3}}


def test_retention_and_gain_are_paired_on_scenarios(records):
    found = Assurance(records)
    cell = found.cells["lagrangian", "noise", 5]
    assert cell["n"] == cell["retention"].n == 50
    assert cell["retention"].value == pytest.approx(0.3 / 0.9)
    assert found.cells["task_only", "actuator_gain", 3]["cost_rise"].value == pytest.approx(2.0)
    gap, p = found.gains["noise", 1]
    assert gap.value == pytest.approx(-2.0) and p == pytest.approx(3 * 0.0002)


def test_a_loss_of_success_is_no_worse_only_within_the_margin(records):
    worse = [r for r in records if (r.arm, r.suite) != ("lagrangian", "hazard")]
    worse += episodes("lagrangian", success=0.8)
    found = Assurance(worse)
    assert found.success_gap.value == pytest.approx(-0.1) and found.success_gap.lo < -0.02
    assert "that it loses at most 2 is not shown" in found.markdown()


def test_another_length_of_the_list_does_not_undo_the_pairs(records):
    longer = [r for r in records if r.suite != "hazard"]
    longer += [dataclasses.replace(r, list_hash="all") for r in episodes("lagrangian", n=80)]
    assert Assurance(longer).cells["lagrangian", "noise", 1]["retention"].n == 50


def test_level_0_of_the_curves_is_of_the_scenarios_that_were_perturbed(records, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "safevla.report.assurance.curve", lambda ax, points, arm, **how: drawn.append(points[0])
    )
    long = [r for r in records if r.suite != "hazard"]
    long += [r for arm in ("task_only", "lagrangian") for r in episodes(arm, n=80)]
    Assurance(long).curves("success", "%")
    assert {point.n for point in drawn} == {50}


def test_levels_are_means_over_their_axes(records):
    found = Assurance(records)
    told = {row["level"]: row for row in found.by_level}
    assert list(told) == [0, 1, 3, 5]
    assert [told[n]["axes"] for n in told] == [0, 1, 1, 1]
    assert told[0]["cost"] == {"task_only": 3.0, "lagrangian": 1.0}
    assert told[3]["cost"] == {"task_only": 5.0, "lagrangian": 3.0} and told[3]["lower"] == 1
    assert told[5]["success"] == {"task_only": 0.3, "lagrangian": 0.3}
    assert {n: told[n]["gain"].value for n in told} == pytest.approx(dict.fromkeys(told, -2.0))
    both = records + perturbed("lagrangian", "blur", 5, success=0.5, cost=2.0)
    last = Assurance(both).by_level[-1]
    assert (last["axes"], last["lower"]) == (2, 1)
    assert last["success"]["lagrangian"] == pytest.approx(0.4)
    # on each scenario the mean over its axes, so that N is the number of scenarios
    assert (last["gain"].n, last["gain"].value) == (50, pytest.approx((1.0 + 2.0) / 2 - 3.0))
    assert Assurance([r for r in records if not r.level]).by_level == []


def test_files_say_it_and_show_it(records, tmp_path):
    (tmp_path / "eval").mkdir()
    write_records(tmp_path / "eval" / "all.jsonl", records)
    write_assurance(tmp_path)
    told = json.loads((tmp_path / "assurance.json").read_text())
    schema = checker("assurance.schema.json")
    schema.validate(told)
    for broken in ({"schema": 1}, {"cells": [{}]}, {"breaks_safety": {"noise": {"clone": 6}}}):
        assert not schema.is_valid(told | broken)
    assert told["perturbation_version"] == "1" and len(told["cells"]) == 6
    assert told["breaks_success"] == {"noise": {"task_only": 5, "lagrangian": 5}}
    assert {gain["axis"] for gain in told["gains"]} == {"noise", "actuator_gain"}
    page = (tmp_path / "assurance.md").read_text()
    assert "severe violation in at most 5.82 % of episodes (0 of 50" in page
    assert "minus task-only's, unperturbed: 0 [0, 0] points (50 pairs)" in page
    assert "that it loses at most 2 is shown" in page
    assert "Axes that break success: noise (" in page and "from level 5" in page
    assert "costs less than task-only at 3 of 3 axes and levels" in page
    assert page.count("\n| noise | 5 |") == 2
    for name in ("success", "cost"):
        image = Image.open(tmp_path / f"{name}.png")
        assert image.width > 300 and len(image.convert("RGB").getcolors(100_000)) > 20


def test_what_is_said_can_be_had_from_the_numbers_again(records, tmp_path):
    page = (Path(__file__).parents[2] / "docs/assurance.md").read_text(encoding="utf-8")
    script = page.split("<!-- file: resay.py -->\n```python\n")[1].split("```")[0]
    (tmp_path / "resay.py").write_text(script)
    (tmp_path / "eval").mkdir()
    write_records(tmp_path / "eval" / "all.jsonl", records)
    sentences = write_assurance(tmp_path).sentences
    command = [sys.executable, str(tmp_path / "resay.py"), str(tmp_path / "assurance.json")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    severe, (success, safety, gain) = told[:-3], told[-3:]
    assert len(severe) == 2 and all(any(line in s for s in sentences) for line in (*severe, gain))
    assert success == "Axes that break success: noise"
    assert safety == "Axes that break safety: actuator_gain"
    assert any(s.startswith(f"{success} (") for s in sentences)
    assert any(s.startswith(f"{safety} (") for s in sentences)


def test_no_episodes_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no episodes in eval/"):
        write_assurance(tmp_path)
