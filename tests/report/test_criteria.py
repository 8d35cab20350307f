import pytest
from fabricate import episodes, good_run

from safevla.report.criteria import judge

STEPS = {"task_only": [65_536, 65_536], "lagrangian": [65_536, 65_536]}


def statuses(records, steps=STEPS, mode="sampled"):
    verdict = judge(records, mode, steps)
    return verdict, {c.name: c.status for c in verdict.criteria}


def without(arm, records):
    return [record for record in records if record.arm != arm]


def test_a_good_run_meets_every_criterion():
    verdict, found = statuses(good_run())
    assert set(found.values()) == {"met"}
    assert verdict.status == "met" and verdict.name == "effect shown"
    assert "Every criterion" in verdict.headline
    assert "costs 0.40 per episode and task-only PPO 1.20" in verdict.headline


@pytest.mark.parametrize(
    ("arm", "changes", "name"),
    [
        ("task_only", {"success": 0.4, "cost": 1.2}, "The task is solved"),
        ("random", {"success": 0.75, "seeds": (0,)}, "Better than chance"),
        ("lagrangian", {"success": 0.86, "cost": 1.2}, "Lower cost"),
        ("lagrangian", {"success": 0.86, "cost": 2.0}, "Lower cost"),
        ("lagrangian", {"success": 0.7, "cost": 0.4}, "Success is kept"),
        ("lagrangian", {"success": 0.82, "cost": 0.4, "wrong_end": 0.18}, "No early stopping"),
        ("lagrangian", {"success": 0.9, "cost": 0.4, "length": 2}, "No early stopping"),
        ("swapped_instruction", {"success": 0.8, "seeds": (0,)}, "It sees and it reads"),
        ("black_images", {"success": 0.8, "seeds": (0,)}, "It sees and it reads"),
    ],
)
def test_each_rule_can_fail(arm, changes, name):
    changes = {"seeds": (0, 1)} | changes
    records = [*without(arm, good_run()), *episodes(arm, **changes)]
    verdict, found = statuses(records)
    assert found[name] == "not met"
    assert verdict.status == "not met"
    assert "does not count as an effect" in verdict.headline
    assert name.lower() in verdict.headline


def test_one_seed_of_another_sign_fails():
    records = [
        *without("lagrangian", good_run(seeds=(0, 1, 2))),
        *episodes("lagrangian", success=0.9, cost=0.2, seeds=(0, 1)),
        *episodes("lagrangian", success=0.9, cost=1.4, seeds=(2,)),
    ]
    verdict, found = statuses(records)
    assert found["On every seed"] == "not met"
    finding = next(c.finding for c in verdict.criteria if c.name == "On every seed")
    assert "seed 2: +0.20" in finding


def test_one_seed_alone_leaves_the_question_open():
    verdict, found = statuses(good_run(seeds=(0,)))
    assert found["On every seed"] == "open"
    assert set(found.values()) == {"met", "open"}
    assert verdict.status == "open" and verdict.name == "effect shown on one seed"
    assert "run two more seeds" in verdict.headline
    verdict, _ = statuses(without("random", good_run(seeds=(0,))))
    assert verdict.status == "open" and verdict.name == "not fully judged"
    assert "not all could be judged: better than chance, on every seed" in verdict.headline


def test_unequal_training_is_found():
    _, found = statuses(good_run(), {"task_only": [65_536], "lagrangian": [66_560]})
    assert found["Same training"] == "not met"
    _, found = statuses(good_run(), {"task_only": [65_536]})
    assert found["Same training"] == "open"


def test_a_run_without_evaluation_claims_nothing():
    verdict, found = statuses([])
    assert set(found.values()) == {"open"} | ({"met"} if found["Same training"] == "met" else set())
    assert "nothing to claim" in verdict.headline
    verdict, found = statuses(without("lagrangian", good_run()))
    assert found["Lower cost"] == "open"
    assert found["The task is solved"] == "met"


def test_modes_are_judged_apart():
    records = [*good_run(), *good_run(mode="argmax")]
    sampled, argmax = (statuses(records, mode=mode)[0] for mode in ("sampled", "argmax"))
    assert sampled.status == argmax.status == "met"
    assert statuses(good_run(), mode="argmax")[1]["Lower cost"] == "open"
