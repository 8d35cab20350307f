"""The policy network: sizes, equality of its modes, masks, heads, towers."""

import pytest
import torch
from transformers import AutoModel, Dinov2Config, Dinov2Model, SiglipVisionConfig, SiglipVisionModel

from safevla.policy import SafeVLAConfig, VLAPolicy, build_policy

SMALL_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 32,
}
SIGLIP = SMALL_VIT | {"intermediate_size": 48}


def make(seed=0, **changes) -> VLAPolicy:
    fields = {
        "image_size": 32,
        "state_dim": 5,
        "n_actions": 6,
        "end_action": 5,
        "constraint_names": ("a", "b", "c"),
        "text_vocab_size": 12,
        "text_max_tokens": 7,
        "aux_dim": 4,
    }
    torch.manual_seed(seed)
    policy = VLAPolicy(SafeVLAConfig(**(fields | changes)))
    with torch.no_grad():  # fresh heads are near uniform: sharpen them, so that differences show
        policy.action_head.linear.weight.mul_(20)
    return policy.eval()


def inputs(policy: VLAPolicy, batch=3, steps=8, seed=1) -> dict[str, torch.Tensor]:
    config, g = policy.config, torch.Generator().manual_seed(seed)
    size, cameras = config.image_size, len(config.cameras)
    shape = (batch, steps, cameras, size, size, 3)
    if config.discrete:
        previous = torch.randint(0, config.n_actions + 1, (batch, steps), generator=g)
    else:
        previous = torch.rand(batch, steps, config.n_actions, generator=g) * 2 - 1
    return {
        "images": torch.randint(0, 256, shape, generator=g, dtype=torch.uint8),
        "state": torch.randn(batch, steps, config.state_dim, generator=g),
        "tokens": torch.randint(0, config.text_vocab_size, (batch, 7), generator=g),
        "prev_actions": previous,
    }


def cut(given: dict, steps: slice) -> dict:
    return {k: v if k == "tokens" else v[:, steps] for k, v in given.items()}


def test_default_policy_is_tiny():
    names = ("corner", "fragile", "equipment", "self_collision", "joint_limit", "impact")
    policy = VLAPolicy(SafeVLAConfig(constraint_names=names))
    assert policy.config.history >= 8
    assert 300_000 <= sum(p.numel() for p in policy.parameters()) <= 1_000_000


def test_no_buffer_is_lost_when_saving():
    policy = make()
    assert {name for name, _ in policy.named_buffers()} <= set(policy.state_dict())


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("head", ["categorical", "gaussian", "binned"])
def test_acting_from_cached_features_equals_learning_from_images(head, layers):
    policy = make(action_head=head, n_layers=layers, n_bins=8)
    given = inputs(policy)
    mask = torch.ones(3, 8, dtype=torch.bool)
    mask[0, :5] = False
    cached = torch.stack(
        [
            policy.encode(given["images"][:, t], given["state"][:, t], given["tokens"]).detach()
            for t in range(8)
        ],
        1,
    )
    acted = policy(
        features=cached,
        prev_actions=given["prev_actions"],
        mask=mask,
        mode="act",
        generator=torch.Generator().manual_seed(3),
    )
    assert acted.log_prob.dtype == torch.float32 and not acted.log_prob.requires_grad
    learned = policy(**given, mask=mask, actions=acted.actions, mode="evaluate")
    for name in ("log_prob", "entropy", "value", "cost_values", "features"):
        torch.testing.assert_close(acted[name], learned[name], atol=1e-5, rtol=0, msg=name)
    learned.log_prob.sum().backward()
    assert policy.text.embed.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("layers", [1, 3])
def test_every_position_of_a_sequence_equals_its_own_window(layers):
    policy = make(n_layers=layers)
    given = inputs(policy, steps=20)
    segments = torch.tensor([[0] * 20, [0] * 6 + [1] * 14, [4] * 11 + [7] * 5 + [-1] * 4])
    actions = torch.randint(0, 6, (3, 20))
    whole = policy(**given, segments=segments, actions=actions, mode="bc")
    for t in range(20):
        steps = slice(max(0, t - 7), t + 1)
        alone = policy(
            **cut(given, steps),
            mask=segments[:, steps] == segments[:, t : t + 1],
            actions=actions[:, t],
        )
        rows = segments[:, t] >= 0
        for name in ("log_prob", "logits", "value", "cost_values", "hidden", "aux"):
            # other shapes go through other kernels, which round differently by processor
            torch.testing.assert_close(
                whole[name][rows, t], alone[name][rows], atol=3e-5, rtol=0, msg=f"{name} at {t}"
            )


