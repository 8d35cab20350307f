import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from safevla.config import load_config, presets
from safevla.display import clock
from safevla.evaluate.arms import make_arm, named_arm
from safevla.evaluate.evaluation import jobs
from safevla.evaluate.suites import named_list, suites
from safevla.pipeline.isa import Pipeline
from safevla.pipeline.pool import ScenarioPool, generate_pool
from safevla.pipeline.stages import StageConflict
from safevla.pipeline.train_arm import ArmProcess, arm_config, wait_for
from safevla_envs.costs import COST_SEMANTICS
from safevla_envs.perturb import AXES


def test_the_arms_differ_in_their_multipliers_only():
    config = load_config("quick", ["seed=2"])
    task_only, lagrangian = (arm_config(config, arm) for arm in ("task_only", "lagrangian"))
    assert task_only.multipliers.rule == "zero" and lagrangian.multipliers.rule != "zero"
    for field in ("total_steps", "seed", "ppo", "critic", "rewards", "n_envs", "n_steps"):
        assert getattr(task_only, field) == getattr(lagrangian, field)
    assert task_only.seed != arm_config(load_config("quick"), "task_only").seed


def test_suites_pair_and_hold_what_the_preset_says(micro):
    config = load_config(str(micro)).eval
    found = suites(config)
    assert list(found) == [
        *("hazard", "benign", "semantic", "impossible", "long_tail", "ood-1"),
        *(f"{axis}-1" for axis in AXES),
    ]
    assert {scenario.impossible for scenario in found["impossible"].scenarios} == {
        "absent",
        "no_passage",
    }
    assert found["noise-1"].scenarios == found["ood-1"].scenarios
    assert repr(found["noise-1"].wrappers[0]).endswith("levels={'noise': 1})")
    assert found["ood-1"].scenarios == found["hazard"].scenarios[:1]
    assert found["ood-1"].level == 1 and len(found["ood-1"].wrappers) == 1
    for hazard, benign in zip(found["hazard"].scenarios, found["benign"].scenarios):
        assert hazard.benign_twin() == benign


def test_the_lists_of_presets_are_frozen():
    for preset in presets():
        config = load_config(preset).eval
        found = suites(config)
        counts = [len(found[suite].scenarios) for suite in ("hazard", "benign")]
        assert counts == [config.episodes] * 2
        assert len([name for name in found if name.startswith("ood-")]) == 5


def test_jobs_cover_arms_suites_and_modes(micro):
    config = load_config(str(micro))
    chosen = suites(config.eval)
    policy = make_arm("clone", "somewhere")
    spoilt = make_arm("black_images", "somewhere")
    blind = make_arm("random")
    todo = list(jobs(config.env, config.eval, chosen, [policy, spoilt, blind], seed=3))
    seen = {(j.arm, j.suite, j.deterministic) for j in todo}
    assert len(seen) == len(todo)
    assert {s for s in seen if s[0] == "clone"} == {
        ("clone", suite, mode)
        for suite in ("hazard", "benign", "ood-1")
        for mode in (False, True)
        if (suite, mode) != ("benign", True)  # argmax_suites leaves it out
    }
    assert {s for s in seen if s[0] == "black_images"} == {
        ("black_images", suite, False) for suite in ("hazard", "benign")
    }
    assert {s for s in seen if s[0] == "random"} == {
        ("random", suite, False) for suite in ("hazard", "benign")
    }
    for job in todo:
        shorter = chosen[job.suite].scenarios[: None if job.arm == "clone" else 1]
        assert job.scenarios == shorter
        assert job.policy_seed == config.eval.policy_seed + 3
        assert job.train_seed == (None if job.arm == "random" else 3)
        # arms that look at no image need none drawn
        assert job.env_kwargs["cameras"] == ([] if job.arm == "random" else ["navigation"])


def test_names_of_agents_and_lists_are_checked(tmp_path):
    assert named_arm("random").kind == "random"
    with pytest.raises(ValueError, match="neither a policy folder nor one of zero, random"):
        named_arm(str(tmp_path))
    with pytest.raises(ValueError, match=r"neither a file nor one of .*small_val200_hazard"):
        named_list("small_val200_hazards")


