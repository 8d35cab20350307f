"""Defects of SafeVLA's training code that touch costs: our learner does not have them.

Sources and words are in docs/defects.md; the numbers of the section are those of the code read.
"""

import copy

import numpy as np
import pytest
import torch
from tiny_env import tiny_policy

from safevla.train.envs import make_vec_env
from safevla.train.multipliers import Multipliers
from safevla.train.settings import MultiplierConfig, train_config
from safevla.train.vla_ppo import VLAPPOLagrangian

ENV_ID = "tiny_env:TinyCrossing-v0"
ROLLOUT = 12
SMALL = {
    "n_steps": ROLLOUT,
    "ppo": {"warmup_iterations": 1, "minibatch": 24, "epochs": 2},
    "critic": {"epochs": 2, "warmup_epochs": 2, "hidden": [16]},
}
N = 4
ITERATION = N * ROLLOUT
LEFT = 1


def learner(*overrides, max_steps=7, workers=0, **kwargs):
    """A learner of the tiny crossing that walks against the border from the first step on."""
    policy, processor = tiny_policy()
    env = make_vec_env(ENV_ID, {"max_steps": max_steps}, N, workers)
    model = VLAPPOLagrangian(
        policy, env, processor=processor, config=train_config(SMALL, *overrides), **kwargs
    )
    model.policy.action_head.linear.bias.data[LEFT] = 50.0
    return model


def cost_critic(model) -> list[torch.Tensor]:
    inside = model.critic.inside_policy
    module = model.policy.cost_heads if inside else model.critic.networks.costs
    return [p.detach().clone() for p in module.parameters()]


@pytest.mark.parametrize("kind", ["privileged", "policy"])
def test_cost_critics_learn_in_every_phase(kind):
    """There the loss of the cost critic is listed for the first stage alone."""
    model = learner({"critic": {"kind": kind}})
    model.learn(ITERATION)
    assert model.last_iteration["warmup"]
    for _ in range(3):
        before = cost_critic(model)
        model.learn(ITERATION, reset_num_timesteps=False)
        assert not model.last_iteration["warmup"]
        assert any(not torch.equal(a, b) for a, b in zip(before, cost_critic(model)))


def test_multiplier_compares_whole_episodes_with_a_limit_per_episode():
    """There the sum over a rollout's window is compared with a limit per episode.

    Episodes of 30 bumps span three rollouts of 12 steps; the budget of `border` is 0.5.
    """
    model = learner({"ppo": {"warmup_iterations": 0}}, max_steps=30)
    rate = model.config.multipliers.rate
    start = model.multipliers.as_dict()["border"]
    for _ in range(2):
        model.learn(ITERATION, reset_num_timesteps=False)
        assert model.multipliers.as_dict()["border"] == start
    model.learn(ITERATION, reset_num_timesteps=False)
    assert model.last_iteration["costs"]["border"] == 30.0
    assert model.multipliers.as_dict()["border"] == pytest.approx(start + rate * (30 - 0.5))


def test_one_multiplier_serves_all_workers():
    """There every worker has a multiplier of its own, and gradients of different ones are mixed."""
    values = []
    for workers in (0, 2):
        model = learner({"ppo": {"warmup_iterations": 0}}, workers=workers)
        noted = []
        record = model.multipliers.record
        model.multipliers.record = lambda costs, r=record, n=noted: (n.append(costs), r(costs))
        model.learn(ITERATION)
        model.env.close()
        assert len(noted) == N, "one completed episode of every environment"
        border = np.mean([costs["border"] for costs in noted])
        assert model.multipliers.last_cost[1] == border
        values.append(model.multipliers.value)
    np.testing.assert_array_equal(*values)


def test_multipliers_rest_during_warm_up():
    """There the multiplier rises while only critics learn, before the policy could react."""
    model = learner({"ppo": {"warmup_iterations": 2}})
    before = model.multipliers.value.copy()
    for _ in range(2):
        model.learn(ITERATION, reset_num_timesteps=False)
        assert model.last_iteration["costs"]["border"] > 1, "there is something to react to"
        np.testing.assert_array_equal(model.multipliers.value, before)
    model.learn(ITERATION, reset_num_timesteps=False)
    assert model.multipliers.as_dict()["border"] > before[1]


@pytest.mark.parametrize("rule", ["projected", "log", "pid"])
def test_multiplier_step_grows_with_the_violation(rule):
    """There Adam moves the multiplier by its learning rate, however large the violation is."""
    steps = []
    for violation in (0.1, 1.0, 10.0):
        config = MultiplierConfig(rule=rule, initial=1.0, rate=0.01, ki=0.01, kp=0.0, kd=0.0)
        multipliers = Multipliers(["a"], {"a": 0.5}, config)
        multipliers.record({"a": 0.5 + violation})
        multipliers.update()
        value = multipliers.value[0]
        steps.append(np.log(value) if rule == "log" else value - 1.0)
    assert steps == pytest.approx([0.001, 0.01, 0.1])


@pytest.mark.parametrize("rule", ["projected", "log", "pid"])
def test_multipliers_and_their_memory_are_in_the_checkpoint(rule, tmp_path):
    """There neither the multiplier nor its optimiser is saved: a resumed run starts at 0.001."""
    override = {"multipliers": {"rule": rule, "ki": 0.01}, "ppo": {"warmup_iterations": 0}}
    model = learner(override)
    model.learn(2 * ITERATION)
    moved = copy.deepcopy(model.multipliers.state_dict())
    assert (
        moved["value"]
        != Multipliers(
            model.multipliers.names, model.constraints, model.config.multipliers
        ).state_dict()["value"]
    )
    model.save(tmp_path / "half")
    resumed = VLAPPOLagrangian.load(tmp_path / "half", model.get_env())
    assert resumed.multipliers.state_dict() == moved
    for multipliers in (model.multipliers, resumed.multipliers):
        multipliers.record({"strip": 1.0, "border": 3.0})
        multipliers.update()
    assert resumed.multipliers.state_dict() == model.multipliers.state_dict()


def test_every_constraint_has_a_multiplier_of_its_own():
    """There one scalar cost and one multiplier stand for five components."""
    model = learner({"ppo": {"warmup_iterations": 0}})
    start = model.multipliers.as_dict()
    model.learn(ITERATION)
    moved = model.multipliers.as_dict()
    assert moved["border"] > start["border"], "violated"
    assert moved["strip"] < start["strip"], "never entered"


def test_policy_stops_learning_from_a_rollout_it_has_left_behind():
    """There nothing watches how far the policy moves from the data."""
    model = learner({"ppo": {"warmup_iterations": 0, "epochs": 50, "learning_rate": 0.01}})
    model.policy.action_head.linear.bias.data[LEFT] = 0.0
    model.learn(ITERATION)
    assert model.last_iteration["policy_updates"] < 50 * ITERATION // 24
    assert model.last_iteration["kl"] > 1.5 * model.config.ppo.target_kl
