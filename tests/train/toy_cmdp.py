"""Constrained problems without a simulator whose best policy and multipliers are known."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces


class Arms(gymnasium.Env):
    """A bandit in which an episode is one pull; costs by name, or one unnamed number.

    The best policy mixes the arms next to the budget on the frontier of reward against cost, and
    the multiplier is the frontier's slope there.
    """

    def __init__(self, rewards, **costs):
        self.rewards, self.costs = rewards, costs
        self.action_space = spaces.Discrete(len(rewards))
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        costs = {name: values[action] for name, values in self.costs.items()}
        info = costs if list(costs) == ["cost"] else {"costs": costs}
        return np.zeros(1, np.float32), self.rewards[action], True, False, info


class Point(gymnasium.Env):
    """A point moves in the plane for ten actions in [-1, 1] per axis, then the time is up.

    The reward of an action is sum(2 a - a²), the costs are |a_x| and |a_y|. Without budgets the
    best action is (1, 1), at cost 10 on each axis; with budgets b it is b / 10, and the multiplier
    that makes it the best is the derivative of the reward there, 2 - 2 b / 10.
    """

    def __init__(self, seen="vector"):
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        clock = spaces.Box(0.0, 1.0, (1,), np.float32)
        self.seen = seen
        self.observation_space = box if seen == "vector" else spaces.Dict(at=box, clock=clock)

    def _observed(self):
        at = np.float32(self.at) / 10
        return at if self.seen == "vector" else {"at": at, "clock": np.float32([self.steps / 10])}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.steps = np.zeros(2), 0
        return self._observed(), {}

    def step(self, action):
        self.at, self.steps = self.at + action, self.steps + 1
        x, y = map(float, np.abs(action))
        info = {"costs": {"x": x, "y": y}}
        return (
            self._observed(),
            float((2 * action - action**2).sum()),
            False,
            self.steps == 10,
            info,
        )
