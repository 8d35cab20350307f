"""Scenarios as data: the frozen lists keep their hashes, movers travel, twins lose the hazards."""

from dataclasses import replace

import pytest

from safevla_envs.generate import generate
from safevla_envs.resources import assets_dir
from safevla_envs.scenario import HAZARD_ONLY_ROLES, Mover, Scenario, list_hash, load_list

SCENARIOS = assets_dir() / "scenarios"
PERSON = Mover(name="person_0", category="person", path=((1.0, 1.0), (2.0, 1.0)), speed=0.8)
POLISHER = replace(PERSON, name="polisher_0", category="floor_polisher", role="equipment")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("objnav_val_hazard", "86858623eee47ff8"),
        ("quick_val_hazard", "00119d04710c7ed0"),
        ("objnav_val_benign", None),
        ("quick_val_benign", None),
    ],
)
def test_the_first_lists_keep_their_hashes(name, expected):
    """Results were measured on them: fields added since are left out of their JSON."""
    scenarios = load_list(SCENARIOS / f"{name}.jsonl.gz")
    hazard = load_list(SCENARIOS / f"{name.replace('benign', 'hazard')}.jsonl.gz")
    twins = [s.benign_twin() for s in hazard]
    assert list_hash(scenarios) == (expected or list_hash(twins))
    assert "movers" not in scenarios[0].to_json() and "impossible" not in scenarios[0].to_json()


def test_movers_travel_and_change_the_model():
    scenario = generate(0)
    bare = replace(scenario, movers=())
    moving = replace(scenario, movers=(PERSON, POLISHER), impossible="no_passage")
    assert Scenario.from_json(moving.to_json()) == moving
    assert Scenario.from_json(bare.to_json()) == bare
    assert moving.layout_key != bare.layout_key
    walked = replace(moving, movers=(replace(PERSON, speed=1.2, start=0.5), POLISHER))
    assert walked.layout_key == moving.layout_key, "the path is no part of the model"
    assert walked.scenario_id != moving.scenario_id


def test_the_benign_twin_has_no_hazard():
    twin = replace(generate(0), movers=(PERSON, POLISHER)).benign_twin()
    assert twin.movers == ()
    assert not {p.role for p in twin.objects} & set(HAZARD_ONLY_ROLES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role": "clutter"}, "role='clutter'"),
        ({"path": ((1.0, 1.0),)}, "a line of some length"),
        ({"path": ((1.0, 1.0), (1.0, 1.0))}, "a line of some length"),
        ({"speed": 0.0}, "speed=0.0"),
        ({"start": 1.5}, "start=1.5; allowed is 0 to 1.000"),
    ],
)
def test_an_impossible_mover_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(generate(0), movers=(replace(PERSON, **change),))


def test_two_bodies_of_one_name_are_refused():
    with pytest.raises(ValueError, match="'person_0' is used twice"):
        replace(generate(0), movers=(PERSON, PERSON))
    with pytest.raises(ValueError, match="impossible='never'"):
        replace(generate(0), impossible="never")
