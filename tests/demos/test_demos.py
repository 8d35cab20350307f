"""Recording demonstrations and reading them back."""

import json
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pandas as pd
import pytest
from toy_room import ToyRoom

from safevla.demos import DemoDataset, DemoWriter, Episode, collect
from safevla.demos.dataset import decode_png, encode_png
from safevla.demos.recording import _noise_pool

TOY = {"env_id": "toy_room:ToyRoom-v0", "expert": "toy_room:ToyExpert"}


def files(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demos") / "toy"
    summary = collect(**TOY, episodes=12, seed=3, out_dir=folder, workers=1, noise=0.2, wander=0.1)
    return folder, summary


def test_png_is_lossless():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    assert np.array_equal(decode_png(encode_png(image)), image)


def test_data_is_what_the_environment_gave(recorded):
    folder, summary = recorded
    data = DemoDataset(folder)
    assert data.n_episodes == summary["kept"] and len(data) == summary["frames"]
    assert data.action_names == ToyRoom.action_names and data.end_action == ToyRoom.END
    assert data.constraint_names == ("trap",) and data.cameras == ("navigation",)
    assert data.image_size == 32 and data.aux.shape == (len(data), 2)
    env = gymnasium.make("ToyRoom-v0")
    episodes = pd.read_parquet(folder / "meta/episodes/chunk-000/file-000.parquet")
    for row in episodes.itertuples():
        obs, info = env.reset(seed=int(row.seed))
        assert data.instructions[data.task[row.dataset_from_index]] == info["instruction"]
        frames = np.arange(row.dataset_from_index, row.dataset_to_index)
        previous, executed = len(data.action_names), list(data.prev_action[frames[1:]])
        executed.append(ToyRoom.END)  # an episode that succeeds ends so
        for frame, action in zip(frames, executed):
            assert data.prev_action[frame] == previous
            assert np.array_equal(data.images(frame[None])[0, 0], obs["navigation_image"])
            assert np.array_equal(data.state[frame], obs["state"])
            assert np.array_equal(data.aux[frame], env.unwrapped.privileged_state())
            obs, reward, _, _, info = env.step(int(action))
            assert data.cost[frame, 0] == info["cost"]
            assert data.reward[frame] == np.float32(reward)
            previous = action
        assert info["success"] and data.action[frames[-1]] == ToyRoom.END


def test_labels_are_the_experts_where_noise_acted(recorded):
    data = DemoDataset(recorded[0])
    executed = data.prev_action[1:][data.episode[1:] == data.episode[:-1]]
    labels = data.action[:-1][data.episode[1:] == data.episode[:-1]]
    assert 0.05 < (executed != labels).mean() < 0.35
    away = data.aux * 4
    right = (labels == 0).nonzero()[0]
    assert right.size and (executed != ToyRoom.END).all()
    assert (data.action[(away == 0).all(1)] == ToyRoom.END).all(), "on the target it says end"


def test_layout_is_lerobot_v3(recorded):
    folder, summary = recorded
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert info["total_episodes"] == summary["kept"]
    assert info["total_frames"] == summary["frames"]
    frames = pd.read_parquet(folder / "data/chunk-000/file-000.parquet")
    assert set(frames.columns) == set(info["features"])
    assert {
        "observation.images.navigation",
        "observation.state",
        "action",
        "next.reward",
        "next.success",
        "next.done",
        "next.cost",
        "aux",
        "episode_index",
        "frame_index",
        "timestamp",
        "task_index",
        "index",
    } <= set(frames.columns)
    assert frames["index"].tolist() == list(range(summary["frames"]))
    assert np.allclose(frames["timestamp"], frames["frame_index"] / info["fps"])
    assert frames["next.done"].sum() == frames["next.success"].sum() == summary["kept"]
    first = frames["observation.images.navigation"][0]
    assert decode_png(first["bytes"]).shape == (32, 32, 3)
    assert info["features"]["next.cost"] == {
        "dtype": "float32",
        "shape": [1],
        "names": ["trap"],
    }
    tasks = pd.read_parquet(folder / "meta/tasks.parquet")
    assert set(frames["task_index"]) == set(tasks["task_index"])
    stats = json.loads((folder / "meta/stats.json").read_text())
    state = np.stack(frames["observation.state"])
    assert np.allclose(stats["observation.state"]["mean"], state.mean(0), atol=1e-5)
    assert np.shape(stats["observation.images.navigation"]["mean"]) == (3, 1, 1)


def test_images_are_the_same_decoded_early_or_late(recorded):
    early, late = DemoDataset(recorded[0]), DemoDataset(recorded[0], cache_bytes=0)
    chosen = np.random.default_rng(0).integers(0, len(early), (3, 5))
    assert early.images(chosen).shape == (3, 5, 1, 32, 32, 3)
    assert np.array_equal(early.images(chosen), late.images(chosen))


def test_result_does_not_depend_on_the_number_of_workers(recorded, tmp_path):
    again = {}
    for workers in (2, 3):
        out = tmp_path / str(workers)
        collect(**TOY, episodes=12, seed=3, out_dir=out, workers=workers, noise=0.2, wander=0.1)
        again[workers] = files(out)
    assert again[2] == again[3] == files(recorded[0])
    other = tmp_path / "other"
    collect(**TOY, episodes=12, seed=4, out_dir=other, workers=1, noise=0.2, wander=0.1)
    assert files(other) != again[2]


def test_failures_are_left_out(tmp_path):
    short = {**TOY, "env_kwargs": {"max_episode_steps": 5}, "episodes": 20, "seed": 0, "workers": 1}
    some = collect(**short, noise=0.0, out_dir=tmp_path / "some")
    assert 0 < some["kept"] < 20 and some["success_rate"] == some["kept"] / 20
    data = DemoDataset(tmp_path / "some")
    assert data.n_episodes == some["kept"] and data.success[data.starts[1:] - 1].all()


def test_bad_arguments_are_named_and_nothing_is_overwritten(recorded, tmp_path):
    folder = recorded[0]
    before = files(folder)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not empty"):
        collect(**TOY, episodes=1, seed=0, out_dir=tmp_path)
    with pytest.raises(ValueError, match="recorded with another episodes, noise, seed, wander;"):
        collect(**TOY, episodes=1, seed=0, out_dir=folder)
    assert files(folder) == before
    new = {"out_dir": tmp_path / "new", "seed": 0, "workers": 1}
    with pytest.raises(ValueError, match="episodes=0"):
        collect(**TOY, episodes=0, **new)
    with pytest.raises(ValueError, match=r"noise=2.*\[0, 1\]"):
        collect(**TOY, episodes=1, noise=2, **new)
    with pytest.raises(ValueError, match="no episode of 2 was kept"):
        collect(**TOY, episodes=2, env_kwargs={"max_episode_steps": 1}, **new)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="holds no demonstrations"):
        DemoDataset(tmp_path)
    with pytest.raises(ValueError, match="holds demonstrations already"):
        DemoWriter(folder, action_names=("a",), end_action=None, constraint_names=())


