"""Configuration of the pipeline: frozen dataclasses, filled from YAML presets and `key=value`.

`load_config("quick", ["train.total_steps=20000"])` reads `configs/isa/quick.yaml` and applies the
override. A key that does not exist, or a value of another type, is an error that names it.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from safevla.evaluate.arms import CONTROLS, LEARNED, MODES, PPO_ARMS
from safevla.files import plain
from safevla.train.settings import BCConfig, TrainConfig
from safevla.workers import usable_cores
from safevla_envs.proprioception import SENSOR_SIZES
from safevla_envs.resources import configs_dir
from safevla_envs.scenes.scenario import HAZARDS

__all__ = [
    "DemosConfig",
    "ElicitConfig",
    "EnvConfig",
    "EvalConfig",
    "PipelineConfig",
    "ReportConfig",
    "is_suite_file",
    "load_config",
    "presets",
    "read_mapping",
    "resolved_workers",
    "run_name",
]


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """The environment all stages share.

    Attributes:
        id: Gymnasium id.
        level: difficulty of generated homes.
        hazards: safety-critical components to place.
        constraints: what is charged, of `costs.CONSTRAINT_NAMES`; all of them if None.
        action_mode: the policy head of the presets is categorical, hence "discrete".
        side_steps: add side-steps to the discrete primitives.
        grasp: "physical", or "assisted": what both fingers have closed on is welded to the hand.
        cameras: cameras the policy sees.
        sensors: what else it senses: "scan", "odometry".
        image_size: height and width of images in pixels.
        max_actions: actions per episode.
        max_seconds: simulated seconds per episode.
        cost_mode: "binary", or "graded" by severity.
        knobs: overrides of the scenario generator's knobs (small homes, for example).
        layouts: different homes that generated scenarios draw from; None for no limit.
        pool: number of different generated training scenarios; None for no limit.
        timestep: physics step in s.
    """

    id: str = "safevla_envs:SafeVLA/ObjNav-v0"
    level: float = 1.0
    hazards: tuple[str, ...] = HAZARDS
    constraints: tuple[str, ...] | None = None
    action_mode: Literal["discrete", "continuous"] = "discrete"
    side_steps: bool = True
    grasp: Literal["physical", "assisted"] = "physical"
    cameras: tuple[str, ...] = ("navigation",)
    sensors: tuple[str, ...] = ()
    image_size: int = 64
    max_actions: int = 300
    max_seconds: float = 120.0
    cost_mode: Literal["binary", "graded"] = "binary"
    knobs: dict[str, Any] = field(default_factory=dict)
    layouts: int | None = None
    pool: int | None = None
    timestep: float = 0.005

    def kwargs(self, **changes: Any) -> dict[str, Any]:
        """Returns keyword arguments of `gymnasium.make`, id included, as JSON values."""
        return plain(self) | changes


@dataclass(frozen=True, kw_only=True)
class DemosConfig:
    """Demonstrations of the hazard-blind expert.

    Attributes:
        episodes: episodes to record.
        wander: 0 to 1; strength of the expert's heading bias and random side-steps. A clone of a
            straight-line expert explores nothing, and PPO then learns no avoidance.
        noise: share of random actions executed (labels stay the expert's).
    """

    episodes: int = 840
    wander: float = 1.0
    noise: float = 0.10


@dataclass(frozen=True, kw_only=True)
class ElicitConfig:
    """Search for scenarios in which the cloned policy is unsafe.

    Attributes:
        scenarios: scenarios to try.
        rollouts: episodes per scenario, actions sampled.
        keep: scenarios kept at most, the costliest; those without cost are never kept.
        knobs: knobs to search, all that have a range if empty.
    """

    scenarios: int = 96
    rollouts: int = 2
    keep: int = 48
    knobs: tuple[str, ...] = ()


SUITES = ("hazard", "benign", "elicited", "ood", "semantic", "impossible", "long_tail")
"""Families of evaluation suites."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Suites, sizes and arms of the evaluation.

    Attributes:
        hazard_list: frozen scenario list (a name in `assets/scenarios`, or a path).
        benign_list: its benign twins, in the same order.
        semantic_list: the hazard list's homes with other goals in the same room, played whole.
        impossible_list: goals that cannot be reached, played whole.
        long_tail_list: scenarios on which a reference policy pays most, played whole.
        episodes: scenarios taken from each of the first two lists.
        elicited: scenarios taken from the held-out half of the elicited list.
        ood_axes: perturbations of the out-of-distribution suite, all at the suite's level.
        ood_levels: its levels.
        ood_episodes: scenarios per level.
        modes: how the policy acts.
        suites: suites of the learned arms: of `SUITES`, axes of perturbation, or files.
        argmax_suites: suites on which argmax is evaluated too, if it is among the modes.
        learned: learned arms.
        controls: control arms.
        control_suites: suites of the control arms.
        control_episodes: scenarios of a suite, its first ones, that they play; all if None.
        control_modes: how the policy acts in the control arms that have one.
        policy_seed: seed of action sampling, used by no other stage.
    """

    hazard_list: str = "objnav_val200_level1_hazard"
    benign_list: str = "objnav_val200_level1_benign"
    semantic_list: str = "small_semantic_room36"
    impossible_list: str = "objnav_impossible"
    long_tail_list: str = "small_longtail50"
    episodes: int = 50
    elicited: int = 20
    ood_axes: tuple[str, ...] = ("lighting", "colour")
    ood_levels: tuple[int, ...] = (1, 2, 3, 4, 5)
    ood_episodes: int = 10
    modes: tuple[str, ...] = MODES
    suites: tuple[str, ...] = SUITES[:4]
    argmax_suites: tuple[str, ...] = SUITES[:4]
    learned: tuple[str, ...] = LEARNED
    controls: tuple[str, ...] = CONTROLS
    control_suites: tuple[str, ...] = ("hazard", "benign")
    control_episodes: int | None = None
    control_modes: tuple[str, ...] = ("sampled",)
    policy_seed: int = 90_000


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """On what an arm's best policy is chosen where `train.candidates` is above 1.

    Attributes:
        list: scenario list that nothing is reported on (a name in `assets/scenarios`, or a path).
        episodes: scenarios taken from it.
    """

    list: str = "small_select100"
    episodes: int = 100


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Pictures of the report.

    Attributes:
        videos: worst episodes replayed per learned arm, as video and film strip.
        width: video width in pixels.
        height: video height in pixels.
    """

    videos: int = 2
    width: int = 480
    height: int = 360


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """Everything that `safevla isa` does.

    Attributes:
        seed: base seed; every stage derives its own from it.
        workers: processes that simulate at the same time; 0 takes the number of cores, at most 16.
        env: the environment.
        demos: demonstrations.
        clone: behaviour cloning.
        elicit: search for unsafe scenarios.
        train: PPO, shared by both arms; the task-only arm differs in its multipliers only.
        arms: PPO arms to train.
        selection: choice among an arm's candidates.
        eval: evaluation.
        report: report.
    """

    seed: int = 0
    workers: int = 0
    env: EnvConfig = field(default_factory=EnvConfig)
    demos: DemosConfig = field(default_factory=DemosConfig)
    clone: BCConfig = field(default_factory=BCConfig)
    elicit: ElicitConfig = field(default_factory=ElicitConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    arms: tuple[str, ...] = PPO_ARMS
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

    def stage_seed(self, offset: int) -> int:
        """Returns a stage's seed; a run with seed s has those from 10,000 s to 10,000 s + 9,999."""
        return self.seed * 10_000 + offset


def presets() -> tuple[str, ...]:
    """Returns the names of the presets in `configs/isa`."""
    return tuple(sorted(path.stem for path in (configs_dir() / "isa").glob("*.yaml")))


def load_config(preset: str = "quick", overrides: Sequence[str] = ()) -> PipelineConfig:
    """Reads a preset (a name in `configs/isa` or a YAML file) and applies `key=value` overrides.

    Raises:
        ValueError: for an unknown preset, an unknown key or a value of the wrong type, in one line
            that names it and what is allowed.
    """
    path = (
        Path(preset) if preset.endswith((".yaml", ".yml")) else configs_dir() / f"isa/{preset}.yaml"
    )
    if not path.is_file():
        raise ValueError(f"preset {preset!r}: allowed are {', '.join(presets())}, or a .yaml file")
    config = _merged(OmegaConf.structured(PipelineConfig), read_mapping(path), origin=path.name)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ValueError(f"override {override!r}: must look like key=value, e.g. seed=1")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"override {override!r}: the value is not YAML") from None
        config = _merged(config, {key: value}, origin="override")
    result = OmegaConf.to_object(config)
    assert isinstance(result, PipelineConfig)
    _check(result)
    return result


def read_mapping(path: Path) -> dict[str, Any]:
    """Reads a YAML file that holds a mapping, or nothing.

    Raises:
        ValueError: for anything else, in one line.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path}: must hold a mapping of keys to values")
    return document


def run_name(preset: str, seed: int) -> str:
    """Returns the name of a preset's run unless it is given another: `quick`, `quick-seed1`."""
    return Path(preset).stem + (f"-seed{seed}" if seed else "")


def resolved_workers(config: PipelineConfig) -> int:
    """Returns `config.workers`, or the usable cores (at most 16) if it is 0."""
    return config.workers or min(usable_cores(), 16)


def _leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        path = f"{prefix}{key}"
        is_mapping = typing.get_origin(_field_type(path)) is dict
        if isinstance(value, dict) and value and not is_mapping:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _field_type(path: str) -> Any:
    """Returns the annotation of a dotted key, None where there is no such key."""
    kind: Any = PipelineConfig
    for part in path.split("."):
        if not dataclasses.is_dataclass(kind):
            return None
        kind = typing.get_type_hints(kind).get(part)
    return kind


def _merged(config: Any, document: dict[str, Any], *, origin: str) -> Any:
    """Returns the configuration with the values of a document, whose keys may be dotted."""
    with suppress(OmegaConfBaseException):  # all at once is fast, one by one names what is wrong
        return OmegaConf.merge(config, document)
    for key, value in _leaves(document):
        node = value
        for part in reversed(key.split(".")):
            node = {part: node}
        try:
            config = OmegaConf.merge(config, node)
        except OmegaConfBaseException as error:
            raise ValueError(f"{origin}: {_explain(key, value, error)}") from None
    return config


def _explain(key: str, value: Any, error: Exception) -> str:
    kind = _field_type(key)
    if kind is None:
        parent, _, name = key.rpartition(".")
        while parent and not dataclasses.is_dataclass(_field_type(parent)):
            if _field_type(parent) is not None:
                return f"{parent} is a {_describe(_field_type(parent))}, it has no key {name!r}"
            parent, _, name = parent.rpartition(".")
        owner = _field_type(parent) if parent else PipelineConfig
        names = ", ".join(f.name for f in dataclasses.fields(owner))
        return f"unknown key {key!r}; allowed{' in ' + parent if parent else ''} are {names}"
    if dataclasses.is_dataclass(kind):
        names = ", ".join(f.name for f in dataclasses.fields(kind))
        return f"{key}={value!r}: must be a mapping of {names}"
    reason = str(error).splitlines()[0].replace("$VALUE_TYPE", type(value).__name__)
    reason = reason.replace("$VALUE", str(value))
    return f"{key}={value!r}: must be {_describe(kind)} ({reason})"


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


YAML = (".yaml", ".yml")


def is_suite_file(name: str) -> bool:
    """Says whether a suite is asked for by a file: YAML, or a list of scenarios."""
    return name.endswith((*YAML, ".json", ".jsonl", ".jsonl.gz"))


def _check(config: PipelineConfig) -> None:
    """Checks choices and sizes that types cannot express."""
    from safevla_envs.perturb import AXES, LEVELS

    suites = (*SUITES, *AXES, *filter(is_suite_file, config.eval.suites))
    choices: dict[str, Sequence[Any]] = {
        "arms": PPO_ARMS,
        "eval.learned": ("clone", *config.arms),
        "eval.controls": CONTROLS,
        "eval.modes": MODES,
        "eval.control_modes": MODES,
        "eval.suites": suites,
        "eval.control_suites": suites,
        "eval.argmax_suites": suites,
        "eval.ood_axes": tuple(AXES),
        "eval.ood_levels": LEVELS[1:],
        "env.cameras": ("navigation", "manipulation"),
        "env.sensors": tuple(SENSOR_SIZES),
    }
    for key, allowed in choices.items():
        for value in attrgetter(key)(config):
            if value not in allowed:
                names = ", ".join(map(str, allowed))
                raise ValueError(f"{key}: {value!r} is unknown; allowed are {names}")
    at_least = {
        "workers": 0,
        "env.image_size": 8,
        "env.max_actions": 1,
        "demos.episodes": 1,
        "elicit.scenarios": 1,
        "elicit.rollouts": 1,
        "elicit.keep": 2,
        "selection.episodes": 1,
        "eval.episodes": 1,
        "eval.control_episodes": 1,
    }
    for key, low in at_least.items():
        value = attrgetter(key)(config)
        if value is not None and value < low:
            raise ValueError(f"{key}={value}: must be at least {low}")
    for key, value in (("clone.seed", config.clone.seed), ("train.seed", config.train.seed)):
        if value != 0:
            raise ValueError(f"{key}={value}: set seed={value}, which every stage's seed follows")
