"""Perturbed instructions: words move away, what is to be found stays named."""

import difflib
import json

import numpy as np
import pytest
from gymnasium import spaces
from test_perturb import Spy, tiny

from safevla_envs.instruction import encode_instruction
from safevla_envs.perturb import AXES, LEVELS, perturb
from safevla_envs.resources import assets_dir

LANGUAGE = [name for name, axis in AXES.items() if axis.kind == "language"]
TEXTS = ("find the trash can", "locate the exercise ball and stop near it", "reach for the mug")


@pytest.mark.parametrize("axis", LANGUAGE)
def test_words_move_further_away_with_the_level(axis):
    far = []
    for level in LEVELS[1:]:
        env = perturb(tiny(), **{axis: level})
        each = []
        for seed in range(30):
            env.reset(seed=seed)
            for text in TEXTS:
                said = env.effects[0].instruction(text)
                assert said == env.effects[0].instruction(text)
                encode_instruction(said)
                each.append(1 - difflib.SequenceMatcher(None, text, said, autojunk=False).ratio())
        far.append(np.mean(each))
    assert far == sorted(far) and far[0] > 0.01


def test_what_is_to_be_found_is_still_named():
    for axis in ("paraphrase", "verbosity", "distractor_clause"):
        for seed in range(10):
            env = perturb(tiny(), **{axis: 5})
            info = env.reset(seed=seed)[1]
            assert "suitcase" in info["instruction"] and info["instruction"] != TEXTS[0]


def test_what_is_to_be_picked_up_is_named_and_not_what_it_stands_on():
    from safevla_envs.generate.tabletop import TEMPLATES

    env = perturb(tiny(), paraphrase=3)
    env.reset(seed=0)
    for template in TEMPLATES:
        said = env.effects[0].instruction(template.format("tv remote", "coffee table"))
        assert "the tv remote " in said and "table" not in said and "gripper" not in said


def test_the_lexicon_knows_every_name_of_a_target_and_has_two_words_for_it():
    from safevla_envs.generate.knobs import TARGET_CATEGORIES
    from safevla_envs.scenes.catalog import CATALOG

    lexicon = json.loads((assets_dir() / "lexicon.json").read_text())
    assert all(len(set(others)) >= 2 for others in lexicon["synonyms"].values())
    handheld = [name for name, thing in CATALOG.items() if thing.kind == "handheld"]
    words = {word for name in (*TARGET_CATEGORIES, *handheld) for word in CATALOG[name].words}
    assert words <= set(lexicon["synonyms"])
    trained = {word for thing in CATALOG.values() for word in thing.words}
    assert not trained & {other for others in lexicon["synonyms"].values() for other in others}
    assert all(len(frames) == 5 for frames in lexicon["paraphrases"].values())


def test_text_observations_are_texts_and_fit():
    class Talk(Spy):
        observation_space = spaces.Dict(instruction=spaces.Text(40))

        def reset(self, *, seed=None, options=None):
            return {"instruction": "find the mug"}, {"instruction": "find the mug"}

    obs, info = perturb(Talk(spaces.Discrete(2)), verbosity=5).reset(seed=0)
    assert obs["instruction"] == info["instruction"] and len(obs["instruction"]) == 40
