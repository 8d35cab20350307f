"""Who is evaluated: the registry of arms, and their picklable descriptions.

An :class:`Arm` is a small picklable description; calling it builds the agent inside the process
that runs the episodes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from safevla.evaluate.agents import Agent, ExpertAgent, PolicyArmAgent, RandomAgent, ZeroAgent

__all__ = [
    "ARMS",
    "BASELINES",
    "CONTROLS",
    "LEARNED",
    "MODES",
    "PPO_ARMS",
    "SCRIPTED",
    "SPOILT",
    "Arm",
    "ArmEntry",
    "make_arm",
    "named_arm",
]


class ArmEntry(NamedTuple):
    """An arm's role, its name for readers and its look in plots.

    Colours are those of Okabe and Ito (2008), told apart with every common colour-vision
    deficiency; arms differ in marker and line style as well.
    """

    role: Literal["clone", "ppo", "spoilt", "expert", "baseline"]
    label: str
    color: str
    marker: str
    linestyle: str


ARMS = {
    "clone": ArmEntry("clone", "cloned policy", "#7a7f87", "s", ":"),
    "task_only": ArmEntry("ppo", "task-only PPO", "#d55e00", "o", "-"),
    "lagrangian": ArmEntry("ppo", "PPO-Lagrangian", "#0072b2", "D", "-"),
    "swapped_instruction": ArmEntry("spoilt", "clone, instruction swapped", "#cc79a7", "v", "--"),
    "black_images": ArmEntry("spoilt", "clone, black images", "#22272e", "X", "--"),
    "task_expert": ArmEntry("expert", "task expert (sees the simulator)", "#e69f00", "^", "-."),
    "careful_expert": ArmEntry(
        "expert", "careful expert (sees the simulator)", "#009e73", "P", "-."
    ),
    "random": ArmEntry("baseline", "random actions", "#9aa0a8", "*", ":"),
    "zero": ArmEntry("baseline", "no action", "#b8bcc2", "h", ":"),
}
"""Every arm, in the order of tables."""


def _with_role(*roles: str) -> tuple[str, ...]:
    return tuple(name for name, entry in ARMS.items() if entry.role in roles)


PPO_ARMS = _with_role("ppo")
"""The two PPO arms: the same code, task_only with every multiplier fixed at zero."""
LEARNED = _with_role("clone", "ppo")
SPOILT = _with_role("spoilt")
"""The cloned policy with one input spoilt."""
BASELINES = _with_role("baseline")
SCRIPTED = (*reversed(BASELINES), *_with_role("expert"))
"""Arms without a policy: they look at no image, and sampled and argmax are one for them."""
CONTROLS = (*SCRIPTED, *SPOILT)
"""Control arms of an evaluation."""
MODES = ("sampled", "argmax")
"""How a policy acts."""
_NEEDS_POLICY = ("policy", *SPOILT)
KINDS = (*SCRIPTED, *_NEEDS_POLICY)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A picklable description of who acts: a name for tables, one of `KINDS`, and its policy."""

    name: str
    kind: str
    checkpoint: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r}: must be one of {', '.join(KINDS)}")
        if (self.checkpoint is None) == (self.kind in _NEEDS_POLICY):
            verb = "needs" if self.checkpoint is None else "takes no"
            raise ValueError(f"arm {self.name!r}: kind={self.kind!r} {verb} checkpoint")

    def __call__(self, deterministic: bool) -> Agent:
        """Builds the agent; a policy takes its most probable action if `deterministic`."""
        if self.kind == "zero":
            return ZeroAgent()
        if self.kind == "random":
            return RandomAgent()
        if self.kind in SCRIPTED:
            return ExpertAgent(self.kind.removesuffix("_expert"))
        assert self.checkpoint is not None
        return PolicyArmAgent(
            self.checkpoint,
            deterministic=deterministic,
            swap=self.kind == "swapped_instruction",
            black=self.kind == "black_images",
            device=self.device,
        )

    @property
    def is_policy(self) -> bool:
        """Whether sampling and argmax differ."""
        return self.kind in _NEEDS_POLICY

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the kind and the policy's files.

        Raises:
            ValueError: the checkpoint folder holds no policy.
        """
        total = hashlib.sha256(self.kind.encode())
        if self.checkpoint is not None:
            folder = Path(self.checkpoint)
            files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")])
            if not files:
                raise ValueError(f"checkpoint={self.checkpoint!r}: no policy in this folder")
            for path in files:
                total.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()[:16]


def make_arm(name: str, checkpoint: str | Path | None = None, *, device: str = "cpu") -> Arm:
    """Describes an arm by its name: a kind without or with a checkpoint, or any name for a policy.

    Raises:
        ValueError: a checkpoint that is missing or superfluous.
    """
    kind = name if name in KINDS else "policy"
    folder = None if checkpoint is None else str(checkpoint)
    return Arm(name=name, kind=kind, checkpoint=folder, device=device)


def named_arm(name: str) -> Arm:
    """Describes an arm of the command line: of `SCRIPTED`, or a policy folder.

    Raises:
        ValueError: if it is neither; the message names the arms.
    """
    for kind in (name, f"{name}_expert"):
        if kind in SCRIPTED:
            return make_arm(kind)
    folder = Path(name)
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"agent {name!r}: neither a policy folder nor one of {', '.join(SCRIPTED)}"
        )
    return Arm(name=folder.resolve().name, kind="policy", checkpoint=str(folder))
