"""Behaviour cloning on a small real task."""

import json
import sys
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from toy_room import COLOURS, ToyRoom

from safevla.demos import DemoDataset, collect
from safevla.policy import load_policy, read_policy
from safevla.train.cloning import ChunkSampler, Cloning, clone, split_episodes
from safevla.train.settings import BCConfig, PolicyConfig

SMALL = PolicyConfig(film_channels=(8, 16, 24), d_model=64, n_layers=1, text_dim=32)
TINY = BCConfig(
    updates=12,
    batch=3,
    chunk=8,
    warmup=2,
    eval_every=4,
    checkpoint_every=4,
    threads=1,
    policy=SMALL,
)


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bc") / "demos"
    collect(
        env_id="toy_room:ToyRoom-v0",
        expert="toy_room:ToyExpert",
        episodes=400,
        seed=0,
        out_dir=folder,
        workers=1,
        noise=0.1,
    )
    return folder


@pytest.fixture(scope="module")
def trained(demos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bc") / "policy"
    config = BCConfig(updates=300, batch=8, eval_every=100, threads=1, policy=SMALL)
    return folder, clone(demos, folder, config)


def success_rate(folder, episodes, alter=lambda obs, env: obs):
    agent = load_policy(folder)
    env = gymnasium.make("ToyRoom-v0")
    wins = 0
    for seed in range(episodes):
        obs, info = env.reset(seed=90_000 + seed)
        agent.reset()
        done = False
        while not done:
            batch = {k: v[None] for k, v in alter(obs, env.unwrapped).items()}
            action = int(agent.act(batch, deterministic=True)[0])
            obs, _, terminated, truncated, info = env.step(action)
            done = terminated or truncated
        wins += info["success"]
    return wins / episodes


def test_clone_imitates_the_expert_on_held_out_episodes(trained):
    _, summary = trained
    assert summary["accuracy"] > 0.9 and summary["end_recall"] > 0.9
    assert summary["aux_r2"] > 0.8 and summary["end_false"] < 0.02
    losses = [row["loss"] for row in summary["history"]]
    assert losses == sorted(losses, reverse=True)


def test_clone_succeeds_in_the_environment_because_it_looks_and_reads(trained):
    folder, _ = trained

    def black(obs, _):
        return obs | {"navigation_image": np.zeros_like(obs["navigation_image"])}

    def swapped(obs, env):
        other = next(n for n, rgb in COLOURS.items() if rgb == env.colours[1])
        mine = next(n for n, rgb in COLOURS.items() if rgb == env.colours[0])
        text = env.instruction.replace(mine, other)
        env_obs = dict(obs)
        env_obs["instruction"] = np.frombuffer(text.encode().ljust(256, b"\0"), np.uint8)
        return env_obs

    plain = success_rate(folder, 40)
    assert plain > 0.85
    assert success_rate(folder, 40, black) < plain - 0.5
    assert success_rate(folder, 40, swapped) < plain - 0.5


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_an_interrupted_run_ends_as_an_uninterrupted_one(demos, tmp_path, monkeypatch):
    whole = clone(demos, tmp_path / "whole", TINY)
    step = Cloning._step

    def until_the_ninth(self):
        if self.update == 9:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Cloning, "_step", until_the_ninth)
    with pytest.raises(KeyboardInterrupt):
        clone(demos, tmp_path / "cut", TINY)
    monkeypatch.undo()
    read_policy(tmp_path / "cut")  # what an interruption leaves can be used
    assert not all(
        torch.equal(a, b)
        for a, b in zip(weights(tmp_path / "whole").values(), weights(tmp_path / "cut").values())
    )
    resumed = Cloning(demos, tmp_path / "cut", TINY)
    summary = resumed.run()
    ours, theirs = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    timeless = ("seconds", "samples_per_second", "history", "loss")
    assert {k: v for k, v in summary.items() if k not in timeless} == {
        k: v for k, v in whole.items() if k not in timeless
    }
    assert json.loads((tmp_path / "cut/training/summary.json").read_text()) == summary


def test_a_finished_run_is_not_trained_again(demos, tmp_path, monkeypatch):
    first = clone(demos, tmp_path / "p", TINY)
    monkeypatch.setattr(Cloning, "_step", lambda self: pytest.fail("trained again"))
    assert clone(demos, tmp_path / "p", TINY) == first


def test_the_seed_decides_the_weights(demos, tmp_path):
    config = replace(TINY, updates=3)
    clone(demos, tmp_path / "a", config)
    torch.manual_seed(123)  # the global generator must not matter
    clone(demos, tmp_path / "b", config)
    clone(demos, tmp_path / "c", replace(config, seed=1))
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["action_head.linear.weight"], c["action_head.linear.weight"])