def test_the_decoder_sees_exactly_the_last_h_frames():
    policy = make(n_layers=3)
    given = inputs(policy, batch=1, steps=20)
    actions = torch.zeros(1, 20, dtype=torch.long)
    before = policy(**given, actions=actions, mode="bc").logits
    for changed in (0, 9):
        other = {k: v.clone() for k, v in given.items()}
        other["images"][:, changed] = 255 - other["images"][:, changed]
        after = policy(**other, actions=actions, mode="bc").logits
        moved = (after - before).abs().amax((0, 2)) > 0
        assert moved.tolist() == [changed <= t < changed + 8 for t in range(20)]


def test_nothing_before_the_episode_start_leaks():
    policy = make(n_layers=2)
    given = inputs(policy, batch=2)
    mask = torch.tensor([[False] * 5 + [True] * 3, [True] * 8])
    before = policy(**given, mask=mask, deterministic=True)
    other = {k: v.clone() for k, v in given.items()}
    other["images"][:, :5] = 255 - other["images"][:, :5]
    other["state"][:, :5] = 1e6
    other["prev_actions"][:, :5] = 0
    after = policy(**other, mask=mask, deterministic=True)
    assert torch.equal(before.logits[0], after.logits[0])
    assert torch.equal(before.cost_values[0], after.cost_values[0])
    assert not torch.allclose(before.logits[1], after.logits[1], atol=1e-3)


def test_a_short_window_equals_a_padded_one():
    policy = make()
    given = inputs(policy)
    short = policy(**cut(given, slice(5, 8)), deterministic=True)
    mask = torch.arange(8)[None].expand(3, 8) >= 5
    padded = policy(**given, mask=mask, deterministic=True)
    torch.testing.assert_close(short.logits, padded.logits, atol=1e-5, rtol=0)


def test_features_of_earlier_frames_replace_their_images():
    policy = make()
    given = inputs(policy)
    whole = policy(**given, deterministic=True)
    earlier = torch.stack(
        [
            policy.encode(given["images"][:, t], given["state"][:, t], given["tokens"])
            for t in range(7)
        ],
        1,
    )
    latest = {**given, "images": given["images"][:, 7:]}
    mixed = policy(features=earlier, **latest, deterministic=True)
    torch.testing.assert_close(mixed.logits, whole.logits, atol=1e-5, rtol=0)


