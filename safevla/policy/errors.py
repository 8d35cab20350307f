"""Errors of checkpoint folders."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class CheckpointError(ValueError):
    """A checkpoint folder that is incomplete or does not reproduce its golden output."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a checkpoint, or raise :class:`CheckpointError` naming the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: missing; expected in every checkpoint folder") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: expected a JSON object, could not read it ({error})"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object so that a crash leaves the old file or the new one, never half of one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)
