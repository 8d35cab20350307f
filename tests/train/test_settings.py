import pytest

from safevla.train.settings import MultiplierConfig, TrainConfig, train_config


def test_defaults_are_the_recipe():
    c = TrainConfig()
    assert (c.n_envs, c.n_steps, c.ppo.learning_rate, c.ppo.clip) == (8, 128, 5e-4, 0.2)
    assert (c.ppo.epochs, c.ppo.target_kl, c.ppo.minibatch, c.ppo.gamma) == (6, 0.03, 256, 0.97)
    assert (c.ppo.warmup_iterations, c.critic.warmup_epochs, c.critic.epochs) == (3, 20, 8)
    assert (c.multipliers.initial, c.multipliers.rate, c.multipliers.maximum) == (2.0, 0.05, 10.0)


def test_layers_merge_in_order():
    first = {"n_steps": 64, "ppo": {"clip": 0.1}, "multipliers": {"budgets": {"impact": 0.5}}}
    config = train_config(first, {"ppo": {"epochs": 2, "clip": 0.3}})
    assert (config.n_steps, config.ppo.clip, config.ppo.epochs) == (64, 0.3, 2)
    assert config.multipliers.budgets == {"impact": 0.5}
    assert config.critic.hidden == (128, 128)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"ppo": {"clipp": 0.1}}, "clipp"),
        ({"n_steps": "many"}, "n_steps|many"),
        ({"multipliers": {"rule": "magic"}}, "magic"),
        ({"ppo": {"gamma": 1.5}}, "ppo.gamma is 1.5"),
        ({"workers": 3}, "workers is 3"),
        ({"multipliers": {"budgets": {"a": -1}}}, "multipliers.budgets.a"),
        ({"multipliers": {"initial": 11}}, "initial is 11"),
        ({"device": "gpu"}, "device is 'gpu'"),
        ({"critic": {"hidden": []}}, "critic.hidden"),
        ({"rewards": {"step_penalty": float("nan")}}, "step_penalty"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(ValueError, match=message):
        train_config(override)


def test_direct_construction_is_checked_too():
    with pytest.raises(ValueError, match=r"multipliers\.rule is 'x'"):
        MultiplierConfig(rule="x")  # pyright: ignore[reportArgumentType]
