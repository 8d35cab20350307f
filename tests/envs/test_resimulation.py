"""Costs as the environment reports them against those of `resimulation.py`, event by event."""

from functools import cache
from math import isclose
from typing import Any

import numpy as np
import pytest
from bare_home import bare_home, thing, walker
from resimulation import Account, Resimulation
from resimulation_rules import Hit
from test_cost_rules import DRIVES, LIFT, STEPS
from test_costs_in_home import PROVOCATIONS

from safevla_envs.costs import CONSTRAINT_NAMES, severity_weights
from safevla_envs.costs.clock import clock
from safevla_envs.costs.events import Ledger
from safevla_envs.env import SafeVLAEnv
from safevla_envs.generate import generate
from safevla_envs.scenes.scenario import Mover, Scenario

ENDLESS = {"max_actions": 10**6, "max_seconds": 1e6}
TOLERANCE = 1e-6
"""Of magnitudes, relative; all else must be equal."""


@cache
def pair(mode: str, timestep: float, cost_mode: str) -> tuple[SafeVLAEnv, Resimulation]:
    """The environment and its oracle."""
    arguments: dict[str, Any] = {"action_mode": mode, "timestep": timestep, "cost_mode": cost_mode}
    arguments |= {"side_steps": True, **ENDLESS}
    return SafeVLAEnv(cameras=(), **arguments), Resimulation(**arguments)


def differences(reported: list[dict], expected: list[dict]) -> list[str]:
    """Events that one has and the other has not, field by field."""
    key = lambda e: (e.get("constraint", ""), e["partner"], e["onset_time"])  # noqa: E731
    ours, theirs = ({key(e): e for e in events} for events in (reported, expected))
    found = [f"only reported: {ours[k]}" for k in ours.keys() - theirs.keys()]
    found += [f"only expected: {theirs[k]}" for k in theirs.keys() - ours.keys()]
    for k in ours.keys() & theirs.keys():
        for name, value in theirs[k].items():
            seen = ours[k][name]
            if name == "peaks":
                same = seen.keys() == value.keys() and all(
                    isclose(abs(seen[m]), value[m], rel_tol=TOLERANCE, abs_tol=1e-9) for m in value
                )
            else:
                same = seen == value
            if not same:
                found.append(f"{k}: {name} reported {seen!r}, expected {value!r}")
    return found


def resimulate(
    scenario: Scenario, actions: list, timestep: float = 0.005, cost_mode: str = "binary"
) -> tuple[int, list[str]]:
    """Runs actions twice; returns the number of events and all that is not as expected."""
    mode = "discrete" if isinstance(actions[0], (str, int)) else "continuous"
    env, oracle = pair(mode, timestep, cost_mode)
    env.reset(options={"scenario": scenario})
    oracle.reset(scenario)
    found = []
    for number, action in enumerate(actions):
        action = env.action_names.index(action) if isinstance(action, str) else action
        *_, info = env.step(action)
        expected = oracle.step(action)
        for name in ("qpos", "qvel"):
            one, other = (getattr(e.sim.data, name) for e in (env, oracle.env))
            np.testing.assert_array_equal(one, other)
        wrong = [
            f"{name} reported {info[name]}, expected {expected[name]}"
            for name in ("cost", "costs")
            if info[name] != expected[name]
        ]
        for name in ("cost_events", "uncharged_events"):
            wrong += differences(info[name], expected[name])
        found += [f"step {number} ({action}): {text}" for text in wrong]
    last = [oracle.describe(event) for event in oracle.ours.events]
    for event in last:  # the environment lists them with their charge of the whole episode
        del event["charged"], event["opened"]
    found += differences(env.costs.episode_events, last)
    charged = [sum(e["charged"] for e in env.costs.episode_events)]
    charged.append(sum(event.charged for event in oracle.ours.events))
    found += [f"charged {charged[0]}, expected {charged[1]}"] * (charged[0] != charged[1])
    return len(last), found


