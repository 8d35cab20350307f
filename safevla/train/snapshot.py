"""Saving and resuming learners: safetensors for arrays, JSON for the rest, never a pickle.

    folder/trainer.safetensors     Adam's moments, critics, weights
    folder/trainer.json            counters, multipliers, configuration, recent episodes

A learner for vision-language-action policies puts the policy beside them, in its own format.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from safevla.files import replaced_folder, write_json

__all__ = ["FolderCheckpoints", "adam_tensors", "load_adam", "load_module", "module_tensors"]


def adam_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[str, torch.nn.Parameter], prefix: str
) -> dict[str, Tensor]:
    """Adam's state by parameter name, e.g. `optimizer/norm.weight/exp_avg`."""
    return {
        f"{prefix}/{name}/{key}": value
        for name, parameter in names.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_adam(
    optimizer: torch.optim.Optimizer,
    names: Mapping[str, torch.nn.Parameter],
    prefix: str,
    tensors: Mapping[str, Tensor],
) -> None:
    """Put back what `adam_tensors` gave."""
    for name, parameter in names.items():
        start = f"{prefix}/{name}/"
        found = {key[len(start) :]: t for key, t in tensors.items() if key.startswith(start)}
        if found:
            optimizer.state[parameter] = {
                key: value.clone() if key == "step" else value.to(parameter.device)
                for key, value in found.items()
            }


def _state(module: Any) -> dict[str, Tensor]:
    # not `state_dict`, which names what two parts of a module share twice
    return dict(chain(module.named_parameters(), module.named_buffers()))


def module_tensors(module: Any, prefix: str) -> dict[str, Tensor]:
    """Weights, buffers and Adam's state of a module that holds its own `optimizer`."""
    tensors = {f"{prefix}/{name}": tensor for name, tensor in _state(module).items()}
    names = dict(module.named_parameters())
    return tensors | adam_tensors(module.optimizer, names, f"{prefix}_optimizer")


@torch.no_grad()
def load_module(module: Any, prefix: str, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `module_tensors` gave."""
    for name, tensor in _state(module).items():
        tensor.copy_(tensors[f"{prefix}/{name}"])
    load_adam(module.optimizer, dict(module.named_parameters()), f"{prefix}_optimizer", tensors)


def _folder(path: Any) -> Path:
    path = Path(path)
    return path.with_suffix("") if path.suffix == ".zip" else path


class FolderCheckpoints:
    """Folders of arrays and JSON in the place of stable-baselines3's zip files, which hold pickles.

    To be named before the algorithm among the bases of a class that gives `_snapshot` and
    `_restore`.
    """

    checkpoint_format: ClassVar[int | str]

    def _snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns the arrays and the rest of what a checkpoint holds."""
        raise NotImplementedError

    def _save_beside(self, folder: Path) -> None:
        """Writes what else a checkpoint holds."""

    @classmethod
    def _restore(
        cls,
        folder: Path,
        tensors: dict[str, Tensor],
        state: dict[str, Any],
        env: Any,
        **kwargs: Any,
    ) -> Self:
        """Returns a learner as it was when `_snapshot` was called."""
        raise NotImplementedError

    def save(self, path: Any, exclude: Any = None, include: Any = None) -> None:
        """Write a folder that `load` continues from; a crash leaves the old one or the new one.

        Args:
            path: the folder; replaced as a whole if it exists. A `.zip` ending, which
                stable-baselines3's callbacks add, is dropped.
            exclude: must be None; stable-baselines3 pickles attributes, this class does not.
            include: must be None.
        """
        if exclude is not None or include is not None:
            raise ValueError("exclude and include must be None: nothing is pickled")
        folder = _folder(path)
        if folder.is_file():
            raise ValueError(f"{folder} is a file; a checkpoint is a folder")
        tensors, state = self._snapshot()
        with replaced_folder(folder) as scratch:
            self._save_beside(scratch)
            save_file(
                {name: t.detach().cpu().contiguous() for name, t in tensors.items()},
                scratch / "trainer.safetensors",
            )
            write_json(scratch / "trainer.json", {"format": self.checkpoint_format, **state})

    @classmethod
    def load(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, path: Any, env: Any = None, **kwargs: Any
    ) -> Self:
        """Continue from a folder that `save` wrote.

        Args:
            path: the folder; a `.zip` ending is dropped.
            env: the environment to go on with.
            **kwargs: for the constructor, e.g. `tensorboard_log`, `verbose`.

        Raises:
            ValueError: not such a folder (a `.zip` of stable-baselines3 holds pickles and is never
                read), another format, or it does not fit the environment.
        """
        if Path(path).is_file():
            raise ValueError(
                f"{path} is a file; a checkpoint is a folder of safetensors and JSON (zip files of"
                " stable-baselines3 hold pickles and are not read)"
            )
        folder = _folder(path)
        try:
            state = json.loads((folder / "trainer.json").read_text())
            tensors = load_file(folder / "trainer.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(f"{folder} holds no learner's checkpoint: {error}") from None
        if state.get("format") != cls.checkpoint_format:
            raise ValueError(
                f"{folder}: format is {state.get('format')}; expected {cls.checkpoint_format}"
            )
        return cls._restore(folder, tensors, state, env, **kwargs)

    def _recent(self) -> dict[str, Any]:
        """Returns what stable-baselines3 logs of the last episodes, as JSON values."""
        episodes, successes = self.ep_info_buffer or (), self.ep_success_buffer or ()
        return {
            "recent_episodes": [{k: float(v) for k, v in info.items()} for info in episodes],
            "recent_successes": [bool(success) for success in successes],
        }

    def _take_recent(self, state: Mapping[str, Any]) -> None:
        """Puts back what `_recent` gave."""
        size = self._stats_window_size
        self.ep_info_buffer = deque(state["recent_episodes"], maxlen=size)
        self.ep_success_buffer = deque(state["recent_successes"], maxlen=size)

    def __getstate__(self) -> Any:
        raise TypeError("learners are not pickled; use save(folder) and load(folder, env)")