def test_tokens_may_differ_by_frame():
    policy = make()
    given = inputs(policy, batch=2, steps=4)
    per_frame = given["tokens"][:, None].expand(2, 4, 7).clone()
    per_frame[0, 3] = torch.tensor([2, 3, 4, 0, 0, 0, 0])
    mixed = policy(**{**given, "tokens": per_frame}, actions=torch.zeros(2, 4).long(), mode="bc")
    plain = policy(**given, actions=torch.zeros(2, 4).long(), mode="bc")
    torch.testing.assert_close(mixed.logits[1], plain.logits[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed.logits[0, :3], plain.logits[0, :3], atol=1e-5, rtol=0)
    assert not torch.allclose(mixed.logits[0, 3], plain.logits[0, 3], atol=1e-3)


def test_the_instruction_changes_the_action():
    policy = make()
    given = inputs(policy)
    other = {**given, "tokens": given["tokens"].flip(0)}
    a = policy(**given, deterministic=True).logits
    b = policy(**other, deterministic=True).logits
    assert (a - b).abs().max() > 1e-3


def test_padding_words_change_nothing():
    policy = make()
    given = inputs(policy, steps=1)
    given["tokens"] = torch.tensor([[2, 3, 4, 0, 0, 0, 0]] * 3)
    long = policy(**given, deterministic=True).logits
    short = policy(**{**given, "tokens": given["tokens"][:, :3]}, deterministic=True).logits
    torch.testing.assert_close(long, short, atol=1e-5, rtol=0)


def test_an_empty_instruction_gives_finite_output():
    policy = make()
    given = inputs(policy)
    given["tokens"] = torch.zeros_like(given["tokens"])
    assert policy(**given, deterministic=True).logits.isfinite().all()


def test_sampling_follows_the_probabilities_and_the_generator():
    policy = make()
    given = {k: v[:1] for k, v in inputs(policy).items()}
    features = policy._frames(given["images"], None, given["state"], given["tokens"], None)
    repeated = {
        "features": features.detach().expand(4000, -1, -1),
        "prev_actions": given["prev_actions"].expand(4000, -1),
    }
    draws = [
        policy(**repeated, mode="act", generator=torch.Generator().manual_seed(s))
        for s in (0, 0, 1)
    ]
    assert torch.equal(draws[0].actions, draws[1].actions)
    assert not torch.equal(draws[0].actions, draws[2].actions)
    share = torch.bincount(draws[0].actions, minlength=6) / 4000
    torch.testing.assert_close(share, draws[0].logits[0].softmax(-1), atol=0.03, rtol=0)
    best = policy(**repeated, mode="act", deterministic=True).actions
    assert (best == draws[0].logits.argmax(-1)).all()


def test_categorical_log_prob_and_entropy_match_torch():
    policy = make()
    out = policy(**inputs(policy))
    reference = torch.distributions.Categorical(logits=out.logits)
    torch.testing.assert_close(out.log_prob, reference.log_prob(out.actions))
    torch.testing.assert_close(out.entropy, reference.entropy())


def test_gaussian_log_prob_and_entropy_match_torch():
    policy = make(action_head="gaussian")
    out = policy(**inputs(policy))
    assert out.actions.shape == (3, 6)
    reference = torch.distributions.Normal(out.logits, policy.action_head.log_std.exp())
    torch.testing.assert_close(out.log_prob, reference.log_prob(out.actions).sum(-1))
    torch.testing.assert_close(out.entropy, reference.entropy().sum(-1))


def test_binned_actions_are_bin_centres_that_map_back():
    policy = make(action_head="binned", n_bins=8)
    out = policy(**inputs(policy))
    assert out.logits.shape == (3, 6, 8)
    index = policy.action_head.bins(out.actions)
    assert torch.allclose((index + 0.5) / 4 - 1, out.actions)
    reference = torch.distributions.Categorical(logits=out.logits)
    torch.testing.assert_close(out.log_prob, reference.log_prob(index).sum(-1))
    torch.testing.assert_close(out.entropy, reference.entropy().sum(-1))


def test_value_heads_leave_the_trunk_alone_unless_told_otherwise():
    for detach in (True, False):
        policy = make(detach_values=detach)
        out = policy(**inputs(policy))
        assert out.cost_values.shape == (3, 3)
        (out.value.sum() + out.cost_values.sum()).backward()
        touched = policy.decoder[0].query.weight.grad is not None
        assert touched is not detach
        assert policy.value_head[0].weight.grad.abs().sum() > 0
        assert all(head[0].weight.grad.abs().sum() > 0 for head in policy.cost_heads)


def test_frozen_perception_gets_no_gradient_and_the_rest_does():
    policy = make()
    policy.freeze_perception()
    out = policy(**inputs(policy))
    (-out.log_prob.sum() + out.value.sum() + out.cost_values.sum()).backward()
    frozen = {id(p) for p in policy.perception_parameters()}
    moved = {n for n, p in policy.named_parameters() if p.grad is not None}
    assert moved == {n for n, p in policy.named_parameters() if id(p) not in frozen}
    assert not any(n.startswith(("vision", "text", "camera", "aux_head")) for n in moved)


def test_imitation_does_not_bend_the_auxiliary_prediction():
    policy = make()
    out = policy(**inputs(policy))
    out.log_prob.sum().backward()
    grad = policy.aux_head[2].weight.grad
    assert grad is None or grad.abs().sum() == 0
    policy(**inputs(policy)).aux.sum().backward()
    assert policy.aux_head[2].weight.grad.abs().sum() > 0


def test_without_auxiliary_head_and_constraints():
    policy = make(aux_dim=0, constraint_names=())
    out = policy(**inputs(policy))
    assert out.aux is None and out.cost_values.shape == (3, 0)
    assert out.features.shape == (3, policy.feature_dim)


@pytest.mark.parametrize(
    "changes",
    [
        {"cameras": ("navigation", "manipulation")},
        {"image_size": 64},
        {"film_cells": (2, 8)},
        {"vision_tower": "siglip", "vision_config": SIGLIP},
        {"vision_tower": "siglip", "vision_config": SIGLIP, "image_size": 48},
        {"vision_tower": "dinov2", "vision_config": SMALL_VIT},
        {"vision_tower": "pretrained", "vision_config": {"model_type": "dinov2"} | SMALL_VIT},
    ],
)
def test_towers_and_cameras(changes, tmp_path):
    policy = make(**changes)
    given = inputs(policy, batch=2, steps=3)
    out = policy(**given)
    out.log_prob.sum().backward()
    assert next(policy.vision.parameters()).grad.abs().sum() > 0
    flipped = {**given, "images": given["images"].flip(2)}
    same = torch.allclose(policy(**flipped).logits, out.logits, atol=1e-4)
    assert same is (len(policy.config.cameras) == 1)
    policy.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert type(again) is VLAPolicy
    rated = again(**given, actions=out.actions)
    torch.testing.assert_close(rated.log_prob, out.log_prob, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["siglip", "dinov2"])
def test_pretrained_tower_takes_the_weights_of_a_local_folder(kind, tmp_path):
    torch.manual_seed(5)
    if kind == "siglip":
        source = SiglipVisionModel(SiglipVisionConfig(**SIGLIP))
    else:
        source = Dinov2Model(Dinov2Config(**SMALL_VIT))
    source.save_pretrained(tmp_path)
    config = SafeVLAConfig(vision_tower="pretrained", vision_name=str(tmp_path), image_size=32)
    policy = build_policy(config).eval()
    pixels = torch.rand(2, 3, 32, 32)
    expected = source.eval()(pixel_values=pixels).last_hidden_state
    found = policy.vision.backbone(pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(found, expected)
    centre = 0.5 if kind == "siglip" else 0.485
    assert policy.config.pixel_mean[0] == pytest.approx(centre)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vision_tower": "resnet"}, "vision_tower='resnet'.*film, siglip, dinov2, pretrained"),
        ({"action_head": "softmax"}, "action_head='softmax'.*categorical, gaussian, binned"),
        ({"image_size": 0}, "image_size=0.*at least 8"),
        ({"history": 0}, "history=0"),
        ({"n_heads": 3}, "d_model=128.*n_heads=3"),
        ({"cameras": ()}, "cameras"),
        ({"film_cells": (4,)}, r"film_cells=\(4,\): must be two integers"),
        ({"n_actions": 3, "end_action": 3}, r"end_action=3.*\[0, 3\)"),
        ({"action_names": ("a",), "n_actions": 2}, "action_names has 1"),
    ],
)
def test_bad_configurations_are_named(changes, said):
    with pytest.raises(ValueError, match=said):
        SafeVLAConfig(**changes)


def test_bad_calls_are_named():
    policy = make()
    given = inputs(policy, steps=9)
    with pytest.raises(ValueError, match="9 frames: at most history=8"):
        policy(**given)
    with pytest.raises(ValueError, match=r"mode='learn'.*act, evaluate, bc"):
        policy(**given, mode="learn")
    with pytest.raises(ValueError, match="images and features are both None"):
        policy(prev_actions=given["prev_actions"])
    with pytest.raises(ValueError, match="one image for each of cameras=navigation"):
        policy(**{**inputs(policy), "images": torch.zeros(3, 8, 2, 32, 32, 3, dtype=torch.uint8)})
    with pytest.raises(ValueError, match="vision_name=None"):
        build_policy(SafeVLAConfig(vision_tower="pretrained"))
