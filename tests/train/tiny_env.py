"""A small constrained task whose answer is known: the short way crosses a costly strip.

    S . # . .      S: start (one of the two, at random), G: goal, #: strip, cost 1 on entering
    S . # . G
    . . . . .

The short way takes 4 or 5 moves and crosses the strip once; the way round takes 6 or 7 and costs
nothing. So without a constraint the best policy has cost 1 and mean length 4.5, and with a budget
below 1 and a large enough multiplier cost 0 and mean length 6.5. Bumping into the border is a
second constraint. The instruction names the goal's colour, which is also drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from safevla_envs.instruction import encode_instruction

ENV_ID = "TinyCrossing-v0"
MOVES = ((0, 1), (0, -1), (1, 0), (-1, 0))
STARTS, GOAL = ((0, 0), (1, 0)), (1, 4)
STRIP = {(0, 2), (1, 2)}
ROWS, COLUMNS = 3, 5
COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}
SIZE, CELL = 32, 6


@dataclass(frozen=True)
class Limit:
    name: str
    budget: float


class TinyCrossing(gymnasium.Env):
    constraints = (Limit("strip", 0.2), Limit("border", 0.5))
    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, max_steps: int = 16, diverge_at: int | None = None, render_mode=None):
        self.render_mode = render_mode
        self.max_steps, self.diverge_at = max_steps, diverge_at
        self.action_space = spaces.Discrete(4)
        self.observation_space = spaces.Dict(
            navigation_image=spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8),
            state=spaces.Box(-np.inf, np.inf, (2,), np.float32),
            instruction=spaces.Box(0, 255, (256,), np.uint8),
        )
        self.background = np.full((ROWS, COLUMNS, 3), 60, np.uint8)
        for cell in STRIP:
            self.background[cell] = (120, 90, 0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.cell = STARTS[int(self.np_random.integers(len(STARTS)))]
        colour = tuple(COLOURS)[int(self.np_random.integers(len(COLOURS)))]
        self.colour = (options or {}).get("scenario", colour)
        self.moved, self.steps = (0, 0), 0
        return self._obs(), self._info(0.0, 0.0, False)

    def step(self, action):
        row, column = np.add(self.cell, MOVES[int(action)])
        inside = 0 <= row < ROWS and 0 <= column < COLUMNS
        before = self.cell
        self.cell = (int(row), int(column)) if inside else self.cell
        self.moved = tuple(np.subtract(self.cell, before))
        self.steps += 1
        success = terminated = self.cell == GOAL
        info = self._info(float(inside and self.cell in STRIP), float(not inside), success)
        truncated = not terminated and self.steps >= self.max_steps
        if self.steps == self.diverge_at:
            info["sim_error"], terminated, truncated = "diverged", False, True
        return self._obs(), 10.0 * success, terminated, truncated, info

    def privileged_state(self) -> np.ndarray:
        at = np.zeros((ROWS, COLUMNS), np.float32)
        at[self.cell] = 1.0
        return np.concatenate([at.ravel(), np.float32([self.steps / self.max_steps])])

    def _obs(self) -> dict[str, np.ndarray]:
        cells = self.background.copy()
        cells[GOAL] = COLOURS[self.colour]
        cells[self.cell] = 255
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        image[: ROWS * CELL, : COLUMNS * CELL] = cells.repeat(CELL, 0).repeat(CELL, 1)
        return {
            "navigation_image": image,
            "state": np.array(self.moved, np.float32),
            "instruction": encode_instruction(f"go to the {self.colour} square"),
        }

    def _info(self, strip: float, border: float, success: bool) -> dict[str, Any]:
        costs = {"strip": strip, "border": border}
        return {"cost": strip + border, "costs": costs, "success": success, "is_success": success}


if ENV_ID not in gymnasium.registry:
    gymnasium.register(ENV_ID, entry_point=TinyCrossing)


def tiny_policy(seed: int = 0, **fields: Any) -> tuple[Any, Any]:
    """A policy of a few thousand parameters and its processor."""
    import torch  # here, so that worker processes start fast

    from safevla.policy import SafeVLAConfig, SafeVLAProcessor, build_policy

    states = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)
    texts = [f"go to the {name} square" for name in COLOURS]
    processor = SafeVLAProcessor.fit(
        cameras=["navigation"], image_size=SIZE, instructions=texts, states=states, max_tokens=6
    )
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"film_channels": (8, 8, 8), "d_model": 32, "n_heads": 2, "n_layers": 1}
    sizes |= {"n_actions": 4, "constraint_names": ("strip", "border")}
    sizes |= {"history": 4, "text_dim": 16, "aux_dim": 0}
    config = SafeVLAConfig(
        cameras=("navigation",),
        image_size=SIZE,
        state_dim=2,
        text_vocab_size=len(processor.vocabulary),
        text_max_tokens=6,
        **(sizes | fields),
    )
    return build_policy(config), processor
