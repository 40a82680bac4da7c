"""A response and the texts of its task, with what the rules of conditions ask about them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

from scoremux_assess.decisions.conditions.folding import fold, visible, words
from scoremux_assess.decisions.conditions.language import Identify
from scoremux_assess.decisions.conditions.letters import common_share, trigrams_of

_COMMON_ENOUGH, _FEW_COMMON = 0.2, 3
_DIGITS = str.maketrans("013457@$", "oieastas")
_REPEATED = re.compile(r"([a-z])\1{2,}")

RUN = 3
"""Words of the runs that a response may share with the task's texts."""

Run = tuple[str, ...]


class TaskTexts:
    """What a response is compared with.

    Args:
        texts: The task's own texts, which a response may be copied from.
        languages: ISO 639-1 codes of those that its responses may be in; none: any.
        identify: What tells a text's language.
    """

    def __init__(self, texts: Sequence[str], languages: Sequence[str], identify: Identify) -> None:
        self.languages = tuple(code.lower().partition("-")[0] for code in languages if code)
        self.identify = identify
        words_of_texts = [words(fold(text)) for text in texts]
        self.letters = ["".join(text) for text in words_of_texts]
        self.runs = frozenset(run for text in words_of_texts for run in runs(text))


class ResponseText:
    """A response, with what is computed of it when a rule needs it."""

    def __init__(self, text: str, task: TaskTexts) -> None:
        self.text = text
        self.folded = fold(text)
        self.task = task

    @cached_property
    def words(self) -> list[str]:
        return words(self.folded)

    @cached_property
    def plain_words(self) -> list[str]:
        """The words with digits as the letters they pass for, and without letters repeated thrice and more."""
        plain = _REPEATED.sub(r"\1", self.folded.translate(_DIGITS))
        return self.words if plain == self.folded else words(plain)

    @cached_property
    def trigrams(self) -> list[str]:
        return trigrams_of(self.words)

    @cached_property
    def plainly_accepted(self) -> bool:
        """Whether many of its words are among the commonest of an accepted language: no more need be known."""
        return len(self.words) >= _FEW_COMMON and common_share(self.words, self.task.languages) >= _COMMON_ENOUGH

    def identify(self) -> tuple[str, float]:
        """Return the likeliest language's code and its probability."""
        return self.task.identify(visible(self.text))

    def coverage(self) -> tuple[int, int]:
        """Return how many words lie in runs of the task's texts, and the longest unbroken stretch of such words."""
        covered = longest = stretch = end = 0
        for place, run in enumerate(runs(self.words)):
            if run in self.task.runs:
                covered += place + RUN - max(end, place)
                stretch = stretch + 1 if end == place + RUN - 1 else RUN
                longest, end = max(longest, stretch), place + RUN
        return covered, longest


def runs(text: Sequence[str]) -> Iterator[Run]:
    """Yield all runs of `RUN` words."""
    return zip(*(text[start:] for start in range(RUN)), strict=False)
