"""Frozen lists: what the index says, what today's generator draws, what training meets."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from safevla_envs.generate import generate
from safevla_envs.generate.freeze import LISTS, index_path
from safevla_envs.resources import assets_dir
from safevla_envs.scenes.scenario import (
    HAZARD_ONLY_ROLES,
    list_hash,
    load_list,
)

SCENARIOS = assets_dir() / "scenarios"


def test_frozen_lists_are_what_the_index_says():
    index = json.loads(index_path().read_text())
    lists = [p.name.removesuffix(".jsonl.gz") for p in SCENARIOS.glob("*.jsonl.gz")]
    assert sorted(index) == sorted(lists)
    for name, entry in index.items():
        scenarios = load_list(SCENARIOS / f"{name}.jsonl.gz")
        assert (len(scenarios), list_hash(scenarios)) == (entry["count"], entry["hash"]), name
        assert len({s.scenario_id for s in scenarios}) == entry["count"]
        assert all(s.split == "val" for s in scenarios)
        if "twins_of" in entry:
            hazard = load_list(SCENARIOS / f"{entry['twins_of']}.jsonl.gz")
            assert scenarios == [s.benign_twin() for s in hazard]
        elif "level" in entry:
            assert {s.level for s in scenarios} == {entry["level"]}
            assert all(s.knobs == entry["knobs"] for s in scenarios)
            assert entry["acceptance"] >= 0.5
    for name in ("objnav_impossible", "small_impossible50"):
        impossible = load_list(SCENARIOS / f"{name}.jsonl.gz")
        assert Counter(s.impossible for s in impossible) == {"absent": 25, "no_passage": 25}


@pytest.mark.parametrize("name", LISTS)
def test_frozen_lists_are_todays_generators(name):
    """A list that is older than the generator tests something else than training draws."""
    recipe = LISTS[name]
    file = SCENARIOS / f"{name}{'_hazard' if recipe.twins else ''}.jsonl.gz"
    scenarios = load_list(file)
    for number in (0, len(scenarios) // 2, len(scenarios) - 1):
        assert scenarios[number] == recipe.draw(number)


def test_the_long_tail_is_of_homes_as_the_others():
    """Generated again from its seeds; the reference pays most in the first."""
    entry = json.loads(index_path().read_text())["small_longtail50"]
    scenarios = load_list(SCENARIOS / "small_longtail50.jsonl.gz")
    first, last = entry["of_seeds"]
    assert len(scenarios) == round(entry["hardest"] * (last - first + 1))
    assert all(first <= s.seed <= last for s in scenarios)
    recipe = replace(LISTS["small_val200"], first=first, count=last - first + 1)
    for scenario in (scenarios[0], scenarios[-1]):
        assert scenario == recipe.draw(scenario.seed - first)
    tail, plain = (
        np.mean([exposure(s) for s in some])
        for some in (scenarios, load_list(SCENARIOS / "small_val200_hazard.jsonl.gz"))
    )
    assert tail > plain


@pytest.mark.parametrize("name", ["small_semantic50", "small_semantic_room36"])
def test_a_semantic_list_is_the_hazard_list_with_other_goals(name):
    hazard = {s.seed: s for s in load_list(SCENARIOS / "small_val200_hazard.jsonl.gz")}
    semantic = load_list(SCENARIOS / f"{name}.jsonl.gz")
    assert len({s.seed for s in semantic}) == len(semantic) == int(name[-2:])
    assert all(s in hazard[s.seed].other_goals() for s in semantic)
    near = [s.goal_in_start_room for s in semantic]
    assert all(near) if "room" in name else 0 < sum(near) < len(near)


def exposure(scenario):
    """Bodies of hazards within 0.45 m of the straight line from start to target."""
    start, end = np.array(scenario.robot_start[:2]), np.array(scenario.targets[0].position[:2])
    spots = [p.position[:2] for p in scenario.objects if p.role in HAZARD_ONLY_ROLES]
    spots = np.array(spots).reshape(-1, 2)
    along = np.clip((spots - start) @ (end - start) / ((end - start) ** 2).sum(), 0, 1)
    return int(
        (np.linalg.norm(start + along[:, None] * (end - start) - spots, axis=1) < 0.45).sum()
    )


def test_hazards_stand_as_much_in_the_way_in_training_as_on_the_list():
    """Training draws few homes often (`layouts`), the list each home once."""
    recipe = LISTS["small_val200"]
    how = {"level": recipe.level, "hazards": recipe.hazards, "knobs": dict(recipe.knobs)}
    trained = [exposure(generate(i, layout_seed=i % 64, **how)) for i in range(150)]
    tested = [exposure(s) for s in load_list(SCENARIOS / "small_val200_hazard.jsonl.gz")]
    spread = np.hypot(np.std(trained) / len(trained) ** 0.5, np.std(tested) / len(tested) ** 0.5)
    assert np.mean(tested) > 0.3
    assert abs(np.mean(trained) - np.mean(tested)) < 3 * spread
