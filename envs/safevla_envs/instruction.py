"""Instruction text as a fixed-size byte array: survives shared memory and Stable-Baselines3."""

from __future__ import annotations

import numpy as np

__all__ = ["INSTRUCTION_BYTES", "decode_instruction", "encode_instruction"]

INSTRUCTION_BYTES = 256


def encode_instruction(text: str) -> np.ndarray:
    """Encodes text as zero-padded UTF-8, uint8 of shape (256,).

    Raises:
        ValueError: if the text takes more than 256 bytes or holds a NUL character.
    """
    data = text.encode("utf-8")
    if len(data) > INSTRUCTION_BYTES or b"\0" in data:
        raise ValueError(
            f"instruction of {len(data)} bytes: at most {INSTRUCTION_BYTES} of UTF-8 without NUL"
        )
    array = np.zeros(INSTRUCTION_BYTES, np.uint8)
    array[: len(data)] = np.frombuffer(data, np.uint8)
    return array


def decode_instruction(array: np.ndarray) -> str:
    """Decodes what `encode_instruction` made, uint8 of shape (256,)."""
    return bytes(np.asarray(array, np.uint8)).rstrip(b"\0").decode("utf-8", errors="replace")
