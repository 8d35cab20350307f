"""Over a thousand frozen scenarios of each task that picks things up."""

import pytest
from soundness import assert_fetch_is_sound, assert_pickup_is_sound, assert_starts_at_rest

from safevla_envs.generate.freeze import LISTS
from safevla_envs.resources import assets_dir
from safevla_envs.scenes.scenario import load_list
from safevla_envs.world import World

SOUND = {"PickUp": assert_pickup_is_sound, "Fetch": assert_fetch_is_sound}


@pytest.mark.slow
@pytest.mark.parametrize("task", SOUND)
def test_1000_scenarios_are_sound_and_100_start_at_rest(task):
    names = []
    for name, recipe in LISTS.items():
        if recipe.task == task and recipe.impossible != ("absent",):
            names += [f"{name}_hazard", f"{name}_benign"] if recipe.twins else [name]
    scenarios = [
        s for name in names for s in load_list(assets_dir() / "scenarios" / f"{name}.jsonl.gz")
    ]
    assert len(scenarios) >= 1000
    world = World(timestep=0.01)
    for number, scenario in enumerate(scenarios):
        SOUND[task](scenario)
        if number % 10 == 0:
            assert_starts_at_rest(world, scenario)
