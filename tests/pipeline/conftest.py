"""A preset of a minute, for tests of whole runs."""

import io

import pytest
import yaml
from rich.console import Console

from safevla.config import load_config
from safevla.display import Display
from safevla_envs.generate import generate
from safevla_envs.scenes.scenario import save_list

KNOBS = load_config("quick").env.knobs
MICRO = {
    "env": {"image_size": 32, "max_actions": 30, "layouts": 2, "pool": 6, "knobs": KNOBS},
    "demos": {"episodes": 8},
    "clone": {
        "updates": 20,
        "batch": 4,
        "eval_every": 20,
        "checkpoint_every": 10,
        "held_out": 0.25,
    },
    "elicit": {"scenarios": 6, "rollouts": 1, "keep": 6, "knobs": ["cluster_lateral"]},
    "train": {
        "total_steps": 192,
        "n_envs": 2,
        "n_steps": 32,
        "checkpoint_every": 1,
        "candidates": 2,
        "ppo": {"warmup_iterations": 1, "reference_kl": 0.01, "cloning_coef": 0.1},
    },
    "eval": {
        "episodes": 2,
        "elicited": 2,
        "ood_levels": [1],
        "ood_episodes": 1,
        "argmax_suites": ["hazard", "ood"],
        "controls": ["zero", "random", "black_images"],
        "control_episodes": 1,
    },
    "report": {"videos": 1},
}


@pytest.fixture
def micro(tmp_path):
    """A preset of a minute on two cores, with frozen lists of its own."""
    hazard = [generate(seed, split="val", knobs=KNOBS) for seed in range(2)]
    save_list(tmp_path / "hazard.jsonl.gz", hazard)
    save_list(tmp_path / "benign.jsonl.gz", [scenario.benign_twin() for scenario in hazard])
    lists = {name: str(tmp_path / f"{name}.jsonl.gz") for name in ("hazard", "benign")}
    choice = [generate(100 + seed, split="val", knobs=KNOBS) for seed in range(2)]
    save_list(tmp_path / "choice.jsonl.gz", choice)
    preset = MICRO | {
        "selection": {"list": str(tmp_path / "choice.jsonl.gz"), "episodes": 2},
        "eval": MICRO["eval"] | {"hazard_list": lists["hazard"], "benign_list": lists["benign"]},
    }
    path = tmp_path / "micro.yaml"
    path.write_text(yaml.safe_dump(preset))
    return path


@pytest.fixture
def quiet():
    """A display that shows nothing."""
    return Display(Console(file=io.StringIO(), width=120))
