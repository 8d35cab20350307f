"""Behaviour cloning: turns demonstrations into a policy."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from safetensors import safe_open
from safetensors.torch import save_file
from stable_baselines3.common.utils import get_device
from torch import Tensor
from torch.nn import functional as F

from safevla.demos import DemoDataset
from safevla.display import progress_bar
from safevla.files import plain, replaced_file, write_json
from safevla.policy import (
    SafeVLAConfig,
    SafeVLAProcessor,
    VLAOutput,
    VLAPolicy,
    build_policy,
    save_policy,
)
from safevla.policy.threads import torch_threads
from safevla.train.settings import BCConfig

__all__ = ["clone", "encode_frames"]

STATE_FILE, SUMMARY_FILE = "training/state.safetensors", "training/summary.json"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
EVALUATED_FRAMES = 4000
BRIGHTNESS_PER_CHANNEL = 0.5


def split_episodes(count: int, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Episode numbers for training and for evaluation; at least one of each if `held_out` > 0."""
    order = np.random.default_rng([seed, 0]).permutation(count)
    held = max(1, round(held_out * count)) if held_out > 0 and count > 1 else 0
    return np.sort(order[held:]), np.sort(order[:held])


@torch.no_grad()
def encode_frames(
    policy: VLAPolicy, data: DemoDataset, state: Tensor, tokens: Tensor, frames: np.ndarray
) -> Tensor:
    """Features of demonstrated frames, float (n, D), on the policy's device.

    `state` is that of all frames, normalised; `tokens` are those of the data's instructions.
    """
    features = []
    for part in np.array_split(frames, -(-len(frames) // 256)):
        inputs = (data.images(part), state[part], tokens[data.task[part]])
        features.append(policy.encode(*(torch.as_tensor(x).to(policy.device) for x in inputs)))
    return torch.cat(features)


class ChunkSampler:
    """Chunks of consecutive frames; which ones update u sees depends on (seed, u) alone.

    Each epoch puts the episodes in a new order, end to end, and cuts them from a new offset, so
    that every frame but a few at the ends is seen once. A chunk may hold the end of one episode
    and the start of the next: the segment numbers keep them apart.

    Args:
        starts: first frame of each episode of the data set, and the number of frames.
        episodes: episodes to draw from.
        batch: chunks per update.
        chunk: frames per chunk.
        seed: of the order.
    """

    def __init__(
        self, starts: np.ndarray, episodes: np.ndarray, *, batch: int, chunk: int, seed: int
    ) -> None:
        self.frames = [np.arange(starts[e], starts[e + 1]) for e in episodes]
        self.total = int(sum(len(frames) for frames in self.frames))
        if self.total < chunk:
            raise ValueError(f"clone.chunk={chunk}: the demonstrations hold {self.total} frames")
        self.batch, self.chunk, self.seed = batch, chunk, seed
        self.updates_per_epoch = max(1, (self.total - chunk + 1) // chunk // batch)
        self._epoch = -1
        self._chunks = np.zeros((0, chunk), np.int64)

    def __call__(self, update: int) -> np.ndarray:
        """Frame numbers for one update, int64 (batch, chunk)."""
        epoch, position = divmod(update, self.updates_per_epoch)
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, 1, epoch])
            flat = np.concatenate([self.frames[i] for i in rng.permutation(len(self.frames))])
            offset = int(rng.integers(min(self.chunk, self.total - self.chunk + 1)))
            count = (self.total - offset) // self.chunk
            chunks = flat[offset : offset + count * self.chunk].reshape(count, self.chunk)
            self._chunks, self._epoch = chunks[rng.permutation(count)], epoch
        rows = np.arange(position * self.batch, (position + 1) * self.batch)
        return self._chunks[rows % len(self._chunks)]


class Cloning:
    """One run of behaviour cloning; see :func:`clone`."""

    def __init__(self, demos_dir: str | Path, out_dir: str | Path, config: BCConfig) -> None:
        self.config, self.out = config, Path(out_dir)
        self.data = data = DemoDataset(demos_dir)
        self.device = get_device(config.device)
        train, self.held = split_episodes(data.n_episodes, config.held_out, config.seed)
        self.sampler = ChunkSampler(
            data.starts, train, batch=config.batch, chunk=config.chunk, seed=config.seed
        )
        frames = np.concatenate(self.sampler.frames)
        self.processor = SafeVLAProcessor.fit(
            cameras=data.cameras,
            image_size=data.image_size,
            instructions=[data.instructions[i] for i in data.task[data.starts[train]]],
            states=data.state[frames],
            max_tokens=config.policy.text_max_tokens,
        )
        self.state = torch.from_numpy(self.processor.normalise(data.state))
        self.tokens = self.processor.tokens(data.instructions)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.policy: VLAPolicy = build_policy(self._policy_config())
        self.policy.to(self.device)  # pyright: ignore[reportArgumentType]
        self.smooth = self._smoothing(data.action[frames]).to(self.device)
        self.optimizer = self._optimizer()
        self.history: list[dict[str, float]] = []
        self.update, self.seconds = 0, 0.0

    # ------------------------------------------------------------------ set-up

    def _policy_config(self) -> SafeVLAConfig:
        data = self.data
        sizes = asdict(self.config.policy)
        return SafeVLAConfig(
            cameras=data.cameras,
            image_size=data.image_size,
            state_dim=data.state.shape[1],
            n_actions=len(data.action_names),
            action_head="categorical" if data.action.ndim == 1 else "gaussian",
            action_names=data.action_names,
            end_action=data.end_action,
            constraint_names=data.constraint_names,
            text_vocab_size=len(self.processor.vocabulary),
            aux_dim=data.aux.shape[1] if self.config.aux_weight > 0 else 0,
            **sizes,
        )

    def _smoothing(self, labels: np.ndarray) -> Tensor:
        """Distribution that smoothed labels share: uniform over the moves the expert uses."""
        count = len(self.data.action_names)
        if labels.ndim > 1:
            return torch.zeros(count)
        share = np.bincount(labels, minlength=count) / len(labels)
        moves = share >= max(self.config.smoothing_share, 1 / len(labels))
        if self.data.end_action is not None:
            moves[self.data.end_action] = False
        return torch.from_numpy(moves / max(1, moves.sum())).float()

    def _optimizer(self) -> torch.optim.AdamW:
        weights = [p for p in self.policy.parameters() if p.dim() > 1]
        others = [p for p in self.policy.parameters() if p.dim() <= 1]
        groups = [
            {"params": weights, "weight_decay": self.config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config.lr, fused=True)

    # ------------------------------------------------------------------ one update

    def _batch(self, update: int) -> dict[str, Tensor]:
        """Inputs and labels of one update, on the device."""
        data, config = self.data, self.config
        frames = self.sampler(update)
        rng = np.random.default_rng([config.seed, 2, update])
        images = data.images(frames)
        if config.brightness:
            shape = (len(frames), 1, 1, 1, 1)
            gain = rng.uniform(-1, 1, (*shape, 1)) + BRIGHTNESS_PER_CHANNEL * rng.uniform(
                -1, 1, (*shape, 3)
            )
            scaled = images * (1 + config.brightness * gain).astype(np.float32)
            images = np.clip(scaled, 0, 255).astype(np.uint8)
        previous = data.prev_action[frames]
        hidden = rng.random(len(frames)) < config.action_dropout
        previous[hidden] = len(data.action_names) if previous.ndim == 2 else 0
        segments = data.episode[frames]
        alone = rng.random(len(frames)) < config.history_dropout
        segments[alone] = np.arange(config.chunk)
        arrays = {
            "images": images,
            "prev_actions": previous,
            "segments": segments,
            "actions": data.action[frames],
            "aux": data.aux[frames],
        }
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        batch["state"] = self.state[frames]
        batch["tokens"] = self.tokens[data.task[frames]]
        return {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}

    def _loss(self, output: VLAOutput, actions: Tensor, aux: Tensor) -> tuple[Tensor, Tensor]:
        """Imitation loss and auxiliary loss."""
        assert output.logits is not None and output.log_prob is not None
        nll = -output.log_prob
        smoothing = self.config.label_smoothing
        if smoothing and actions.dim() == 2 and self.smooth.any():
            moving = torch.ones_like(nll)
            if self.data.end_action is not None:
                moving = (actions != self.data.end_action).float()
            spread = -(output.logits.log_softmax(-1) * self.smooth).sum(-1)
            nll = nll + smoothing * moving * (spread - nll)
        if output.aux is None:
            return nll.mean(), nll.new_zeros(())
        return nll.mean(), F.mse_loss(output.aux, aux)

    def _step(self) -> float:
        config = self.config
        rise = min(1.0, (self.update + 1) / max(1, config.warmup))
        rate = config.lr * rise * (1 - self.update / config.updates)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self._batch(self.update)
        aux = batch.pop("aux")
        output = self.policy(**batch, mode="bc")
        imitation, auxiliary = self._loss(output, batch["actions"], aux)
        loss = imitation + config.aux_weight * auxiliary
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), config.max_grad_norm)
        self.optimizer.step()
        self.update += 1
        return float(loss.detach())

    # ------------------------------------------------------------------ evaluation

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Agreement with the expert on held-out episodes (at most 4,000 frames), in float32."""
        data = self.data
        if not len(self.held):
            return {}
        ranges = [np.arange(data.starts[e], data.starts[e + 1]) for e in self.held]
        frames = np.concatenate(ranges)[:EVALUATED_FRAMES]
        self.policy.eval()
        features = encode_frames(self.policy, data, self.state, self.tokens, frames)
        labels = torch.from_numpy(data.action[frames]).to(self.device)
        output = self.policy(
            features=features[None],
            prev_actions=torch.from_numpy(data.prev_action[frames])[None].to(self.device),
            segments=torch.from_numpy(data.episode[frames])[None].to(self.device),
            actions=labels[None],
            mode="bc",
        )
        self.policy.train()
        result = {"nll": float(-output.log_prob.mean()), "entropy": float(output.entropy.mean())}
        if labels.dim() == 1:
            chosen = output.logits[0].argmax(-1)
            result["accuracy"] = float((chosen == labels).float().mean())
            if data.end_action is not None:
                end = labels == data.end_action
                says_end = chosen == data.end_action
                result["end_recall"] = float(says_end[end].float().mean()) if end.any() else 0.0
                result["end_false"] = float(says_end[~end].float().mean())
        if output.aux is not None:
            target = torch.from_numpy(data.aux[frames]).to(self.device)
            spread = target.var(0, unbiased=False)
            error = (output.aux[0] - target).square().mean(0)
            seen = spread > 1e-6
            result["aux_r2"] = float((1 - error[seen] / spread[seen]).mean()) if seen.any() else 0.0
        return result

    # ------------------------------------------------------------------ run

    def run(self, progress: bool | Progress = False) -> dict[str, Any]:
        """Train to the end, or go on from the last checkpoint, and write the checkpoint folder."""
        config = self.config
        with torch_threads(config.threads):
            self._resume()
            self.policy.train()
            smoothed = float("nan")
            with progress_bar(progress, "cloning", config.updates, self.update) as report:
                while self.update < config.updates:
                    started = time.perf_counter()
                    loss = self._step()
                    smoothed = loss if smoothed != smoothed else 0.98 * smoothed + 0.02 * loss
                    last = self.update == config.updates
                    if last or self.update % config.eval_every == 0:
                        self.history.append({"update": self.update, "loss": smoothed})
                        self.history[-1].update(self.evaluate())
                    self.seconds += time.perf_counter() - started
                    if last or self.update % config.checkpoint_every == 0:
                        self._checkpoint()
                    accuracy = self.history[-1].get("accuracy") if self.history else None
                    shown = "" if accuracy is None else f", held-out accuracy {accuracy:.3f}"
                    report(text=f"(loss {smoothed:.3f}{shown})")
        summary = self._summary()
        write_json(self.out / SUMMARY_FILE, summary)
        return summary

    def _summary(self) -> dict[str, Any]:
        seen = self.update * self.config.batch * self.config.chunk
        return {
            "updates": self.update,
            "parameters": sum(p.numel() for p in self.policy.parameters()),
            "frames": len(self.data),
            "training_frames": self.sampler.total,
            "epochs": self.update / self.sampler.updates_per_epoch,
            **{k: v for k, v in self.history[-1].items() if k != "update"},
            "history": self.history,
            "seconds": self.seconds,
            "samples_per_second": seen / max(self.seconds, 1e-9),
        }

    # ------------------------------------------------------------------ checkpoints

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must have in common with this run to be continued."""
        described = json.dumps(self.data.info, sort_keys=True).encode()
        content = described + self.data.action.tobytes() + self.data.state.tobytes()
        settings = plain(self.config)
        for name in ("threads", "checkpoint_every", "device"):
            settings.pop(name)
        return settings | {"demonstrations": hashlib.sha256(content).hexdigest()}

    def _checkpoint(self) -> None:
        """Write the policy folder, then everything needed to go on as one file."""
        save_policy(self.policy, self.processor, self.out)
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.policy.named_parameters():
            tensors[f"model.{name}"] = parameter.detach().cpu().contiguous()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{key}.{name}"] = value.detach().cpu().contiguous()
        for name, buffer in self.policy.named_buffers():
            if f"model.{name}" not in tensors and name in self.policy.state_dict():
                tensors[f"model.{name}"] = buffer.cpu().contiguous()
        progress = {"update": self.update, "seconds": self.seconds, "history": self.history}
        metadata = {"identity": json.dumps(self._identity()), "progress": json.dumps(progress)}
        with replaced_file(self.out / STATE_FILE) as scratch:
            save_file(tensors, scratch, metadata=metadata)

    def _resume(self) -> None:
        """Take over the last checkpoint's state, if there is one."""
        path = self.out / STATE_FILE
        if not path.is_file():
            return
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        theirs, ours = json.loads(metadata["identity"]), self._identity()
        for name in ours:
            if theirs.get(name) != ours[name]:
                raise ValueError(
                    f"{path}: made with {name}={theirs.get(name)!r}, not {ours[name]!r}; "
                    "give another folder or the same settings"
                )
        names = [name for name in tensors if name.startswith("model.")]
        self.policy.load_state_dict({n.removeprefix("model."): tensors[n] for n in names})
        for name, parameter in self.policy.named_parameters():
            moments = {k: tensors[f"{k}.{name}"] for k in MOMENTS if f"{k}.{name}" in tensors}
            if moments:
                self.optimizer.state[parameter] = {
                    k: v if k == "step" and self.device.type == "cpu" else v.to(self.device)
                    for k, v in moments.items()
                }
        progress = json.loads(metadata["progress"])
        self.update, self.seconds = progress["update"], progress["seconds"]
        self.history = progress["history"]


def clone(
    demos_dir: str | Path,
    out_dir: str | Path,
    config: BCConfig | None = None,
    *,
    progress: bool | Progress = False,
) -> dict[str, Any]:
    """Clone the demonstrations of a folder into a checkpoint folder.

    Called again after an interruption, with the same settings, it goes on from the last checkpoint
    and ends with the weights an uninterrupted run would have had.

    Args:
        demos_dir: folder written by :func:`safevla.demos.collect`.
        out_dir: checkpoint folder to write; `training/` inside holds the optimiser while it runs.
        config: settings; None takes the defaults.
        progress: draw a progress bar (or one more task in a given `Progress`).

    Returns:
        Summary: updates, parameters, frames, held-out accuracy, cross-entropy, entropy and R2 of
        the auxiliary head, `history` of evaluations, seconds, samples per second.

    Raises:
        ValueError: no demonstrations in the folder, too few of them, or a checkpoint of other
            settings in `out_dir`.
    """
    return Cloning(demos_dir, out_dir, config or BCConfig()).run(progress)
