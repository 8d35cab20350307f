import pickle

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.evaluation import evaluate_policy
from tiny_env import ENV_ID, TinyCrossing, tiny_policy

from safevla.policy import PolicyAgent
from safevla.train.envs import make_vec_env
from safevla.train.settings import train_config
from safevla.train.vla_ppo import VLAPPOLagrangian

SMALL = {
    "n_steps": 12,
    "ppo": {"warmup_iterations": 1, "minibatch": 24, "epochs": 2},
    "critic": {"epochs": 2, "warmup_epochs": 2, "hidden": [16]},
}


def learner(*overrides, env_kwargs=None, n_envs=4, policy=None, **kwargs):
    policy, processor = policy or tiny_policy()
    env = make_vec_env(ENV_ID, {"max_steps": 7} | (env_kwargs or {}), n_envs)
    config = train_config(SMALL, *overrides)
    return VLAPPOLagrangian(policy, env, processor=processor, config=config, **kwargs)


def weights(model):
    return {name: p.detach().clone() for name, p in model.policy.named_parameters()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("frozen", [True, False])
def test_learning_sees_what_acting_saw(frozen):
    """Log-probabilities, values and features of a rollout again, over episodes and rollouts."""
    override = {"ppo": {"freeze_perception": frozen}, "critic": {"kind": "policy"}}
    model = learner(override, policy=tiny_policy(history=5, n_layers=2))
    model.learn(2 * 48)  # one iteration of warm-up, one in which the policy moves
    assert model.iteration == 2
    model.train = lambda: setattr(model, "iteration", 3)  # keep the policy of the third rollout
    model.learn(48, reset_num_timesteps=False)
    buffer = model.rollout_buffer
    assert buffer.ends.any() and (buffer.segments[:, : buffer.context] >= 0).all()
    everything = torch.cartesian_prod(torch.arange(4), torch.arange(0, 12, buffer.sequence))
    batch = buffer.minibatch(everything[:, 0], everything[:, 1])
    out = model.policy(mode="bc", actions=batch.with_context(buffer.actions), **batch.inputs)
    log_prob = out.log_prob[:, batch.context :]
    assert (log_prob - batch.of(buffer.log_probs)).abs().max() < 1e-5
    values = model.critic.of(out)[:, batch.context :]
    assert (values - batch.of(buffer.values)).abs().max() < 1e-4
    assert log_prob.std() > 1e-4  # not all the same


def test_predict_acts_as_the_agent_of_a_checkpoint():
    model, n = learner(), 4
    agent = PolicyAgent(*tiny_policy())
    env = model.get_env()
    env.seed(5)
    obs, state, starts = env.reset(), None, np.ones(n, bool)
    for _ in range(20):
        actions, state = model.predict(obs, state, starts, deterministic=True)
        np.testing.assert_array_equal(actions, agent.act(obs, deterministic=True))
        obs, _, starts, _ = env.step(actions)
        for i in np.flatnonzero(starts):
            agent.reset(int(i))
    single = {key: value[0] for key, value in obs.items()}
    assert model.predict(single, deterministic=True)[0].shape == ()


def test_nothing_but_critics_moves_in_warm_up():
    model = learner({"ppo": {"warmup_iterations": 2}})
    before, multipliers = weights(model), model.multipliers.value.copy()
    model.learn(48)
    costs = model.critic.networks.costs
    earlier = costs[0].weight.detach().clone()
    model.learn(48, reset_num_timesteps=False)
    assert model.last_iteration["warmup"] and model.last_iteration["episodes"] > 0
    assert same(before, weights(model))
    np.testing.assert_array_equal(model.multipliers.value, multipliers)
    assert not torch.equal(costs[0].weight, earlier)
    model.learn(48, reset_num_timesteps=False)
    assert not same(before, weights(model))
    assert (model.multipliers.value != multipliers).all()
    assert not torch.equal(costs[0].weight, earlier)


def test_the_trained_policy_is_the_mean_of_the_weights():
    model = learner({"ppo": {"weight_averaging": 0.9, "warmup_iterations": 1}})
    seen = []
    for _ in range(4):
        model.learn(48, reset_num_timesteps=False)
        seen.append(weights(model))
    mean = dict(model.trained_policy().named_parameters())
    for name in model.trainable:  # evenly over the three iterations after the warm-up
        expected = torch.stack([each[name] for each in seen[1:]]).mean(0)
        assert torch.allclose(mean[name], expected, atol=1e-6), name
    assert not same(seen[-1], dict(mean)) and same(seen[-1], weights(model))
    model = learner()
    assert model.trained_policy() is model.policy


def test_the_learning_rate_falls_over_the_run():
    config = {"total_steps": 4 * 48, "ppo": {"learning_rate": 0.01, "learning_rate_decay": 0.5}}
    model, rates = learner(config, {"ppo": {"warmup_iterations": 0}}), []
    for _ in range(4):
        model.learn(48, reset_num_timesteps=False)
        rates.append(model.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.00875, 0.0075, 0.00625, 0.005])


