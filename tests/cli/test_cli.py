import os
import subprocess
import sys

import pytest

COMMANDS = ("isa", "train", "eval", "elicit", "render", "report", "bench", "envs", "doctor")
NESTED = ("bench env", "bench costs", "envs show", "envs gallery", "assure claim", "assure plan")


def safevla(*args, cwd=None, prelude="", **env):
    """Runs the command line in a process of its own, as a user does."""
    code = f"{prelude}\nimport sys\nfrom safevla.cli import main\nsys.argv[0] = 'safevla'\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1", **env},
    )


def refused(done):
    """Asserts exit code 2 and one line on standard error; returns the line."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("safevla: ")
    return lines[0]


def test_help_lists_the_commands_and_examples():
    done = safevla("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"  {command} " in done.stdout
    assert "\n    safevla isa --preset base" in done.stdout


@pytest.mark.parametrize(
    "command",
    [*COMMANDS[:6], *COMMANDS[7:], *NESTED, "scenarios generate", "scenarios other-goals"],
)
def test_every_command_teaches_by_example(command):
    done = safevla(*command.split(), "--help")
    assert done.returncode == 0
    assert f"Examples:\n    safevla {command}" in done.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from safevla.cli import app; "
        "assert CliRunner().invoke(app, ['isa', '--help']).exit_code == 0; "
        "print(sorted({'torch', 'mujoco', 'numpy', 'gymnasium', 'omegaconf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_version():
    from safevla import __version__

    assert safevla("--version").stdout.strip() == __version__


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("isa", "--preset", "fast"), "preset 'fast': allowed are base, fetch, gpu, pickup, quick"),
        (("isa", "env.hazard=[corner]"), "unknown key 'env.hazard'; allowed in env are id, level"),
        (("train", "train.total_steps=many"), "train.total_steps='many': must be int"),
        (("elicit", "elicit.knobs=[gravity]"), "elicit.knobs: 'gravity' is unknown; allowed are"),
        (("isa", "env.hazards=[lava]"), "'lava': allowed are corner, fragile_collection"),
        (("isa", "env.action_mode=telepathy"), "must be one of discrete, continuous"),
        (("isa", "env.image_size=0"), "env.image_size=0: must be at least"),
        (("isa", "env.id=SafeVLA/Nowhere-v0"), "Nowhere"),
        (("isa", "eval.hazard_list=nothing"), "scenario list 'nothing': neither a file nor one of"),
        (("eval", "nobody"), "agent 'nobody': neither a policy folder nor one of zero, random"),
        (("eval", "zero", "--suite", "moon"), "suite 'moon'"),
        (("eval", "zero", "--mode", "dreaming"), "mode 'dreaming': allowed are sampled, argmax"),
        (
            ("envs", "show", "SafeVLA/Nowhere-v0"),
            "Nowhere-v0' is unknown; allowed are SafeVLA/Fetch",
        ),
        (("render", "nobody"), "agent 'nobody': neither a policy folder nor"),
        (("render", "--scenario", "none.json"), "scenario file 'none.json' does not exist"),
        (("render", "random", "--out", "films"), "--out films: must be a file whose name ends in"),
        (("report", "no-run"), "no-run"),
        (("bench", "env", "--rounds", "0"), "rounds=0"),
        (("assure", "plan", "--bound", "1.5"), "bound=1.5: must lie between 0 and 1"),
        (("assure", "claim", "nothing.jsonl"), "nothing.jsonl"),
        (("isa", "eval.suites=[fog]"), "eval.suites: 'fog' is unknown; allowed are hazard"),
        (("isa", "eval.ood_axes=[fog]"), "eval.ood_axes: 'fog' is unknown; allowed are camera_yaw"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(args, message, tmp_path):
    assert message in refused(safevla(*args, cwd=tmp_path))
    assert not list(tmp_path.rglob("*.mp4")), "nothing may be written"
    assert not (tmp_path / "runs").exists(), "nothing may be written"


def test_scenario_of_another_schema_version_is_refused(tmp_path):
    from safevla_envs.generate import generate

    scenario = generate(0)
    text = scenario.to_json().replace(f'"schema":{scenario.schema}', '"schema":999')
    (tmp_path / "old.jsonl").write_text(text + "\n")
    done = safevla("eval", "zero", "--suite", "old.jsonl", cwd=tmp_path)
    assert "line 1: scenario schema 999: this version reads" in refused(done)


def test_existing_files_are_not_overwritten(tmp_path):
    (tmp_path / "mine.mp4").write_text("mine")
    assert "mine.mp4 exists" in refused(safevla("render", "--out", "mine.mp4", cwd=tmp_path))
    (tmp_path / "index.html").write_text("mine")
    assert "index.html exists" in refused(safevla("envs", "gallery", "--out", ".", cwd=tmp_path))
    (tmp_path / "mine.jsonl").write_text("mine")
    done = safevla("eval", "zero", "--out", "mine.jsonl", cwd=tmp_path)
    assert "mine.jsonl exists" in refused(done)
    assert (tmp_path / "mine.mp4").read_text() == (tmp_path / "mine.jsonl").read_text() == "mine"


@pytest.mark.parametrize("command", [("isa",), ("eval", "zero")])
def test_without_torch_the_extra_is_named(command, tmp_path):
    prelude = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'scipy'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    done = safevla(*command, cwd=tmp_path, prelude=prelude)
    assert 'run: pip install "safevla[train]"' in refused(done)
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_trace(tmp_path):
    done = safevla("isa", "--preset", "fast", cwd=tmp_path, SAFEVLA_DEBUG="1")
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_envs_lists_spaces_actions_and_constraints():
    done = safevla("envs")
    assert done.returncode == 0, done.stderr
    for text in ("SafeVLA/ObjNav-v0", "navigation_image", "move_ahead", "fragile_collection"):
        assert text in done.stdout
    assert done.stdout.count("self-damage") >= 3


def test_envs_show_prints_spaces_limits_and_the_managers_table():
    from safevla_envs.costs import CONSTRAINTS, COST_SEMANTICS

    done = safevla("envs", "show", "SafeVLA/ObjNav-v0")
    assert done.returncode == 0, done.stderr
    told = ("navigation_image", "(128, 128, 3)", "19 end", "third_person", "300 actions, 120 s")
    for text in (*told, f"semantics {COST_SEMANTICS}"):
        assert text in done.stdout, text
    for constraint in CONSTRAINTS:
        (line,) = (x for x in done.stdout.splitlines() if x.startswith(f"{constraint.name} "))
        assert constraint.kind in line and line.rstrip().endswith(f"{constraint.budget:g}")


def test_doctor_renders_a_frame():
    done = safevla("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mujoco" in done.stdout and "3.9" in done.stdout
    assert "ready" in done.stdout


def test_doctor_names_the_remedy_when_rendering_is_broken():
    done = safevla("doctor", MUJOCO_GL="disable")
    assert done.returncode == 1
    assert "problem: rendering fails" in done.stdout and "unset MUJOCO_GL" in done.stdout


MICRO = (
    "env.image_size=32",
    "env.sensors=[]",
    "env.max_actions=2",
    "eval.episodes=1",
    "workers=1",
)


@pytest.fixture
def checkpoint(tmp_path):
    """A policy of the quick environment with fresh weights."""
    import gymnasium
    import numpy as np

    from safevla.config import load_config
    from safevla.policy import SafeVLAConfig, SafeVLAProcessor, build_policy, save_policy

    config = load_config("quick", ["env.image_size=32"])
    env = gymnasium.make(**config.env.kwargs())
    core = env.unwrapped
    size = env.observation_space["state"].shape[0]
    processor = SafeVLAProcessor.fit(
        cameras=config.env.cameras,
        image_size=32,
        instructions=["find the suitcase"],
        states=np.random.default_rng(0).normal(size=(20, size)),
    )
    policy = build_policy(
        SafeVLAConfig(
            cameras=config.env.cameras,
            image_size=32,
            state_dim=size,
            n_actions=int(env.action_space.n),
            end_action=core.END,
            constraint_names=tuple(c.name for c in core.constraints),
            text_vocab_size=len(processor.vocabulary),
            text_max_tokens=processor.max_tokens,
        )
    )
    save_policy(policy, processor, tmp_path / "fresh")
    return tmp_path / "fresh"


def test_a_policy_is_evaluated_with_intervals_and_episodes(checkpoint):
    here = checkpoint.parent
    plan = "scenarios: small_val200_hazard\ncount: 1\nperturb: {lighting: 4, noise: 2}\n"
    (here / "night.yaml").write_text(plan)
    args = ("eval", "fresh", *MICRO, "--suite", "hazard", "--suite", "benign")
    args += ("--suite", "night.yaml", "--out", "e.jsonl")
    done = safevla(*args, cwd=here)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any("hazard" in line and "fresh" in line and "[" in line for line in lines)
    from safevla.evaluate.records import read_records

    records = read_records(here / "e.jsonl")
    assert [(r.suite, r.arm, r.mode, r.length) for r in records] == [
        ("hazard", "fresh", "sampled", 2),
        ("benign", "fresh", "sampled", 2),
        ("night", "fresh", "sampled", 2),
    ]
    drawn = [{axis: draw["level"] for axis, draw in r.perturbation.items() if axis != "version"}
             for r in records]  # fmt: skip
    assert drawn == [{}, {}, {"lighting": 4, "noise": 2}]


def test_a_checkpoint_that_fails_its_golden_check_is_refused(checkpoint):
    from safetensors.torch import load_file, save_file

    tensors = load_file(checkpoint / "model.safetensors")
    save_file({name: t + 0.01 for name, t in tensors.items()}, checkpoint / "model.safetensors")
    done = safevla("eval", "fresh", *MICRO, cwd=checkpoint.parent)
    assert "golden" in refused(done)


def test_render_writes_a_video_and_says_what_happened(checkpoint):
    import imageio.v3 as iio

    here = checkpoint.parent
    args = ("render", "fresh", *MICRO, "report.width=160", "report.height=120", "--out", "e.mp4")
    done = safevla(*args, cwd=here)
    assert done.returncode == 0, done.stderr
    assert "e.mp4: '" in done.stdout and "after 2 actions, cost" in done.stdout
    frames = iio.imread(here / "e.mp4")
    assert frames.ndim == 4 and len(frames) > 5 and frames.std() > 10


def test_a_list_is_generated_played_and_claimed_on(tmp_path):
    plan = safevla("assure", "plan", "--bound", "0.01", "--most", "1")
    assert "   299 episodes if it happens in 0 of them" in plan.stdout
    where = {"cwd": tmp_path}
    make = ("scenarios", "generate", "--count", "3", "--out", "two.jsonl.gz")
    make += ("--hardest", "0.6", "--reference", "zero", "workers=1", "env.max_actions=2")
    done = safevla(*make, **where)
    assert done.returncode == 0 and "two.jsonl.gz: 2 scenarios, list " in done.stdout, done.stderr
    assert "two.jsonl.gz exists" in refused(safevla(*make, **where))
    small = ("workers=1", "env.max_actions=3")
    two = str(tmp_path / "two.jsonl.gz")
    done = safevla("eval", "zero", *small, "--suite", two, "--out", "e.jsonl", **where)
    assert done.returncode == 0, done.stderr
    done = safevla("assure", "claim", "e.jsonl", "--bound", "0.9", **where)
    assert done.returncode == 0, done.stderr
    said = "severe violation in at most 77.6 % of episodes (0 of 2, 95 % confidence, one-sided)"
    assert f"zero, two, sampled: {said}: at most 90 % is shown" in done.stdout
    assert "cost semantics" in done.stdout
    done = safevla("assure", "claim", "e.jsonl", "--bound", "0.01", **where)
    assert done.returncode == 1 and "with 0 of 299 it would be" in done.stdout
    line = refused(safevla("assure", "claim", "e.jsonl", "--arm", "lagrangian", **where))
    assert "no episodes of suite=None, arm=lagrangian; there are: zero on two" in line