def test_a_folder_of_other_settings_is_left_alone(demos, tmp_path):
    clone(demos, tmp_path / "p", replace(TINY, updates=4))
    before = weights(tmp_path / "p")
    with pytest.raises(ValueError, match=r"state\.safetensors: made with lr=0\.001, not 0\.01"):
        clone(demos, tmp_path / "p", replace(TINY, updates=4, lr=0.01))
    after = weights(tmp_path / "p")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_smoothing_spreads_over_moves_and_never_onto_end(demos, tmp_path):
    run = Cloning(demos, tmp_path, replace(TINY, label_smoothing=0.1, aux_weight=0.0))
    assert run.smooth.tolist() == [0.25, 0.25, 0.25, 0.25, 0.0]
    assert run.policy.config.aux_dim == 0
    logits = torch.zeros(2, 5, requires_grad=True)
    labels = torch.tensor([[0, ToyRoom.END]])
    log_prob = logits[None].log_softmax(-1).gather(-1, labels[..., None]).squeeze(-1)
    output = type("Output", (), {"logits": logits[None], "log_prob": log_prob, "aux": None})()
    loss, auxiliary = run._loss(output, labels, torch.zeros(2, 0))
    loss.backward()
    targets = 0.2 - 2 * logits.grad  # gradient of the mean cross-entropy is (p - target) / 2
    expected = torch.tensor([[0.925, 0.025, 0.025, 0.025, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]])
    torch.testing.assert_close(targets, expected)
    assert float(auxiliary) == 0.0


def test_rare_moves_get_no_smoothing(demos, tmp_path):
    run = Cloning(demos, tmp_path, TINY)
    labels = np.array([0] * 1200 + [1] * 797 + [2] + [4] * 2)
    assert run._smoothing(labels).tolist() == [0.5, 0.5, 0.0, 0.0, 0.0]


def test_every_frame_is_seen_about_once_per_epoch():
    starts = np.array([0, 5, 30, 31, 90])
    sampler = ChunkSampler(starts, np.array([0, 1, 3]), batch=2, chunk=4, seed=0)
    assert sampler.total == 89
    epoch = [sampler(u) for u in range(sampler.updates_per_epoch)]
    frames = np.concatenate(epoch).ravel()
    assert len(np.unique(frames)) == len(frames) >= 89 - 2 * 4 - 4
    assert not np.isin(frames, [30]).any(), "held-out episodes are not seen"
    again = ChunkSampler(starts, np.array([0, 1, 3]), batch=2, chunk=4, seed=0)
    far = 5 * sampler.updates_per_epoch + 3
    assert np.array_equal(again(far), sampler(far)), "any update can be asked for first"
    steps = np.diff(again(far), axis=1)
    assert (steps == 1).mean() > 0.8, "frames of a chunk follow one another"


def test_a_batch_larger_than_the_data_repeats_it():
    sampler = ChunkSampler(np.array([0, 9]), np.array([0]), batch=5, chunk=4, seed=0)
    assert sampler(0).shape == sampler(7).shape == (5, 4)
    with pytest.raises(ValueError, match=r"clone\.chunk=10: the demonstrations hold 9 frames"):
        ChunkSampler(np.array([0, 9]), np.array([0]), batch=1, chunk=10, seed=0)


def test_held_out_episodes_are_apart_from_training():
    train, held = split_episodes(50, 0.1, seed=0)
    assert len(held) == 5 and sorted([*train, *held]) == list(range(50))
    assert not np.array_equal(held, split_episodes(50, 0.1, seed=1)[1])
    assert len(split_episodes(50, 0.0, seed=0)[1]) == 0
    assert [len(part) for part in split_episodes(2, 0.01, seed=0)] == [1, 1]


def test_dropout_hides_the_past_but_not_the_present(demos, tmp_path):
    everything = replace(TINY, history_dropout=0.999, action_dropout=0.999, brightness=0.0)
    run = Cloning(demos, tmp_path / "a", everything)
    batch = run._batch(0)
    assert (batch["prev_actions"] == 5).all()
    assert all(len(set(row)) == len(row) for row in batch["segments"].tolist())
    nothing = replace(TINY, history_dropout=0.0, action_dropout=0.0, brightness=0.0)
    run = Cloning(demos, tmp_path / "b", nothing)
    frames, batch, data = run.sampler(0), run._batch(0), DemoDataset(demos)
    assert np.array_equal(batch["prev_actions"], data.prev_action[frames])
    assert np.array_equal(batch["segments"], data.episode[frames])
    assert np.array_equal(batch["images"], data.images(frames))
    brighter = Cloning(demos, tmp_path / "c", replace(nothing, brightness=0.3))._batch(0)["images"]
    assert not torch.equal(brighter, batch["images"])
    ratio = brighter.float().mean((1, 3, 4)) / batch["images"].float().mean((1, 3, 4))
    assert (ratio - ratio[:, :1]).abs().max() < 0.05, "one gain per chunk and channel"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"updates": 0}, r"clone\.updates is 0"),
        ({"lr": 0.0}, r"clone\.lr"),
        ({"label_smoothing": 1.0}, r"clone\.label_smoothing is 1\.0.*below 1"),
        ({"aux_weight": -1.0}, r"clone\.aux_weight"),
        ({"device": "tpu"}, r"clone\.device is 'tpu'.*auto, cpu, cuda"),
    ],
)
def test_bad_settings_are_named(changes, said):
    with pytest.raises(ValueError, match=said):
        BCConfig(**changes)


def test_settings_can_be_merged_by_omegaconf():
    merged = OmegaConf.merge(
        OmegaConf.structured(BCConfig), {"policy": {"history": 12}, "lr": 2e-3}
    )
    config = OmegaConf.to_object(merged)
    assert isinstance(config, BCConfig) and config.policy.history == 12 and config.lr == 2e-3


def test_settings_load_without_torch():
    import subprocess

    code = "import sys, safevla.train.settings, safevla.demos; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
