"""One of the task's own texts, which a response may be copied from."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from scoremux_decide.conditions.folding import fold, words
from scoremux_decide.conditions.phrases import spare_words

_MOST_WORDS_ALIGNED = 500
"""Bounds the time for a long text: aligning takes a step for each pair of words."""

RUN = 3
"""Words of the runs that a response may share with the task's texts."""

Run = tuple[str, ...]


_STEM = 4
_SENTENCES = re.compile(r"[.?!:;]")
_LEAST_MEANING = 3


class SourceText:
    """Its words, their runs of `RUN`, and where each word is, as bits."""

    def __init__(self, text: str) -> None:
        self.words = words(fold(text))
        self.vocabulary = frozenset(self.words)
        self.letters = "".join(self.words)
        self.runs = frozenset(runs(self.words))
        self._keys = frozenset(key for word in self.words for key in keys_of(word))
        self._places: dict[str, int] = {}
        for place, word in enumerate(self.words[:_MOST_WORDS_ALIGNED]):
            for key in keys_of(word):
                self._places[key] = self._places.get(key, 0) | 1 << place
        self.sentences: list[set[tuple[str, str]]] = []
        """The keys of the words that mean something, of the whole text and of each sentence."""
        for part in (text, *_SENTENCES.split(text)):
            meaning = (word for word in words(fold(part)) if len(word) > 1 and word not in spare_words())
            keys = set(map(keys_of, meaning))
            if len(keys) >= _LEAST_MEANING:
                self.sentences.append(keys)

    def has(self, word: str) -> bool:
        """Return whether a word is in this text, with another ending or with its letters in another order."""
        return not self._keys.isdisjoint(keys_of(word))

    def in_order(self, response: Sequence[str]) -> int:
        """Return how many words of a response are in this text in the same order: the longest common subsequence."""
        # Bits of `ends` are cleared where a common subsequence ends (Hyyrö 2004).
        width = min(len(self.words), _MOST_WORDS_ALIGNED)
        full = ends = (1 << width) - 1
        for word in response[:_MOST_WORDS_ALIGNED]:
            beginning, letters = keys_of(word)
            matches = ends & (self._places.get(beginning, 0) | self._places.get(letters, 0))
            ends = ((ends + matches) | (ends - matches)) & full
        return width - ends.bit_count()

    def coverage(self, response: Sequence[str]) -> tuple[int, int]:
        """Return how many words of a response lie in runs of this text, and the longest unbroken stretch of them."""
        covered = longest = stretch = end = 0
        for place, run in enumerate(runs(response)):
            if run in self.runs:
                covered += place + RUN - max(end, place)
                stretch = stretch + 1 if end == place + RUN - 1 else RUN
                longest, end = max(longest, stretch), place + RUN
        return covered, longest


@lru_cache(maxsize=1 << 16)
def keys_of(word: str) -> tuple[str, str]:
    """Return two keys of a word: one for all its endings, one for misspellings that swap letters."""
    return word[:_STEM], f"{len(word)}{''.join(sorted(word))}"


def runs(text: Sequence[str]) -> Iterator[Run]:
    """Yield all runs of `RUN` words."""
    return zip(*(text[start:] for start in range(RUN)), strict=False)
