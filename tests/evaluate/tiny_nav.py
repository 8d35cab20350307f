"""A real Gymnasium environment, small enough to read, with the observation and info layout of
SafeVLA's: a dot on a plane that must stop near a post and is charged for entering a square."""

import dataclasses
import hashlib
import json
import types

import gymnasium
import numpy as np
from gymnasium import spaces

ACTIONS = ("forward", "back", "left", "right", "sub_done", "end")
MOVES = np.array([[0.2, 0], [-0.2, 0], [0, 0.2], [0, -0.2], [0, 0]])


@dataclasses.dataclass(frozen=True, kw_only=True)
class TinyScenario:
    target: tuple[float, float]
    hazard: tuple[float, float]
    target_category: str = "mug"
    present_categories: tuple[str, ...] = ("floor_lamp", "mug", "potted_plant")
    instruction: str = "find the mug"
    diverges: bool = False

    @property
    def named(self):
        return self.target_category

    @property
    def scenario_id(self):
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self):
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def scenarios(n):
    rng = np.random.default_rng(0)
    return [
        TinyScenario(
            target=(float(rng.uniform(0.6, 1.4)), 0.0), hazard=(float(rng.uniform(0.2, 0.5)), 0.0)
        )
        for _ in range(n)
    ]


def encode(text):
    raw = text.encode()[:256]
    return np.frombuffer(raw + bytes(256 - len(raw)), dtype=np.uint8).copy()


class TinyNav(gymnasium.Env):
    action_names = ACTIONS
    SUB_DONE = 4
    END = 5
    action_mode = "discrete"

    def __init__(self, max_episode_steps=12, max_seconds=100.0, image_size=16, broken_at=None):
        self.max_episode_steps = max_episode_steps
        self.max_seconds = max_seconds
        self.broken_at = broken_at
        self.size = image_size
        self.action_space = spaces.Discrete(len(ACTIONS))
        self.observation_space = spaces.Dict(
            navigation_image=spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
            state=spaces.Box(-np.inf, np.inf, (3,), np.float32),
            instruction=spaces.Box(0, 255, (256,), np.uint8),
        )
        self.scenario = scenarios(1)[0]

    @property
    def sim(self):
        return types.SimpleNamespace(base_pose=np.array([*self.xy, 0.0]))

    @property
    def seconds(self):
        return 0.5 * self.steps

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.scenario = (options or {}).get("scenario", self.scenario)
        self.xy = np.zeros(2) + self.np_random.uniform(-0.01, 0.01, 2)
        self.steps = 0
        self.inside = False
        self.onset = 0.0
        self.sums = {"corner": 0.0, "impact": 0.0, "cost": 0.0}
        return self._obs(), self._info(0.0, False)

    def step(self, action):
        if self.broken_at is not None and self.steps == self.broken_at:
            raise RuntimeError("the motor is on fire")
        self.steps += 1
        if action != self.END:
            noise = self.np_random.uniform(-0.01, 0.01, 2)  # depends on the env's own generator
            self.xy = self.xy + MOVES[action] + noise
        inside = bool(np.abs(self.xy - self.scenario.hazard).max() < 0.12)
        cost, self.inside = float(inside and not self.inside), inside
        self.onset = self.seconds if cost else self.onset
        self.sums["corner"] += cost
        self.sums["cost"] += cost
        done = bool(action == self.END)
        success = done and bool(np.linalg.norm(self.xy - self.scenario.target) < 0.35)
        info = self._info(cost, success)
        diverged = self.scenario.diverges and self.steps == 2
        if diverged:
            self.xy = np.full(2, np.nan)
            info["sim_error"] = "BADQACC at 0.7 s"
        late = self.steps >= self.max_episode_steps or self.seconds >= self.max_seconds
        obs = self._obs() if not diverged else {k: np.zeros_like(v) for k, v in self._obs().items()}
        return obs, 10.0 * success, done, diverged or (late and not done), info

    def render_frame(self, camera="navigation", width=480, height=360):
        frame = np.full((height, width, 3), 235, np.uint8)
        x, y = (np.clip(self.xy, -0.9, 1.9) + 1) / 3
        row, column = int(y * height), int(x * width)
        colour = (40, 90, 160) if camera == "navigation" else (160, 90, 40)
        frame[max(0, row - 9) : row + 9, max(0, column - 9) : column + 9] = colour
        return frame

    def _obs(self):
        image = np.zeros((self.size, self.size, 3), np.uint8)
        ramp = np.linspace(20, 220, self.size).astype(np.uint8)
        image[..., 0] = ramp[None]
        image[..., 1] = ramp[:, None]
        image[..., 2] = int(np.nan_to_num(np.clip(128 + 60 * self.xy[0], 0, 255)))
        return {
            "navigation_image": image,
            "state": np.array([*self.xy, self.steps], np.float32),
            "instruction": encode(self.scenario.instruction),
        }

    def _info(self, cost, success):
        event = {
            "constraint": "corner",
            "partner": "square",
            "onset_time": self.onset,
            "duration": self.seconds - self.onset,
            "severity": "minor",
            "charged": cost,
            "opened": bool(cost),
        }
        return {
            "cost": cost,
            "costs": {"corner": cost, "impact": 0.0},
            "cost_return": dict(self.sums),
            "severity": {"corner": "minor" if self.sums["corner"] else None, "impact": None},
            "cost_events": [event] if self.inside else [],
            "success": success,
            "is_success": success,
            "scenario_id": self.scenario.scenario_id,
            "cost_semantics": "1",
            "instruction": self.scenario.instruction,
            "seconds": self.seconds,
        }


gymnasium.register("Tiny/Nav-v0", entry_point="tiny_nav:TinyNav")
