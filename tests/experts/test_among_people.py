"""The careful expert where people walk: how near is too near, when it waits, what comes of it."""

from types import SimpleNamespace

import numpy as np
import pytest
from halls import hall, run, thing

from safevla.experts.careful import CarefulExpert
from safevla.experts.people import Crowd
from safevla_envs.control.actions import PRIMITIVES, SIDE_STEPS
from safevla_envs.env import SafeVLAEnv
from safevla_envs.scenes.scenario import Mover

INDEX = {p.name: i for i, p in enumerate(PRIMITIVES + SIDE_STEPS)}


@pytest.fixture(scope="module")
def env():
    return SafeVLAEnv(cameras=())


def crowd_of(*movers, poses):
    scenario = SimpleNamespace(movers=movers)
    rates = [
        [*(m.speed * np.array([np.cos(p[2]), np.sin(p[2])])), 0.0] for m, p in zip(movers, poses)
    ]
    sim = SimpleNamespace(mover_poses=np.array(poses), mover_velocities=np.array(rates), time=0.0)
    return Crowd(SimpleNamespace(scenario=scenario, sim=sim))


def walker(path, speed=1.0, name="person_0"):
    return Mover(name=name, category="person", path=path, speed=speed)


def test_only_closing_on_a_person_is_too_near():
    person = walker(((2.0, -2.0), (2.0, 2.0)))
    near = crowd_of(person, poses=[(0.75, 0.0, np.pi / 2)])
    here = np.zeros(3)
    ahead, back, stay = (PRIMITIVES[INDEX[n]] for n in ("move_ahead", "move_back", "drop_off"))
    assert near.free_actions(here, [ahead]) == 0
    assert near.free_actions(here, [stay]) == 1
    assert near.free_actions(here, [back]) == 1
    far = crowd_of(person, poses=[(2.0, -1.9, np.pi / 2)])
    assert far.free_actions(here, [ahead]) == 1


def test_the_protective_distance_grows_with_a_person_who_comes():
    here, ahead = np.zeros(3), PRIMITIVES[INDEX["move_ahead"]]
    coming, going = [(1.6, 0.0, np.pi)], [(1.6, 0.0, 0.0)]
    person = walker(((4.0, 0.0), (0.0, 0.0)))
    assert crowd_of(person, poses=coming).free_actions(here, [ahead]) == 0
    assert crowd_of(person, poses=going).free_actions(here, [ahead]) == 1


def test_the_number_of_free_actions_is_that_before_the_first_conflict():
    person = walker(((2.5, -0.1), (2.5, 0.1)), speed=0.01)
    crowd = crowd_of(person, poses=[(2.5, 0.0, np.pi / 2)])
    ahead = [PRIMITIVES[INDEX["move_ahead"]]] * 12
    free = crowd.free_actions(np.zeros(3), ahead)
    # the front (0.47 with the hand) must stay S_p = 0.31 m off a body of 0.33 m
    reach = 2.5 - 0.33 - 0.47 - 0.2 * free
    assert 0.3 < reach < 0.3 + 0.2 + 0.15 * 0.31 + 0.08 + 0.06


def test_a_forecast_follows_the_simulation(env):
    person = Mover(
        name="person_0", category="person", path=((3.0, 1.0), (3.0, 3.0)), speed=1.0, start=0.5
    )
    target = thing("basketball", 7.0, 0.6, "target")
    env.reset(options={"scenario": hall(target, movers=[person])})
    for _ in range(30):
        env.step(INDEX["sub_task_done"])
    crowd = Crowd(env)
    forecast = crowd.forecast(50)
    for tick in range(51):
        if tick % 10 == 0:
            assert np.hypot(*(forecast[tick, 0] - env.sim.mover_poses[0, :2])) < 0.1
        env.step(INDEX["sub_task_done"])


@pytest.mark.parametrize("speed", [0.6, 1.2])
def test_the_careful_expert_lets_a_person_pass(env, speed):
    person = Mover(name="person_0", category="person", path=((4.0, 0.6), (4.0, 3.4)), speed=speed)
    target = thing("basketball", 7.0, 2.0, "target")
    actions, success, cost, events = run(env, hall(target, movers=[person]), "careful")
    assert success and cost == 0.0 and not events, events
    assert len(actions) < 150


def test_who_waits_searches_for_the_same_way_once(env, monkeypatch):
    searched, find = [], CarefulExpert._found

    def noted(self, moves, **rules):
        if "clock" not in rules:
            searched.append((self.at, len(self.blind), rules["margin"]))
        return find(self, moves, **rules)

    monkeypatch.setattr(CarefulExpert, "_found", noted)
    # somebody who never leaves the doorway
    person = Mover(name="person_0", category="person", path=((4.0, 1.8), (4.0, 2.2)), speed=0.3)
    target = thing("basketball", 7.0, 2.0, "target")
    scenario = hall(target, start=(2.4, 2.0, 0.0), movers=[person], second_room=True)
    actions, *_ = run(env, scenario, "careful", limit=12)
    assert actions.count("drop_off") > 5, "it did not wait"
    assert searched and len(searched) == len(set(searched))
