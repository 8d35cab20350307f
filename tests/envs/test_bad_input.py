import copy
import dataclasses
import json
import pickle

import gymnasium
import numpy as np
import pytest

from safevla_envs.costs import default_terms
from safevla_envs.env import SafeVLAEnv
from safevla_envs.generate import generate
from safevla_envs.scenes.scenario import SCHEMA_VERSION, Scenario, load_list, save_list


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"hazards": ("corner", "lava")}, "lava"),
        ({"action_mode": "telepathic"}, "telepathic"),
        ({"image_size": 0}, "image_size=0"),
        ({"image_size": 3.5}, "image_size=3.5"),
        ({"cameras": ("rear",)}, "rear"),
        ({"cameras": "navigation"}, "navigation"),
        ({"split": "test"}, "test"),
        ({"level": 2.5}, "level=2.5"),
        ({"knobs": {"n_room": 3}}, "n_room"),
        ({"knobs": {"n_rooms": 9}}, "n_rooms=9"),
        ({"knobs": {"n_rooms": "three"}}, "three"),
        ({"cost_mode": "fuzzy"}, "fuzzy"),
        ({"render_mode": "ansi"}, "ansi"),
        ({"max_actions": 0}, "max_actions=0"),
        ({"max_seconds": -1.0}, "max_seconds=-1.0"),
        ({"timestep": 0.003}, "timestep=0.003"),
        ({"scenario": "nowhere.json"}, "nowhere.json"),
        ({"scenario": []}, "scenario"),
        ({"scenario": 5}, "scenario"),
        ({"level": "1"}, "level='1'"),
        ({"level": np.nan}, "level=nan"),
        ({"hazards": None}, "hazards=None"),
        ({"cameras": None}, "cameras=None"),
        ({"max_seconds": "9"}, "max_seconds='9'"),
        ({"max_seconds": True}, "max_seconds=True"),
        ({"max_actions": np.nan}, "max_actions=nan"),
        ({"max_actions": np.inf}, "max_actions=inf"),
        ({"layouts": "all"}, "layouts='all'"),
        ({"knobs": 5}, "knobs=5"),
        ({"timestep": 0}, "timestep=0"),
        ({"timestep": np.nan}, "timestep=nan"),
        ({"timestep": "0.005"}, "timestep='0.005'"),
        ({"constraints": 5}, "constraints=5"),
        ({"grasp": "magic"}, "grasp='magic': allowed are physical, assisted"),
        ({"side_steps": "no"}, "side_steps='no'"),
        ({"extra_terms": default_terms(("impact",))}, "extra_terms: the name 'impact' is taken"),
        ({"extra_terms": ("impact",)}, "extra_terms="),
    ],
)
def test_constructor_names_the_culprit(arguments, named):
    with pytest.raises(ValueError, match=named):
        SafeVLAEnv(**arguments)


def test_unknown_id():
    with pytest.raises(gymnasium.error.NameNotFound, match="Nowhere"):
        gymnasium.make("safevla_envs:SafeVLA/Nowhere-v0")


def test_scenario_file_of_another_schema(tmp_path):
    scenario = generate(0)
    record = json.loads(scenario.to_json()) | {"schema": SCHEMA_VERSION + 1}
    path = tmp_path / "one.json"
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=rf"schema {SCHEMA_VERSION + 1}.*reads {SCHEMA_VERSION}"):
        SafeVLAEnv(scenario=path)


def test_scenario_with_a_missing_field(tmp_path):
    record = json.loads(generate(0).to_json())
    del record["rooms"]
    with pytest.raises(ValueError, match="rooms"):
        Scenario.from_json(json.dumps(record))


@pytest.mark.parametrize("mode", ["discrete", "continuous"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 99, None, "up", "1", True, 1j])
def test_bad_action_leaves_the_state_unchanged(mode, bad):
    env = SafeVLAEnv(action_mode=mode, cameras=())
    env.reset(seed=0)
    actions = [bad, np.array(bad)]
    if mode == "continuous":
        # of the type that NumPy gives it, and whatever a list or an array of objects holds
        actions = [[bad] * 4, np.array([bad] * 4), np.array([bad, 0, 0, 0], object), bad]
    before = env.sim.state_hash(), env._steps
    for action in actions:
        with pytest.raises(ValueError, match="action="):
            env.step(action)
    assert (env.sim.state_hash(), env._steps) == before


def test_before_the_first_reset_there_is_nothing_to_see():
    env = SafeVLAEnv(cameras=(), render_mode="rgb_array")
    for ask in (env.render, env.render_frame, env.privileged_state, lambda: env.step(0)):
        with pytest.raises(gymnasium.error.ResetNeeded):
            ask()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_owns_native_memory_is_not_copied(copied):
    """A copy would hold the original's addresses and step its physics."""
    env = SafeVLAEnv(cameras=(), hazards=(), knobs={"n_rooms": 2})
    env.reset(seed=0)
    for owner in (env, env.sim.recorder):
        with pytest.raises(TypeError, match=r"neither copied nor pickled.*another"):
            copied(owner)


def test_scenarios_round_trip(tmp_path):
    scenarios = [generate(seed) for seed in range(3)]
    save_list(tmp_path / "list.jsonl.gz", scenarios)
    back = load_list(tmp_path / "list.jsonl.gz")
    assert back == scenarios
    assert [s.scenario_id for s in back] == [s.scenario_id for s in scenarios]
    save_list(tmp_path / "again.jsonl.gz", back)
    first, again = (tmp_path / f"{n}.jsonl.gz" for n in ("list", "again"))
    assert first.read_bytes() == again.read_bytes()


def test_scenario_checks_itself():
    scenario = generate(0)
    with pytest.raises(ValueError, match="lava"):
        dataclasses.replace(scenario, hazards=("lava",))
    with pytest.raises(ValueError, match="used twice"):
        dataclasses.replace(scenario, objects=scenario.objects + scenario.objects[:1])
