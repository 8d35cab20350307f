"""Processor, checkpoint folders and the acting agent."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from safevla.policy import (
    CheckpointError,
    PolicyAgent,
    SafeVLAConfig,
    SafeVLAProcessor,
    VLAPolicy,
    load_policy,
    read_policy,
    save_policy,
)
from safevla_envs.instruction import encode_instruction

TEXTS = ("find the mug", "find the red apple, please", "go to the mug")
CAMERAS = ("navigation", "manipulation")


def make_processor(**changes) -> SafeVLAProcessor:
    states = np.random.default_rng(0).normal(3.0, 2.0, (100, 4))
    states[:, 3] = 7.0
    fields = {
        "cameras": CAMERAS,
        "image_size": 24,
        "instructions": TEXTS,
        "states": states,
        "max_tokens": 6,
    }
    return SafeVLAProcessor.fit(**(fields | changes))


def make_policy(processor: SafeVLAProcessor, **changes) -> VLAPolicy:
    torch.manual_seed(0)
    policy = VLAPolicy(
        SafeVLAConfig(
            cameras=processor.cameras,
            image_size=processor.image_size,
            state_dim=4,
            n_actions=5,
            end_action=4,
            constraint_names=("a", "b"),
            text_vocab_size=len(processor.vocabulary),
            text_max_tokens=processor.max_tokens,
            **changes,
        )
    )
    with torch.no_grad():
        policy.action_head.linear.weight.mul_(20)
    return policy


def observations(count: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = {
        f"{camera}_image": rng.integers(0, 256, (count, 24, 24, 3), dtype=np.uint8)
        for camera in CAMERAS
    }
    texts = [encode_instruction(TEXTS[i % len(TEXTS)]) for i in range(count)]
    return {**images, "state": rng.normal(3, 2, (count, 4)), "instruction": np.stack(texts)}


@pytest.fixture
def folder(tmp_path):
    processor = make_processor()
    save_policy(make_policy(processor), processor, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_processor_orders_cameras_and_normalises():
    processor = make_processor()
    obs = observations(3, seed=1)
    given = processor(obs)
    assert given["images"].dtype == torch.uint8 and given["images"].shape == (3, 2, 24, 24, 3)
    assert np.array_equal(given["images"][:, 1].numpy(), obs["manipulation_image"])
    expected = (obs["state"] - processor.state_mean) / processor.state_std
    assert np.allclose(given["state"].numpy(), expected, atol=1e-5)
    assert processor.state_std[3] == 1.0, "an entry that never varies keeps its scale"
    assert given["state"].dtype == torch.float32


def test_normalised_states_are_bounded():
    assert make_processor().normalise(np.full((1, 4), 1e9)).max() == 10.0


def test_tokens_cover_words_unknown_words_and_long_texts():
    processor = make_processor()
    words = processor.vocabulary
    tokens = processor.tokens(["Find the MUG", "find the zebra", "mug " * 20, ""]).tolist()
    assert [words[t] for t in tokens[0]] == ["find", "the", "mug", "<pad>", "<pad>", "<pad>"]
    assert tokens[1][:3] == [tokens[0][0], tokens[0][1], 1]
    assert tokens[2] == [words.index("mug")] * 6
    assert tokens[3] == [0] * 6
    rows = np.stack([encode_instruction("find the zebra")])
    assert processor.tokens(rows).tolist() == [tokens[1]]


def test_unknown_words_are_neutral():
    processor = make_processor()
    policy = make_policy(processor)
    assert policy.text.embed.weight[1].abs().max() == 0
    text = policy.text(processor.tokens(["zebra", "yak"]))
    assert torch.equal(text[0], text[1])


def test_processor_round_trip_and_its_errors(tmp_path):
    processor = make_processor()
    processor.save(tmp_path)
    again = SafeVLAProcessor.load(tmp_path)
    obs = observations(2, seed=0)
    for name, value in processor(obs).items():
        assert torch.equal(value, again(obs)[name])
    with pytest.raises(ValueError, match="no 'manipulation_image'"):
        processor({k: v for k, v in obs.items() if k != "manipulation_image"})
    with pytest.raises(ValueError, match=r"navigation_image has shape.*\(B, 24, 24, 3\)"):
        processor({**obs, "navigation_image": np.zeros((2, 8, 8, 3), np.uint8)})
    with pytest.raises(ValueError, match=r"state has 2 entries.*needs 4"):
        processor({**obs, "state": np.zeros((2, 2))})
    with pytest.raises(ValueError, match="state_std"):
        SafeVLAProcessor(
            cameras=CAMERAS,
            image_size=24,
            vocabulary=processor.vocabulary,
            max_tokens=4,
            state_mean=[0.0],
            state_std=[0.0],
        )


def test_round_trip_is_strict(folder):
    processor = make_processor()
    policy = make_policy(processor)
    again, _ = read_policy(folder)
    assert not again.training
    ours, theirs = policy.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert again.config.cameras == CAMERAS and again.config.constraint_names == ("a", "b")
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "processor_config.json", "golden.json"}


@pytest.mark.parametrize("head", ["gaussian", "binned"])
def test_round_trip_of_continuous_heads(head, tmp_path):
    processor = make_processor()
    save_policy(make_policy(processor, action_head=head, n_bins=4), processor, tmp_path)
    agent = load_policy(tmp_path)
    actions = agent.act(observations(2, seed=0), deterministic=True)
    assert actions.shape == (2, 5) and actions.dtype == np.float32
    assert agent.act(observations(2, seed=1)).shape == (2, 5)


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_golden_failures_are_one_clear_line(folder, tmp_path):
    def broken(name):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        return copy

    weights = broken("weights")
    tensors = load_file(weights / "model.safetensors")
    tensors["norm.weight"] = tensors["norm.weight"] * 1.01
    save_file(tensors, weights / "model.safetensors")

    state = broken("state")
    mean = json.loads((state / "processor_config.json").read_text())["state_mean"]
    change_json(state / "processor_config.json", state_mean=[-m for m in mean])

    words = broken("words")
    vocabulary = json.loads((words / "processor_config.json").read_text())["vocabulary"]
    change_json(words / "processor_config.json", vocabulary=vocabulary[:2] + vocabulary[:1:-1])

    cameras = broken("cameras")
    change_json(cameras / "processor_config.json", cameras=list(CAMERAS[::-1]), image_size=20)

    for copy in (weights, state, words, cameras):
        with pytest.raises(CheckpointError, match=r"golden\.json: expected .*") as caught:
            load_policy(copy)
        assert "\n" not in str(caught.value) and str(copy) in str(caught.value)


def test_incomplete_checkpoints_name_the_file(folder, tmp_path):
    with pytest.raises(CheckpointError, match="expected a checkpoint folder"):
        load_policy(tmp_path / "nowhere")
    for name in ("config.json", "model.safetensors", "processor_config.json", "golden.json"):
        copy = tmp_path / f"without-{name}"
        shutil.copytree(folder, copy)
        (copy / name).unlink()
        with pytest.raises(CheckpointError, match=f"{name}: missing"):
            load_policy(copy)
        (copy / name).write_text("{nonsense")
        with pytest.raises(CheckpointError, match=name) as caught:
            load_policy(copy)
        assert "\n" not in str(caught.value)


def test_weights_of_another_architecture_are_refused(folder):
    change_json(folder / "config.json", d_model=64)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: expected the weights"
    ) as caught:
        load_policy(folder)
    assert "\n" not in str(caught.value)
    change_json(folder / "config.json", model_type="bert")
    with pytest.raises(CheckpointError, match="model_type 'safevla', found 'bert'"):
        load_policy(folder)


def test_agent_keeps_the_window_the_policy_would_learn_from(folder):
    agent = load_policy(folder)
    policy, history = agent.policy, agent.policy.config.history
    frames, actions, starts = [], [], [0, 0, 0]
    generator = torch.Generator().manual_seed(0)
    for t in range(13):
        if t == 6:
            agent.reset(1)
            starts[1] = t
        frames.append(agent.processor(observations(3, seed=t)))
        actions.append(agent.act(observations(3, seed=t), deterministic=False, generator=generator))
        assert actions[-1].dtype == np.int64
        for i in range(3):
            steps = range(max(starts[i], t - history + 1), t + 1)
            previous = [actions[s - 1][i] if s > starts[i] else 5 for s in steps]
            output = policy(
                images=torch.stack([frames[s]["images"][i] for s in steps])[None],
                state=torch.stack([frames[s]["state"][i] for s in steps])[None],
                tokens=frames[t]["tokens"][i][None],
                prev_actions=torch.tensor(previous)[None],
                actions=torch.tensor(actions[t][i : i + 1]),
            )
            acted = agent.last_output.log_prob[i]
            torch.testing.assert_close(acted, output.log_prob[0].detach(), atol=1e-5, rtol=0)
    features, previous, mask = agent.window()
    again = policy(
        features=features, prev_actions=previous, mask=mask, actions=torch.tensor(actions[-1])
    )
    torch.testing.assert_close(again.log_prob, agent.last_output.log_prob, atol=1e-5, rtol=0)


def test_agent_slots_are_independent(folder):
    together, apart = load_policy(folder), [load_policy(folder) for _ in range(3)]
    for t in range(4):
        obs = observations(3, seed=t)
        whole = together.act(obs, deterministic=True)
        logits = together.last_output.logits
        for i in (2, 0, 1):
            row = {name: value[i : i + 1] for name, value in obs.items()}
            assert apart[i].act(row, deterministic=True)[0] == whole[i]
            torch.testing.assert_close(apart[i].last_output.logits[0], logits[i], atol=1e-5, rtol=0)
    together.reset()
    fresh = PolicyAgent(*read_policy(folder))
    together.act(observations(2, seed=9))
    fresh.act(observations(2, seed=9))
    assert torch.allclose(together.last_output.logits, fresh.last_output.logits, atol=1e-5)


def test_agent_sampling_repeats_with_the_generator(folder):
    def play(seed):
        agent = load_policy(folder)
        generator = torch.Generator().manual_seed(seed)
        obs = (observations(4, seed=t) for t in range(5))
        return np.stack([agent.act(o, generator=generator) for o in obs])

    assert np.array_equal(play(0), play(0))
    assert not np.array_equal(play(0), play(1))
