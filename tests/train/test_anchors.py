"""What keeps a policy near its start: the reference's penalty and the demonstrations' loss."""

import numpy as np
import pytest
import torch
from test_vla_ppo import learner, same, weights
from tiny_env import GOAL, ROWS, TinyCrossing

from safevla.demos import DemoDataset, DemoWriter, Episode
from safevla.demos.dataset import encode_png
from safevla.train.anchors import Demonstrations
from safevla.train.settings import PPOConfig
from safevla.train.vla_ppo import VLAPPOLagrangian
from safevla_envs.instruction import decode_instruction, encode_instruction


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """Twelve walks round the strip."""
    folder = tmp_path_factory.mktemp("anchors") / "demos"
    names = ("right", "left", "down", "up")
    writer = DemoWriter(
        folder, action_names=names, end_action=None, constraint_names=("strip", "border")
    )
    env = TinyCrossing()
    with writer:
        for seed in range(12):
            writer.add(walk(env, seed))
    return folder


def walk(env, seed):
    (obs, info), finished = env.reset(seed=seed), False
    images, states, actions, costs = [], [], [], []
    while not finished:
        row, column = env.cell
        action = 3 if column == GOAL[1] else 0 if row == ROWS - 1 else 2
        images.append(encode_png(obs["navigation_image"]))
        states.append(obs["state"])
        actions.append(action)
        obs, _, finished, _, info = env.step(action)
        costs.append(list(info["costs"].values()))
    steps = len(actions)
    return Episode(
        images={"navigation": images},
        state=np.array(states),
        action=np.array(actions),
        executed=np.array(actions),
        reward=np.zeros(steps, np.float32),
        cost=np.array(costs, np.float32),
        aux=np.zeros((steps, 1), np.float32),
        success=info["success"],
        instruction=decode_instruction(obs["instruction"]),
    )


def moved_policy(**ppo):
    """A learner whose policy has left its reference; nothing is collected yet."""
    model = learner({"ppo": {"warmup_iterations": 0, "learning_rate": 0.02} | ppo})
    model.learn(2 * 48)
    return model


def test_the_penalty_is_the_log_ratio_in_the_reward_and_in_every_cost():
    model = moved_policy(reference_kl=0.5)
    seen = {}
    penalise = model.reference.penalise

    def spy(buffer):
        seen["before"] = buffer.rewards.clone()
        return penalise(buffer)

    model.reference.penalise = spy
    model.learn(48, reset_num_timesteps=False)
    buffer = model.rollout_buffer
    ratio = buffer.log_probs - model.reference.log_probs(buffer)
    change = buffer.rewards - seen["before"]
    assert ratio.abs().max() > 0.1
    assert torch.allclose(change[..., 0], -0.5 * ratio, atol=1e-5)
    for k in (1, 2):
        assert torch.allclose(change[..., k], 0.5 * ratio, atol=1e-5)
    assert model.last_iteration["reference_kl"] == pytest.approx(float(ratio.mean()), abs=1e-5)


def test_there_is_no_penalty_while_the_policy_is_the_reference():
    model = learner({"ppo": {"warmup_iterations": 1, "reference_kl": 1.0}})
    model.learn(48)
    assert model.last_iteration["reference_kl"] == pytest.approx(0.0, abs=1e-5)


def test_the_penalty_leaves_episode_costs_alone():
    """Budgets are on what the environment charges."""
    model = learner({"ppo": {"warmup_iterations": 0, "reference_kl": 5.0}})
    model.policy.action_head.linear.bias.data[1] = 50.0  # left for ever; the reference hardly does
    model.learn(48)
    assert model.last_iteration["reference_kl"] > 1
    assert model.last_iteration["costs"] == {"strip": 0.0, "border": 7.0}


def test_a_heavier_penalty_stays_nearer():
    ratios = []
    for coefficient in (1e-9, 3.0):
        model = learner({"ppo": {"learning_rate": 0.02, "reference_kl": coefficient}})
        model.learn(18 * 48)
        seen = []
        for _ in range(6):
            model.learn(48, reset_num_timesteps=False)
            seen.append(model.last_iteration["reference_kl"])
        ratios.append(np.mean(seen))
    assert ratios[1] < 0.5 * ratios[0]


def nll(model, demonstrations):
    """The negative log-likelihood of all demonstrations."""
    arrays = {name: array[None] for name, array in demonstrations.arrays.items()}
    with torch.no_grad():
        out = model.policy(mode="bc", features=demonstrations.features[None], **arrays)
    return -float(out.log_prob.mean())


def test_demonstrations_are_what_was_recorded(demos):
    model, data = learner(), DemoDataset(demos)
    demonstrations = Demonstrations(demos, model.policy, model.processor, batch=4, length=16)
    images = [image[0] for image in data.images(np.arange(10))]
    shown = {"navigation_image": np.stack(images), "state": data.state[:10]}
    texts = [encode_instruction(data.instructions[i]) for i in data.task[:10]]
    frame = model.processor(shown | {"instruction": np.stack(texts)})
    features = model.policy.encode(frame["images"], frame["state"], frame["tokens"])
    assert torch.allclose(demonstrations.features[:10], features, atol=1e-5)
    draws = torch.Generator().manual_seed(0)
    mean = np.mean([float(demonstrations.loss(model.policy, draws).detach()) for _ in range(60)])
    assert mean == pytest.approx(nll(model, demonstrations), rel=0.1)


def test_the_demonstrations_pull(demos):
    losses = []
    for coefficient in (0.0, 1.0):
        folder = demos if coefficient else None
        override = {"ppo": {"learning_rate": 0.01, "cloning_coef": coefficient}}
        model = learner(override, demonstrations=folder)
        model.learn(6 * 48)
        demonstrations = Demonstrations(demos, model.policy, model.processor)
        losses.append(nll(model, demonstrations))
    assert losses[1] < 0.5 * losses[0]


def test_a_resumed_learner_goes_on_bit_for_bit(demos, tmp_path):
    override = {"ppo": {"reference_kl": 0.1, "cloning_coef": 0.1}}
    kwargs = {"restart_every": 2, "demonstrations": demos}
    straight = learner(override, **kwargs).learn(4 * 48)
    first = learner(override, **kwargs).learn(2 * 48)
    first.save(tmp_path / "half")
    second = VLAPPOLagrangian.load(tmp_path / "half", first.get_env(), **kwargs)
    second.learn(2 * 48, reset_num_timesteps=False)
    assert same(weights(straight), weights(second))
    ratios = [model.last_iteration["reference_kl"] for model in (straight, second)]
    assert ratios[0] == ratios[1] != 0


def test_what_is_missing_or_does_not_fit_is_named(demos):
    with pytest.raises(ValueError, match=r"cloning_coef is 0\.1, but no demonstrations"):
        learner({"ppo": {"cloning_coef": 0.1}})
    for name in ("reference_kl", "cloning_coef"):
        with pytest.raises(ValueError, match=rf"ppo\.{name} is 0\.1; it needs freeze_perception"):
            PPOConfig(freeze_perception=False, **{name: 0.1})
    model = learner()
    with pytest.raises(ValueError, match="frames, at least 5000 are needed"):
        Demonstrations(demos, model.policy, model.processor, length=5000)
    model.policy.config.image_size = 64
    with pytest.raises(ValueError, match="image_size is 32, the policy has 64"):
        Demonstrations(demos, model.policy, model.processor)
