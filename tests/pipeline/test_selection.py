"""The choice among an arm's candidates."""

import json
import os

import pytest
from fabricate import episodes
from hypothesis import given
from hypothesis import strategies as st

from safevla.config import load_config
from safevla.pipeline.isa import Pipeline
from safevla.pipeline.selection import Candidate, _judged, best
from safevla.train.run import candidate_steps
from safevla.train.settings import train_config


def candidate(steps, success, cost, **costs):
    return Candidate(steps=steps, success=success, costs={"cost": cost} | costs)


def test_the_most_successful_feasible_one_wins():
    candidates = [candidate(1, 0.9, 3.0), candidate(2, 0.8, 1.0), candidate(3, 0.7, 0.2)]
    assert best(candidates, {"cost": 1.0}).steps == 2
    assert best(candidates, {}).steps == 1  # task-only PPO has no budget
    assert best(candidates, {"cost": 0.1}).steps == 3  # none is feasible: the least excess


def test_every_budget_counts():
    candidates = [candidate(1, 0.9, 1.0, impact=2.0), candidate(2, 0.8, 1.0, impact=0.5)]
    assert best(candidates, {"cost": 1.0, "impact": 1.0}).steps == 2
    assert candidates[0].excess({"cost": 0.5, "impact": 1.0}) == pytest.approx(1.0 + 1.0)
    assert candidates[0].excess({"impact": 0.0}) == pytest.approx(2.0)


def test_equals_are_told_apart_by_cost_and_then_by_steps():
    assert best([candidate(1, 0.9, 0.3), candidate(2, 0.9, 0.2)], {"cost": 1.0}).steps == 2
    assert best([candidate(1, 0.9, 0.2), candidate(2, 0.9, 0.2)], {"cost": 1.0}).steps == 2


def test_a_budget_may_be_on_the_share_of_episodes_with_any_cost():
    records = episodes("lagrangian", cost=1.5, n=4)  # charged 1, 2, 1, 2
    assert _judged(7, records, ()).costs["corner"] == 1.5
    costs = _judged(7, records, ("corner",)).costs
    assert costs == {"corner": 1.0, "fragile_collection": 0.0, "impact": 0.0, "cost": 1.5}


numbers = st.integers(0, 1000).map(lambda n: n / 100)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6), numbers)
def test_no_feasible_candidate_is_better_than_the_chosen(values, budget):
    candidates = [candidate(i, success, cost) for i, (success, cost) in enumerate(values)]
    chosen = best(candidates, {"cost": budget})
    feasible = [one for one in candidates if one.costs["cost"] <= budget]
    if feasible:
        assert chosen.costs["cost"] <= budget
        assert chosen.success == max(one.success for one in feasible)
    else:
        assert chosen.costs["cost"] == min(one.costs["cost"] for one in candidates)


def test_candidates_are_spread_over_the_second_half():
    size = {"n_envs": 4, "n_steps": 25}
    steps = candidate_steps(train_config(size, {"total_steps": 1950, "candidates": 3}))
    assert steps == [1000, 1500, 2000]
    assert candidate_steps(train_config(size, {"total_steps": 1950})) == []
    steps = candidate_steps(train_config(size, {"total_steps": 150, "candidates": 9}))
    assert steps == [100, 200]


@pytest.mark.slow
def test_a_run_hands_on_the_chosen_one(micro, tmp_path, quiet):
    Pipeline(load_config(str(micro)), tmp_path / "run", display=quiet).run(until="train")
    for arm in ("task_only", "lagrangian"):
        where = tmp_path / "run/train" / arm
        content = json.loads((where / "selection.json").read_text())
        assert [one["steps"] for one in content["candidates"]] == [128, 192]
        assert content["budgets"] == ({} if arm == "task_only" else content["budgets"])
        weights = (tmp_path / "run/policies" / arm / "model.safetensors").read_bytes()
        folder = where / "candidates" / str(content["chosen"])
        assert (folder / "model.safetensors").read_bytes() == weights
        last = where / "candidates/192/model.safetensors"
        assert last.read_bytes() == (where / "policy/model.safetensors").read_bytes()
        assert os.path.exists(where / "candidates/128.jsonl")


def test_a_list_that_is_too_short_or_missing_is_refused_before_anything_runs(
    micro, tmp_path, quiet
):
    for override, message in (
        ("selection.episodes=3", "selection.episodes=3: .*choice.jsonl.gz holds 2"),
        ("selection.list=none", "scenario list 'none': neither a file nor one of"),
    ):
        config = load_config(str(micro), [override])
        with pytest.raises(ValueError, match=message):
            Pipeline(config, tmp_path / "run", display=quiet).run()
    assert not (tmp_path / "run").exists()
