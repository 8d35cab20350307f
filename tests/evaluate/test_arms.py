import gymnasium
import numpy as np
import pytest
import tiny_nav
from gymnasium import spaces

from safevla.evaluate.agents import (
    PolicyArmAgent,
    RandomAgent,
    ReplayAgent,
    ZeroAgent,
    swapped_instruction,
)
from safevla.evaluate.arms import make_arm
from safevla.evaluate.worker import SLOTS
from safevla_envs.instruction import decode_instruction
from safevla_envs.scenes.catalog import CATALOG


def started(agent, seed=0, slots=1):
    envs = [gymnasium.make("tiny_nav:Tiny/Nav-v0") for _ in range(slots)]
    rows = []
    for i, env in enumerate(envs):
        rows.append(env.reset(seed=i)[0])
        agent.reset(i, env, np.random.default_rng([seed, i]))
    return envs, {key: np.stack([row[key] for row in rows]) for key in rows[0]}


class Continuous(gymnasium.Env):
    action_space = spaces.Box(np.array([-1, -2], np.float32), np.array([1, 2], np.float32))


def test_zero_does_nothing():
    agent = ZeroAgent()
    envs, obs = started(agent)
    assert agent.act(obs, [*envs, None]) == [tiny_nav.TinyNav.SUB_DONE, None]
    np.testing.assert_array_equal(agent.act({}, [Continuous()])[0], np.zeros(2, np.float32))


def test_random_is_uniform_over_everything_but_end():
    agent = RandomAgent()
    envs, obs = started(agent)
    drawn = [agent.act(obs, envs)[0] for _ in range(2000)]
    counts = np.bincount(drawn, minlength=6)
    assert counts[tiny_nav.TinyNav.END] == 0
    assert (np.abs(counts[:5] - 400) < 80).all()


def test_random_covers_a_box_and_repeats_with_its_seed():
    env = Continuous()
    traces = []
    for _ in range(2):
        agent = RandomAgent()
        agent.reset(0, env, np.random.default_rng(5))
        traces.append(np.array([agent.act({}, [env])[0] for _ in range(500)]))
    np.testing.assert_array_equal(*traces)
    assert traces[0].dtype == np.float32
    np.testing.assert_allclose(np.ptp(traces[0], axis=0), [2, 4], rtol=0.05)


def test_replay_repeats_and_notices_the_end():
    agent = ReplayAgent([3, [0.5, 1.0]])
    agent.reset(0, Continuous(), np.random.default_rng(0))
    assert agent.act({}, [Continuous()]) == [3]
    np.testing.assert_array_equal(agent.act({}, [Continuous()])[0], [0.5, 1.0])
    with pytest.raises(IndexError):
        agent.act({}, [Continuous()])


def test_swapped_instruction_names_another_object_of_the_scene():
    scenario = tiny_nav.scenarios(1)[0]
    named = set()
    for seed in range(40):
        text = swapped_instruction(scenario, np.random.default_rng(seed))
        assert not any(word in text for word in CATALOG["mug"].words)
        named |= {
            c for c in ("floor_lamp", "potted_plant") if any(w in text for w in CATALOG[c].words)
        }
    assert named == {"floor_lamp", "potted_plant"}
    alone = tiny_nav.TinyScenario(target=(1, 0), hazard=(0, 0), present_categories=("mug",))
    text = swapped_instruction(alone, np.random.default_rng(0))
    kind = CATALOG["mug"].kind
    others = [w for c, s in CATALOG.items() if c != "mug" and s.kind == kind for w in s.words]
    assert any(text == f"find the {words}" for words in others), "what could be there"


def seen_by_policy(agent, monkeypatch, steps=2):
    """What reaches the policy's processor over a few steps."""
    calls = []
    real = agent.agent.processor

    def spy(obs):
        calls.append({key: np.array(value) for key, value in obs.items()})
        return real(obs)

    monkeypatch.setattr(agent.agent, "processor", spy)
    envs, obs = started(agent, slots=SLOTS)
    for _ in range(steps):
        agent.act(obs, envs)
    return obs, calls


