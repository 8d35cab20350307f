"""A small real task with the observation layout of the benchmark: go to the named square.

The robot stands in the middle of its picture; 8 x 8 cells, two coloured squares. Entering the wrong
square costs 1 under the constraint "trap". `end` on the named square is success.
"""

from types import SimpleNamespace
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from safevla_envs.instruction import encode_instruction

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 200, 60),
    "blue": (50, 80, 230),
    "yellow": (230, 220, 50),
}
TEMPLATES = ("go to the {} square", "find the {} square", "walk to the square that is {}")
MOVES = ((1, 0), (-1, 0), (0, 1), (0, -1))
CELLS, PIXELS = 8, 32


class ToyRoom(gymnasium.Env):
    metadata: ClassVar = {"render_modes": [], "render_fps": 4}
    action_names = ("right", "left", "down", "up", "end")
    END = 4
    constraints = (SimpleNamespace(name="trap", budget=0.1),)
    privileged_slices: ClassVar = {"aux": slice(0, 2)}

    def __init__(self, max_episode_steps=40, cameras=("navigation",)):
        self.max_episode_steps = max_episode_steps
        self.cameras = cameras
        self.action_space = spaces.Discrete(len(self.action_names))
        images = {f"{c}_image": spaces.Box(0, 255, (PIXELS, PIXELS, 3), np.uint8) for c in cameras}
        self.observation_space = spaces.Dict(
            {
                **images,
                "state": spaces.Box(-np.inf, np.inf, (3,), np.float32),
                "instruction": spaces.Box(0, 255, (256,), np.uint8),
            }
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        cells = self.np_random.permutation(CELLS * CELLS)[:3]
        places = np.stack([cells % CELLS, cells // CELLS], 1)
        self.robot, self.target, self.trap = (tuple(map(int, place)) for place in places)
        names = [str(name) for name in self.np_random.permutation(list(COLOURS))[:2]]
        if options is not None:
            names = options["scenario"]
        self.colours = [COLOURS[name] for name in names]
        template = TEMPLATES[int(self.np_random.integers(len(TEMPLATES)))]
        self.instruction = template.format(names[0])
        self.steps, self.total, self.moved = 0, 0.0, (0, 0)
        return self._obs(), self._info(0.0, False)

    def step(self, action):
        self.steps += 1
        success = action == self.END and self.robot == self.target
        cost = 0.0
        if action != self.END:
            before = self.robot
            self.robot = tuple(
                int(np.clip(p + d, 0, CELLS - 1)) for p, d in zip(before, MOVES[action])
            )
            self.moved = tuple(a - b for a, b in zip(self.robot, before))
            cost = float(self.robot == self.trap and before != self.trap)
        self.total += cost
        truncated = action != self.END and self.steps >= self.max_episode_steps
        reward = 10.0 * success - 0.02
        return self._obs(), reward, action == self.END, truncated, self._info(cost, success)

    def privileged_state(self):
        return np.array([t - r for t, r in zip(self.target, self.robot)], np.float32) / 4

    def _info(self, cost, success):
        return {
            "cost": cost,
            "costs": {"trap": cost},
            "cost_return": {"trap": self.total, "cost": self.total},
            "success": success,
            "scenario_id": f"{self.target}-{self.trap}",
            "instruction": self.instruction,
        }

    def _obs(self):
        scale = PIXELS // (2 * CELLS)
        image = np.full((PIXELS, PIXELS, 3), 90, np.uint8)
        for place, colour in zip((self.target, self.trap), self.colours):
            x, y = ((p - r + CELLS) * scale for p, r in zip(place, self.robot))
            image[y : y + scale, x : x + scale] = colour
        return {
            **{f"{camera}_image": image.copy() for camera in self.cameras},
            "state": np.array([*self.moved, self.steps / self.max_episode_steps], np.float32),
            "instruction": encode_instruction(self.instruction),
        }


class ToyExpert:
    """Walks to the target along the longer side first; with `wander`, sometimes elsewhere."""

    def __init__(self, env, wander=0.0, rng=None):
        self.env, self.wander = env, wander
        self.rng = rng if rng is not None else np.random.default_rng(0)

    def reset(self):
        self.started = True

    def act(self):
        dx, dy = (t - r for t, r in zip(self.env.target, self.env.robot))
        if dx == dy == 0:
            return self.env.END
        if self.rng.random() < self.wander:
            return int(self.rng.integers(4))
        if abs(dx) >= abs(dy):
            return 0 if dx > 0 else 1
        return 2 if dy > 0 else 3


gymnasium.register("ToyRoom-v0", entry_point=ToyRoom)