def random_actions(mode: str, rng: np.random.Generator, count: int) -> list:
    """Actions that lead somewhere: mostly ahead, everything but `end` now and then."""
    if mode == "continuous":
        held = 10
        twists = rng.uniform(-1.0, 1.0, (count // held + 1, 4))
        twists[:, 0] = np.abs(twists[:, 0]) * rng.choice((1.0, 1.0, 1.0, -1.0), len(twists))
        twists[:, 3] = -1.0
        return list(np.repeat(twists, held, axis=0)[:count].astype(np.float32))
    names = list(pair(mode, 0.005, "binary")[0].action_names)
    names.remove("end")
    weight = np.array([{"move_ahead": 9.0, "pick_up": 0.4}.get(name, 1.0) for name in names])
    return rng.choice(names, count, p=weight / weight.sum()).tolist()


def random_episode(number: int, most: int = 100) -> tuple[Scenario, list, float, str]:
    """Scenario, actions, physics step and cost mode of an episode."""
    rng = np.random.default_rng(number)
    mode = "continuous" if number % 4 == 3 else "discrete"
    timestep = 0.002 if number % 7 == 5 else 0.005
    count = min(most, int(rng.integers(40, 61) if timestep < 0.005 else rng.integers(40, 101)))
    if mode == "continuous":
        count = 120
    scenario = crowded(rng) if number % 6 == 4 else generate(1000 + number, level=number % 3)
    cost_mode = ("binary", "graded")[number // 2 % 2]
    return scenario, random_actions(mode, rng, count), timestep, cost_mode


def crowded(rng: np.random.Generator) -> Scenario:
    """One room with something of everything close by, and two that move."""
    x, y = rng.uniform(4.2, 4.6), rng.uniform(2.4, 3.0)
    path = ((x - 1.6, 3.7), (x + 0.4, 3.7))
    polisher = Mover(name="polisher", category="floor_polisher", path=path, speed=0.3)
    anna = walker((5.2, rng.uniform(1.5, 4.5)), (1.0, rng.uniform(1.5, 4.5)), speed=0.8)
    return bare_home(
        *LIFT,
        *(thing(f"v{i}", "floor_vase", x, y + 0.23 * i, role="fragile") for i in range(3)),
        thing("side", "plant_stand", 2.2, 2.2, role="critical"),
        thing("edge", "floor_vase", 2.2, 2.33, 0.65, role="critical"),
        thing("saw", "floor_saw", 2.0, 4.0, role="equipment"),
        thing("heater", "space_heater", 3.4, 4.0, role="equipment"),
        thing("case", "suitcase", 1.4, 3.0, role="target"),
        movers=[anna, polisher],
    )


@pytest.mark.parametrize("number", range(3, 9))
def test_short_episodes(number):
    _, found = resimulate(*random_episode(number, most=30))
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(64))
def test_random_episodes(number):
    _, found = resimulate(*random_episode(number))
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("cost_mode", ["binary", "graded"])
@pytest.mark.parametrize("constraint", PROVOCATIONS)
def test_provocations(constraint, cost_mode):
    events, found = resimulate(*PROVOCATIONS[constraint], cost_mode=cost_mode)
    assert events and not found, "\n".join(found)


def towards(speed: float, count: int) -> list:
    """Continuous actions that drive ahead at a speed in m/s."""
    return [np.array([speed / 0.6, 0.0, 0.0, -1.0], np.float32)] * count


WAIT, HEATER = ["sub_task_done"], thing("heater", "space_heater", 4.6, 2.93, role="equipment")
TABLE = thing("table", "dining_table", 3.9, 3.85, fixed=True)
CASES = (thing("a", "suitcase", 4.0, 3.0), thing("b", "suitcase", 1.0, 3.0))
WALK, STAND = ((7.0, 3.0), (1.0, 3.0)), ((4.6, 3.0), (4.6, 3.1))
PLAYS = {
    **{f"a wall, {k}": (bare_home(start=start), actions) for k, (start, actions) in DRIVES.items()},
    **{
        f"anna at {speed} m/s, arm out {reach} times": (
            bare_home(movers=[walker(*WALK, speed=speed)], side=8.0),
            ["arm_out"] * reach + WAIT * round(8 / speed / 0.05),
        )
        for speed in (0.5, 1.5)
        for reach in (0, 3)
    },
    "the arm into anna": (
        bare_home(movers=[walker(*STAND, speed=0.01)]),
        ["arm_out"] * 3 + ["move_ahead"] * 4,
    ),
    "two things": (bare_home(*CASES), ["move_ahead"] * 5 + ["move_back"] * 14),
    "the target": (
        bare_home(thing("target", "suitcase", 4.3, 3.0, role="target")),
        ["move_ahead"] * 6,
    ),
    "a load and a table": (
        bare_home(*LIFT, TABLE),
        ["pick_up", "move_left", "move_left", "rotate_left", "drop_off"] + WAIT * 20,
    ),
    "a load and a keep-out volume": (
        bare_home(*LIFT, HEATER),
        ["pick_up"] + ["move_ahead"] * 4 + ["move_back", "drop_off"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAYS)
def test_scripted_episodes(name):
    scenario, actions = PLAYS[name]
    _, found = resimulate(scenario, actions, cost_mode="graded")
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("timestep", STEPS)
@pytest.mark.parametrize("speed", [0.07, 0.2, 0.6])
def test_driving_backwards_into_a_wall_or_a_cushion(speed, timestep):
    for things, x in (((), 0.9), ((thing("it", "cushion", 3.9, 3.0),), 4.7)):
        scenario = bare_home(*things, start=(x, 3.0, 0.0))
        _, found = resimulate(scenario, towards(-speed, round(0.6 / speed / 0.05) + 20), timestep)
        assert not found, "\n".join(found)


PARTNERS = {"a": (2, 8), "b": (2, 8), "c": (2, 8), "p|q": (6,), "arm": (7, 9, 10), "finger": (11,)}
"""Three bodies and three parts of the robot, with the constraints that they may violate."""
DT = 0.005


def test_the_account_of_random_violations():
    order, weights = list(PARTNERS), severity_weights("graded")
    found = []
    for seed in range(40):
        rng, lasts = np.random.default_rng(seed), dict[tuple[str, int], int]()
        ledger = Ledger(weights, clock(DT), 3)
        account = Account(weights.tolist(), order, {"a", "b", "c"}, DT)
        for now in range(600):
            hits = []
            for key in ((partner, k) for partner, ks in PARTNERS.items() for k in ks):
                if lasts.get(key, 0) <= now and rng.random() < 0.008:
                    lasts[key] = now + int(rng.integers(1, 200))
                if now < lasts.get(key, 0):
                    hits.append((*key, int(rng.choice((1, 2, 3), p=(0.96, 0.02, 0.02)))))
            theirs = {(order.index(p), k): [(0, 0, [n], [float(n)])] for p, k, n in hits}
            ours = [Hit(CONSTRAINT_NAMES[k], "force", p, n, float(n), "") for p, k, n in hits]
            paid = ledger.charge(now, 1, theirs)
            if paid != account.charge(now, ours):
                found.append(f"seed {seed}, substep {now}: cost {paid}")
        reported = {
            (order[e.partner], CONSTRAINT_NAMES[e.constraint], e.opened, e.charged, label)
            for e in ledger.events
            for label in [f"{order[e.incident.partner]}/{e.incident.number}"]
        }
        expected = {
            (e.partner, e.constraint, e.opened, e.charged, e.incident.label) for e in account.events
        }
        if reported != expected:
            found.append(f"seed {seed}: {sorted(reported - expected)}")
    assert not found, "\n".join(found)
