"""What cloning and PPO-Lagrangian are made of, as keyword-only dataclasses for OmegaConf.

Importing this module needs no torch. The defaults are the recipe for a tiny policy on a CPU. Every
value is checked when a configuration is built, so a wrong one stops before anything is made:

    >>> MultiplierConfig(rate=-1.0)
    Traceback (most recent call last):
    ValueError: multipliers.rate is -1.0; it must be at least 0
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

__all__ = [
    "BCConfig",
    "CriticConfig",
    "MultiplierConfig",
    "PPOConfig",
    "PolicyConfig",
    "RewardConfig",
    "TrainConfig",
    "train_config",
]

Rule = Literal["projected", "relative", "log", "pid", "fixed", "zero"]
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True, kw_only=True)
class MultiplierConfig:
    """How the Lagrange multipliers are set and moved.

    Attributes:
        rule: `projected` (gradient ascent clipped at 0), `relative` (the same, with the error as a
            share of the budget), `log` (gradient ascent on log lambda), `pid`, `fixed` (stays at
            `initial`: a penalty) or `zero` (task-only PPO).
        signal: `vector` has one multiplier per constraint on `info["costs"]`; `total` has one, on
            `info["cost"]` (one charge per incident) with `total_budget`.
        budgets: Budget per constraint name on the undiscounted sum of its cost over an episode.
            Names left out keep the budget that the environment declares.
        total_budget: Budget on the episode sum of `info["cost"]`; used when `signal="total"`.
        violation_rate: Names whose budget bounds the share of episodes with any cost instead of
            the mean cost. Their cost becomes 1 at the first violation of an episode, then 0.
        initial: Starting value of every multiplier.
        initial_by_name: Starting values that differ from `initial`.
        rate: Step size of `projected` and `log`, per unit of (cost - budget) and iteration; of
            `relative`, per multiple of the budget.
        fall_factor: Multiplies the step while the cost is below its budget (above 1: falls faster
            than it rises).
        maximum: Upper bound of every multiplier.
        least_success: No multiplier grows after an iteration in which a smaller share of episodes
            succeeded: a policy that fears what it cannot do yet freezes.
        kp: Proportional gain of `pid`.
        ki: Integral gain of `pid`.
        kd: Gain of `pid` on a rise of the cost.
    """

    rule: Rule = "projected"
    signal: Literal["vector", "total"] = "vector"
    budgets: dict[str, float] = field(default_factory=dict)
    total_budget: float = 0.35
    violation_rate: tuple[str, ...] = ()
    initial: float = 2.0
    initial_by_name: dict[str, float] = field(default_factory=dict)
    rate: float = 0.05
    fall_factor: float = 1.0
    maximum: float = 10.0
    least_success: float = 0.0
    kp: float = 0.05
    ki: float = 0.0005
    kd: float = 0.1

    def __post_init__(self) -> None:
        _one_of("multipliers.rule", self.rule, RULES)
        _one_of("multipliers.signal", self.signal, ("vector", "total"))
        _numbers(self, "multipliers", "total_budget rate fall_factor maximum kp ki kd")
        _numbers(self, "multipliers", "least_success", most=1)
        for name, value in self.budgets.items():
            _number(f"multipliers.budgets.{name}", value)
        for name, value in {"initial": self.initial, **self.initial_by_name}.items():
            _number(f"multipliers.{name}", value, most=self.maximum)


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """The value functions: one for the reward, one for each constraint.

    Attributes:
        kind: `privileged` trains two small networks on the simulator's state (never seen by the
            policy); `policy` trains the value heads of the VLA itself, inside the PPO loss.
        hidden: Widths of the hidden layers of the privileged networks.
        learning_rate: Adam's step size for the privileged networks.
        epochs: Passes over each rollout.
        warmup_epochs: Passes over a rollout of the warm-up.
        minibatch: Samples in a step.
        reward_scale: Reward returns are divided by this before they are learned.
        value_coef: Weight of the value losses in the PPO loss for `kind="policy"`.
    """

    kind: Literal["privileged", "policy"] = "privileged"
    hidden: tuple[int, ...] = (128, 128)
    learning_rate: float = 1e-3
    epochs: int = 8
    warmup_epochs: int = 20
    minibatch: int = 256
    reward_scale: float = 5.0
    value_coef: float = 0.5

    def __post_init__(self) -> None:
        _one_of("critic.kind", self.kind, ("privileged", "policy"))
        _numbers(self, "critic", "epochs warmup_epochs minibatch", least=1)
        _numbers(self, "critic", "learning_rate reward_scale", above=True)
        _numbers(self, "critic", "value_coef")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"critic.hidden is {self.hidden}; it needs widths of at least 1")


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """What the trainer adds to the environment's reward, and what it expects after an episode.

    Attributes:
        step_penalty: Subtracted at every step.
        wrong_end_penalty: Subtracted when an episode terminates (not: is truncated) without
            success, that is after a wrong `end`. Without it a large multiplier teaches to give up.
        timeout_penalty: Subtracted when an episode is cut by a limit.
        after_timeout: What reward follows a cut: `value` expects what the critic does, as if the
            limit were not part of the task; `nothing` makes waiting for it worthless.
        after_wrong_end: What cost follows a wrong `end`: `nothing`, so that giving up saves all
            cost to come; or `value`, what the critic expects from there.
    """

    step_penalty: float = 0.02
    wrong_end_penalty: float = 3.0
    timeout_penalty: float = 0.0
    after_timeout: Literal["value", "nothing"] = "value"
    after_wrong_end: Literal["value", "nothing"] = "nothing"

    def __post_init__(self) -> None:
        _numbers(self, "rewards", "step_penalty wrong_end_penalty timeout_penalty")
        for name in ("after_timeout", "after_wrong_end"):
            _one_of(f"rewards.{name}", getattr(self, name), ("value", "nothing"))


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """The policy update.

    Attributes:
        learning_rate: Adam's step size for the policy.
        learning_rate_decay: Share of it that is lost, evenly, from the first step to the last.
        weight_averaging: The trained policy has a running mean of the weights, which keeps this
            share at every iteration; 0 takes the last ones.
        clip: Range of the probability ratio.
        epochs: Most passes over a rollout.
        target_kl: The update stops at a minibatch whose KL estimate exceeds 1.5 times this.
        minibatch: Samples in a step.
        gamma: Discount of the reward.
        cost_gamma: Discount of the costs; None takes `gamma`. Budgets are on undiscounted sums.
        gae_lambda: Decay of the advantage estimates.
        entropy_coef: Weight of the entropy bonus.
        max_grad_norm: Gradients are scaled down to this norm.
        warmup_iterations: Iterations in which only critics learn: neither the policy nor a
            multiplier moves.
        advantage_scale: The mixed advantage is centred and divided by one number per rollout:
            `mixed` (its own standard deviation; the factor 1 / (1 + sum of multipliers) then
            cancels), `reward` (that of the reward's advantage, floored) or `none`.
        advantage_floor: Least standard deviation to divide by, in units of reward.
        freeze_perception: Keep vision and text fixed and learn from cached features.
        reference_kl: Weight of log pi/pi_ref, subtracted from the reward and added to every cost,
            where pi_ref is the policy that training started from.
        cloning_coef: Weight of the demonstrations' negative log-likelihood in the policy's loss.
    """

    learning_rate: float = 5e-4
    learning_rate_decay: float = 0.0
    weight_averaging: float = 0.0
    clip: float = 0.2
    epochs: int = 6
    target_kl: float = 0.03
    minibatch: int = 256
    gamma: float = 0.97
    cost_gamma: float | None = None
    gae_lambda: float = 0.95
    entropy_coef: float = 0.01
    max_grad_norm: float = 0.5
    warmup_iterations: int = 3
    advantage_scale: Literal["mixed", "reward", "none"] = "mixed"
    advantage_floor: float = 0.2
    freeze_perception: bool = True
    reference_kl: float = 0.0
    cloning_coef: float = 0.0

    def __post_init__(self) -> None:
        positive = "learning_rate clip target_kl max_grad_norm advantage_floor"
        _numbers(self, "ppo", positive, above=True)
        _numbers(self, "ppo", "epochs minibatch", least=1)
        _numbers(self, "ppo", "gamma cost_gamma gae_lambda learning_rate_decay", most=1)
        _numbers(self, "ppo", "weight_averaging", most=1, below=True)
        _numbers(self, "ppo", "entropy_coef warmup_iterations reference_kl cloning_coef")
        _one_of("ppo.advantage_scale", self.advantage_scale, ("mixed", "reward", "none"))
        for name in ("reference_kl", "cloning_coef"):
            if getattr(self, name) and not self.freeze_perception:
                raise ValueError(f"ppo.{name} is {getattr(self, name)}; it needs freeze_perception")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run.

    Attributes:
        total_steps: Environment actions, warm-up included; rounded up to whole rollouts.
        n_envs: Environments stepped together.
        n_steps: Actions of each environment in a rollout.
        workers: Worker processes for the environments; 0 steps them in this process.
        threads: Torch threads of the learner.
        seed: Seed of everything random in the run.
        extra_probability: Share of episodes that start from one of the extra scenarios, if any.
        checkpoint_every: Iterations between checkpoints. All environments begin new episodes
            there, so that a resumed run equals one that was never interrupted.
        candidates: Policies kept from the second half of training, evenly, the last one included;
            a pipeline hands on the best of them (`safevla.pipeline.selection`).
        device: `cpu`, `cuda`, `cuda:<index>`, or `auto` for a GPU where there is one.
    """

    total_steps: int = 65_536
    n_envs: int = 8
    n_steps: int = 128
    workers: int = 0
    threads: int = 1
    seed: int = 0
    extra_probability: float = 0.5
    checkpoint_every: int = 10
    candidates: int = 1
    device: str = "cpu"
    ppo: PPOConfig = field(default_factory=PPOConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    multipliers: MultiplierConfig = field(default_factory=MultiplierConfig)
    rewards: RewardConfig = field(default_factory=RewardConfig)

    def __post_init__(self) -> None:
        _numbers(
            self, "", "total_steps n_envs n_steps threads checkpoint_every candidates", least=1
        )
        _numbers(self, "", "seed")
        _numbers(self, "", "extra_probability", most=1)
        if self.device not in ("cpu", "cuda", "auto") and not (
            self.device.startswith("cuda:") and self.device[5:].isdigit()
        ):
            raise ValueError(
                f"device is {self.device!r}; it must be cpu, cuda, cuda:<index> or auto"
            )
        if not 0 <= self.workers <= self.n_envs or (self.workers and self.n_envs % self.workers):
            raise ValueError(
                f"workers is {self.workers}; it must be 0 or divide n_envs ({self.n_envs})"
            )


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Size of the policy to train; what the data fixes (cameras, actions, words) is not here.

    Attributes:
        vision_tower: "film", "siglip", "dinov2" or "pretrained".
        vision_name: folder or hub name of a pretrained tower.
        vision_config: fields of a transformers vision configuration.
        film_channels: channels of the FiLM blocks.
        film_cells: rows and columns of the coarse map that the FiLM tower reads out.
        history: frames H the decoder sees.
        d_model: width of the decoder.
        n_layers: decoder layers.
        n_heads: attention heads.
        text_dim: width of the text encoder.
        text_max_tokens: words per instruction.
    """

    vision_tower: str = "film"
    vision_name: str | None = None
    vision_config: dict[str, Any] = field(default_factory=dict)
    film_channels: tuple[int, ...] = (16, 32, 48)
    film_cells: tuple[int, ...] = (4, 4)
    history: int = 8
    d_model: int = 128
    n_layers: int = 2
    n_heads: int = 4
    text_dim: int = 64
    text_max_tokens: int = 24


@dataclass(frozen=True, kw_only=True)
class BCConfig:
    """Settings of behaviour cloning.

    Attributes:
        updates: gradient steps.
        batch: chunks per update; an update sees batch * chunk frames.
        chunk: consecutive frames per chunk. Each is encoded once; the loss is taken at every frame,
            with the window of up to H frames of the same episode that the chunk holds before it.
        lr: peak learning rate of AdamW.
        warmup: updates of linear warm-up; the rate then falls linearly to zero.
        weight_decay: of weight matrices.
        max_grad_norm: gradients are scaled down to this norm.
        label_smoothing: probability spread over the other moves where the expert moves; never onto
            the action that ends an episode, whose steps are not smoothed either.
        smoothing_share: moves that make up less than this share of the labels get no smoothing.
        aux_weight: weight of the auxiliary head's squared error; 0 with no such labels.
        history_dropout: share of chunk positions trained with the current frame alone, so that the
            policy does not merely repeat its past.
        action_dropout: share of previous actions hidden in training, for the same reason.
        brightness: random gain of pixels per chunk, 1 +- this; also per channel with half of it.
        held_out: share of episodes kept for evaluation.
        eval_every: updates between evaluations on held-out episodes.
        checkpoint_every: updates between checkpoints, from which an interrupted run goes on.
        threads: torch threads.
        device: "cpu", "cuda", or "auto".
        seed: of initial weights, batches and dropout.
        policy: size of the policy.
    """

    updates: int = 1500
    batch: int = 8
    chunk: int = 16
    lr: float = 1e-3
    warmup: int = 50
    weight_decay: float = 1e-3
    max_grad_norm: float = 1.0
    label_smoothing: float = 0.05
    smoothing_share: float = 0.001
    aux_weight: float = 2.0
    history_dropout: float = 0.2
    action_dropout: float = 0.3
    brightness: float = 0.1
    held_out: float = 0.05
    eval_every: int = 250
    checkpoint_every: int = 250
    threads: int = 2
    device: str = "auto"
    seed: int = 0
    policy: PolicyConfig = field(default_factory=PolicyConfig)

    def __post_init__(self) -> None:
        _numbers(self, "clone", "updates batch chunk eval_every checkpoint_every threads", least=1)
        _numbers(self, "clone", "lr", above=True)
        shares = "label_smoothing history_dropout action_dropout brightness held_out"
        _numbers(self, "clone", shares + " smoothing_share", most=1, below=True)
        _numbers(self, "clone", "aux_weight weight_decay warmup")
        _one_of("clone.device", self.device, ("auto", "cpu", "cuda"))


def train_config(*overrides: Any) -> TrainConfig:
    """Merge mappings into the default configuration, later ones winning.

    Raises:
        ValueError: A key is unknown, a value has the wrong type, or is out of range.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TrainConfig), *overrides))
    except OmegaConfBaseException as error:
        raise ValueError(f"training configuration: {str(error).splitlines()[0]}") from error
    assert isinstance(config, TrainConfig)
    return config


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")


def _numbers(config: Any, prefix: str, names: str, **limits: Any) -> None:
    """Checks some fields of a configuration; see `_number`."""
    for name in names.split():
        if getattr(config, name) is not None:
            _number(f"{prefix}.{name}".lstrip("."), getattr(config, name), **limits)


def _number(
    name: str,
    value: float,
    least: float = 0.0,
    most: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
) -> None:
    """Checks a number against its limits, which `above` and `below` exclude."""
    low = value > least if above else value >= least
    high = value < most if below else value <= most
    if not (low and high and math.isfinite(value)):
        told = f"{'above' if above else 'at least'} {least:g}"
        if math.isfinite(most):
            told += f" and {'below' if below else 'at most'} {most:g}"
        raise ValueError(f"{name} is {value}; it must be {told}")
