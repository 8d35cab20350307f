import pytest


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A policy folder with untrained weights that fits the tiny environment."""
    torch = pytest.importorskip("torch")
    from safevla.policy import SafeVLAConfig, SafeVLAProcessor, build_policy, save_policy

    torch.manual_seed(3)
    config = SafeVLAConfig(
        image_size=16, state_dim=3, n_actions=6, end_action=5, history=4, d_model=32, n_layers=1,
        film_channels=(8, 8, 8), text_dim=16, aux_dim=0, constraint_names=("corner", "impact"),
    )  # fmt: skip
    policy = build_policy(config)
    with torch.no_grad():  # untrained logits are flat: sharpen them, so that inputs matter
        policy.action_head.linear.weight.normal_(std=0.25)
        policy.action_head.linear.bias[5] = -2.0  # `end`
    processor = SafeVLAProcessor(
        cameras=("navigation",), image_size=16, max_tokens=24,
        vocabulary=("<pad>", "<unknown>", "find", "the", "mug", "plant", "lamp", "floor", "potted"),
        state_mean=[0.5, 0.0, 5.0], state_std=[0.5, 0.5, 5.0],
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("policy")
    save_policy(policy, processor, folder)
    return str(folder)
