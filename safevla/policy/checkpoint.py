"""Checkpoint folders: configuration, weights, processor and a golden output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from safevla.errors import CheckpointError
from safevla.files import replaced_file, write_json
from safevla.policy.configuration_safevla import SafeVLAConfig
from safevla.policy.modeling_safevla import VLAPolicy
from safevla.policy.processing_safevla import SafeVLAProcessor, read_part

CONFIG_FILE, WEIGHTS_FILE, GOLDEN_FILE = "config.json", "model.safetensors", "golden.json"
GOLDEN_TOLERANCE = 1e-4
GOLDEN_FRAMES = 3


def golden_input(processor: SafeVLAProcessor) -> dict[str, Any]:
    """The part of the fixed input that is stored: an instruction and raw states."""
    count = len(processor.state_mean)
    wave = np.sin(np.arange(GOLDEN_FRAMES * count, dtype=np.float64)).reshape(-1, count)
    state = processor.state_mean + processor.state_std * wave
    return {"instruction": " ".join(processor.vocabulary[2:8]), "state": state.tolist()}


def golden_output(
    policy: VLAPolicy, processor: SafeVLAProcessor, instruction: str, state: Sequence[Any]
) -> Tensor:
    """Logits, float32 on the CPU, of the last of some frames with made-up images and raw states.

    The input runs through the processor as an observation would.
    """
    config, frames, size = policy.config, len(state), processor.image_size
    t, y, x, channel = np.indices((frames, size, size, 3))
    pattern = 31 * t + 7 * y + 13 * x + 89 * channel + y * x // 3
    obs: dict[str, object] = {
        f"{camera}_image": (pattern + 53 * i).astype(np.uint8)
        for i, camera in enumerate(processor.cameras)
    }
    obs["state"] = np.asarray(state)
    obs["instruction"] = [instruction] * frames
    inputs = {name: value.to(policy.device) for name, value in processor(obs).items()}
    previous = torch.arange(frames, device=policy.device)[None] % config.n_actions
    if not config.discrete:
        previous = (previous[..., None] / config.n_actions).expand(-1, -1, config.n_actions)
    training = policy.training
    policy.eval()
    with torch.no_grad():
        features = policy.encode(**inputs)[None]
        output = policy(features=features, prev_actions=previous, mode="bc")
    policy.train(training)
    return output.logits[0, -1].float().cpu()


def save_policy(policy: VLAPolicy, processor: SafeVLAProcessor, folder: str | Path) -> None:
    """Write a checkpoint folder; `golden.json` comes last, so that a torn save never loads.

    Files of an earlier checkpoint are replaced.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GOLDEN_FILE).unlink(missing_ok=True)
    config = policy.config.to_dict() | {"architectures": [type(policy).__name__]}
    write_json(folder / CONFIG_FILE, config)
    tensors = {name: t.detach().cpu().contiguous() for name, t in policy.state_dict().items()}
    with replaced_file(folder / WEIGHTS_FILE) as scratch:
        save_file(tensors, scratch, metadata={"format": "pt"})
    processor.save(folder)
    given = golden_input(processor)
    logits = golden_output(policy, processor, **given)
    write_json(folder / GOLDEN_FILE, given | {"logits": logits.tolist()})


def _read_config(path: Path) -> SafeVLAConfig:
    content = read_part(path)
    if content.get("model_type") != SafeVLAConfig.model_type:
        raise CheckpointError(
            f"{path}: expected model_type 'safevla', found {content.get('model_type')!r}"
        )
    try:
        return SafeVLAConfig.from_dict(content)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: expected a valid configuration ({error})") from None


def read_policy(folder: str | Path) -> tuple[VLAPolicy, SafeVLAProcessor]:
    """Read policy (CPU, evaluation mode) and processor; compare the policy with its golden output.

    Raises:
        CheckpointError: a file is missing, does not fit the others, or the logits for the fixed
            input differ from the stored ones by more than 1e-4.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: expected a checkpoint folder, found none")
    policy = VLAPolicy(_read_config(folder / CONFIG_FILE))
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise CheckpointError(f"{weights}: missing; expected in every checkpoint folder")
    try:
        policy.load_state_dict(load_file(weights), strict=True)
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{weights}: expected the weights of {CONFIG_FILE} ({reason})"
        ) from None
    processor = SafeVLAProcessor.load(folder)
    golden = read_part(folder / GOLDEN_FILE)
    try:
        expected = torch.tensor(golden["logits"], dtype=torch.float32)
        found = golden_output(policy, processor, golden["instruction"], golden["state"])
        difference = float((found - expected).abs().max())
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{folder / GOLDEN_FILE}: expected instruction, states and the logits of this policy "
            f"and its processor ({reason})"
        ) from None
    if not difference <= GOLDEN_TOLERANCE:
        raise CheckpointError(
            f"{folder / GOLDEN_FILE}: expected logits within {GOLDEN_TOLERANCE:g} of the stored "
            f"ones, found a difference of {difference:.3g}; weights, processor or code changed"
        )
    return policy.eval(), processor
