"""Phrases that students write instead of an answer, as patterns of words: `phrases.json` has them by language and rule.

A pattern is a line of words: `a|b` is one of several, `a?` may be missing, `*3` is any three words at most, `$name`
is a group of words that the file names. The first word of a pattern is always written out, so that a text of a million
words is looked through once.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from itertools import accumulate
from typing import Any

from scoremux_decide.conditions.folding import fold, words

LANGUAGES = ("de", "en")
"""Languages of the built-in phrases."""

_LEAST_RESPELLED, _MOST_RESPELLED = 5, 20
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
_NOT = re.compile(r"\b(do|does|did|is|are|was|were|ca|could|would|should|have|has|had|wo)(?: ?n ?t| not|n not|nnot)\b")
_CLITIC = re.compile(r"\b(i|you|he|she|it|we|they|u|that|what|whats|where|who|how) (m|s|re|ll|ve|d)\b")
_CLITICS = tuple(f" {ending} " for ending in ("m", "s", "re", "ll", "ve", "d"))
_LETTERS = re.compile(r"\b[a-z](?: [a-z]){2,}\b")


def joined(text: Sequence[str]) -> str:
    """Return folded words as one line in which contractions are one word: `do not`, `don t` and `dont` are `dont`."""
    line = f" {' '.join(text)} "
    if "not " in line or " t " in line or " nt " in line:
        line = _NOT.sub(r"\1nt", line)
    if any(ending in line for ending in _CLITICS):
        line = _CLITIC.sub(r"\1\2", line)
    return line[1:-1]


def with_letters_joined(line: str) -> str:
    """Return a line in which letters that stand alone, three and more, are a word: `i d k` is `idk`."""
    return _LETTERS.sub(lambda match: match[0].replace(" ", ""), line)


class Line:
    """Words in a line, with the indexes that patterns are looked up in."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self.different = frozenset(words)

    @cached_property
    def text(self) -> str:
        """The words with a space after each."""
        return " ".join(self.words) + " "

    @cached_property
    def places(self) -> Mapping[str, list[int]]:
        """Where each word is, in order."""
        places: dict[str, list[int]] = {}
        for place, word in enumerate(self.words):
            places.setdefault(word, []).append(place)
        return places

    @cached_property
    def starts(self) -> list[int]:
        """Where each word starts in the text; where the text ends."""
        return list(accumulate((len(word) + 1 for word in self.words), initial=0))


class Phrases:
    """Patterns of words, which are looked for in a line of words."""

    def __init__(self, patterns: Iterable[str]) -> None:
        by_first: dict[str, list[str]] = {}
        longest_first = sorted(set(patterns), key=lambda pattern: (-len(pattern), pattern))
        for pattern in longest_first:
            first, *others = pattern.split()
            rest = "".join(map(_expression, others))
            for word in _alternatives(first):
                by_first.setdefault(word, []).append(rest)
        self._by_first = {word: re.compile("|".join(rests)) for word, rests in by_first.items()}

    def in_line(self, line: Line) -> bool:
        """Return whether a line of words has one of the patterns."""
        return any(True for _ in self.places(line))

    def rest(self, line: Line) -> list[str] | None:
        """Return the words that are part of no pattern; None for a line without one."""
        rest, end = [], 0
        for start, stop in self.places(line):
            rest += line.words[end:start]
            end = stop
        return rest + line.words[end:] if end else None

    def places(self, line: Line) -> Iterator[tuple[int, int]]:
        """Yield the place of the first word of each pattern in a line, and that after its last."""
        end = 0
        for place in sorted(
            place for word in line.places.keys() & self._by_first.keys() for place in line.places[word]
        ):
            if place < end:
                continue
            match = self._by_first[line.words[place]].match(line.text, line.starts[place + 1])
            if match is not None:
                end = place + 1 + match[0].count(" ")
                yield place, end


def with_spelling_corrected(line: Sequence[str]) -> list[str]:
    """Return words with misspelt words of phrases put right: a letter too many or too few, two in the wrong order."""
    corrections = _corrections()
    return [corrections.get(word) or _without_letter(word) for word in line]


def _without_letter(word: str) -> str:
    if not _LEAST_RESPELLED < len(word) <= _MOST_RESPELLED or word in _phrase_words():
        return word
    shorter = (word[:place] + word[place + 1 :] for place in range(len(word) - 1))
    return next((form for form in shorter if form in _phrase_words() and len(form) >= _LEAST_RESPELLED), word)


@lru_cache(maxsize=1)
def _phrase_words() -> frozenset[str]:
    lists = (items for language in _data()["languages"].values() for items in language.values())
    patterns = (pattern for items in lists if isinstance(items, list) for pattern in items)
    words_ = frozenset(word for pattern in patterns for token in pattern.split() for word in _alternatives(token))
    return words_ | spare_words()


@lru_cache(maxsize=1)
def _corrections() -> Mapping[str, str]:
    """Words with a letter missing, and with two letters in the wrong order."""
    corrections: dict[str, str] = {}
    for word in sorted(_phrase_words()):
        if len(word) >= _LEAST_RESPELLED:
            for place in range(len(word) - 1):
                corrections.setdefault(word[:place] + word[place + 1 :], word)
                corrections.setdefault(word[:place] + word[place : place + 2][::-1] + word[place + 2 :], word)
    return {wrong: word for wrong, word in corrections.items() if wrong not in _phrase_words()}


def patterns_of(rule: str, languages: Iterable[str]) -> list[str]:
    """Return the built-in patterns of a rule in some languages."""
    data = _data()
    return [pattern for code in languages for pattern in data["languages"][code].get(rule, ())]


@cache
def built_in(rule: str, languages: tuple[str, ...] = LANGUAGES) -> Phrases:
    """Return the built-in phrases of a rule in some languages."""
    return Phrases(patterns_of(rule, languages))


def spare_words() -> frozenset[str]:
    """Return the words that may stand beside a phrase without making an attempt of it."""
    return vocabulary("spare")


@cache
def vocabulary(name: str) -> frozenset[str]:
    """Return a list of single words, those of all languages."""
    listed = (word for language in _data()["languages"].values() for word in language[name].split())
    return frozenset(form for word in listed for form in _forms(word))


def plain(phrase: str) -> str:
    """Return a phrase of a policy as a pattern."""
    return joined(words(fold(phrase)))


@lru_cache(maxsize=1)
def _data() -> Any:
    return json.loads(files(__package__).joinpath("phrases.json").read_text(encoding="utf-8"))


@cache
def _alternatives(token: str) -> tuple[str, ...]:
    if token.startswith("*"):
        return ()
    parts = token.removesuffix("?").split("|")
    groups = _data()["groups"]
    named = (word for part in parts for word in (groups[part[1:]].split("|") if part.startswith("$") else (part,)))
    return tuple(dict.fromkeys(form for word in named for form in _forms(word)))


@cache
def _expression(token: str) -> str:
    if token.startswith("*"):
        return rf"(?:\S+ ){{0,{token[1:]}}}?"
    words_ = "|".join(map(re.escape, sorted(_alternatives(token), key=len, reverse=True)))
    return f"(?:(?:{words_}) )" + "?" * token.endswith("?")


def _forms(word: str) -> tuple[str, ...]:
    """Return a word as it is folded: with umlauts as letters alone, and with the letter e after them."""
    return tuple(dict.fromkeys((fold(word), fold(word.translate(_UMLAUTS)))))