def test_too_few_scenarios_are_refused(micro):
    config = load_config(str(micro), ["eval.episodes=3"]).eval
    with pytest.raises(ValueError, match=r"eval\.episodes=3: the scenario lists hold 2"):
        suites(config)


def test_an_arm_that_fails_is_named_and_its_sibling_ends(tmp_path, quiet):
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    processes = [ArmProcess(tmp_path, arm, 10) for arm in ("task_only", "lagrangian")]
    with pytest.raises(ValueError, match=r"elicited list .* does not exist"):
        wait_for(processes, quiet)
    assert all(arm.process.poll() is not None for arm in processes)


def test_progress_of_an_arm_survives_a_torn_line(tmp_path):
    arm = object.__new__(ArmProcess)
    arm.progress_file = tmp_path / "progress.jsonl"
    assert arm.latest() == {}
    arm.progress_file.write_text('{"steps": 64}\n{"steps": 128}\n{"steps": 19')
    assert arm.latest() == {"steps": 128}


def test_the_pool_holds_what_an_environment_would_draw(micro, tmp_path, quiet):
    kwargs = load_config(str(micro)).env.kwargs(pool=3, cameras=[])
    generate_pool(kwargs, tmp_path / "pool.jsonl.gz", 2, quiet)
    source = gymnasium.make(**kwargs).unwrapped.source
    pool = ScenarioPool(tmp_path / "pool.jsonl.gz")
    for seed in (0, 2, 4):
        assert pool(seed) == source.next(seed, np.random.default_rng(0))
    moved = ScenarioPool((tmp_path / "pool.jsonl.gz").rename(tmp_path / "moved.jsonl.gz"))
    assert str(moved) == str(pool) and copy.copy(moved)(5) == pool(5)
    env = gymnasium.make(**kwargs | {"scenario": moved, "pool": None, "layouts": None})
    env.reset(seed=4)
    assert env.unwrapped.scenario == pool(4)


@pytest.mark.slow
def test_the_gpu_preset_runs_on_a_processor(tmp_path, quiet):
    small = [
        *("seed=1", "workers=2", "env.pool=4", "demos.episodes=4", "clone.device=cpu"),
        *("clone.updates=2", "clone.batch=2", "clone.held_out=0.25", "elicit.scenarios=4"),
        *("train.device=cpu", "train.n_envs=2", "train.workers=2", "train.n_steps=16"),
        *("train.total_steps=64", "train.ppo.warmup_iterations=1"),
    ]
    Pipeline(load_config("gpu", small), tmp_path / "run", display=quiet).run(until="train")
    for arm in ("task_only", "lagrangian"):
        summary = json.loads((tmp_path / "run/train" / arm / "summary.json").read_text())
        assert summary["iterations"] == 2
        assert (tmp_path / "run/policies" / arm / "model.safetensors").is_file()


def test_other_settings_are_refused_before_anything_runs(micro, tmp_path, quiet):
    folder = tmp_path / "run"
    config = load_config(str(micro))
    pipeline = Pipeline(config, folder, display=quiet)
    demos = pipeline.stages()["demos"][0]
    pipeline.runner.begin(demos)
    (folder / "demos").mkdir()
    (folder / "demos/mine.txt").write_text("mine")
    pipeline.runner.finish(demos)
    other = Pipeline(load_config(str(micro), ["demos.noise=0.3"]), folder, display=quiet)
    with pytest.raises(StageConflict, match=r"demos.noise was 0.1, is now 0.3"):
        other.run(until="demos")
    assert (folder / "demos/mine.txt").read_text() == "mine"
    assert not (folder / "config.yaml").exists()