def test_black_images_spoil_images_only(checkpoint, monkeypatch):
    agent = make_arm("black_images", checkpoint)(False)
    obs, calls = seen_by_policy(agent, monkeypatch)
    for seen in calls:
        assert (seen["navigation_image"] == 0).all()
        np.testing.assert_array_equal(seen["state"], obs["state"])
        np.testing.assert_array_equal(seen["instruction"], obs["instruction"])
    assert obs["navigation_image"].any()


def test_swapped_instruction_spoils_the_instruction_only(checkpoint, monkeypatch):
    agent = make_arm("swapped_instruction", checkpoint)(False)
    obs, calls = seen_by_policy(agent, monkeypatch)
    for seen in calls:
        np.testing.assert_array_equal(seen["navigation_image"], obs["navigation_image"])
        np.testing.assert_array_equal(seen["state"], obs["state"])
        for row in seen["instruction"]:
            assert "mug" not in decode_instruction(row)
    np.testing.assert_array_equal(calls[0]["instruction"], calls[1]["instruction"])
    assert decode_instruction(obs["instruction"][0]) == "find the mug"


def test_sampling_follows_the_policy_and_the_episode_generator(checkpoint):
    import torch

    agent = PolicyArmAgent(checkpoint, deterministic=False)
    drawn = []
    for seed in range(300):
        envs, obs = started(agent, seed=seed, slots=SLOTS)
        drawn.append(agent.act(obs, envs))
    output = agent.agent.last_output
    probability = output.logits[0].softmax(-1).numpy()
    share = np.bincount(np.array(drawn)[:, 0], minlength=6) / 300
    assert probability.max() < 0.95
    assert np.abs(share - probability).max() < 0.1
    repeat = PolicyArmAgent(checkpoint, deterministic=False)
    envs, obs = started(repeat, seed=299, slots=SLOTS)
    assert repeat.act(obs, envs) == drawn[-1]
    # the history the policy sees next holds what was executed, not what it would have preferred
    repeat.act(obs, envs)
    _, previous, _ = repeat.agent.window()
    torch.testing.assert_close(previous[:, -1], torch.tensor(drawn[-1]))


def test_a_row_does_not_depend_on_the_other_rows(checkpoint):
    alone = PolicyArmAgent(checkpoint, deterministic=True)
    envs, obs = started(alone, slots=SLOTS)
    mixed = PolicyArmAgent(checkpoint, deterministic=True)
    started(mixed, slots=SLOTS)
    rng = np.random.default_rng(0)
    for _ in range(6):
        padded = {key: np.stack([value[0]] * SLOTS) for key, value in obs.items()}
        alone.act(padded, [envs[0], None, None, None])
        other = rng.integers(0, 256, obs["navigation_image"].shape).astype(np.uint8)
        other[2] = obs["navigation_image"][0]
        mixed.act({**padded, "navigation_image": other}, envs)
        a, b = alone.agent.last_output.logits[0], mixed.agent.last_output.logits[2]
        assert a.numpy().tobytes() == b.numpy().tobytes()


@pytest.mark.parametrize(
    ("name", "folder", "named"),
    [("random", "somewhere", "takes no"), ("lagrangian", None, "needs checkpoint")],
)
def test_arms_that_make_no_sense(name, folder, named):
    with pytest.raises(ValueError, match=named):
        make_arm(name, folder)


def test_fingerprint_changes_with_kind_and_weights(checkpoint, tmp_path):
    from safevla.policy import read_policy, save_policy

    policy, processor = read_policy(checkpoint)
    save_policy(policy, processor, tmp_path)
    same = make_arm("clone", str(tmp_path)).fingerprint()
    assert same == make_arm("task_only", checkpoint).fingerprint()
    assert same != make_arm("black_images", checkpoint).fingerprint()
    policy.action_head.linear.bias.data += 0.1
    save_policy(policy, processor, tmp_path)
    assert same != make_arm("clone", str(tmp_path)).fingerprint()
    with pytest.raises(ValueError, match="no policy in this folder"):
        make_arm("clone", str(tmp_path / "empty")).fingerprint()
