import numpy as np
import pytest

from safevla.train.episodes import EpisodeBooks, summarise
from safevla.train.settings import RewardConfig


def info(a=0.0, b=0.0, total=None, **more):
    return {"costs": {"a": a, "b": b}, "cost": a + b if total is None else total, **more}


def books(channels=("a", "b"), rate=(), n=1, **more):
    rewards = RewardConfig(step_penalty=0.5, wrong_end_penalty=3.0, **more)
    return EpisodeBooks(n, ["a", "b"], channels, rate, rewards)


def test_rewards_and_costs_of_a_step():
    out = books(n=3).step(
        np.array([1.0, 10.0, 0.0], np.float32),
        np.array([False, True, True]),
        [info(a=2.0), info(is_success=True), info(b=1.0, is_success=False)],
    )
    # a plain step; a right end; a wrong end
    assert out.rewards.tolist() == [[0.5, 2.0, 0.0], [9.5, 0.0, 0.0], [-3.5, 0.0, 1.0]]
    assert not out.follows.any(), "nothing follows an end"


def test_truncation_is_no_wrong_end():
    out = books().step(np.zeros(1), np.array([True]), [info(**{"TimeLimit.truncated": True})])
    assert out.rewards[0, 0] == -0.5
    assert out.ends[0] and out.follows.all() and out.completed[0].truncated


def test_waiting_may_be_worth_nothing_and_giving_up_may_save_no_cost():
    cut = info(**{"TimeLimit.truncated": True})
    ended = [cut, info(is_success=True), info(), info(sim_error="NaN")]
    out = books(n=4, timeout_penalty=2.0, after_timeout="nothing", after_wrong_end="value").step(
        np.zeros(4), np.ones(4, bool), ended
    )
    assert out.rewards[:, 0].tolist() == [-2.5, -0.5, -3.5, -0.5]
    # cut, right end, wrong end, diverged: the reward, then two costs
    assert out.follows.tolist() == [
        [False, True, True],
        [False] * 3,
        [False, True, True],
        [False] * 3,
    ]


def test_episode_sums_include_the_last_step_and_start_afresh():
    b = books()
    b.step(np.array([1.0]), np.array([False]), [info(a=1.0)])
    out = b.step(np.array([2.0]), np.array([True]), [info(a=1.0, b=3.0, total=3.5)])
    (episode,) = out.completed
    assert episode.costs == {"a": 2.0, "b": 3.0, "cost": 4.5}
    assert (episode.length, episode.ret, episode.success) == (2, 3.0, False)
    (second,) = b.step(np.array([0.0]), np.array([True]), [info(b=1.0)]).completed
    assert second.costs == {"a": 0.0, "b": 1.0, "cost": 1.0} and second.length == 1


def test_total_signal_learns_from_incidents():
    out = books(channels=("cost",)).step(
        np.zeros(1), np.array([False]), [info(a=1.0, b=1.0, total=1.0)]
    )
    assert out.rewards[0].tolist() == [-0.5, 1.0]


def test_violation_rate_charges_the_first_violation_only():
    b = books(rate=("a",))
    costs = [
        b.step(np.zeros(1), np.array([done]), [info(a=a, b=a)]).rewards[0, 1:].tolist()
        for a, done in ((0.0, False), (3.0, False), (2.0, True), (2.0, False))
    ]
    assert costs == [[0.0, 0.0], [1.0, 3.0], [0.0, 2.0], [1.0, 2.0]]


def test_a_diverged_simulation_is_set_apart():
    b = books(n=2)
    b.step(np.ones(2), np.zeros(2, bool), [info(a=1.0), info()])
    out = b.step(
        np.array([np.nan, 1.0]),
        np.array([True, True]),
        [
            info(a=np.nan, sim_error="bad acceleration", **{"TimeLimit.truncated": True}),
            info(is_success=True),
        ],
    )
    assert out.valid.tolist() == [False, True]
    assert np.isfinite(out.rewards).all()
    assert out.completed[0].sim_error == "bad acceleration"
    summary = summarise(out.completed, b.names)
    assert (summary["episodes"], summary["sim_errors"], summary["success"]) == (1, 1, 1.0)
    assert summary["costs"] == {"a": 0.0, "b": 0.0}


def test_missing_costs_are_named():
    with pytest.raises(ValueError, match="no 'costs'"):
        books().step(np.zeros(1), np.array([False]), [{"cost": 0.0}])
    with pytest.raises(ValueError, match="no 'b'"):
        books().step(np.zeros(1), np.array([False]), [{"cost": 0.0, "costs": {"a": 0.0}}])


def test_summary_of_no_episodes_is_nan():
    summary = summarise([], ("a", "cost"))
    assert summary["episodes"] == 0 and np.isnan(summary["success"])