def test_multipliers_wait_for_completed_episodes():
    model = learner({"ppo": {"warmup_iterations": 0}}, env_kwargs={"max_steps": 1000})
    model.policy.action_head.linear.bias.data[1] = 50.0  # always left, against the border
    model.learn(2 * 48)
    assert model.last_iteration["episodes"] == 0
    np.testing.assert_array_equal(model.multipliers.value, [2.0, 2.0])


def test_multipliers_move_by_whole_episodes():
    model = learner({"ppo": {"warmup_iterations": 0}})
    model.policy.action_head.linear.bias.data[1] = 50.0
    model.learn(48)  # 7 bumps an episode, budget 0.5; the strip is never entered, budget 0.2
    assert model.last_iteration["costs"] == {"strip": 0.0, "border": 7.0}
    assert model.multipliers.value == pytest.approx([2 - 0.05 * 0.2, 2 + 0.05 * 6.5])


def test_perception_is_frozen_or_learns():
    for frozen in (True, False):
        model = learner({"ppo": {"freeze_perception": frozen}})
        before = weights(model)
        model.learn(2 * 48)
        after = weights(model)
        moved = {n.split(".")[0] for n in before if not torch.equal(before[n], after[n])}
        assert {"decoder", "frame", "action_head"} <= moved
        assert ("vision" in moved) == (not frozen)
        assert not {"value_head", "cost_heads"} & moved


def test_own_value_heads_learn_alone_in_warm_up():
    policy = tiny_policy(detach_values=False)
    model = learner({"critic": {"kind": "policy"}}, policy=policy)
    before = weights(model)
    model.learn(48)
    after = weights(model)
    moved = {n.split(".")[0] for n in before if not torch.equal(before[n], after[n])}
    assert moved == {"value_head", "cost_heads"}
    model.learn(48, reset_num_timesteps=False)
    assert not torch.equal(after["frame.0.weight"], weights(model)["frame.0.weight"])


@pytest.mark.parametrize("kind", ["privileged", "policy"])
def test_truncated_episodes_are_bootstrapped_from_their_last_observation(kind):
    model = learner({"critic": {"kind": kind}}, n_envs=1)
    model.policy.action_head.linear.bias.data[1] = 50.0  # never reaches the goal
    model.learn(12)
    model.train = lambda: None
    env, seen = model.get_env(), []
    step = env.step_wait

    def watch():
        result = step()
        seen.append(result[3][0])
        return result

    env.step_wait = watch
    model.learn(12, reset_num_timesteps=False)
    buffer = model.rollout_buffer
    cut, _ = np.flatnonzero(buffer.ends[0]).tolist()  # after 14 and 21 steps
    assert cut == 1 and seen[cut]["TimeLimit.truncated"]
    found = buffer.next_values[0, cut]
    if kind == "privileged":
        expected = model.critic.networks(torch.from_numpy(seen[cut]["privileged"])[None])[0]
    else:
        last = {k: v[None] for k, v in seen[cut]["terminal_observation"].items()}
        window = buffer.window()  # a window of the right shape, to be filled by hand
        rows = slice(cut, cut + buffer.history)  # steps up to the cut
        window["features"] = buffer.features[:, rows][:, 1:]
        window["prev_actions"] = torch.ones(1, buffer.history, dtype=torch.long)
        window["mask"] = torch.ones(1, buffer.history, dtype=torch.bool)
        expected = model.critic.of(model._look(model._inputs(last), window))[0]
    assert torch.allclose(found, expected, atol=1e-5)
    reward = -0.02  # the step penalty
    delta = reward + 0.97 * found[0] - buffer.values[0, cut, 0]
    assert buffer.advantages[0, cut, 0] == pytest.approx(float(delta), abs=1e-5)
    going_on = buffer.next_values[0, : cut - 1], buffer.values[0, 1:cut]
    assert torch.equal(*going_on)


def test_terminated_episodes_are_not_bootstrapped():
    model = learner({"critic": {"kind": "policy"}}, env_kwargs={"max_steps": 1000}, n_envs=16)
    model.policy.action_head.linear.bias.data[2] = 1.0
    model.learn(12 * 16)
    buffer = model.rollout_buffer
    assert buffer.ends.any()
    assert (buffer.next_values[buffer.ends] == 0).all()
    assert (buffer.next_values[~buffer.ends] != 0).all()


def test_diverged_simulations_are_reported_and_not_learned_from():
    model = learner({"ppo": {"warmup_iterations": 0}}, env_kwargs={"diverge_at": 3})
    model.learn(48)
    row = model.last_iteration
    assert (row["sim_errors"], row["episodes"]) == (16, 0)
    assert model.rollout_buffer.valid.sum() == 32
    assert (model.rollout_buffer.advantages[~model.rollout_buffer.valid] == 0).all()
    np.testing.assert_array_equal(model.multipliers.value, [2.0, 2.0])


