"""Files that appear whole or not at all, and files of lines that a stopped run goes on from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "appending",
    "digest",
    "plain",
    "read_json",
    "read_jsonl",
    "remove",
    "replaced_file",
    "replaced_folder",
    "survivor",
    "whole_lines",
    "write_json",
    "write_text",
]


def digest(content: str | bytes) -> str:
    """Returns 16 hexadecimal digits of the content's SHA-256."""
    data = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()[:16]


def plain(value: Any) -> Any:
    """Returns dataclasses, mappings, sequences and NumPy values as JSON values.

    Numbers that are not finite become None.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


# ---- whole or not at all ---------------------------------------------------------------------


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; it takes that place at the end of the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".tmp")
    yield scratch
    os.replace(scratch, path)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder beside `path` that takes that place at the end of the block.

    A kill leaves the old folder or the new one; between the two renames the old one is called
    `<name>.old`, where `survivor` finds it.
    """
    scratch, old = (path.with_name(path.name + end) for end in (".tmp", ".old"))
    remove(scratch)
    scratch.mkdir(parents=True)
    yield scratch
    if path.exists():
        remove(old)
        os.replace(path, old)
    os.replace(scratch, path)
    remove(old)


def survivor(path: Path) -> Path | None:
    """Returns the folder that `replaced_folder` left, whenever it was killed; None without one."""
    old = path.with_name(path.name + ".old")
    return path if path.is_dir() else old if old.is_dir() else None


def remove(path: Path) -> None:
    """Removes a file or folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text in one piece; folders are made."""
    with replaced_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, *, sort_keys: bool = False) -> None:
    """Writes `plain(content)` as JSON in one piece."""
    text = json.dumps(plain(content), indent=1, allow_nan=False, sort_keys=sort_keys)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file, None if there is no file.

    Raises:
        ValueError: the file is damaged; names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: not JSON ({error})") from None


# ---- lines to go on from ---------------------------------------------------------------------


def whole_lines(path: Path) -> list[str]:
    """Returns the lines of a JSON Lines file, [] without one.

    A last line that an interruption cut short is left out.
    """
    if not path.is_file():
        return []
    *lines, last = path.read_text(encoding="utf-8").split("\n")
    try:
        json.loads(last)
        lines.append(last)
    except json.JSONDecodeError:
        pass
    return lines


def read_jsonl(path: Path) -> list[Any]:
    """Returns the values of a JSON Lines file, [] without one; see `whole_lines`.

    Raises:
        ValueError: a line is damaged; names file and line.
    """
    values = []
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            values.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not JSON ({error})") from None
    return values


@contextmanager
def appending(path: Path, kept: Iterable[str]) -> Iterator[Callable[[str], None]]:
    """Goes on with a file of lines: it is made anew from `kept`; yields `append(line)`.

    Each line is on disk when `append` returns.
    """
    write_text(path, "".join(line + "\n" for line in kept))
    with path.open("a", encoding="utf-8") as file:

        def append(line: str) -> None:
            file.write(line + "\n")
            file.flush()

        yield append
