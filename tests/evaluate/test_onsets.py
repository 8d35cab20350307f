"""The onset table: its numbers, its files, its check of the benign twin."""

import json
from dataclasses import replace

import pytest

from safevla.display import Display
from safevla.evaluate import onsets
from safevla.evaluate.arms import named_arm
from safevla.evaluate.records import EpisodeRecord
from safevla.evaluate.runner import run_jobs
from safevla.evaluate.worker import EpisodeWorker
from safevla.report import onset_table
from safevla_envs.costs import CONSTRAINT_NAMES, COST_SEMANTICS
from safevla_envs.generate import generate


@pytest.fixture(scope="module")
def lists():
    """Three small scenarios of level 0, and their twins."""
    knobs = {"n_rooms": 2, "n_furniture": 1, "n_distractors": 2}
    made = [generate(seed, split="val", level=0.0, knobs=knobs) for seed in range(3)]
    twins = [scenario.benign_twin() for scenario in made]
    return {
        suite: onsets.Listed(level=0.0, suite=suite, scenarios=tuple(found), source="three")
        for suite, found in (("hazard", made), ("benign", twins))
    }


def record(listed, index, events=(), cost=0.0, success=True, arm="careful_expert"):
    return EpisodeRecord(
        arm=arm,
        suite=f"level0-{listed.suite}",
        mode="sampled",
        policy_seed=0,
        scenario_index=index,
        scenario_id=listed.scenarios[index].scenario_id,
        list_hash=listed.hash,
        instruction="find it",
        success=success,
        length=10,
        sim_seconds=4.0,
        ended_by="success" if success else "wrong_end",
        cost=cost,
        costs=dict.fromkeys(CONSTRAINT_NAMES, 0.0),
        severity=dict.fromkeys(CONSTRAINT_NAMES),
        cost_semantics=COST_SEMANTICS,
        events=[{"constraint": name, "partner": "x", "onset_time": 1.0} for name in events],
    )


def cell(listed, *events):
    found = [record(listed, i, names, float(len(names))) for i, names in enumerate(events)]
    return onsets.Cell(arm="careful_expert", listed=listed, records=tuple(found))


def test_onsets_are_events_per_100_episodes(lists):
    made = cell(lists["hazard"], ["impact", "impact", "corner"], ["impact"], [])
    impact = onset_table.onsets_per_100(made, "impact")
    assert impact.value == pytest.approx(100.0) and impact.n == 3
    assert 0.0 <= impact.lo < 100.0 < impact.hi <= 200.0
    assert onset_table.onsets_per_100(made, "corner").value == pytest.approx(100 / 3)
    assert onset_table.mean_cost(made).value == pytest.approx(4 / 3)


def test_a_row_of_zeros_has_the_bound_of_the_rule_of_three(lists):
    none = onset_table.poisson_mean([0.0] * 60, [record(lists["hazard"], 0)] * 60)
    assert (none.value, none.lo) == (0.0, 0.0)
    assert none.hi == pytest.approx(3.0 / 60, rel=0.01)


def test_equal_counts_have_the_exact_poisson_interval(lists):
    """10 counts: 4.795 to 18.39 (Garwood 1936)."""
    even = onset_table.poisson_mean([1.0] * 10, [record(lists["hazard"], 0)] * 10)
    assert (10 * even.lo, 10 * even.hi) == pytest.approx((4.795, 18.39), abs=0.01)


def test_the_twin_check_names_who_broke_it(lists):
    good = cell(lists["benign"], ["impact"], [], [])
    bad = cell(lists["benign"], ["impact", "bystander"], [], [])
    same = cell(lists["hazard"], list(onset_table.TWIN_FREE), [], [])
    assert onset_table.twin_violations([good, same]) == {}
    assert onset_table.twin_violations([same, bad]) == {"careful_expert, level 0: bystander": 1}
    page = onset_table.as_markdown([same, bad], seed=0, command="x")
    assert "are not: careful_expert, level 0: bystander: 1" in page


def test_the_constraints_of_the_twin_check_are_those_without_bodies(lists):
    """What the twin drops is what the four constraints need, and it drops nothing else."""
    from safevla_envs.scenes.scenario import HAZARD_ONLY_ROLES

    assert set(onset_table.TWIN_FREE) < set(CONSTRAINT_NAMES)
    assert len(HAZARD_ONLY_ROLES) == len(onset_table.TWIN_FREE)
    for twin in lists["benign"].scenarios:
        assert not {p.role for p in twin.objects} & set(HAZARD_ONLY_ROLES)
        assert not [m for m in twin.movers if m.role in HAZARD_ONLY_ROLES]


