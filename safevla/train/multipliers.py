"""Lagrange multipliers: one number per constraint, moved by the cost of completed episodes.

The signal is the undiscounted cost of whole episodes, never the cost of a rollout window, and it is
compared with a budget per episode. The learner records each episode as it ends and calls `update`
once per iteration, or `discard` while only the critics learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from safevla.train.episodes import TOTAL
from safevla.train.settings import MultiplierConfig

__all__ = ["Multipliers"]

_LOG_FLOOR = 1e-6  # the log rule cannot leave 0, so it stops this far above


class Multipliers:
    """K multipliers with their budgets and update rule.

    Args:
        names: Constraint names, in the order of the cost vector.
        budgets: Budget per name. `config.budgets` takes precedence.
        config: Rule, rates and starting values.

    Attributes:
        names: Constraint names.
        budgets: float64 (K,), in cost per episode (or share of episodes for `violation_rate`).
        value: float64 (K,), the multipliers.
        last_cost: float64 (K,), the mean that moved the multipliers last (NaN before the first).

    Raises:
        ValueError: A name in the configuration is unknown, a budget is missing, the log rule is to
            start at 0, or the relative rule has a budget of 0.

    Example:
        >>> m = Multipliers(["impact"], {"impact": 0.5}, MultiplierConfig(initial=1.0, rate=0.1))
        >>> m.record({"impact": 2.0})
        >>> m.update()
        True
        >>> m.as_dict()
        {'impact': 1.15}
    """

    def __init__(
        self, names: Sequence[str], budgets: Mapping[str, float], config: MultiplierConfig
    ):
        self.names = tuple(names)
        self.config = config
        for field in ("budgets", "initial_by_name", "violation_rate"):
            for name in getattr(config, field):
                if name not in self.names:
                    raise ValueError(
                        f"multipliers.{field} names {name!r}; the constraints are"
                        f" {', '.join(self.names)}"
                    )
        merged = {**budgets, **config.budgets}
        missing = [name for name in self.names if name not in merged]
        if missing and config.rule not in ("zero", "fixed"):
            raise ValueError(f"multipliers.budgets has no budget for {', '.join(missing)}")
        self.budgets = np.array([merged.get(name, np.nan) for name in self.names], np.float64)
        self.is_rate = np.array([name in config.violation_rate for name in self.names], bool)
        start = [config.initial_by_name.get(name, config.initial) for name in self.names]
        self.value = np.array(start, np.float64)
        if config.rule == "zero":
            self.value[:] = 0.0
        if config.rule == "log" and self.value.min() <= 0:
            raise ValueError(
                f"multipliers.initial is {self.value.min()}; the log rule must start above 0"
            )
        if config.rule == "relative" and self.budgets.min() <= 0:
            raise ValueError(
                f"multipliers.budgets has a budget of {self.budgets.min()}; the relative rule"
                " divides by budgets, so they must be above 0"
            )
        self.last_cost = np.full(len(self.names), np.nan)
        self._integral = self.value.copy()  # of the PID rule, already multiplied by ki
        self._previous: np.ndarray | None = None
        self._pending: list[np.ndarray] = []

    @classmethod
    def of(cls, constraints: Mapping[str, float], config: MultiplierConfig) -> Self:
        """Returns multipliers for constraints with these budgets, or for the total cost.

        Which of the two, `config.signal` says.
        """
        budgets = {TOTAL: config.total_budget} if config.signal == "total" else constraints
        return cls(list(budgets), budgets, config)

    def __len__(self) -> int:
        return len(self.names)

    def record(self, costs: Mapping[str, float] | np.ndarray) -> None:
        """Note one completed episode: the undiscounted sum of each cost, by name or as (K,)."""
        if isinstance(costs, Mapping):
            costs = np.array([costs[name] for name in self.names])
        costs = np.asarray(costs, np.float64)
        if costs.shape != self.value.shape or not np.isfinite(costs).all():
            raise ValueError(
                f"episode costs are {costs}; they must be {len(self)} finite numbers"
                f" ({', '.join(self.names)})"
            )
        self._pending.append(np.where(self.is_rate, costs > 0, costs))

    def discard(self) -> None:
        """Forget the episodes recorded since the last update; nothing moves."""
        self._pending.clear()

    def update(self, success: float = 1.0) -> bool:
        """Move the multipliers by the mean cost of the episodes recorded since the last update.

        Args:
            success: Share of these episodes that succeeded; below `config.least_success` no
                multiplier grows.

        Returns:
            Whether any episode was recorded. If not, nothing moves.
        """
        if not self._pending:
            return False
        self.last_cost = np.mean(self._pending, axis=0)
        self._pending.clear()
        if self.config.rule not in ("zero", "fixed"):
            error = self.last_cost - self.budgets
            step = np.where(error < 0, self.config.fall_factor, 1.0) * error
            before, integral = self.value, self._integral
            move = getattr(self, f"_{self.config.rule}")
            self.value = np.clip(move(error, step), 0.0, self.config.maximum)
            if success < self.config.least_success:
                self.value = np.minimum(self.value, before)
                self._integral = np.minimum(self._integral, integral)
        return True

    def _projected(self, error: np.ndarray, step: np.ndarray) -> np.ndarray:
        return self.value + self.config.rate * step

    def _relative(self, error: np.ndarray, step: np.ndarray) -> np.ndarray:
        return self._projected(error, step / self.budgets)

    def _log(self, error: np.ndarray, step: np.ndarray) -> np.ndarray:
        # ascent on log lambda of lambda * (J - d), whose derivative is lambda * (J - d)
        exponent = np.minimum(self.config.rate * self.value * step, 50.0)
        return np.maximum(self.value * np.exp(exponent), _LOG_FLOOR)

    def _pid(self, error: np.ndarray, step: np.ndarray) -> np.ndarray:
        # positional form; the integral is kept inside [0, maximum] against wind-up
        c = self.config
        self._integral = np.clip(self._integral + c.ki * step, 0.0, c.maximum)
        rise = np.maximum(error - (0.0 if self._previous is None else self._previous), 0.0)
        self._previous = error
        return c.kp * error + self._integral + c.kd * rise

    def as_dict(self) -> dict[str, float]:
        """The multipliers by constraint name."""
        return {name: float(value) for name, value in zip(self.names, self.value)}

    def state_dict(self) -> dict[str, Any]:
        """Everything `load_state_dict` needs, as plain JSON values."""
        return {
            "rule": self.config.rule,
            "names": list(self.names),
            "value": self.value.tolist(),
            "integral": self._integral.tolist(),
            "previous": None if self._previous is None else self._previous.tolist(),
            "last_cost": self.last_cost.tolist(),
            "pending": [row.tolist() for row in self._pending],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            ValueError: The state belongs to other constraints or another rule.
        """
        for key, own in (("names", list(self.names)), ("rule", self.config.rule)):
            if state[key] != own:
                raise ValueError(
                    f"multipliers: the saved {key} is {state[key]!r}; this run has {own!r}"
                )
        self.value = np.array(state["value"], np.float64)
        self._integral = np.array(state["integral"], np.float64)
        previous = state["previous"]
        self._previous = None if previous is None else np.array(previous, np.float64)
        self.last_cost = np.array(state["last_cost"], np.float64)  # null becomes NaN
        self._pending = [np.array(row, np.float64) for row in state["pending"]]
