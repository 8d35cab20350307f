import json
import statistics

import pytest

from safevla.bench import compare, environment_sides
from safevla.bench.compare import RATIOS
from safevla.bench.costs import _parts, bare_twin, cost_overhead, medians
from safevla.bench.sides import TICK, measure
from safevla.files import plain
from safevla_envs.env import SafeVLAEnv

ENV = "safevla_envs:SafeVLA/ObjNav-v0"


def test_measure_counts_calls_and_simulated_ticks():
    calls = []

    def step():
        calls.append(1)
        return 4 * TICK

    result = measure(step, 0.05)
    assert result["calls"] == len(calls) > 10
    assert result["ticks"] == pytest.approx(4 * len(calls))
    assert 0.05 <= result["wall"] < 0.5


def test_sides_differ_only_in_what_is_compared():
    sides = environment_sides(ENV, 128)
    assert sides["ours"] == sides["ours, camera"] | {"camera": 0}
    assert sides["ours"]["timestep"] == sides["raw mj_step"]["timestep"] == 0.002
    assert sides["robosuite Lift, camera"]["camera"] == sides["ours, camera"]["camera"] == 128
    assert {name for pair in RATIOS.values() for name in pair} <= set(sides)


def test_two_sides_take_turns_with_equal_substeps():
    chosen = {name: environment_sides(ENV)[name] for name in ("ours", "raw mj_step")}
    heard = []
    result = compare(chosen, rounds=3, seconds=0.3, progress=heard.append)
    assert heard[-6:-4] == ["round 1 of 3: ours", "round 1 of 3: raw mj_step"]
    ours, raw = result.timings["ours"], result.timings["raw mj_step"]
    assert ours.facts == raw.facts and ours.facts["substeps"] == 25
    # a continuous action lasts one tick
    assert ours.calls == pytest.approx(ours.ticks)
    by_hand = sorted(a / b for a, b in zip(ours.ticks, raw.ticks))
    smallest, median, largest = result.ratios["ours / raw mj_step"].values()
    assert [smallest, largest] == [by_hand[0], by_hand[-1]]
    assert median == statistics.median(by_hand)
    assert 0.05 < median < 1.2, "costs, observation and task on top of the same physics"
    assert json.loads(json.dumps(plain(result)))["ratios"].keys() == {"ours / raw mj_step"}


def test_a_side_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"broken stopped: .*0\.003"):
        compare({"broken": environment_sides(ENV)["ours"] | {"timestep": 0.003}}, rounds=1)


def test_no_rounds_is_refused():
    with pytest.raises(ValueError, match="rounds=0"):
        compare({}, rounds=0)


@pytest.mark.slow
def test_ours_is_faster_than_robosuite_in_one_run():
    names = ("ours", "ours, camera", "robosuite Lift", "robosuite Lift, camera")
    chosen = {name: environment_sides(ENV)[name] for name in names}
    result = compare(chosen, rounds=3, seconds=1.0)
    facts = [result.timings[name].facts for name in names]
    assert {f["substeps"] for f in facts} == {25}
    # far below what is usual: a guard against a lost order of magnitude, on any machine
    assert result.ratios["ours / robosuite, no camera"]["median"] > 1.5
    assert result.ratios["ours / robosuite, camera"]["median"] > 6


def test_bare_side_has_no_sensors_and_pays_nothing():
    full, bare = (SafeVLAEnv(cameras=(), max_actions=10**9) for _ in range(2))
    for env in (full, bare):
        env.reset(seed=0)
    bare_twin(bare)
    assert full.sim.model.nsensor > 0 and bare.sim.model.nsensor == 0
    for action in (0, 0, 2, 6, 0):
        *_, paid = full.step(action)
        *_, free = bare.step(action)
    assert full.sim.data.qpos.tolist() == bare.sim.data.qpos.tolist(), "the same physics"
    assert paid["costs"].keys() == free["costs"].keys()
    bare.reset(seed=1)
    assert bare.sim.model.nsensor > 0, "a reset makes it whole again"


def test_overhead_of_costs_is_measured_in_one_run():
    found = cost_overhead("quick look", seconds=0.3)
    assert found.low < found.share < found.high
    assert found.tick_ms == pytest.approx(found.bare_tick_ms * (1 + found.share))
    assert found.facts["substeps"] == 10 and found.facts["scenarios"] >= 3
    assert set(found.parts) == {"recording", "reading", "terms"}
    assert found.parts["reading"] > 0.0 and found.parts["terms"] > 0.0
    assert json.loads(json.dumps(plain(found)))["ticks"] == found.ticks


def test_different_physics_is_noticed(monkeypatch):
    def meddle(env):
        bare_twin(env)
        env.sim.data.qpos[0] += 1e-9

    monkeypatch.setattr("safevla.bench.costs.bare_twin", meddle)
    with pytest.raises(RuntimeError, match="same physics"):
        cost_overhead(seconds=0.1)


def test_parts_are_shares_of_the_bare_sides_time():
    spent = {"bare": 4.0, "tick": 3.0, "bare tick": 2.0, "reading": 0.5, "terms": 0.25}
    assert _parts(spent) == {"recording": 0.25, "reading": 0.125, "terms": 0.0625}


def test_medians_of_build_reset_and_tick():
    found = medians(2)
    assert 0 < found.tick < found.reset < found.build and found.scenarios == 2
    with pytest.raises(ValueError, match="count=0"):
        medians(0)
