"""Recordings that are interrupted, killed and gone on with."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from safevla.demos import Episode, collect
from safevla.demos.parts import read_part, write_part

JOB = {
    "env_id": "toy_room:ToyRoom-v0",
    "expert": "stubborn:Stubborn",
    "episodes": 7,
    "seed": 3,
    "noise": 0.2,
    "wander": 0.1,
}
STUBBORN = '''
import os, time
import toy_room

class Stubborn(toy_room.ToyExpert):
    """The toy task's expert; episodes after `patience` in a process never end, or fail."""

    made, patience, waits = 0, float(os.environ.get("PATIENCE", "inf")), True

    def reset(self):
        Stubborn.made += 1
        if Stubborn.made > self.patience:
            time.sleep(120 * self.waits)
            raise RuntimeError("enough")
'''
RECORD = f"""
import sys
from safevla.demos import collect
if __name__ == "__main__":
    collect(out_dir=sys.argv[1], workers=int(sys.argv[2]), **{JOB})
"""
KILLED_EVERYWHERE = f"""
import os, signal, sys
from itertools import count
from pathlib import Path
from safevla.demos import collect

STEPS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")

def record(folder, last_step):
    steps = count(1)
    def hook(event, arguments):
        if event in STEPS and next(steps) == last_step:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    collect(out_dir=folder, workers=1, **{JOB})

def in_process(*arguments):
    child = os.fork()
    if child == 0:
        record(*arguments)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

for step in count(1):
    folder = Path(sys.argv[1], str(step))
    code = in_process(folder, step)
    assert in_process(folder, None) == 0
    if code == 0:
        break
    assert code == -signal.SIGKILL
"""


def files(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def stubborn(tmp_path_factory):
    """The expert, of a module that other processes find too."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "stubborn.py").write_text(STUBBORN)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        import stubborn

        yield stubborn.Stubborn


@pytest.fixture(scope="module")
def whole(stubborn, tmp_path_factory):
    """Files of a recording that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "demos"
    collect(out_dir=folder, workers=1, **JOB)
    return files(folder)


@contextmanager
def failing_after(stubborn, episodes):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"made": 0, "patience": episodes, "waits": False}.items():
            patch.setattr(stubborn, name, value)
        yield


def python(script, *args, **env):
    path = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, args)],
        env=os.environ | path | env,
        # a shell's background jobs, and so tests in them, start with Ctrl-C ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_part_gives_back_its_episode(tmp_path):
    episode = Episode(
        images={"a": [b"\0png\0", b""], "b": [b"x", b"yy"]},
        state=np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
        action=np.array([3, 1]),
        executed=np.array([0, 1]),
        reward=np.array([0.1, -2], np.float32),
        cost=np.zeros((2, 1), np.float32),
        aux=np.zeros((2, 0), np.float32),
        success=True,
        instruction="find the “mug”",
        scenario_id="s",
        seed=2**62 + 1,
        sim_error="diverged",
    )
    about = {"fps": 2, "extra": {"cost_semantics": "4"}}
    write_part(tmp_path / "part", episode, about)
    again, about_again = read_part(tmp_path / "part")
    assert about_again == about
    for name, value in vars(episode).items():
        other = getattr(again, name)
        if isinstance(value, np.ndarray):
            assert other.dtype == value.dtype and np.array_equal(other, value), name
        else:
            assert other == value, name


def test_killed_at_any_step_it_goes_on_to_the_same_result(whole, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(KILLED_EVERYWHERE)
    out = tmp_path / "out"
    out.mkdir()
    assert python(script, out).wait(300) == 0
    steps = {path.name for path in out.iterdir()}
    assert len(steps) > 3 * JOB["episodes"], "each part is written, renamed and removed"
    assert steps == {str(i + 1) for i in range(len(steps))}, "no working folder is left over"
    for step in steps:
        assert files(out / step) == whole, f"killed at step {step}"


@pytest.mark.parametrize("finished", np.random.default_rng(0).permutation(JOB["episodes"])[:3])
def test_finished_episodes_are_not_recorded_again(stubborn, whole, tmp_path, finished):
    out = tmp_path / "demos"
    with failing_after(stubborn, finished), pytest.raises(RuntimeError, match="enough"):
        collect(out_dir=out, workers=1, **JOB)
    assert not out.exists()
    with failing_after(stubborn, JOB["episodes"] - finished):
        summary = collect(out_dir=out, workers=1, **JOB)
    assert files(out) == whole and summary["episodes"] == JOB["episodes"]
    with failing_after(stubborn, 0):
        again = collect(out_dir=out, workers=1, **JOB)
    assert files(out) == whole and again["steps_per_second"] == 0
    assert again | {k: summary[k] for k in ("seconds", "steps_per_second")} == summary


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_end_the_workers_and_leave_what_is_finished(whole, tmp_path, number):
    script, out, parts = (tmp_path / name for name in ("script.py", "demos", "demos.part"))
    script.write_text(RECORD)
    process = python(script, out, 2, PATIENCE="1")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: len(list(parts.glob("*.safetensors"))) == 2)  # both are at their second
    workers = children.read_text().split()
    assert len(workers) >= 2
    process.send_signal(number)
    assert process.wait(60) == -number
    wait_until(lambda: not any(map(is_running, workers)), 30)
    assert not out.exists() and len(list(parts.glob("*.safetensors"))) == 2
    assert python(script, out, 2).wait(60) == 0
    assert files(out) == whole and not parts.exists()


def test_what_another_call_recorded_is_refused(stubborn, whole, tmp_path):
    out, other = tmp_path / "demos", JOB | {"seed": 4, "noise": 0}
    with failing_after(stubborn, 2), pytest.raises(RuntimeError, match="enough"):
        collect(out_dir=out, workers=1, **JOB)
    parts = files(tmp_path / "demos.part")
    with pytest.raises(ValueError, match=r"demos\.part: was recorded with another noise, seed;"):
        collect(out_dir=out, workers=1, **other)
    assert files(tmp_path / "demos.part") == parts
    collect(out_dir=out, workers=1, **JOB)
    with pytest.raises(ValueError, match=r"demos: was recorded with another noise, seed;"):
        collect(out_dir=out, workers=1, **other)
    assert files(out) == whole


def test_parts_of_no_known_job_are_neither_used_nor_removed(stubborn, tmp_path):
    parts = tmp_path / "demos.part"
    parts.mkdir()
    (parts / "000000.safetensors").write_bytes(b"anyone's")
    with pytest.raises(ValueError, match=r"demos\.part: exists and is not empty;"):
        collect(out_dir=tmp_path / "demos", workers=1, **JOB)
    assert files(tmp_path) == {"demos.part/000000.safetensors": b"anyone's"}


def test_a_call_that_recorded_nothing_does_not_stand_in_the_way(whole, stubborn, tmp_path):
    out = tmp_path / "demos"
    with pytest.raises(TypeError):
        collect(out_dir=out, workers=1, env_kwargs={"max_episode_stepz": 5}, **JOB)
    collect(out_dir=out, workers=1, **JOB)
    assert files(out) == whole
