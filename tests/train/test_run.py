import dataclasses
import json
import os
import signal

import pytest
import torch
from tiny_env import ENV_ID, tiny_policy

from safevla.policy import read_policy, save_policy
from safevla.train.run import train_ppo
from safevla.train.settings import train_config

CONFIG = train_config(
    {
        "total_steps": 5 * 48,
        "n_envs": 4,
        "n_steps": 12,
        "checkpoint_every": 2,
        "ppo": {
            "warmup_iterations": 1,
            "minibatch": 24,
            "epochs": 2,
            "learning_rate_decay": 0.5,
            "weight_averaging": 0.5,
        },
        "critic": {"epochs": 2, "warmup_epochs": 2, "hidden": [16]},
    }
)


@pytest.fixture
def init(tmp_path):
    save_policy(*tiny_policy(), tmp_path / "clone")
    return tmp_path / "clone"


def train(out, init, config=CONFIG, **kwargs):
    return train_ppo(config, out, init, env_id=ENV_ID, env_kwargs={"max_steps": 7}, **kwargs)


def rows(out):
    return [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]


def same_policy(a, b):
    a, b = (read_policy(out / "policy")[0].state_dict() for out in (a, b))
    return all(torch.equal(a[name], b[name]) for name in a)


def without_times(lines):
    volatile = {"seconds", "steps_per_second", "learning_share"}
    return [{k: v for k, v in line.items() if k not in volatile} for line in lines]


def test_a_run_leaves_everything_a_report_needs(tmp_path, init):
    seen = []
    summary = train(tmp_path / "run", init, progress=seen.append)
    lines = rows(tmp_path / "run")
    assert seen == lines and [line["iteration"] for line in lines] == [1, 2, 3, 4, 5]
    last = lines[-1]
    assert set(last["costs"]) == set(last["lambda"]) == {"strip", "border"}
    assert set(last["explained_variance"]) == {"reward", "strip", "border"}
    for key in ("steps", "success", "length", "cost", "kl", "entropy", "steps_per_second"):
        assert isinstance(last[key], (int, float)), key
    assert summary["steps"] == 240 and summary["lambda"] == last["lambda"]
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["budgets"] == {"strip": 0.2, "border": 0.5}
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    policy, processor = read_policy(tmp_path / "run" / "policy")
    start, _ = read_policy(init)
    assert policy.config.n_actions == 4 and processor.cameras == ("navigation",)
    assert not torch.equal(policy.action_head.linear.weight, start.action_head.linear.weight)


def test_the_same_call_again_does_nothing_and_a_longer_one_goes_on(tmp_path, init):
    first = train(tmp_path / "run", init)
    assert train(tmp_path / "run", init, progress=pytest.fail) == first
    longer = dataclasses.replace(CONFIG, total_steps=7 * 48, threads=1)
    assert train(tmp_path / "run", init, longer)["steps"] == 7 * 48
    assert [line["iteration"] for line in rows(tmp_path / "run")] == list(range(1, 8))


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_bit_for_bit(tmp_path, init):
    def kill(row):
        if row["iteration"] == 3:  # the last checkpoint is of iteration 2
            raise Killed

    train(tmp_path / "straight", init)
    with pytest.raises(Killed):
        train(tmp_path / "killed", init, progress=kill)
    with (tmp_path / "killed" / "progress.jsonl").open("a") as file:
        file.write('{"iteration": 4, "st')  # torn
    train(tmp_path / "killed", init)
    assert same_policy(tmp_path / "straight", tmp_path / "killed")
    assert without_times(rows(tmp_path / "straight")) == without_times(rows(tmp_path / "killed"))


def test_ctrl_c_saves_and_the_same_call_resumes(tmp_path, init):
    usual, resumed = signal.getsignal(signal.SIGINT), []

    def interrupt(row):
        if row["iteration"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", init, progress=interrupt)
    assert signal.getsignal(signal.SIGINT) is usual
    assert not (tmp_path / "run" / "summary.json").exists()
    train(tmp_path / "run", init, progress=resumed.append)
    assert [row["iteration"] for row in resumed] == [4, 5]
    assert [row["steps"] for row in rows(tmp_path / "run")] == [48, 96, 144, 192, 240]


def test_a_folder_of_another_run_is_left_alone(tmp_path, init):
    train(tmp_path / "run", init)
    before = (tmp_path / "run" / "run.json").read_bytes()
    other = dataclasses.replace(CONFIG, seed=1)
    with pytest.raises(ValueError, match=r"another config\.seed"):
        train(tmp_path / "run", init, other)
    with pytest.raises(ValueError, match="another extra_scenarios"):
        train(tmp_path / "run", init, extra_scenarios=["red"])
    save_policy(*tiny_policy(seed=1), tmp_path / "other")
    with pytest.raises(ValueError, match="another init_checkpoint"):
        train(tmp_path / "run", tmp_path / "other")
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        train(tmp_path / "new", tmp_path / "nowhere")
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_extra_scenarios_are_trained_on(tmp_path, init, monkeypatch):
    started = []

    def reset(self, *, seed=None, options=None):
        started.append((options or {}).get("scenario"))
        return original(self, seed=seed, options=options)

    original = __import__("tiny_env").TinyCrossing.reset
    monkeypatch.setattr("tiny_env.TinyCrossing.reset", reset)
    config = dataclasses.replace(CONFIG, extra_probability=0.25)
    train(tmp_path / "run", init, config, extra_scenarios=["red"])
    assert 0.05 < started.count("red") / len(started) < 0.5


@pytest.mark.slow
def test_known_answer(tmp_path, init):
    """The constraint changes the way: cost 1 and 4.5 moves without it, 0 and 6.5 with it."""
    base = {"total_steps": 24 * 1024, "n_envs": 32, "n_steps": 32, "ppo": {"warmup_iterations": 2}}
    results = {}
    for rule in ("zero", "projected"):
        config = train_config(base, {"multipliers": {"rule": rule, "initial": 4.0}})
        results[rule] = train_ppo(config, tmp_path / rule, init, env_id=ENV_ID)
    task_only, constrained = results["zero"], results["projected"]
    assert task_only["success"] > 0.98 and constrained["success"] > 0.98
    assert task_only["costs"]["strip"] == pytest.approx(1.0, abs=0.1)
    assert task_only["length"] == pytest.approx(4.5, abs=0.4)
    assert constrained["costs"]["strip"] < 0.2  # its budget
    assert constrained["costs"]["border"] < 0.5
    assert constrained["length"] == pytest.approx(6.5, abs=0.4)
    assert max(row["lambda"]["strip"] for row in rows(tmp_path / "projected")) > 4.0
    assert constrained["lambda"]["border"] < max(
        row["lambda"]["border"] for row in rows(tmp_path / "projected")
    )  # rose while it was violated, falls since
