import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safevla.evaluate.records import (
    EpisodeRecord,
    load_records,
    read_records,
    write_records,
)

names = st.sampled_from(["corner", "impact", "self_collision"])
numbers = st.floats(0, 100)


@st.composite
def episodes(draw):
    sim_error = draw(st.none() | st.just("BADQACC at 1.2 s"))
    ends = st.sampled_from(["success", "wrong_end", "max_steps", "max_seconds"])
    path = draw(st.lists(st.lists(numbers, min_size=2, max_size=2), max_size=4))
    return EpisodeRecord(
        arm=draw(st.sampled_from(["task_only", "lagrangian"])),
        suite="hazard",
        mode=draw(st.sampled_from(["sampled", "argmax"])),
        policy_seed=draw(st.integers(0, 2**31)),
        train_seed=draw(st.none() | st.integers(0, 9)),
        scenario_index=draw(st.integers(0, 49)),
        scenario_id=draw(st.text("0123456789abcdef", min_size=16, max_size=16)),
        list_hash="0" * 16,
        instruction=draw(st.text(max_size=20)),
        success=draw(st.booleans()),
        length=len(path),
        sim_seconds=draw(numbers),
        ended_by="sim_error" if sim_error else draw(ends),
        cost=draw(numbers),
        costs=draw(st.dictionaries(names, numbers)),
        severity=draw(st.dictionaries(names, st.none() | st.just("severe"))),
        sim_error=sim_error,
        cost_semantics="1",
        level=draw(st.integers(0, 5)),
        perturbation=draw(st.just({}) | st.just({"axis": "colour", "colour": {"hue": 8.0}})),
        path=path,
        events=[{"step": 3, "constraint": "corner", "partner": "wall", "xy": [0.1, 2.0]}],
        actions=draw(st.lists(st.integers(0, 19), max_size=4)),
    )


def record(**changes):
    fixed = {
        "arm": "random",
        "suite": "hazard",
        "mode": "sampled",
        "policy_seed": 0,
        "scenario_index": 0,
        "scenario_id": "a",
        "list_hash": "b",
        "instruction": "find the mug",
        "success": True,
        "length": 3,
        "sim_seconds": 1.5,
        "ended_by": "success",
        "cost": 0.0,
        "costs": {},
        "severity": {},
        "cost_semantics": "1",
    }
    return EpisodeRecord(**(fixed | changes))


@settings(deadline=None, max_examples=25)
@given(st.lists(episodes(), max_size=5))
def test_files_give_back_what_was_written(tmp_path_factory, records):
    folder = tmp_path_factory.mktemp("files")
    write_records(folder / "a.jsonl", records)
    assert read_records(folder / "a.jsonl") == records


def test_a_line_cut_short_at_the_end_is_left_out(tmp_path):
    path = tmp_path / "a.jsonl"
    write_records(path, [record(scenario_index=0), record(scenario_index=1)])
    whole = path.read_text()
    path.write_text(whole[:-30])
    assert [r.scenario_index for r in read_records(path)] == [0]
    path.write_text(whole[:30] + "\n" + whole)
    with pytest.raises(ValueError, match=r"a\.jsonl:1"):
        read_records(path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d | {"speed": 1}, "speed"),
        (lambda d: {k: v for k, v in d.items() if k != "cost"}, "cost"),
        (lambda d: d | {"mode": "greedy"}, "mode='greedy'"),
        (lambda d: d | {"ended_by": "fire"}, "ended_by='fire'"),
        (lambda d: d | {"sim_error": "NaN"}, "sim_error='NaN'"),
    ],
)
def test_bad_records_are_named_with_file_and_line(tmp_path, change, named):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(change(record().as_dict())) + "\n")
    with pytest.raises(ValueError, match=named) as caught:
        read_records(path)
    assert "bad.jsonl:1" in str(caught.value)


def test_nan_never_reaches_a_file(tmp_path):
    with pytest.raises(ValueError):
        write_records(tmp_path / "a.jsonl", [record(cost=float("nan"))])
    assert not (tmp_path / "a.jsonl").exists()


def test_a_run_is_all_its_eval_files(tmp_path):
    write_records(tmp_path / "eval" / "b.hazard.sampled.jsonl", [record(arm="b")])
    write_records(tmp_path / "eval" / "a.hazard.sampled.jsonl", [record(arm="a")])
    assert [r.arm for r in load_records(tmp_path)] == ["a", "b"]


def test_cells_tell_seeds_and_list_positions_apart():
    base = record()
    for change in ({"policy_seed": 1}, {"train_seed": 0}, {"scenario_index": 1}):
        assert dataclasses.replace(base, **change).cell != base.cell
    assert dataclasses.replace(base, arm="task_only", success=False).cell == base.cell


def test_an_episode_froze_if_it_was_cut_where_it_stood():
    still = [[1.0, 2.0 + 0.002 * i] for i in range(41)]
    came = [[0.02 * i, 2.0] for i in range(50)]
    assert record(path=came + still, ended_by="max_steps").froze
    assert not record(path=came + still, ended_by="wrong_end").froze  # gave up, but not by waiting
    assert not record(path=still + came, ended_by="max_steps").froze  # still on its way
    assert not record(path=still[1:], ended_by="max_steps").froze  # too short to say
