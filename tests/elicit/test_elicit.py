import gzip
from dataclasses import dataclass, field

import pytest

from safevla.elicit import Found, draw_scenarios, load_found, save_found, search
from safevla.elicit.found import half_of
from safevla_envs.generate import knob_ranges, knobs_for
from safevla_envs.tasks import make_task

SMALL = {"n_rooms": 2, "room_side_min": 3.0, "room_side_max": 4.0, "n_furniture": 2}
NAMES = ("n_clutter", "cluster_lateral", "target_distance_min", "target_distance_max")


def drawn(seed=0, names=NAMES, **changes):
    arguments = {
        "seed": seed,
        "names": names,
        "fixed": SMALL,
        "level": 1.0,
        "hazards": ("fragile_collection",),
    }
    return draw_scenarios(**(arguments | changes))


@dataclass(kw_only=True)
class Episode:
    scenario_id: str
    cost: float
    success: bool = True
    sim_error: str | None = None
    costs: dict[str, float] = field(default_factory=dict)


class Player:
    """Plays by rule: the cost is the number of clutter objects, one more for odd policy seeds."""

    def __init__(self, stop_after=None):
        self.calls = []
        self.stop_after = stop_after

    def __call__(self, scenarios, policy_seed):
        if self.stop_after is not None and len(self.calls) >= self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((len(scenarios), policy_seed))
        episodes = []
        for scenario in scenarios:
            clutter = scenario.knobs["n_clutter"]
            cost = float(clutter + (policy_seed % 2 if clutter else 0))
            episodes.append(
                Episode(scenario_id=scenario.scenario_id, cost=cost, costs={"impact": 2 * cost})
            )
        return episodes


def test_draws_are_repeatable_and_within_range():
    ranges = knob_ranges()
    first = [next(d) for d in [drawn()] for _ in range(6)]
    again = [next(d) for d in [drawn()] for _ in range(6)]
    other = next(drawn(seed=1))
    assert [s.scenario_id for s, _ in first] == [s.scenario_id for s, _ in again]
    assert other[0].scenario_id != first[0][0].scenario_id
    for scenario, knobs in first:
        assert set(knobs) == set(NAMES)
        for name, value in knobs.items():
            assert ranges[name][0] <= value <= ranges[name][1]
        assert knobs["target_distance_min"] <= knobs["target_distance_max"]
        assert scenario.split == "train"
        assert scenario.knobs["n_rooms"] == 2
    assert len({k["n_clutter"] for _, k in first}) > 1


def test_every_knob_can_be_searched():
    scenario, knobs = next(drawn(names=(), fixed={}))
    assert set(knobs) == set(knob_ranges())
    assert scenario.knobs["n_rooms"] == knobs["n_rooms"]
    knobs_for(1.0, knobs)


def test_unknown_knob_is_named():
    with pytest.raises(ValueError, match="'gravity' is unknown; allowed are n_rooms"):
        next(drawn(names=("gravity",)))


def test_a_task_without_knobs_gives_its_scenarios_one_after_the_other():
    how = {"names": (), "fixed": {}, "task": make_task("PickUp")}
    (one, knobs), (other, _) = (next(d) for d in [drawn(**how)] for _ in range(2))
    assert one.task == other.task == "PickUp" and one != other and knobs == {}
    with pytest.raises(ValueError, match="'n_rooms' is unknown; allowed are none: the task has"):
        next(drawn(**{**how, "names": ("n_rooms",)}))


def test_keeps_the_costliest_first_and_means_over_rollouts(tmp_path):
    player = Player()
    found = search(player, drawn(), scenarios=20, rollouts=2, keep=5, folder=tmp_path)
    clutter = sorted(
        (s.knobs["n_clutter"] for s, _ in (next(d) for d in [drawn()] for _ in range(20))),
        reverse=True,
    )
    assert [item.cost for item in found] == [c + 0.5 for c in clutter[:5]]
    assert all(item.costs == {"impact": 2 * item.cost} for item in found)
    assert all(item.rollouts == 2 for item in found)
    # 16 and 4 scenarios, each with two policy seeds
    assert player.calls == [(16, 0), (16, 1), (4, 0), (4, 1)]
    assert load_found(tmp_path / "found.jsonl.gz") == found


def test_scenarios_without_cost_are_not_kept(tmp_path):
    def harmless(scenarios, policy_seed):
        return [Episode(scenario_id=s.scenario_id, cost=0.0) for s in scenarios]

    assert search(harmless, drawn(), scenarios=4, rollouts=1, keep=5, folder=tmp_path) == []
    assert load_found(tmp_path / "found.jsonl.gz") == []


def test_interrupted_search_resumes_where_it_stopped(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        search(Player(2), drawn(), scenarios=20, rollouts=2, keep=5, folder=tmp_path / "a")
    with (tmp_path / "a/tried.jsonl").open("a") as file:
        file.write('{"scenario": {"cut sh')  # the interruption came in the middle of a line
    player = Player()
    resumed = search(player, drawn(), scenarios=20, rollouts=2, keep=5, folder=tmp_path / "a")
    assert player.calls == [(4, 0), (4, 1)]
    whole = search(Player(), drawn(), scenarios=20, rollouts=2, keep=5, folder=tmp_path / "b")
    assert resumed == whole
    for name in ("found.jsonl.gz", "tried.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_diverged_rollouts_do_not_count(tmp_path):
    def play(scenarios, policy_seed):
        error = "BADQACC" if policy_seed else None
        return [
            Episode(
                scenario_id=s.scenario_id, cost=9.0 if error else 1.0, costs={}, sim_error=error
            )
            for s in scenarios
        ]

    found = search(play, drawn(), scenarios=2, rollouts=2, keep=2, folder=tmp_path)
    assert [(item.cost, item.rollouts) for item in found] == [(1.0, 1), (1.0, 1)]


def test_halves_are_disjoint_and_follow_the_hash(tmp_path):
    found = search(Player(), drawn(), scenarios=16, rollouts=1, keep=16, folder=tmp_path)
    train = load_found(tmp_path / "found.jsonl.gz", "train")
    held_out = load_found(tmp_path / "found.jsonl.gz", "eval")
    assert len(train) + len(held_out) == len(found) and train and held_out
    assert all(int(item.scenario.scenario_id, 16) % 2 == 0 for item in train)
    assert all(int(item.scenario.scenario_id, 16) % 2 == 1 for item in held_out)
    assert half_of("ff") == "eval" and half_of("10") == "train"


def test_file_of_another_schema_is_refused(tmp_path):
    scenario, knobs = next(drawn())
    item = Found(scenario=scenario, knobs=knobs, cost=1.0, costs={}, success=0.0, rollouts=1)
    path = tmp_path / "found.jsonl.gz"
    save_found(path, [item])
    text = item.to_json().replace(f'"schema":{scenario.schema}', '"schema":999')
    path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(ValueError, match=r"line 1: scenario schema 999"):
        load_found(path)
