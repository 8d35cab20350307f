"""Errors that a user can mend, told in one line; any other is a defect of ours, with its trace."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["CheckpointError", "explain", "explained"]

TRAIN_ONLY = ("torch", "transformers", "safetensors", "stable_baselines3", "pyarrow", "pandas")
TRAIN_ONLY += ("scipy", "matplotlib", "jinja2", "tensorboard")


class CheckpointError(ValueError):
    """A checkpoint folder that is incomplete or does not reproduce its golden output."""


def explain(error: Exception) -> str | None:
    """Returns the line to print for an error that the user can mend, None for a defect of ours."""
    if isinstance(error, ModuleNotFoundError):
        if (error.name or "").split(".")[0] in TRAIN_ONLY:
            return f'this command needs {error.name}; run: pip install "safevla[train]"'
        return None
    named = type(error).__module__.startswith("gymnasium.error")
    if isinstance(error, (ValueError, KeyError, FileNotFoundError, PermissionError)) or named:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        return " ".join(str(text).split()) or type(error).__name__
    if isinstance(error, RuntimeError) and "OpenGL" in str(error):
        return str(error)
    return None


def explained(work: Callable[[], Any]) -> None:
    """Runs a program's body: what the user can mend is one line on standard error, exit code 2.

    SAFEVLA_DEBUG=1 shows the trace instead.
    """
    try:
        work()
    except Exception as error:
        message = None if os.environ.get("SAFEVLA_DEBUG") else explain(error)
        if message is None:
            raise
        print(f"safevla: {message}", file=sys.stderr)
        sys.exit(2)