def test_task_only_is_the_same_code_with_multipliers_of_zero():
    zero = learner({"multipliers": {"rule": "zero"}}).learn(3 * 48)
    fixed = learner({"multipliers": {"rule": "fixed", "initial": 0.0}}).learn(3 * 48)
    penalised = learner({"multipliers": {"rule": "fixed", "initial": 1.0}}).learn(3 * 48)
    assert same(weights(zero), weights(fixed))
    assert not same(weights(zero), weights(penalised))
    assert "explained_variance" in zero.last_iteration and len(zero.critic.networks.costs) > 0


def test_total_signal_has_one_multiplier():
    model = learner({"multipliers": {"signal": "total", "total_budget": 0.1}})
    model.learn(2 * 48)
    assert model.multipliers.names == ("cost",)
    assert model.rollout_buffer.rewards.shape[-1] == 2
    assert set(model.last_iteration["costs"]) == {"strip", "border"}


@pytest.mark.parametrize("kind", ["privileged", "policy"])
def test_a_resumed_learner_goes_on_bit_for_bit(kind, tmp_path):
    override = {"critic": {"kind": kind}, "multipliers": {"rule": "pid"}}
    straight = learner(override, restart_every=2).learn(4 * 48)
    first = learner(override, restart_every=2).learn(2 * 48)
    first.save(tmp_path / "half")
    second = VLAPPOLagrangian.load(tmp_path / "half", first.get_env(), restart_every=2)
    assert second.iteration == 2 and second.num_timesteps == 96
    torch.manual_seed(123)  # the global generator plays no part
    second.learn(2 * 48, reset_num_timesteps=False)
    assert same(weights(straight), weights(second))
    assert straight.multipliers.state_dict() == second.multipliers.state_dict()
    for name, p in straight.trainable.items():
        state, other = straight.optimizer.state[p], second.optimizer.state[second.trainable[name]]
        assert set(state) == set(other) and all(torch.equal(state[k], other[k]) for k in state)
    if kind == "privileged":
        state, other = straight.critic.networks.state_dict(), second.critic.networks.state_dict()
        assert all(torch.equal(state[k], other[k]) for k in state)
    volatile = ("steps_per_second", "learning_share")
    rows = [dict(m.last_iteration) for m in (straight, second)]
    for key in volatile:
        rows = [{k: v for k, v in row.items() if k != key} for row in rows]
    np.testing.assert_equal(rows[0], rows[1])


def test_no_pickles(tmp_path):
    model = learner()
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(model)
    with pytest.raises(ValueError, match="nothing is pickled"):
        model.save(tmp_path / "x", include=["env"])
    (tmp_path / "stock.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="zip files"):
        VLAPPOLagrangian.load(tmp_path / "stock.zip", model.get_env())
    with pytest.raises(ValueError, match="no learner's checkpoint"):
        VLAPPOLagrangian.load(tmp_path / "nothing", model.get_env())
    model.save(tmp_path / "m")
    files = {p.name for p in (tmp_path / "m").rglob("*") if p.is_file()}
    assert {name.rsplit(".")[-1] for name in files} == {"json", "safetensors"}


def test_stable_baselines_tools_work(tmp_path):
    model = learner()
    callback = CheckpointCallback(save_freq=12, save_path=str(tmp_path), name_prefix="m")
    model.learn(48, callback=callback)
    # saved in the middle of the first rollout, it holds the state before it
    assert VLAPPOLagrangian.load(tmp_path / "m_48_steps", model.get_env()).num_timesteps == 0
    mean, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=4)
    assert mean <= 10.0
    assert len(model.ep_info_buffer) > 0


def test_a_stopped_rollout_is_dropped():
    model = learner()
    model.learn(48)
    before = weights(model)
    model.learn(48, callback=lambda locals_, _: False, reset_num_timesteps=False)
    assert (model.iteration, model.num_timesteps) == (1, 48)
    assert same(before, weights(model))
    model.learn(48, reset_num_timesteps=False)
    assert model.iteration == 2


def test_one_environment_is_wrapped():
    policy, processor = tiny_policy()
    config = train_config(SMALL, {"critic": {"kind": "policy"}})
    model = VLAPPOLagrangian(policy, TinyCrossing(), processor=processor, config=config)
    model.learn(12)
    assert model.num_timesteps == 12


def test_misfits_are_named():
    with pytest.raises(ValueError, match="n_actions=5"):
        learner(policy=tiny_policy(n_actions=5))
    with pytest.raises(ValueError, match="cost heads"):
        learner({"critic": {"kind": "policy"}}, policy=tiny_policy(constraint_names=("x",)))
    policy, processor = tiny_policy()
    bare = VLAPPOLagrangian(policy, TinyCrossing(), processor=processor, config=train_config(SMALL))
    with pytest.raises(ValueError, match="PrivilegedInfo"):
        bare.learn(12)
    with pytest.raises(ValueError, match="env is None"):
        VLAPPOLagrangian(policy, None, processor=processor)
    with pytest.raises(ValueError, match="budgets names 'drift'"):
        learner({"multipliers": {"budgets": {"drift": 1.0}}})
