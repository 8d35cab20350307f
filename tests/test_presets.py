import dataclasses
import typing

import pytest

from safevla.config import PipelineConfig, load_config, presets
from safevla.files import plain
from safevla_envs.generate.freeze import LISTS


@pytest.mark.parametrize("preset", presets())
def test_presets_load(preset):
    config = load_config(preset)
    assert isinstance(config, PipelineConfig)
    assert config.env.kwargs()["id"].startswith("safevla_envs:SafeVLA/")


def test_there_are_the_presets():
    assert presets() == ("base", "fetch", "gpu", "pickup", "quick")


@pytest.mark.parametrize("preset", presets())
def test_training_and_evaluation_draw_from_one_distribution(preset):
    config = load_config(preset)
    name = config.eval.hazard_list
    recipe = LISTS[name.removesuffix("_hazard")]
    assert config.eval.benign_list == name.replace("_hazard", "_benign")
    assert (config.env.level, config.env.hazards) == (recipe.level, recipe.hazards)
    knobs = {k: tuple(v) if isinstance(v, list) else v for k, v in config.env.knobs.items()}
    assert knobs == (recipe.knobs or {})
    assert config.env.id.endswith(f"{recipe.task}-v0")


def test_overrides_reach_every_depth():
    config = load_config(
        "quick",
        [
            "seed=3",
            "env.image_size=96",
            "env.hazards=[corner]",
            "env.knobs.n_rooms=3",
            "train.ppo.clip=0.1",
            "train.multipliers.budgets.corner=0.2",
            "train.multipliers.budgets={impact: 0.5}",
            "eval={episodes: 7, elicited: 2}",
        ],
    )
    assert config.seed == 3
    assert config.env.image_size == 96
    assert config.env.hazards == ("corner",)
    assert config.env.knobs["n_rooms"] == 3 and config.env.knobs["n_clutter"] == 0
    assert config.train.ppo.clip == 0.1
    assert config.train.multipliers.budgets == {"corner": 0.2, "impact": 0.5}
    assert (config.eval.episodes, config.eval.elicited) == (7, 2)
    assert config.eval.hazard_list == "small_val200_hazard"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sed=1", "unknown key 'sed'; allowed are seed, workers, env, demos"),
        ("env.size=1", "unknown key 'env.size'; allowed in env are id, level, hazards"),
        ("train.ppo.clipp=1", "unknown key 'train.ppo.clipp'; allowed in train.ppo are learning_"),
        ("env.image_size.x=1", "env.image_size is a int, it has no key 'x'"),
        ("env.image_size=big", "env.image_size='big': must be int"),
        ("env.image_size=64.5", "env.image_size=64.5: must be int"),
        ("env.image_size=null", "env.image_size=None: must be int"),
        ("env=3", "env=3: must be a mapping of id, level"),
        ("env.cost_mode=soft", "env.cost_mode='soft': must be one of binary, graded"),
        ("arms=[reckless]", "arms: 'reckless' is unknown; allowed are task_only, lagrangian"),
        ("eval.controls=[magic]", "eval.controls: 'magic' is unknown; allowed are zero, random"),
        ("env.image_size=0", "env.image_size=0: must be at least"),
        ("eval.episodes=0", "eval.episodes=0: must be at least 1"),
        ("train.ppo.clip=-1", "ppo.clip is -1"),
        ("train.seed=4", "train.seed=4: set seed=4"),
        ("nonsense", "override 'nonsense': must look like key=value"),
        ("seed=[1", "override 'seed=[1': the value is not YAML"),
    ],
)
def test_mistakes_are_one_clear_line(override, message):
    with pytest.raises(ValueError) as caught:
        load_config("quick", [override])
    text = str(caught.value)
    assert message in text
    assert "\n" not in text and "$VALUE" not in text


def test_unknown_preset_and_bad_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"preset 'fast': allowed are base, fetch, gpu, "):
        load_config("fast")
    path = tmp_path / "mine.yaml"
    path.write_text("env: {image_sise: 64}")
    with pytest.raises(ValueError, match=r"mine.yaml: unknown key 'env.image_sise'"):
        load_config(str(path))
    path.write_text("- 1")
    with pytest.raises(ValueError, match="must hold a mapping"):
        load_config(str(path))
    path.write_text("a: [")
    with pytest.raises(ValueError, match="not YAML"):
        load_config(str(path))


def test_a_saved_configuration_reads_back_equal(tmp_path):
    import yaml

    config = load_config("quick", ["seed=2", "train.multipliers.budgets.corner=0.1"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(plain(config)))
    assert load_config(str(path)) == config


def test_defaults_are_documented_fields():
    for kind in (PipelineConfig, *typing.get_type_hints(PipelineConfig).values()):
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            for field in dataclasses.fields(kind):
                assert f"{field.name}:" in (kind.__doc__ or "") or kind.__name__ == "TrainConfig"