def contents(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_finished_demonstrations_are_kept_and_parts_of_others_cleared(micro, tmp_path, quiet):
    folder, settings = tmp_path / "run", ["demos.episodes=2", "workers=1"]
    runs = [Pipeline(load_config(str(micro), settings), folder, display=quiet) for _ in range(2)]
    stage = runs[0].stages()["demos"][0]
    runs[0].runner.begin(stage)
    stage.run()
    demos = contents(folder / "demos")  # killed here, before the manifest says so
    runs[1].run(until="demos")
    assert contents(folder / "demos") == demos and runs[1].runner.is_done(stage)

    parts = folder / "demos.part"
    parts.mkdir()
    (parts / "job.json").write_text('{"seed": "of other settings"}')
    (parts / "000000.safetensors").write_bytes(b"of other settings")
    config = load_config(str(micro), [*settings, "demos.noise=0.3"])
    forced = Pipeline(config, folder, force=True, display=quiet)
    forced.runner.begin(forced.stages()["demos"][0])
    assert not parts.exists() and not (folder / "demos").exists()


def test_two_processes_cannot_share_a_run_folder(micro, tmp_path, quiet):
    import fcntl

    folder = tmp_path / "run"
    folder.mkdir()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StageConflict, match="in use by another safevla process"):
            Pipeline(load_config(str(micro)), folder, display=quiet).run(until="demos")
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_clock():
    assert [clock(s) for s in (4.4, 200, 7500)] == ["4 s", "3 min 20 s", "2 h 5 min"]


def launch(micro, *args):
    return subprocess.Popen(
        [sys.executable, "-m", "safevla.cli", "isa", "--preset", str(micro), "--name", "r", *args],
        cwd=micro.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # a shell's background jobs, and so tests in them, start with Ctrl-C ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def until_exists(path: Path, process, seconds=300.0):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.1)


@pytest.mark.slow
def test_the_whole_method_interrupted_and_resumed(micro):
    folder = micro.parent / "runs/r"
    process = launch(micro)
    until_exists(folder / "train/lagrangian/progress.jsonl", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert json.loads((folder / "stages/train.lagrangian.json").read_text())["finished"] is None
    demos = json.loads((folder / "stages/demos.json").read_text())

    process = launch(micro)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert "demos: done before" in output and "clone: done before" in output
    assert json.loads((folder / "stages/demos.json").read_text()) == demos
    for arm in ("task_only", "lagrangian"):
        lines = (folder / f"train/{arm}/progress.jsonl").read_text().splitlines()
        assert [json.loads(line)["steps"] for line in lines] == [64, 128, 192]
    assert (folder / "report.html").stat().st_size > 10_000
    assert list((folder / "videos").glob("*.mp4"))
    results = json.loads((folder / "results.json").read_text())
    assert results["cost_semantics"] == [COST_SEMANTICS]
    assert "lagrangian" in output and str(folder / "report.html") in output
    names = {path.name for path in (folder / "eval").glob("*.jsonl")}
    assert "lagrangian.ood-1.argmax.jsonl" in names and "random.benign.sampled.jsonl" in names
    assert "zero.ood-1.sampled.jsonl" not in names

    output, errors = launch(micro).communicate(timeout=120)
    assert output.count("done before") == 7, errors
    assured(folder)


def assured(folder):
    """Perturbs the policies of a run, on more scenarios and then again: nothing is played twice."""
    command = [sys.executable, "-m", "safevla.cli", "assure", "run", str(folder), "--axes", "noise"]
    command += ["--levels", "2,5", "--suites", "benign"]
    seen = []
    for count in ("1", "2", "2"):
        again = [*command, "--episodes", count]
        done = subprocess.run(again, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0 and "Axes that break success" in done.stdout, done.stderr
        files = sorted((folder / "assurance/eval").glob("*.jsonl"))
        seen.append({path.name: path.read_text() for path in files})
    assert seen[1] == seen[2] and len(seen[0]) == 12
    assert sum(text.count("\n") for text in seen[0].values()) < 24
    told = json.loads((folder / "assurance/assurance.json").read_text())
    assert [(c["arm"], c["level"], c["n"]) for c in told["cells"]][:2] == [
        ("clone", 2, 2),
        ("task_only", 2, 2),
    ]
    assert not {p.name for p in (folder / "eval").glob("*noise*")}
    assert 'id="assurance"' in (folder / "report.html").read_text(encoding="utf-8")
