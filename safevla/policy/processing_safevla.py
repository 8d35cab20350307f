"""From environment observations to the policy's tensors; saved with every checkpoint."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safevla.errors import CheckpointError
from safevla.files import write_json
from safevla_envs.instruction import decode_instruction
from safevla_envs.proprioception import state_vector

PROCESSOR_FILE = "processor_config.json"
FORMAT = 1
STATE_LIMIT = 10.0
SPECIAL_WORDS = ("<pad>", "<unknown>")
_WORD = re.compile(r"\w+|[^\w\s]")


def split_words(text: str) -> list[str]:
    """Lower-case words and punctuation marks of an instruction.

    >>> split_words("Find the mug, please.")
    ['find', 'the', 'mug', ',', 'please', '.']
    """
    return _WORD.findall(text.lower())


def read_part(path: Path) -> dict[str, Any]:
    """Reads a JSON object of a checkpoint, or raises :class:`CheckpointError` naming the file."""
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


class SafeVLAProcessor:
    """Stacks camera images, normalises the state and turns instructions into tokens.

    Args:
        cameras: camera names, in the order in which the policy expects their images.
        image_size: height and width the images must have, in pixels.
        vocabulary: every word known; the first two must be those of `SPECIAL_WORDS`. A word outside
            it becomes `<unknown>`.
        max_tokens: tokens L per instruction; longer ones are cut.
        state_mean: mean of each entry of the state.
        state_std: standard deviation of each entry, above 0.
    """

    def __init__(
        self,
        *,
        cameras: Sequence[str],
        image_size: int,
        vocabulary: Sequence[str],
        max_tokens: int,
        state_mean: Sequence[float],
        state_std: Sequence[float],
    ) -> None:
        if tuple(vocabulary[:2]) != SPECIAL_WORDS or len(set(vocabulary)) != len(vocabulary):
            raise ValueError(
                f"vocabulary={list(vocabulary[:2])!r}...: must start with {list(SPECIAL_WORDS)} "
                "and hold every word once"
            )
        if len(state_mean) != len(state_std):
            raise ValueError(
                f"state_std has {len(state_std)} entries: state_mean has {len(state_mean)}"
            )
        self.cameras = tuple(cameras)
        self.image_size = int(image_size)
        self.vocabulary = tuple(vocabulary)
        self.max_tokens = int(max_tokens)
        self.state_mean = np.asarray(state_mean, np.float32)
        self.state_std = np.asarray(state_std, np.float32)
        if not np.all(self.state_std > 0):
            raise ValueError(f"state_std={self.state_std.tolist()}: every entry must be above 0")
        self._index = {word: i for i, word in enumerate(self.vocabulary)}
        self._cache: dict[bytes, np.ndarray] = {}

    @classmethod
    def fit(
        cls,
        *,
        cameras: Sequence[str],
        image_size: int,
        instructions: Iterable[str],
        states: np.ndarray,
        max_tokens: int = 24,
    ) -> SafeVLAProcessor:
        """Build a processor from data.

        The words of the instructions become the vocabulary, most frequent first. Entries of the
        states (N, S) that do not vary keep a deviation of 1.
        """
        counts = Counter(word for text in instructions for word in split_words(text))
        words = sorted(counts, key=lambda word: (-counts[word], word))
        std = states.std(0, dtype=np.float64)
        return cls(
            cameras=cameras,
            image_size=image_size,
            vocabulary=(*SPECIAL_WORDS, *words),
            max_tokens=max_tokens,
            state_mean=states.mean(0, dtype=np.float64).tolist(),
            state_std=np.where(std > 1e-3, std, 1.0).tolist(),
        )

    def tokenize(self, text: str) -> np.ndarray:
        """Token ids of one instruction, int64 (L,), padded with 0."""
        tokens = np.zeros(self.max_tokens, np.int64)
        words = split_words(text)[: self.max_tokens]
        tokens[: len(words)] = [self._index.get(word, 1) for word in words]
        return tokens

    def tokens(self, instructions: np.ndarray | Sequence[str]) -> Tensor:
        """Token ids of instructions given as uint8 (B, 256) or as strings; long (B, L)."""
        rows = []
        for item in instructions:
            key = item.encode() if isinstance(item, str) else item.tobytes()
            if key not in self._cache:
                if len(self._cache) > 4096:
                    self._cache.clear()
                text = item if isinstance(item, str) else decode_instruction(item)
                self._cache[key] = self.tokenize(text)
            rows.append(self._cache[key])
        return torch.from_numpy(np.stack(rows))

    def normalise(self, states: np.ndarray) -> np.ndarray:
        """Centre and scale states (..., S), cut at ten deviations; float32."""
        scaled = (np.asarray(states, np.float32) - self.state_mean) / self.state_std
        return np.clip(scaled, -STATE_LIMIT, STATE_LIMIT)

    def __call__(self, obs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Turn stacked observations into the inputs of :meth:`VLAPolicy.encode`.

        Args:
            obs: `<camera>_image` uint8 (B, h, w, 3) for each camera, `state` and further sensors
                float (B, n), together S entries (`state_vector`), `instruction` uint8 (B, 256).

        Returns:
            images uint8 (B, N_cam, h, w, 3), state float32 (B, S), tokens long (B, L), token_mask
            bool (B, L).

        Raises:
            ValueError: an entry is missing or has another shape than the checkpoint was made for.
        """
        images = []
        for camera in self.cameras:
            key = f"{camera}_image"
            if key not in obs:
                raise ValueError(
                    f"observation has no {key!r}: this policy needs it, got {sorted(obs)}"
                )
            image = np.asarray(obs[key])
            if image.ndim != 4 or image.shape[1:] != (self.image_size, self.image_size, 3):
                raise ValueError(
                    f"{key} has shape {image.shape}: this policy needs "
                    f"(B, {self.image_size}, {self.image_size}, 3)"
                )
            images.append(image)
        state = state_vector(obs)
        if state.shape[-1] != len(self.state_mean):
            raise ValueError(
                f"state has {state.shape[-1]} entries: this policy needs {len(self.state_mean)}"
            )
        tokens = self.tokens(obs["instruction"])
        return {
            "images": torch.from_numpy(np.stack(images, 1)),
            "state": torch.from_numpy(self.normalise(state)),
            "tokens": tokens,
            "token_mask": tokens != 0,
        }

    def save(self, folder: str | Path) -> None:
        """Write `processor_config.json` into a folder."""
        content = {
            "format": FORMAT,
            "cameras": list(self.cameras),
            "image_size": self.image_size,
            "vocabulary": list(self.vocabulary),
            "max_tokens": self.max_tokens,
            "state_mean": self.state_mean.tolist(),
            "state_std": self.state_std.tolist(),
        }
        write_json(Path(folder) / PROCESSOR_FILE, content)

    @classmethod
    def load(cls, folder: str | Path) -> SafeVLAProcessor:
        """Read `processor_config.json` from a folder.

        Raises:
            CheckpointError: the file is missing or not what this version writes.
        """
        path = Path(folder) / PROCESSOR_FILE
        content = read_part(path)
        if content.pop("format", None) != FORMAT:
            raise CheckpointError(f"{path}: expected format {FORMAT}")
        try:
            return cls(**content)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: expected a valid processor ({error})") from None
