"""Locates the `assets/` and `configs/` folders, in a checkout and in an installed wheel alike."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

__all__ = ["assets_dir", "configs_dir", "data_root"]


@cache
def data_root() -> Path:
    """Returns the folder that holds `assets/` and `configs/`.

    The checkout's folder when this package's own `pyproject.toml` stands above it (an editable
    install leaves a stale copy in `_data`), else the wheel's `_data`.
    """
    here = Path(__file__).resolve().parent
    for parent in here.parents[1:3]:
        pyproject = parent / "pyproject.toml"
        if pyproject.is_file() and (parent / "assets").is_dir():
            with pyproject.open("rb") as file:
                if tomllib.load(file).get("project", {}).get("name") == "safevla":
                    return parent
    return here / "_data"


def assets_dir() -> Path:
    """Returns the folder of MJCF parts, textures and frozen scenario lists."""
    return data_root() / "assets"


def configs_dir() -> Path:
    """Returns the folder of OmegaConf presets."""
    return data_root() / "configs"
