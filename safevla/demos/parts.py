"""Finished episodes of a recording that goes on: one file each, in a working folder.

`job.json` names the arguments that the episodes depend on. `000000.safetensors` holds arrays and
PNG bytes of one episode, all else as JSON in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from safevla.demos.dataset import Episode
from safevla.files import plain, read_json, replaced_file, write_json

JOB_FILE = "job.json"
SUFFIX = ".safetensors"


def claim(folder: Path, job: Mapping[str, Any]) -> None:
    """Makes the working folder of a job, or goes on with it; `job` is plain JSON.

    Raises:
        ValueError: the folder holds episodes of another job, or of none.
    """
    if any(folder.glob(f"*{SUFFIX}")):
        refuse_other(folder, read_json(folder / JOB_FILE), job)
    else:
        write_json(folder / JOB_FILE, job)


def refuse_other(folder: Path, found: Mapping[str, Any] | None, job: Mapping[str, Any]) -> None:
    """Refuses a folder whose job, None if it has none, is not `job`.

    Raises:
        ValueError: in one line, naming the arguments that differ.
    """
    if found == job:
        return
    what = "exists and is not empty"
    if found is not None:
        names = [name for name in sorted({*found, *job}) if found.get(name) != job.get(name)]
        what = f"was recorded with another {', '.join(names)}"
    raise ValueError(f"{folder}: {what}; nothing is overwritten: delete it or choose another name")


def part_path(folder: Path, number: int) -> Path:
    """The file of episode `number`."""
    return folder / f"{number:06d}{SUFFIX}"


def write_part(path: Path, episode: Episode, about: Mapping[str, Any]) -> None:
    """Writes an episode and what the writer must know about its environment, in one piece."""
    fields = dict(vars(episode))
    images = fields.pop("images")
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    fields = {name: value for name, value in fields.items() if name not in arrays}
    for camera, frames in images.items():
        arrays |= {f"{camera}/{i}": np.frombuffer(png, np.uint8) for i, png in enumerate(frames)}
    rest = {"cameras": list(images), "fields": fields, "about": about}
    with replaced_file(path) as scratch:
        save_file(arrays, scratch, {"rest": json.dumps(plain(rest))})


def read_part(path: Path) -> tuple[Episode, dict[str, Any]]:
    """Reads what `write_part` wrote."""
    with safe_open(path, framework="np") as file:
        rest = json.loads(file.metadata()["rest"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    images = {
        camera: [arrays.pop(f"{camera}/{i}").tobytes() for i in range(len(arrays["action"]))]
        for camera in rest["cameras"]
    }
    return Episode(images=images, **arrays, **rest["fields"]), rest["about"]
