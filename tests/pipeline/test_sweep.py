"""Sweeps: many runs of one preset, and one table of them."""

import json

import pytest
import yaml
from fabricate import episodes

from safevla.config import load_config
from safevla.evaluate.records import write_records
from safevla.pipeline.sweep import Sweep, load_sweep, run_sweep, sweep_records, write_tables
from safevla.report.style import arm_label
from safevla_envs.resources import configs_dir

GOOD = {"preset": "quick", "seeds": [0, 1], "overrides": []}
GOOD["overrides"] += ["eval.controls=[]", "eval.learned=[lagrangian]"]
GOOD |= {"variants": {"a 0.5": ["train.n_steps=64"], "b": []}}


def written(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_the_sweeps_that_come_with_it_are_sound():
    names = [path.stem for path in (configs_dir() / "sweeps").glob("*.yaml")]
    assert {"multipliers", "elicitation"} <= set(names)
    for name in names:
        assert load_sweep(name).runs()


def test_a_sweep_is_every_variant_on_every_seed(tmp_path):
    sweep = load_sweep(written(tmp_path, GOOD))
    names = [run.folder_name for run in sweep.runs()]
    assert names == ["a-0_5-seed0", "a-0_5-seed1", "b-seed0", "b-seed1"]
    config = load_config(sweep.preset, sweep.runs()[1].overrides)
    assert (config.seed, config.workers, config.train.n_steps) == (1, 1, 64)
    assert config.eval.controls == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [-1]}, r"seeds is \[-1\]; it must be whole numbers from 0"),
        ({"seeds": 3}, "seeds is 3; it must be a list"),
        ({"variants": {}}, "variants is {}; it must be a dict"),
        ({"more": 1}, "must hold exactly preset, seeds, overrides, variants"),
        ({"variants": {"x": ["train.steps=3"]}}, "variant 'x': .*unknown key 'train.steps'"),
        ({"variants": {"x/y": [], "x y": []}}, "2 runs would share the folder x-y-seed0"),
        ({"preset": "fast"}, "preset 'fast': allowed are base, fetch, gpu, pickup, quick"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_said_before_anything_runs(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_sweep(written(tmp_path, GOOD | changes))


def test_a_sweep_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        ValueError, match="sweep 'such': allowed are elicitation, levers, multipliers, sensors"
    ):
        load_sweep("such")


def test_tables_pair_variants_with_the_first(tmp_path):
    sweep = load_sweep(written(tmp_path, GOOD))
    with pytest.raises(ValueError, match="no run of the sweep has been evaluated"):
        write_tables(sweep, tmp_path)
    costs = {"a 0.5": 4.0, "b": 1.0}
    for run in sweep.runs():
        if (run.variant, run.seed) == ("b", 1):
            continue  # not run yet
        records = episodes("lagrangian", cost=costs[run.variant], seeds=(run.seed,), success=0.8)
        path = tmp_path / run.folder_name / "eval/lagrangian.hazard.sampled.jsonl"
        path.parent.mkdir(parents=True)
        write_records(path, records)
    assert {record.arm for record in sweep_records(sweep, tmp_path)} == {"a 0.5", "b"}
    head, _, first, second = write_tables(sweep, tmp_path).read_text().splitlines()
    assert "cost minus a 0.5" in head
    cells = [cell.strip() for cell in first.split("|")]
    assert cells[1:5] == ["hazard", "a 0.5", "sampled", "100"] and cells[-2] == ""
    cells = [cell.strip() for cell in second.split("|")]
    assert cells[2:5] == ["b", "sampled", "50"] and "−3.00 [−3.00, −3.00]" in cells
    assert cells[-2] == "0: −3.00"
    assert (tmp_path / "hazard.png").stat().st_size > 5_000
    content = json.loads((tmp_path / "results.json").read_text())
    assert content[1]["difference"]["metrics"]["cost"]["value"] == -3.0


def test_a_variant_with_several_arms_names_them(tmp_path):
    sweep = load_sweep(written(tmp_path, GOOD | {"overrides": ["eval.learned=[task_only,clone]"]}))
    for arm in ("task_only", "clone", "random"):
        path = tmp_path / sweep.runs()[0].folder_name / f"eval/{arm}.hazard.sampled.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_records(path, episodes(arm, n=3))
    found = {record.arm for record in sweep_records(sweep, tmp_path)}
    assert found == {f"a 0.5, {arm_label(arm)}" for arm in ("task_only", "clone")}
    assert (
        f"cost minus a 0.5, {arm_label('task_only')}" in write_tables(sweep, tmp_path).read_text()
    )


@pytest.mark.slow
def test_runs_of_a_seed_share_what_they_have_in_common(micro, tmp_path, quiet):
    common = ("eval.controls=[]", "eval.suites=[hazard]", "eval.argmax_suites=[]")
    arm = {
        name: (f"arms=[{name}]", f"eval.learned=[{name}]") for name in ("task_only", "lagrangian")
    }
    variants = {
        "task": arm["task_only"],
        "fixed": (*arm["lagrangian"], "train.multipliers.rule=fixed"),
    }
    sweep = Sweep(name="s", preset=str(micro), seeds=(0,), overrides=common, variants=variants)
    folder = run_sweep(sweep, tmp_path / "runs", 2, quiet)
    manifests = {
        run.variant: {
            p.stem: p.read_text() for p in (folder / run.folder_name / "stages").iterdir()
        }
        for run in sweep.runs()
    }
    for stage in ("demos", "clone", "elicit", "pool"):
        assert manifests["task"][stage] == manifests["fixed"][stage], "copied"
    assert "train.lagrangian" not in manifests["task"]
    assert len(sweep_records(sweep, folder)) == 2 * 2
    before = manifests["fixed"]["train.lagrangian"]
    run_sweep(sweep, tmp_path / "runs", 1, quiet)
    stages = folder / sweep.runs()[1].folder_name / "stages"
    assert (stages / "train.lagrangian.json").read_text() == before, "done before"


def test_a_run_that_fails_stops_the_sweep_and_is_named(micro, tmp_path, quiet):
    sweep = Sweep(name="s", preset=str(micro), seeds=(0,), overrides=(), variants={"bad": ()})
    folder = tmp_path / "runs/s/bad-seed0"
    folder.mkdir(parents=True)
    (folder / "stages").write_text("a file in the way")
    with pytest.raises(RuntimeError, match=r"bad-seed0 failed .*logs/bad-seed0\.txt"):
        run_sweep(sweep, tmp_path / "runs", 1, quiet)
