"""Perturbations of the instruction: the same goal in other words, from `assets/lexicon.json`.

An instruction is an observation's entry `instruction`, text or zero-padded UTF-8 bytes as
`encode_instruction` makes them; what does not fit into them is left out.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from safevla_envs.instruction import INSTRUCTION_BYTES, decode_instruction, encode_instruction
from safevla_envs.perturb.effect import Axis, Effect
from safevla_envs.resources import assets_dir

__all__ = ["LANGUAGE_AXES"]


@cache
def _lexicon() -> dict[str, Any]:
    return json.loads((assets_dir() / "lexicon.json").read_text())


class _Words(Effect):
    """Says the instruction otherwise, once an episode."""

    def attach(self, env: gymnasium.Env[Any, Any]) -> None:
        space = env.observation_space
        part = space.spaces.get("instruction") if isinstance(space, spaces.Dict) else None
        if part is None:
            raise ValueError(f"{self.axis.name}: no 'instruction' among the observations")
        self._text = isinstance(part, spaces.Text)
        self._most = part.max_length if isinstance(part, spaces.Text) else INSTRUCTION_BYTES

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        self._rng, self._said = rng, {}
        return {}

    def observation(self, obs: Any) -> Any:
        if self._text:
            return {**obs, "instruction": self.instruction(obs["instruction"])}
        text = self.instruction(decode_instruction(obs["instruction"]))
        return {**obs, "instruction": encode_instruction(text)}

    def instruction(self, text: str) -> str:
        if text not in self._said:
            said = self.say(text, self._rng)
            while len(said.encode()) > self._most:
                said = said[:-1]
            self._said[text] = said
        return self._said[text]

    def say(self, text: str, rng: np.random.Generator) -> str:
        """Returns the instruction in other words."""
        raise NotImplementedError


class Synonyms(_Words):
    """Each phrase of the lexicon becomes a synonym with this chance; the longest come first."""

    def say(self, text: str, rng: np.random.Generator) -> str:
        known = _lexicon()["synonyms"]
        phrases = sorted(known, key=lambda phrase: (-len(phrase), phrase))

        def other(match: re.Match[str]) -> str:
            chance, choice = rng.random(), rng.integers(2)
            return known[match[0]][choice] if chance < self.strength / 100.0 else match[0]

        return re.sub(rf"\b({'|'.join(map(re.escape, phrases))})\b", other, text)


class Paraphrase(_Words):
    """Another sentence, of which each level has its own, ever further from a plain request."""

    def say(self, text: str, rng: np.random.Generator) -> str:
        lexicon = _lexicon()
        thing = _thing(text)
        if thing is None:
            return text
        words = set(text.split())
        intents = (name for name, said in lexicon["intents"].items() if words & set(said))
        intent = next(intents, "find")
        frames = lexicon["paraphrases"][intent][self.level - 1]
        return frames[rng.integers(len(frames))].format(thing)


class Verbosity(_Words):
    """Words that say nothing, before and after."""

    def say(self, text: str, rng: np.random.Generator) -> str:
        fillers = _lexicon()["fillers"]
        words = [word for i in rng.permutation(len(fillers)) for word in f"{fillers[i]},".split()][
            : int(self.strength)
        ]
        before = len(words) // 2
        return " ".join([*words[:before], text, *words[before:]])


class WordOrder(_Words):
    """Neighbouring words change places."""

    def say(self, text: str, rng: np.random.Generator) -> str:
        words = text.split()
        for i in rng.permutation(max(len(words) - 1, 0))[: int(self.strength)]:
            words[i], words[i + 1] = words[i + 1], words[i]
        return " ".join(words)


class Typos(_Words):
    """Letters become neighbours on the keyboard, are lost, or come twice."""

    def say(self, text: str, rng: np.random.Generator) -> str:
        keys, out = _lexicon()["keys"], []
        for letter in text:
            chance, how, side = rng.random(), rng.integers(3), rng.integers(2)
            if letter not in keys or chance >= self.strength / 100.0:
                out.append(letter)
            elif how == 0:
                out.append(keys[letter][side])
            elif how == 1:
                out.append(letter * 2)
        return "".join(out)


class Clauses(_Words):
    """Clauses about other things, which need no doing."""

    def say(self, text: str, rng: np.random.Generator) -> str:
        lexicon = _lexicon()
        things = [thing for thing in lexicon["things"] if thing not in text]
        said = rng.permutation(len(things))[: int(self.strength)]
        frames = rng.integers(len(lexicon["distractors"]), size=len(said))
        told = [lexicon["distractors"][f].format(things[t]) for f, t in zip(frames, said)]
        return ", ".join([*told, text])


def _thing(text: str) -> str | None:
    """Returns what an instruction names: what follows its first "the", without what comes after."""
    found = re.search(r"\bthe (.+?)(?: and stop near it| up| (?:from|off) the .+)?$", text)
    return found[1] if found else None


LANGUAGE_AXES = (
    Axis(
        name="synonym",
        kind="language",
        unit="% of the known phrases",
        strengths=(20.0, 40.0, 60.0, 80.0, 100.0),
        what="phrases become synonyms that training does not use",
        effect=Synonyms,
    ),
    Axis(
        name="paraphrase",
        kind="language",
        unit="set of sentences",
        strengths=(1.0, 2.0, 3.0, 4.0, 5.0),
        what="another sentence, ever further from a plain request",
        effect=Paraphrase,
    ),
    Axis(
        name="verbosity",
        kind="language",
        unit="words",
        strengths=(4.0, 8.0, 14.0, 20.0, 28.0),
        what="words that say nothing, before and after",
        effect=Verbosity,
    ),
    Axis(
        name="word_order",
        kind="language",
        unit="swaps",
        strengths=(1.0, 2.0, 3.0, 4.0, 6.0),
        what="neighbouring words change places",
        effect=WordOrder,
    ),
    Axis(
        name="typos",
        kind="language",
        unit="% of the letters",
        strengths=(3.0, 6.0, 10.0, 15.0, 20.0),
        what="letters wrong, lost or doubled",
        effect=Typos,
    ),
    Axis(
        name="distractor_clause",
        kind="language",
        unit="clauses",
        strengths=(1.0, 2.0, 3.0, 4.0, 5.0),
        what="clauses about things that need no doing",
        effect=Clauses,
    ),
)
