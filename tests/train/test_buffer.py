import pytest
import torch

from safevla.train.buffer import SequenceRolloutBuffer

H, T, NONE = 3, 6, 9


def rollout(buffer, starts, first=0):
    """Put numbered frames and actions for one environment; returns the acting windows."""
    windows = []
    buffer.start_rollout()
    for i, start in enumerate(starts, first):
        buffer.put_frame(torch.tensor([start]), {})
        windows.append(buffer.window())
        buffer.put_step(
            features=torch.tensor([[float(i + 1)]]),
            actions=torch.tensor([i % NONE]),
            log_probs=torch.zeros(1),
            rewards=torch.zeros(1, 1),
            ends=torch.tensor([False]),
            valid=torch.tensor([True]),
        )
    return windows


@pytest.fixture
def buffer():
    return SequenceRolloutBuffer(
        T, 1, history=H, feature_dim=1, channels=1, no_action=torch.tensor(NONE), sequence=3
    )


def test_windows_end_at_episode_starts_and_span_rollouts(buffer):
    windows = rollout(buffer, [True, False, False, True, False, False])
    assert [w["features"][0, :, 0].tolist() for w in windows] == [
        [0, 0],
        [0, 1],
        [1, 2],
        [0, 0],
        [0, 4],
        [4, 5],
    ]
    assert [w["prev_actions"][0].tolist() for w in windows[:4]] == [
        [NONE, NONE, NONE],
        [NONE, NONE, 0],
        [NONE, 0, 1],
        [NONE, NONE, NONE],
    ]
    assert [w["mask"][0].tolist() for w in windows[2:4]] == [[True] * 3, [False, False, True]]
    (after,) = rollout(buffer, [False], first=6)
    assert after["features"][0, :, 0].tolist() == [5, 6]
    assert after["prev_actions"][0].tolist() == [3, 4, 5]


def test_a_restart_forgets(buffer):
    rollout(buffer, [True] + [False] * 5)
    buffer.clear()
    (window,) = rollout(buffer, [True])
    assert window["mask"][0].tolist() == [False, False, True]
    assert window["prev_actions"][0].tolist() == [NONE] * 3


def test_learning_runs_hold_the_acting_windows(buffer):
    rollout(buffer, [True] + [False] * 5)
    windows = rollout(buffer, [False, True, False, False, True, False], first=6)
    batch = buffer.minibatch(torch.tensor([0, 0]), torch.tensor([0, 3]))
    assert batch.steps.tolist() == [[0, 1, 2], [3, 4, 5]]
    features, segments = batch.inputs["features"][..., 0], batch.inputs["segments"]
    for b in range(2):
        for c in range(3):
            window = windows[3 * b + c]
            span = slice(c, c + H)
            same = segments[b, span] == segments[b, c + H - 1]
            assert same.tolist() == window["mask"][0].tolist()
            seen = features[b, span][same][:-1]
            assert seen.tolist() == window["features"][0, window["mask"][0, :-1], 0].tolist()
            acts = batch.inputs["prev_actions"][b, span][same]
            assert acts.tolist() == window["prev_actions"][0, window["mask"][0]].tolist()


def test_window_after_continues_the_newest_step(buffer):
    rollout(buffer, [True, False, False, True])
    after = buffer.window_after(torch.tensor([0]))
    assert after["features"][0, :, 0].tolist() == [0, 4]
    assert after["mask"][0].tolist() == [False, True, True]
    assert after["prev_actions"][0].tolist() == [NONE, NONE, 3]


def test_a_pass_visits_every_step_once():
    buffer = SequenceRolloutBuffer(
        8, 3, history=2, feature_dim=1, channels=1, no_action=torch.tensor(0), sequence=5
    )
    assert buffer.sequence == 4  # the largest divisor of 8 up to 5
    generator = torch.Generator().manual_seed(0)
    batches = list(buffer.minibatches(8, generator))
    assert [len(b.steps) for b in batches] == [2, 2, 2]
    seen = torch.cat([(b.envs * 8 + b.steps).flatten() for b in batches])
    assert sorted(seen.tolist()) == list(range(24))
    assert seen.tolist() != list(range(24))


def test_history_of_one_has_empty_windows():
    buffer = SequenceRolloutBuffer(
        T, 1, history=1, feature_dim=1, channels=1, no_action=torch.tensor(NONE)
    )
    windows = rollout(buffer, [True, False])
    assert windows[1]["features"].shape == (1, 0, 1)
    assert windows[1]["prev_actions"].tolist() == [[0]]
    assert buffer.window_after(torch.tensor([0]))["prev_actions"].tolist() == [[1]]
