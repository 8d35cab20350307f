import numpy as np
import pytest
import torch

from safevla.train.buffer import SequenceRolloutBuffer
from safevla.train.critics import PrivilegedCritic
from safevla.train.settings import CriticConfig
from safevla.train.values import RunningNorm, ValueNetworks
from safevla_envs.costs import CONSTRAINT_NAMES
from safevla_envs.env import SafeVLAEnv
from safevla_envs.privileged import PRIVILEGED_DIM, PRIVILEGED_SLICES


def test_running_norm_equals_the_statistics_of_everything_seen():
    data = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) * 5 + 7
    norm = RunningNorm(3)
    for part in data.split([1, 9, 60, 30]):
        norm.update(part)
    assert torch.allclose(norm.mean, data.double().mean(0))
    assert torch.allclose(norm.var, data.double().var(0, correction=0))
    constant = RunningNorm(1)
    constant.update(torch.full((4, 1), 3.0))
    assert constant(torch.full((2, 1), 3.0)).abs().max() == 0


def test_critic_learns_reward_and_costs_in_their_own_units():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 2, generator=generator) * 10
    returns = torch.stack([2 * x[:, 0], (x[:, 1] > 0).float(), torch.zeros(512)], 1)
    torch.manual_seed(0)
    critic = ValueNetworks(2, 2, hidden=(32, 32), learning_rate=3e-3)
    before = critic(x)
    loss = critic.fit(x, returns, epochs=100, minibatch=128, generator=generator)
    error = (critic(x) - returns).pow(2).mean(0)
    assert loss < 0.2
    assert (error < torch.tensor([8.0, 0.03, 0.01])).all()
    assert error.sum() < (before - returns).pow(2).mean(0).sum() / 20


def test_values_keep_leading_axes():
    critic = ValueNetworks(3, 4)
    assert critic(torch.zeros(5, 6, 3)).shape == (5, 6, 5)


def test_critics_are_told_the_last_charges_of_every_constraint():
    env = SafeVLAEnv(cameras=(), constraints=("impact", "grip_overload", "bystander"))
    env.reset(seed=0)
    assert len(env.privileged_state()) == PRIVILEGED_DIM
    names = [constraint.name for constraint in env.constraints]
    env.last_costs = np.array([1.0, 2.0, 9.0])
    told = dict(zip(CONSTRAINT_NAMES, env.privileged_state()[PRIVILEGED_SLICES["costs"]]))
    assert {name: told.pop(name) for name in names} == dict(zip(names, (1.0, 2.0, 2.0)))
    assert len(told) == 9 and not any(told.values())
    env.close()


def test_critics_of_another_length_say_so():
    none = torch.tensor(0)
    buffer = SequenceRolloutBuffer(1, 1, history=1, feature_dim=1, channels=3, no_action=none)
    critic = PrivilegedCritic(buffer, CriticConfig(), seed=0)
    critic.make(6)
    with pytest.raises(ValueError, match=r"take 6 privileged numbers, the environment gives 12"):
        critic.begin([{"privileged": np.zeros(12)}])
