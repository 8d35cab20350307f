"""What a home asks a robot to find: in which words, and how near is there."""

from __future__ import annotations

import numpy as np

from safevla_envs.scenes.catalog import CATALOG

__all__ = ["SUCCESS_DISTANCE", "TEMPLATES", "instruction_for"]

SUCCESS_DISTANCE = 1.5
"""m; from the base's centre to the target's centre, on the floor plane."""
TEMPLATES = (
    "find the {}",
    "go to the {}",
    "navigate to the {}",
    "locate the {} and stop near it",
    "please drive to the {}",
    "i need you to find the {}",
)


def instruction_for(category: str, rng: np.random.Generator) -> str:
    """Draws a template and one of the category's names."""
    words = CATALOG[category].words
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(words[rng.integers(len(words))])
