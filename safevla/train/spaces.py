"""Gymnasium spaces and constructor arguments as JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from gymnasium import spaces

from safevla.files import plain

__all__ = ["as_json", "as_space", "from_json", "space_as_json"]

_FIELDS = {
    "Box": ("low", "high", "shape", "dtype"),
    "Discrete": ("n", "start"),
    "MultiDiscrete": ("nvec",),
    "MultiBinary": ("n",),
}
_LIBRARIES = ("torch", "stable_baselines3")  # whose classes may be named in a file


def space_as_json(space: spaces.Space) -> dict[str, Any]:
    """Returns a space as JSON values; infinite bounds become None."""
    if isinstance(space, spaces.Dict):
        return {"Dict": {key: space_as_json(part) for key, part in space.items()}}
    kind = type(space).__name__
    fields = {name: getattr(space, name) for name in _FIELDS[kind]}
    if isinstance(space, spaces.Box):
        fields["dtype"] = str(space.dtype)
        for name in ("low", "high"):
            flat = fields[name].ravel().tolist()
            fields[name] = flat[:1] if len(set(flat)) == 1 else flat
    return {kind: plain(fields)}


def as_space(described: Mapping[str, Any]) -> spaces.Space:
    """Returns the space that `space_as_json` described."""
    ((kind, fields),) = described.items()
    if kind == "Dict":
        # of pairs, which keep their order: networks read the parts one after the other
        return spaces.Dict([(key, as_space(part)) for key, part in fields.items()])
    if kind not in _FIELDS:
        raise ValueError(f"space is {kind!r}; it must be Dict or one of {', '.join(_FIELDS)}")
    if kind == "Box":
        dtype, shape = np.dtype(fields["dtype"]), tuple(fields["shape"])
        low, high = (
            np.resize([edge if bound is None else bound for bound in fields[name]], shape)
            for name, edge in (("low", -np.inf), ("high", np.inf))
        )
        return spaces.Box(low.astype(dtype), high.astype(dtype), shape, dtype.type)
    return getattr(spaces, kind)(**fields)


def as_json(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Returns what JSON can hold of keyword arguments, and the names of the others.

    Classes of PyTorch and stable-baselines3 are held by name.
    """
    written, left_out = {}, []
    for name, value in arguments.items():
        try:
            written[name] = _written(value)
        except TypeError:
            left_out.append(name)
    return written, left_out


def _written(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): _written(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_written(item) for item in value]
    if isinstance(value, type) and value.__module__.split(".")[0] in _LIBRARIES:
        return {"class": f"{value.__module__}:{value.__qualname__}"}
    raise TypeError(value)


def from_json(value: Any) -> Any:
    """Returns the arguments that `as_json` wrote."""
    if isinstance(value, dict):
        if set(value) == {"class"}:
            module, _, name = value["class"].partition(":")
            known = module.split(".")[0] in _LIBRARIES
            found = getattr(import_module(module), name, None) if known else None
            if not isinstance(found, type):
                raise ValueError(f"class is {value['class']!r}; it must be one of {_LIBRARIES}")
            return found
        return {key: from_json(item) for key, item in value.items()}
    return [from_json(item) for item in value] if isinstance(value, list) else value