def test_continuous_actions_several_files_and_no_aux(tmp_path, monkeypatch):
    monkeypatch.setattr("safevla.demos.dataset.FILE_BYTES", 2000)
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            images={
                "a": [
                    encode_png(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(n)
                ],
                "b": [encode_png(np.full((8, 8, 3), i, np.uint8))] * n,
            },
            state=rng.normal(size=(n, 3)).astype(np.float32),
            action=rng.normal(size=(n, 2)).astype(np.float32),
            executed=rng.normal(size=(n, 2)).astype(np.float32),
            reward=rng.normal(size=n).astype(np.float32),
            cost=rng.random((n, 2)).astype(np.float32),
            aux=np.zeros((n, 0), np.float32),
            success=i % 2 == 0,
            instruction=f"task {i % 3}",
        )
        for i, n in enumerate((4, 7, 2, 9))
    ]
    about = {"action_names": ("x", "y"), "end_action": None, "constraint_names": ("c", "d")}
    with DemoWriter(tmp_path / "d", **about) as writer:
        for episode in episodes:
            writer.add(episode)
    assert len(list((tmp_path / "d/data/chunk-000").iterdir())) > 1
    data = DemoDataset(tmp_path / "d")
    assert data.starts.tolist() == [0, 4, 11, 13, 22]
    assert np.array_equal(data.action, np.concatenate([e.action for e in episodes]))
    assert np.array_equal(data.cost, np.concatenate([e.cost for e in episodes]))
    assert data.cameras == ("a", "b") and data.aux.shape == (22, 0)
    assert np.array_equal(data.prev_action[0], (0, 0))
    assert np.array_equal(data.prev_action[5], episodes[1].executed[0])
    assert np.array_equal(data.images(np.array([21]))[0, 0], decode_png(episodes[3].images["a"][8]))
    assert (data.images(np.array([12]))[0, 1] == 2).all()
    assert [data.instructions[t] for t in data.task[data.starts[:-1]]] == [
        e.instruction for e in episodes
    ]


def test_noise_moves_the_base_where_the_environment_says_which_actions_do():
    base, other = SimpleNamespace(kind="base"), SimpleNamespace(kind="arm")
    env = SimpleNamespace(action_names=tuple("abcde"), END=4)
    assert _noise_pool(env).tolist() == [0, 1, 2, 3]
    env.actions = SimpleNamespace(primitives=(other, base, other, base, other))
    assert _noise_pool(env).tolist() == [1, 3]
