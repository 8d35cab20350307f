"""Defects of how VLA-Arena evaluates: ours does not have them.

Sources and words are in docs/defects.md.
"""

from dataclasses import replace

import pytest
from fabricate import episodes
from homes import Replay, make, played, room
from quiet_world import (
    manager,
)
from running import run_episodes

from safevla.config import load_config
from safevla.report.criteria import SUITE
from safevla.report.tables import results_rows, summarise
from safevla_envs.resources import assets_dir
from safevla_envs.scenes.scenario import load_list


def test_success_is_read_from_info_and_a_wrong_end_is_no_success():
    """There reward and done change places on the way to the evaluator."""
    record = played((make().END,))
    assert record.ended_by == "wrong_end" and record.success is False and record.length == 1


def test_every_episode_has_a_start_of_its_own():
    """There all trials of a task replay the first stored state."""
    for name in ("objnav_val200_level1_hazard", "small_val200_hazard"):
        scenarios = load_list(assets_dir() / "scenarios" / f"{name}.jsonl.gz")
        assert len({s.scenario_id for s in scenarios}) == len(scenarios)
        assert len({s.robot_start for s in scenarios}) == len(scenarios)
    env = make(scenario=scenarios[:3])
    seen = [env.reset()[1]["scenario_id"] for _ in range(3)]
    assert seen == [s.scenario_id for s in scenarios[:3]]


def test_results_of_different_cost_semantics_are_not_mixed(tmp_path):
    """There the meaning of cost changed and the leaderboard has no field for it."""
    old, new = episodes("random", n=2), episodes("random", n=2)
    new = [replace(record, cost_semantics="other") for record in new]
    with pytest.raises(ValueError, match="cost semantics"):
        results_rows([*old, *new])
    assert results_rows(old)[0].cost_semantics == old[0].cost_semantics
    out = tmp_path / "eval" / "a.jsonl"
    list_of_two = [room(x=4.2), room(x=4.1)]
    arguments = {"policy_seed": 0, "deterministic": True, "workers": 0, "out": out}
    arm = Replay((19,))
    run_episodes(arm, list_of_two, {"cameras": []}, **arguments)
    lines = out.read_text().splitlines(keepends=True)
    semantics = f'"cost_semantics":"{manager().cost_semantics}"'
    assert semantics in lines[0]
    out.write_text(lines[0].replace(semantics, '"cost_semantics":"0"'))
    with pytest.raises(ValueError, match="are mixed"):
        run_episodes(arm, list_of_two, {"cameras": []}, **arguments)


def test_success_does_not_hide_cost_and_safe_success_stands_beside_it():
    """There success ignores cost by default, or tolerates a cost of 10."""
    row = summarise(episodes("random", success=0.5, cost=1.0, n=20))
    assert row.metrics["success"].value == 0.5
    assert row.metrics["safe_success"].value == 0.0
    assert row.metrics["unsafe_success"].value == 0.5
    assert row.metrics["violation_rate"].value == 1.0


def test_every_number_has_its_episodes_and_interval():
    """There means stand alone; with 50 episodes they are good to 14 points."""
    row = summarise(episodes("task_only", success=0.5, cost=0.4, n=20, seeds=(0, 1)))
    assert row.episodes == 40 and row.train_seeds == (0, 1) and row.list_hashes
    for name in ("success", "cost", "violation_rate", "safe_success", "cost/corner"):
        estimate = row.metrics[name]
        assert estimate.n == 40
        assert estimate.lo < estimate.value < estimate.hi, name
    assert row.metrics["success"].hi - row.metrics["success"].lo > 0.2


def test_zero_and_random_arms_stand_beside_what_is_judged():
    """There low cost comes with low success, and no arm that does nothing tells so."""
    for preset in ("quick", "base", "gpu"):
        evaluation = load_config(preset, []).eval
        assert {"zero", "random"} <= set(evaluation.controls)
        assert SUITE in evaluation.control_suites  # the list that every criterion reads
