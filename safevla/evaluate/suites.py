"""What is evaluated: suites of scenarios, plain and perturbed, built in or of your own."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from safevla.config import SUITES, YAML, EvalConfig, is_suite_file, read_mapping
from safevla.elicit import load_found
from safevla_envs.perturb import AXES, Perturbation, check_levels
from safevla_envs.resources import assets_dir
from safevla_envs.scenes.scenario import Scenario, load_list

__all__ = ["Suite", "named_list", "own_suite", "suites"]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A frozen list of scenarios and what it is played under.

    Attributes:
        name: in the records.
        asked: the name that asks for it: a family of suites, or a file.
        scenarios: the list, in order.
        level: of its family's perturbation; 0 for none, and for a suite of your own.
        wrappers: as :class:`Job` has them.
    """

    name: str
    asked: str
    scenarios: tuple[Scenario, ...]
    level: int = 0
    wrappers: tuple[Any, ...] = ()


@dataclass
class SuiteFile:
    """A suite of your own, as its YAML file has it.

    Attributes:
        scenarios: a frozen list's name, or a scenario file, also one beside the YAML file.
        count: its first scenarios; all if None.
        perturb: level, 1 to 5, by axis of `safevla_envs.perturb.AXES`, all at once.
    """

    scenarios: str
    count: int | None = None
    perturb: dict[str, int] = field(default_factory=dict)


def named_list(name: str) -> list[Scenario]:
    """Reads a frozen list by its name in `assets/scenarios`, or a scenario file.

    Raises:
        ValueError: if there is neither; the message names what there is.
    """
    folder = assets_dir() / "scenarios"
    for path in (folder / f"{name}.jsonl.gz", Path(name)):
        if path.is_file():
            return load_list(path)
    known = ", ".join(sorted(p.name.removesuffix(".jsonl.gz") for p in folder.glob("*.jsonl.gz")))
    raise ValueError(f"scenario list {name!r}: neither a file nor one of {known}")


def own_suite(name: str) -> Suite:
    """Reads a suite from a file: YAML with the fields of :class:`SuiteFile`, or a scenario file.

    Raises:
        ValueError: what it holds is not a suite; the message names the file and the field.
    """
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"suite {name!r}: there is no such file")
    if path.suffix not in YAML:
        stem = path.name.partition(".")[0]
        return Suite(name=stem, asked=name, scenarios=tuple(load_list(path)))
    try:
        told = OmegaConf.merge(OmegaConf.structured(SuiteFile), read_mapping(path))
        plan: Any = OmegaConf.to_object(told)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name}: {error.full_key or 'suite'}: {reason}") from None
    try:
        check_levels(plan.perturb)
    except ValueError as error:
        raise ValueError(f"{name}: perturb: {error}") from None
    beside = path.parent / plan.scenarios
    listed = named_list(str(beside) if beside.is_file() else plan.scenarios)
    if plan.count is not None and not 1 <= plan.count <= len(listed):
        raise ValueError(f"{name}: count={plan.count}: 1 to {len(listed)}, the list's length")
    wrappers = (partial(Perturbation, levels=dict(plan.perturb)),) if plan.perturb else ()
    scenarios = tuple(listed[: plan.count])
    return Suite(name=path.stem, asked=name, scenarios=scenarios, wrappers=wrappers)


def suites(config: EvalConfig, found: Path | None = None) -> dict[str, Suite]:
    """Returns every suite by its name; those under perturbation as `ood-<level>`, `<axis>-<level>`.

    `hazard` and `benign` are the first scenarios of frozen lists; `semantic`, `impossible` and
    `long_tail` are played whole.
    `elicited` is the held-out half of the list `found`. The perturbed suites are the first
    scenarios of the hazard list, so that they pair with it and with each other; `ood` is perturbed
    on all of `config.ood_axes`, the others on one axis of `safevla_envs.perturb.AXES` each.
    Files among `config.suites` are suites of your own.

    Raises:
        ValueError: a list too short, or a file that is no suite or has the name of another one.
    """
    hazard = named_list(config.hazard_list)
    benign = named_list(config.benign_list)
    n = config.episodes
    if min(len(hazard), len(benign)) < n:
        short = min(len(hazard), len(benign))
        raise ValueError(f"eval.episodes={n}: the scenario lists hold {short}")
    frozen = {
        "hazard": hazard[:n],
        "benign": benign[:n],
        "semantic": named_list(config.semantic_list),
        "impossible": named_list(config.impossible_list),
        "long_tail": named_list(config.long_tail_list),
    }
    if found is not None:
        held_out = [item.scenario for item in load_found(found, "eval")][: config.elicited]
        if held_out:
            frozen["elicited"] = held_out
    chosen = {
        name: Suite(name=name, asked=name, scenarios=tuple(listed))
        for name, listed in frozen.items()
    }
    families = {"ood": config.ood_axes, **{axis: (axis,) for axis in AXES}}
    for (family, axes), level in product(families.items(), config.ood_levels):
        chosen[f"{family}-{level}"] = Suite(
            name=f"{family}-{level}",
            asked=family,
            scenarios=tuple(hazard[: config.ood_episodes]),
            level=level,
            wrappers=(partial(Perturbation, levels=dict.fromkeys(axes, level)),),
        )
    for name in filter(is_suite_file, config.suites):
        own = own_suite(name)
        if own.name in (*SUITES, *chosen):
            raise ValueError(f"{name}: a suite is called {own.name} already; rename the file")
        chosen[own.name] = own
    return chosen
