"""Writing and reading demonstrations in the LeRobot v3 layout.

    meta/info.json                                 features, sizes, names of actions and constraints
    meta/stats.json                                min, max, mean, std per feature
    meta/tasks.parquet                             one row per instruction
    meta/episodes/chunk-000/file-000.parquet       one row per episode
    data/chunk-000/file-000.parquet                one row per frame; images as PNG bytes
    meta/recording.json                            what `collect` was asked for, and its summary

Beside LeRobot's own columns a frame has `next.cost` (one entry per constraint), `executed_action`
(what the robot did; `action` is what the expert would have done) and `aux` (targets of the policy's
auxiliary head).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from safevla.files import write_json

FILE_BYTES = 100 * 2**20
INFO_FILE = "meta/info.json"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_FILE = "meta/episodes/chunk-000/file-000.parquet"
STATS_EVERY = 20


def encode_png(image: np.ndarray) -> bytes:
    """PNG of a uint8 (h, w, 3) image, compressed for speed."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """The uint8 (h, w, 3) image of a PNG."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One recorded episode of T steps.

    Attributes:
        images: PNG bytes of the T frames of each camera.
        state: float32 (T, S), before each step.
        action: what the expert chose, int64 (T,) or float32 (T, A).
        executed: what the robot did, same shape.
        reward: float32 (T,), of each step.
        cost: float32 (T, K), of each step.
        aux: float32 (T, aux), before each step.
        success: whether the episode ended in success.
        instruction: the text given.
        scenario_id: content hash of the scenario.
        seed: seed of the reset.
        sim_error: message of a diverged simulation, None normally.
    """

    images: Mapping[str, Sequence[bytes]]
    state: np.ndarray
    action: np.ndarray
    executed: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    aux: np.ndarray
    success: bool
    instruction: str
    scenario_id: str = ""
    seed: int = 0
    sim_error: str | None = None

    def __len__(self) -> int:
        return len(self.action)


@dataclass(eq=False)
class DemoWriter:
    """Writes episodes, in the order given, into a new folder; use it as a context manager.

    Args:
        folder: where to write; must not hold a data set yet.
        action_names: names of the discrete actions, or of the action dimensions.
        end_action: index of the action that ends an episode, None where there is none.
        constraint_names: names of the entries of `next.cost`.
        fps: nominal frames per second; time stamps are frame_index / fps.
        robot_type: name of the robot.
        extra: further JSON values for `meta/info.json`.

    Raises:
        ValueError: the folder holds a data set already.
    """

    folder: str | Path
    _: KW_ONLY
    action_names: Sequence[str]
    end_action: int | None
    constraint_names: Sequence[str]
    fps: int = 2
    robot_type: str = "PandaOmron"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path = Path(self.folder)
        if (self.path / INFO_FILE).exists():
            raise ValueError(f"{self.folder}: holds demonstrations already; give another folder")
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._frames = 0
        self._features: dict[str, dict[str, Any]] = {}
        self._stats: dict[str, list[np.ndarray]] = {}
        self._writer: pq.ParquetWriter | None = None
        self._files = 0
        self._bytes = 0

    def __enter__(self) -> DemoWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        elif self._writer is not None:
            self._writer.close()

    def add(self, episode: Episode) -> None:
        """Append one episode."""
        index, length = len(self._episodes), len(episode)
        task = self._tasks.setdefault(episode.instruction, len(self._tasks))
        frame = np.arange(length)
        done = frame == length - 1
        columns: dict[str, np.ndarray] = {
            "observation.state": episode.state.astype(np.float32),
            "action": episode.action,
            "executed_action": episode.executed,
            "next.reward": episode.reward.astype(np.float32),
            "next.done": done,
            "next.success": done & episode.success,
            "next.cost": episode.cost.astype(np.float32),
            "aux": episode.aux.astype(np.float32),
            "timestamp": (frame / self.fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(length, index),
            "index": self._frames + frame,
            "task_index": np.full(length, task),
        }
        columns = {k: v for k, v in columns.items() if v.ndim == 1 or v.shape[1]}
        table = self._table(columns, episode)
        for name, values in columns.items():
            self._stats.setdefault(name, []).append(values.reshape(length, -1))
        for camera, frames in episode.images.items():
            shown = np.stack([decode_png(data) for data in frames[::STATS_EVERY]])
            pixels = shown.reshape(-1, 3)[::7] / 255.0
            self._stats.setdefault(f"observation.images.{camera}", []).append(pixels)
        if self._writer is None or self._bytes > FILE_BYTES:
            self._next_file(table.schema)
        assert self._writer is not None
        self._writer.write_table(table)
        self._bytes += table.nbytes
        self._episodes.append(
            {
                "episode_index": index,
                "tasks": [episode.instruction],
                "length": length,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
                "data/chunk_index": 0,
                "data/file_index": self._files - 1,
                "dataset_from_index": self._frames,
                "dataset_to_index": self._frames + length,
                "scenario_id": episode.scenario_id,
                "seed": episode.seed,
                "success": bool(episode.success),
                "return": float(episode.reward.sum()),
                "cost": episode.cost.sum(0).astype(float).tolist(),
            }
        )
        self._frames += length

    def _table(self, columns: Mapping[str, np.ndarray], episode: Episode) -> pa.Table:
        arrays: dict[str, pa.Array] = {}
        for camera, frames in episode.images.items():
            name = f"observation.images.{camera}"
            binary = pa.array(list(frames), pa.binary())
            path = pa.nulls(len(frames), pa.string())
            arrays[name] = pa.StructArray.from_arrays([binary, path], ["bytes", "path"])
            if name not in self._features:
                shape = list(decode_png(frames[0]).shape)
                names = ["height", "width", "channels"]
                self._features[name] = {"dtype": "image", "shape": shape, "names": names}
        for name, values in columns.items():
            if values.ndim == 1:
                arrays[name] = pa.array(values)
            else:
                flat = pa.array(np.ascontiguousarray(values).ravel())
                arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
            shape = [1] if values.ndim == 1 else [values.shape[1]]
            names = self._names(name, shape[0])
            feature = {"dtype": str(values.dtype), "shape": shape, "names": names}
            if self._features.setdefault(name, feature) != feature:
                raise ValueError(f"{name}: {feature} here, {self._features[name]} in episode 0")
        return pa.table(arrays)

    def _names(self, column: str, width: int) -> list[str] | None:
        if column == "next.cost":
            return list(self.constraint_names)
        continuous = width > 1 and column in ("action", "executed_action")
        return list(self.action_names) if continuous else None

    def _next_file(self, schema: pa.Schema) -> None:
        if self._writer is not None:
            self._writer.close()
        path = self.path / DATA_PATH.format(chunk_index=0, file_index=self._files)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(path, schema, use_dictionary=False)
        self._files += 1
        self._bytes = 0

    def close(self) -> None:
        """Write the tables and files under `meta/`; without them the folder cannot be read."""
        if self._writer is None:
            raise ValueError(f"{self.folder}: no episode was added")
        self._writer.close()
        episodes = self.path / EPISODES_FILE
        episodes.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(self._episodes), episodes)
        index = pd.Index(list(self._tasks), name="task")
        tasks = pd.DataFrame({"task_index": list(self._tasks.values())}, index=index)
        tasks.to_parquet(self.path / "meta/tasks.parquet")
        stats = {name: _statistics(name, np.concatenate(v)) for name, v in self._stats.items()}
        write_json(self.path / "meta/stats.json", stats)
        info = {
            "codebase_version": "v3.0",
            "robot_type": self.robot_type,
            "total_episodes": len(self._episodes),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": 1000,
            "data_files_size_in_mb": FILE_BYTES // 2**20,
            "video_files_size_in_mb": 200,
            "fps": self.fps,
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": DATA_PATH,
            "video_path": None,
            "features": self._features,
            "action_names": list(self.action_names),
            "end_action": self.end_action,
            "constraint_names": list(self.constraint_names),
            **self.extra,
        }
        write_json(self.path / INFO_FILE, info)


def _statistics(name: str, values: np.ndarray) -> dict[str, Any]:
    values = values.astype(np.float64)
    rows = {k: getattr(values, k)(0).tolist() for k in ("min", "max", "mean", "std")}
    if name.startswith("observation.images."):
        rows = {k: [[[x]] for x in row] for k, row in rows.items()}
    return rows | {"count": [len(values)]}


class DemoDataset:
    """All demonstrations of a folder, in memory: N frames of E episodes.

    Args:
        folder: as :class:`DemoWriter` wrote it.
        cache_bytes: frames are decoded once, at loading, if they take at most this many bytes;
            larger sets keep PNGs and decode what is asked for.

    Attributes:
        cameras: camera names.
        image_size: height of the images in pixels.
        action_names: names of actions or action dimensions.
        end_action: index of the action that ends an episode, or None.
        constraint_names: names of the entries of `cost`.
        instructions: texts; `task` (N,) indexes them.
        state: float32 (N, S).
        action: the expert's action, int64 (N,) or float32 (N, A).
        prev_action: the action executed before each frame, len(action_names) (or zeros) for none.
        aux: float32 (N, aux).
        cost: float32 (N, K).
        reward: float32 (N,).
        episode: int64 (N,) episode number of each frame.
        starts: int64 (E + 1,) first frame of each episode, and N.

    Raises:
        ValueError: the folder holds no demonstrations.
    """

    def __init__(self, folder: str | Path, *, cache_bytes: int = 2 * 2**30) -> None:
        folder = Path(folder)
        if not (folder / INFO_FILE).is_file():
            raise ValueError(f"{folder}: holds no demonstrations ({INFO_FILE} is missing)")
        self.info: dict[str, Any] = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
        features = self.info["features"]
        prefix = "observation.images."
        self.cameras = tuple(k.removeprefix(prefix) for k in features if k.startswith(prefix))
        self.image_size = int(features[prefix + self.cameras[0]]["shape"][0])
        self.action_names = tuple(self.info["action_names"])
        self.end_action: int | None = self.info["end_action"]
        self.constraint_names = tuple(self.info["constraint_names"])
        tasks = pd.read_parquet(folder / "meta/tasks.parquet").sort_values("task_index")
        self.instructions = tuple(str(task) for task in tasks.index)
        files = sorted(folder.glob("data/*/*.parquet"))
        tables = [pq.read_table(path) for path in files]
        table = pa.concat_tables(tables)
        self._pngs = [
            [chunk.field("bytes") for chunk in table[prefix + camera].chunks]
            for camera in self.cameras
        ]
        lengths = [len(chunk) for chunk in self._pngs[0]]
        self._chunk_starts = np.concatenate([[0], np.cumsum(lengths)])
        self.state = _matrix(table["observation.state"])
        self.action = _matrix(table["action"])
        executed = _matrix(table["executed_action"])
        self.aux = _matrix(table["aux"]) if "aux" in features else np.zeros((len(table), 0), "f4")
        self.cost = _matrix(table["next.cost"])
        self.reward = _matrix(table["next.reward"])
        self.success = _matrix(table["next.success"])
        self.episode = _matrix(table["episode_index"])
        self.task = _matrix(table["task_index"])
        first = _matrix(table["frame_index"]) == 0
        self.starts = np.append(np.flatnonzero(first), len(table))
        self.prev_action = np.roll(executed, 1, 0)
        self.prev_action[first] = len(self.action_names) if executed.ndim == 1 else 0
        shape = (len(table), len(self.cameras), self.image_size, self.image_size, 3)
        self._decoded: np.ndarray | None = None
        if int(np.prod(shape)) <= cache_bytes:
            decoded = np.empty(shape, np.uint8)
            for i in range(len(table)):
                decoded[i] = self._decode(i)
            self._decoded = decoded
            self._pngs = []

    def __len__(self) -> int:
        return len(self.action)

    @property
    def n_episodes(self) -> int:
        """Number E of episodes."""
        return len(self.starts) - 1

    def images(self, frames: np.ndarray) -> np.ndarray:
        """Images of frames: int (...) in, uint8 (..., N_cam, h, w, 3) out."""
        if self._decoded is not None:
            return self._decoded[frames]
        flat = np.stack([self._decode(int(i)) for i in frames.ravel()])
        return flat.reshape(*frames.shape, *flat.shape[1:])

    def _decode(self, i: int) -> np.ndarray:
        chunk = int(np.searchsorted(self._chunk_starts, i, side="right")) - 1
        row = i - int(self._chunk_starts[chunk])
        return np.stack([decode_png(column[chunk][row].as_py()) for column in self._pngs])


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column as an array: (N,), or (N, width) for fixed-size lists."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if pa.types.is_fixed_size_list(array.type):
        width = array.type.list_size
        return array.flatten().to_numpy(zero_copy_only=False).reshape(-1, width).copy()
    return array.to_numpy(zero_copy_only=False).copy()
