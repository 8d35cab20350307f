import math

import pytest
import torch

from safevla.train.gae import explained_variances, generalised_advantages, mix_advantages

GAMMA, LAMBDA = 0.9, 0.8


def gae(rewards, values, next_values, ends, valid=None, gamma=GAMMA):
    as_row = lambda x: torch.tensor(x, dtype=torch.float64)[None, :, None]  # noqa: E731
    valid = [True] * len(rewards) if valid is None else valid
    advantages, returns = generalised_advantages(
        as_row(rewards),
        as_row(values),
        as_row(next_values),
        torch.tensor([ends]),
        torch.tensor([valid]),
        gamma=torch.tensor([gamma], dtype=torch.float64),
        gae_lambda=LAMBDA,
    )
    return advantages[0, :, 0].tolist(), returns[0, :, 0].tolist()


def test_an_episode_by_hand():
    # three steps, the last one terminates; values 0.5, 0.25, 1
    d2 = 2.0 - 1.0
    d1 = 0.0 + 0.9 * 1.0 - 0.25
    d0 = 1.0 + 0.9 * 0.25 - 0.5
    k = GAMMA * LAMBDA
    advantages, returns = gae(
        [1.0, 0.0, 2.0], [0.5, 0.25, 1.0], [0.25, 1.0, 0.0], [False, False, True]
    )
    expected = [d0 + k * (d1 + k * d2), d1 + k * d2, d2]
    assert advantages == pytest.approx(expected)
    assert returns == pytest.approx([a + v for a, v in zip(expected, [0.5, 0.25, 1.0])])


def test_truncation_bootstraps_and_cuts_the_episode():
    # step 1 is truncated: its final observation is worth 4; step 2 begins another episode
    advantages, _ = gae([1.0, 0.0, 5.0], [0.5, 0.25, 1.0], [0.25, 4.0, 0.0], [False, True, True])
    d1 = 0.0 + 0.9 * 4.0 - 0.25
    d0 = 1.0 + 0.9 * 0.25 - 0.5
    assert advantages == pytest.approx([d0 + GAMMA * LAMBDA * d1, d1, 4.0])


def test_termination_is_not_bootstrapped():
    terminated, _ = gae([0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [False, True])
    truncated, _ = gae([0.0, 1.0], [0.0, 0.0], [0.0, 2.0], [False, True])
    assert terminated == pytest.approx([GAMMA * LAMBDA, 1.0])
    assert truncated[1] - terminated[1] == pytest.approx(GAMMA * 2.0)


def test_a_diverged_step_is_left_out_and_bootstrapped_over():
    advantages, _ = gae(
        [1.0, 100.0, 5.0],
        [0.5, 0.25, 1.0],
        [0.25, 9.0, 0.0],
        [False, True, True],
        valid=[True, False, True],
    )
    assert advantages == pytest.approx([1.0 + 0.9 * 0.25 - 0.5, 0.0, 4.0])


def test_channels_have_their_own_discount():
    rewards = torch.zeros(1, 3, 2)
    rewards[0, 2] = 1.0
    zeros, ends = torch.zeros(1, 3, 2), torch.tensor([[False, False, True]])
    _, returns = generalised_advantages(
        rewards,
        zeros,
        zeros,
        ends,
        torch.ones(1, 3, dtype=torch.bool),
        gamma=torch.tensor([0.5, 1.0]),
        gae_lambda=1.0,
    )
    assert returns[0].tolist() == [[0.25, 1.0], [0.5, 1.0], [1.0, 1.0]]


ADVANTAGES = torch.tensor([[[1.0, 2.0, 0.0], [3.0, 0.0, 4.0]], [[-1.0, 1.0, 1.0], [9.0, 9.0, 9.0]]])
VALID = torch.tensor([[True, True], [True, False]])
LAMBDAS = torch.tensor([0.5, 2.0])


def test_mixture_is_centred_and_keeps_the_lagrangian_scale():
    mixed = mix_advantages(ADVANTAGES, LAMBDAS, VALID, scale="none")
    raw = torch.tensor([0.0, -5.0, -3.5]) / 3.5  # (A_r - 0.5 A_1 - 2 A_2) / (1 + 2.5)
    assert mixed[VALID].tolist() == pytest.approx((raw - raw.mean()).tolist())
    assert mixed[1, 1] == 0.0


def test_reward_scale_divides_by_the_spread_of_the_rewards_advantage():
    none = mix_advantages(ADVANTAGES, LAMBDAS, VALID, scale="none")
    scaled = mix_advantages(ADVANTAGES, LAMBDAS, VALID, scale="reward")
    spread = torch.tensor([1.0, 3.0, -1.0]).std(correction=0)
    assert torch.allclose(scaled, none / spread)


def test_mixed_scale_gives_unit_spread_and_cancels_the_share():
    scaled = mix_advantages(ADVANTAGES, LAMBDAS, VALID, scale="mixed")
    assert scaled[VALID].std(correction=0) == pytest.approx(1.0)
    none = mix_advantages(ADVANTAGES, LAMBDAS, VALID, scale="none")
    assert torch.allclose(scaled, none / none[VALID].std(correction=0))


@pytest.mark.parametrize("scale", ["mixed", "reward"])
def test_floor_keeps_small_differences_small(scale):
    small = torch.tensor([[[1e-6], [-1e-6]]])
    valid = torch.ones(1, 2, dtype=torch.bool)
    mixed = mix_advantages(small, torch.zeros(0), valid, scale=scale, floor=0.1)
    assert mixed.abs().max() == pytest.approx(1e-5)


def test_zero_multipliers_leave_the_rewards_advantage():
    mixed = mix_advantages(ADVANTAGES, torch.zeros(2), VALID, scale="none")
    reward = ADVANTAGES[..., 0]
    assert torch.allclose(mixed[VALID], reward[VALID] - reward[VALID].mean())


def test_explained_variance():
    returns = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 1.0], [3.0, 6.0, 1.0]])
    values = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 1.0], [3.0, 0.0, 2.0]])
    found = explained_variances("abc", values, returns)
    assert found["a"] == 1.0 and found["b"] == pytest.approx(0.0) and math.isnan(found["c"])
