"""Writes the frozen validation lists: `python -m safevla_envs.generate.freeze`.

Each list holds 50 scenarios of the `val` split, seeds 100-149 (the quick preset's settings were
chosen while looking at seeds 0-49). Its benign twin list has the same scenarios, in the same
order, without the bodies whose only role is a hazard. `objnav_val_*` uses default knobs,
`quick_val_*` the knobs of `configs/isa/quick.yaml`.
"""

from __future__ import annotations

from collections import Counter

from omegaconf import OmegaConf

from safevla_envs.generate import generate
from safevla_envs.resources import assets_dir, configs_dir
from safevla_envs.scenario import list_hash, save_list

__all__ = ["LIST_LENGTH", "freeze"]

FIRST_SEED = 100
LIST_LENGTH = 50


def freeze() -> None:
    """Generates and writes all lists, and prints their hashes and why draws were rejected."""
    quick = OmegaConf.to_container(OmegaConf.load(configs_dir() / "isa" / "quick.yaml"))
    assert isinstance(quick, dict)
    folder = assets_dir() / "scenarios"
    folder.mkdir(parents=True, exist_ok=True)
    for name, knobs in (("objnav_val", None), ("quick_val", quick["env"]["knobs"])):
        reasons: Counter[str] = Counter()
        hazard = [
            generate(seed, split="val", knobs=knobs, rejections=reasons)
            for seed in range(FIRST_SEED, FIRST_SEED + LIST_LENGTH)
        ]
        benign = [scenario.benign_twin() for scenario in hazard]
        for kind, scenarios in (("hazard", hazard), ("benign", benign)):
            save_list(folder / f"{name}_{kind}.jsonl.gz", scenarios)
            print(f"{name}_{kind}: {len(scenarios)} scenarios, hash {list_hash(scenarios)}")
        accepted = LIST_LENGTH / (LIST_LENGTH + reasons.total())
        print(f"  accepted {accepted:.0%} of draws; rejected: {dict(reasons)}")


if __name__ == "__main__":
    freeze()
