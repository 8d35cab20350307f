"""Other defects of VLA-Arena (language, images, interface, data, install): ours differ.

Sources and words are in docs/defects.md.
"""

import ast
import inspect
import tomllib
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from homes import make, room
from tiny_nav import TinyNav

from safevla.demos import DemoDataset, DemoWriter, Episode
from safevla.demos.dataset import encode_png
from safevla.demos.recording import _describe
from safevla_envs.costs import COST_SEMANTICS
from safevla_envs.generate.knobs import knobs_for
from safevla_envs.perturb import AXES, perturb
from safevla_envs.scenes.scenario import Scenario

ROOT = Path(__file__).resolve().parents[2]


# ---- scene description ---------------------------------------------------------------------------


def test_unknown_fields_and_knobs_are_refused():
    """There the parser accepts sections that nothing documents and connectives it ignores."""
    with pytest.raises(ValueError, match="cost"):
        Scenario.from_json(room().to_json()[:-1] + ',"cost":[]}')
    with pytest.raises(ValueError, match="noise"):
        knobs_for(1.0, {"noise": 0.1})


# ---- perturbations -------------------------------------------------------------------------------


def test_an_unavailable_perturbation_fails_loudly():
    """There word replacement is silently off when its table cannot be downloaded."""
    for axis, level in (("language", 1), ("lighting", 6), ("", 1)):
        with pytest.raises(ValueError, match=r"axis|level"):
            perturb(TinyNav(), **{axis: level})
    with pytest.raises(ValueError, match="instruction"):
        perturb(gymnasium.wrappers.FilterObservation(TinyNav(), ["state"]), synonym=1)


def drawn(env: gymnasium.Env, seed: int | None) -> dict:
    return env.reset(seed=seed)[1]["perturbation"]


def test_perturbations_follow_the_reset_and_not_a_global_generator():
    """There Python's and NumPy's global generators decide."""
    env = perturb(TinyNav(), lighting=3, colour=3)
    found = []
    for state in (1, 2):
        np.random.seed(state)
        found.append([drawn(env, 7), drawn(env, None), np.random.random()])
    assert found[0][:2] == found[1][:2]
    np.random.seed(2)
    assert found[1][2] == np.random.random(), "and they leave it alone"


def test_perturbations_are_drawn_anew_in_every_episode_and_logged():
    """There light and camera are drawn once, when the environment is built."""
    env = perturb(TinyNav(), lighting=3)
    found = [drawn(env, 0 if i == 0 else None)["lighting"] for i in range(6)]
    assert len({f["gradient_direction"] for f in found}) == 6
    *_, info = env.step(0)
    assert info["perturbation"]["lighting"] == found[-1]


def test_perturbation_strengths_are_graded_by_level():
    """There every flag has one strength, and which flags V1 to V4 are is not said."""
    for name, axis in AXES.items():
        harder = np.diff(np.abs(np.log(axis.strengths) if axis.unit == "times" else axis.strengths))
        assert len(axis.strengths) == 5 and (harder > 0).all(), name


# ---- interface -----------------------------------------------------------------------------------


def test_environment_is_registered_with_gymnasium_and_returns_five():
    """There the environment has a four-tuple, no spaces and no id."""
    env = gymnasium.make("safevla_envs:SafeVLA/ObjNav-v0", cameras=())
    observation, _ = env.reset(options={"scenario": room()})
    assert env.observation_space.contains(observation)
    result = env.step(env.unwrapped.action_names.index("sub_task_done"))
    assert [type(value) for value in result[1:4]] == [float, bool, bool] and len(result) == 5


# ---- demonstrations ------------------------------------------------------------------------------


def test_demonstrations_have_a_cost_per_constraint(tmp_path):
    """There the data sets have no cost column."""
    cost = np.array([[0, 1], [2, 0], [0, 0]], np.float32)
    image = encode_png(np.zeros((8, 8, 3), np.uint8))
    episode = Episode(
        images={"navigation": [image] * 3},
        state=np.zeros((3, 2), np.float32),
        action=np.array([0, 1, 1]),
        executed=np.array([0, 1, 1]),
        reward=np.zeros(3, np.float32),
        cost=cost,
        aux=np.zeros((3, 0), np.float32),
        success=False,
        instruction="find the mug",
    )
    names = ("corner", "impact")
    with DemoWriter(
        tmp_path / "d", action_names=["a", "b"], end_action=1, constraint_names=names
    ) as writer:
        writer.add(episode)
    data = DemoDataset(tmp_path / "d")
    assert tuple(data.constraint_names) == names
    np.testing.assert_array_equal(data.cost, cost)


def test_demonstrations_of_the_environment_carry_its_constraints_and_rate():
    """There the frame rate is 10 although control runs at 20 Hz.

    Here a frame is one action, of 1 to 60 control ticks; the rate is nominal and says so.
    """
    env = make()
    about = _describe(env)
    assert about["constraint_names"] == [c.name for c in env.constraints]
    assert about["fps"] == env.metadata["render_fps"]
    assert about["extra"] == {"cost_semantics": COST_SEMANTICS}, "next.cost means something"
    assert "nominal" in (inspect.getdoc(DemoWriter) or "")


# ---- install -------------------------------------------------------------------------------------


def test_core_install_is_light_and_unpinned():
    """There torch and TensorFlow are base dependencies and numpy and robosuite are fixed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = " ".join(project["dependencies"])
    assert "torch" not in core and "tensorflow" not in core and "==" not in core


def test_sources_hold_no_absolute_path_and_download_nothing():
    """There a developer's path is in the policy and 850 MB of assets are fetched apart."""
    for source in (ROOT / "envs" / "safevla_envs").rglob("*.py"):
        tree = ast.parse(source.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] + [getattr(node, "module", "") or ""]
                assert not {"requests", "urllib.request", "huggingface_hub"} & set(names), source
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith(("/home/", "/Users/", "/root/", "/work/")), source
