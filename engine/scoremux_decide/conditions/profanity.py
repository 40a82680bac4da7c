"""Profanity: the lists of glin-profanity, those of `profanity.json`, and what stars hide of their words."""

import json
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scoremux_client.errors import InputError
from scoremux_decide.conditions.folding import fold, words
from scoremux_decide.conditions.phrases import Line, Phrases

_NAMES = {"de": "german", "en": "english"}
_HIDDEN = re.compile(r"(?<![\w*#$@!%&])([a-z]{1,7}[*#$@!%&]{1,6}[a-z]{0,7})(?![\w])")
_SIGN = re.compile(r"[*#$@!%&]")
_SIGNS_ALONE = re.compile(r"(?<![\w*#$@!%&?])[*#$@!%&?]{4,12}(?![\w*#$@!%&?])")
_ROW_OF_SIGNS = '!@#$%^&*()!"§$%&/()=?'
_SWEARING_SIGNS = frozenset("@$%&#")
_SPELT = re.compile(r"[^\W\d_]+(?: [^\W\d_]+)*")
_MOST_HIDDEN = 200
"""Words with signs that are looked at, so that a text of signs is not slow."""


@dataclass(frozen=True)
class Profanity:
    """Profane words and phrases of some languages, folded; a word that has one of the `stems` is profane too."""

    words: frozenset[str]
    phrases: Phrases
    stems: tuple[str, ...]

    @classmethod
    @cache
    def of(cls, languages: tuple[str, ...]) -> "Profanity":
        """Return the words of languages. Raises InputError without glin-profanity."""
        data = _data()
        listed: set[str] = set()
        patterns: list[str] = []
        for code in languages:
            listed |= {fold(word) for word in listed_words(_NAMES[code]) if _SPELT.fullmatch(word)}
            patterns += data["phrases"][code]
        listed -= set(map(fold, data["left_out"]))
        for group in ("everywhere", *languages):
            listed |= set(map(fold, data[group].split()))
        patterns += (" ".join(words(word)) for word in listed if len(words(word)) > 1)
        single = frozenset(word for word in listed if words(word) == [word])
        return cls(single, Phrases(patterns), tuple(data["stems"]))

    def in_words(self, line: Line) -> bool:
        """Return whether a line of folded words has profanity."""
        return (
            not self.words.isdisjoint(line.different)
            or any(stem in line.text for stem in self.stems)
            or self.phrases.in_line(line)
        )

    def hidden_in(self, folded: str) -> bool:
        """Return whether a folded text has one of the words with signs for some of its letters, or swears by signs."""
        if _SIGN.search(folded) is None:
            return False
        for place, match in enumerate(_HIDDEN.finditer(folded)):
            if place == _MOST_HIDDEN:
                return False
            if self._hides(match[1]):
                return True
        signs = (match[0] for match in _SIGNS_ALONE.finditer(folded))
        return any(len(_SWEARING_SIGNS & set(run)) >= 3 and run not in _ROW_OF_SIGNS for run in signs)

    def _hides(self, token: str) -> bool:
        letters = len(_SIGN.sub("", token))
        if letters < 2 and token.count("*") < 3:
            return False
        exact = re.compile(_SIGN.sub("[a-z]", token.rstrip("!")))
        return any(word[0] == token[0] and exact.fullmatch(word) for word in self.words)


@cache
def listed_words(name: str) -> tuple[str, ...]:
    """Return a list of glin-profanity, such as `english`. Raises InputError naming what brings it."""
    # Not imported: it would bring filters, of which nothing is needed.
    holder = find_spec("glin_profanity")
    if holder is None or holder.origin is None:
        raise InputError("the condition `profanity` needs glin-profanity: pip install 'scoremux[serve]'")
    path = Path(holder.origin).parent / "data" / "dictionaries" / f"{name}.json"
    return tuple(json.loads(path.read_text(encoding="utf-8"))["words"])


@lru_cache(maxsize=1)
def _data() -> Any:
    return json.loads(files(__package__).joinpath("profanity.json").read_text(encoding="utf-8"))
