"""Saving and resuming a learner: safetensors for arrays, JSON for the rest, never a pickle.

    folder/policy/                 the policy in its own checkpoint format, ready to be loaded
    folder/trainer.safetensors     Adam's moments, privileged critics with normalisation and moments
    folder/trainer.json            counters, multipliers, configuration, recent episodes

A learner draws everything random from (seed, iteration), so that there are no generator states.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from safevla.files import replaced_folder, write_json
from safevla.policy import read_policy, save_policy
from safevla.train.settings import train_config

__all__ = ["load", "save"]

FORMAT = 1


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


def _folder(path: Any) -> Path:
    path = Path(path)
    return path.with_suffix("") if path.suffix == ".zip" else path


def save(model: Any, path: Any) -> None:
    """Write a learner's folder; a crash leaves the old one or the new one."""
    folder = _folder(path)
    if folder.is_file():
        raise ValueError(f"{folder} is a file; a checkpoint is a folder")
    tensors = adam_tensors(model.optimizer, model.trainable, "optimizer")
    networks = model.critic.networks
    if networks is not None:
        tensors |= {f"critic/{name}": t for name, t in networks.state_dict().items()}
        names = dict(networks.named_parameters())
        tensors |= adam_tensors(networks.optimizer, names, "critic_optimizer")
    recent = [{key: float(v) for key, v in info.items()} for info in model.ep_info_buffer or ()]
    state = {
        "format": FORMAT,
        "iteration": model.iteration,
        "num_timesteps": model.completed_timesteps,
        "constraints": model.constraints,
        "multipliers": model.multipliers.state_dict(),
        "privileged": None if networks is None else networks.inputs,
        "config": model.config,
        "recent_episodes": recent,
        "recent_successes": [bool(success) for success in model.ep_success_buffer or ()],
    }
    with replaced_folder(folder) as scratch:
        save_policy(model.policy, model.processor, scratch / "policy")
        save_file(
            {name: t.detach().cpu().contiguous() for name, t in tensors.items()},
            scratch / "trainer.safetensors",
        )
        write_json(scratch / "trainer.json", state)


def load(cls: Any, path: Any, env: Any, **kwargs: Any) -> Any:
    """Rebuild a learner from a folder that `save` wrote.

    Args:
        cls: the learner's class, `PPOLagrangian` or one derived from it.
        path: the folder.
        env: the environment to go on with.
        **kwargs: for the constructor.

    Raises:
        ValueError: not such a folder, another format, or it does not fit the environment.
    """
    path = Path(path)
    if path.is_file():
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
    if state.get("format") != FORMAT:
        raise ValueError(f"{folder}: format is {state.get('format')}; expected {FORMAT}")
    policy, processor = read_policy(folder / "policy")
    config = kwargs.pop("config", None) or train_config(state["config"])
    model = cls(
        policy, env, processor=processor, config=config, constraints=state["constraints"], **kwargs
    )
    model.iteration = int(state["iteration"])
    model.num_timesteps = model.completed_timesteps = int(state["num_timesteps"])
    model.multipliers.load_state_dict(state["multipliers"])
    load_adam(model.optimizer, model.trainable, "optimizer", tensors)
    if state["privileged"] is not None:
        networks = model.critic.make(int(state["privileged"]))
        own = {k.removeprefix("critic/"): t for k, t in tensors.items() if k.startswith("critic/")}
        networks.load_state_dict(own)
        names = dict(networks.named_parameters())
        load_adam(networks.optimizer, names, "critic_optimizer", tensors)
    model.ep_info_buffer = deque(state["recent_episodes"], maxlen=model._stats_window_size)
    model.ep_success_buffer = deque(state["recent_successes"], maxlen=model._stats_window_size)
    return model
