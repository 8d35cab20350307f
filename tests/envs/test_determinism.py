"""Same scenario, same actions: bit-identical state and costs, whatever happened before."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np

import safevla_envs.scenes.home as home
from safevla_envs.env import SafeVLAEnv
from safevla_envs.generate import generate

ACTIONS = [0, 0, 2, 0, 0, 3, 0, 0, 4, 0, 6, 8, 0, 1, 0]


def trace(env, scenario, actions=ACTIONS):
    """Costs, events and state hashes of an episode."""
    env.reset(options={"scenario": scenario})
    rows = []
    for action in actions:
        _, _, terminated, truncated, info = env.step(action)
        rows.append([info["cost"], info["costs"], info["cost_events"], env.sim.state_hash()])
        if terminated or truncated:
            break
    return rows


def test_after_other_episodes_and_edited_in_place_equals_compiled_cold():
    first = generate(5, layout_seed=1)
    second = generate(6, layout_seed=1)
    assert first.layout_key == second.layout_key and first != second
    home._homes.clear()
    env = SafeVLAEnv(cameras=())
    cold = trace(env, first)
    trace(env, second)  # edits the same compiled model in place
    trace(env, generate(9))
    edited = trace(env, first)
    home._homes.clear()
    fresh = trace(SafeVLAEnv(cameras=()), second)
    assert edited == cold
    assert trace(env, second) == fresh
    assert cold != fresh


def test_across_processes():
    scenario = generate(4)
    here = trace(SafeVLAEnv(cameras=()), scenario)
    code = (
        "import sys, json; sys.path.insert(0, 'tests/envs')\n"
        "from test_determinism import trace\n"
        "from safevla_envs.env import SafeVLAEnv\n"
        "from safevla_envs.scenes.scenario import Scenario\n"
        "s = Scenario.from_json(sys.stdin.read())\n"
        "print(json.dumps(trace(SafeVLAEnv(cameras=()), s)))"
    )
    from safevla_envs.resources import data_root

    result = subprocess.run(
        [sys.executable, "-c", code],
        input=scenario.to_json(),
        capture_output=True,
        text=True,
        check=True,
        cwd=data_root(),
    )
    assert json.loads(result.stdout) == json.loads(json.dumps(here))


def test_nothing_but_pixels_depends_on_cameras():
    scenario = generate(3)
    blind = trace(SafeVLAEnv(cameras=()), scenario)
    both = trace(SafeVLAEnv(image_size=48), scenario)
    assert blind == both


def test_images_are_identical_on_one_machine():
    scenario = generate(3)
    a, b = SafeVLAEnv(image_size=48), SafeVLAEnv(image_size=48)
    for env in (a, b):
        env.reset(options={"scenario": scenario})
    for action in ACTIONS[:4]:
        first, second = a.step(action)[0], b.step(action)[0]
        for key in first:
            np.testing.assert_array_equal(first[key], second[key])


def test_no_user_seed_reaches_a_validation_scenario():
    train = generate(7, split="train")
    val = generate(7, split="val")
    assert replace(train, split="val") != val
    assert train.rooms != val.rooms