def test_the_page_states_n_hashes_and_semantics(lists):
    made = [cell(lists["hazard"], ["impact"], [], []), cell(lists["benign"], [], [], [])]
    page = onset_table.as_markdown(made, seed=7, command="safevla envs onsets")
    assert f"Cost semantics {COST_SEMANTICS}; policy seed 7" in page
    for listed in lists.values():
        assert f"| three | 3 | `{listed.hash}` |" in page
    assert "| `impact` | 33.3 [0.0, 100.0] | 0 [≤ 99.9] |" in page
    assert all(f"| `{name}` |" in page for name in CONSTRAINT_NAMES)
    table = onset_table.as_json(made, seed=7, side_steps=False)
    assert json.loads(json.dumps(table, allow_nan=False))["twin_violations"] == {}
    values = [row["onsets_per_100"]["impact"]["value"] for row in table["rows"]]
    assert values == pytest.approx([100 / 3, 0.0])


def test_mixed_cost_semantics_are_refused(lists):
    made = cell(lists["hazard"], [], [])
    mixed = (made.records[0], replace(made.records[1], cost_semantics="0"))
    with pytest.raises(ValueError, match="mixed"):
        onset_table.as_json([replace(made, records=mixed)], seed=0, side_steps=False)


def test_two_policies_of_one_name_are_refused(lists, tmp_path):
    arms, how = [named_arm("zero")] * 2, {"workers": 0, "side_steps": False, "display": Display()}
    with pytest.raises(ValueError, match="must differ"):
        onsets.run_table(arms, [lists["hazard"]], seed=0, folder=tmp_path, **how)


def test_lists_are_of_the_task_asked_for(tmp_path):
    listed = onsets.scenario_list(0.5, "hazard", 1, 11, "PickUp")
    assert listed.scenarios[0].task == "PickUp" and listed.source.startswith("generated")
    ((job, _),) = onsets.cell_jobs(named_arm("careful"), listed, seed=0, folder=tmp_path)
    assert job.env_kwargs["id"] == "safevla_envs:SafeVLA/PickUp-v0"
    frozen = onsets.scenario_list(2.0, "benign", 2, 0, "Fetch")
    assert frozen.source == "fetch_val200_level2_benign"
    with pytest.raises(ValueError, match="task='Cooking'"):
        onsets.scenario_list(0.0, "hazard", 1, 0, "Cooking")


def test_policies_by_name(tmp_path):
    assert [named_arm(n).name for n in ("random", "zero", "task", "careful")] == [
        "random", "zero", "task_expert", "careful_expert",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="neither a policy folder"):
        named_arm(str(tmp_path))


def test_a_checkpoint_says_what_it_must_be_given(tmp_path):
    config = {"action_head": "categorical", "cameras": ["navigation"], "image_size": 64}
    config["state_dim"] = 61
    (tmp_path / "config.json").write_text(json.dumps(config | {"action_names": ["end"]}))
    arm = named_arm(str(tmp_path))
    assert onsets.env_kwargs(arm) == {
        "cameras": ["navigation"], "image_size": 64, "sensors": ("scan",), "side_steps": False,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config | {"action_names": ["move_left"]}))
    assert onsets.env_kwargs(arm)["side_steps"] is True


def test_without_a_frozen_list_validation_seeds_are_generated():
    hazard = onsets.scenario_list(0.5, "hazard", 1, 11)
    twin = onsets.scenario_list(0.5, "benign", 1, 11)
    assert hazard.source == "generated, val seeds 11 to 11"
    assert hazard.scenarios[0] == generate(11, split="val", level=0.5)
    assert twin.scenarios[0] == hazard.scenarios[0].benign_twin()


def test_finished_episodes_are_not_run_again_and_more_can_be_added(lists, tmp_path, monkeypatch):
    monkeypatch.setattr(onsets, "BLOCK", 2)
    ran = []
    whole = EpisodeWorker.run

    def counted(self, job, indices, agent, envs):
        ran.append(len(indices))
        yield from whole(self, job, indices, agent, envs)

    monkeypatch.setattr(EpisodeWorker, "run", counted)
    arm, listed = named_arm("task"), lists["hazard"]
    two = onsets.Listed(level=0.0, suite="hazard", scenarios=listed.scenarios[:2], source="")

    def run(listed):
        jobs = list(onsets.cell_jobs(arm, listed, seed=0, folder=tmp_path))
        return [record for block in run_jobs(jobs, "", 0, Display()) for record in block]

    first = run(two)
    assert ran == [2]
    assert run(two) == first and ran == [2]
    more = run(listed)
    assert ran == [2, 1] and more[:2] == first
    assert [r.scenario_id for r in more] == [s.scenario_id for s in listed.scenarios]
    assert {r.cost_semantics for r in more} == {COST_SEMANTICS}
    assert set(more[0].costs) == set(CONSTRAINT_NAMES)
