"""Rules that give a response a condition code; what they say depends on the response and its task's texts alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Annotated, ClassVar

from scoremux_assess.decisions.conditions.folding import fold, words
from scoremux_assess.decisions.conditions.letters import MOST_LETTERS, known_share, languages
from scoremux_assess.decisions.conditions.response import RUN, ResponseText, Run
from scoremux_assess.decisions.records import lists_of_texts, number, one_of, table_of, texts, whole

CODE, FLAG = "code", "flag"

_LETTERS_TO_COPY = 40
_MOSTLY = 0.7
_MOST_WORDS_OF_REFUSAL = 20
_SPARE_WORDS = frozenset(
    words(
        "sorry really just simply honestly uh um hm hmm lol haha ok okay well the answer to this that it question "
        "about at all leider echt einfach ehrlich gesagt die antwort auf diese frage das es darauf dazu hier gar mal"
    )
)
"""Words that may stand beside a refusal without making it an attempt."""


@dataclass(frozen=True)
class Rule:
    """A rule with its thresholds; see the example policy for what they mean. action: `code` or `flag`."""

    code: ClassVar[str]
    action: Annotated[str, one_of(CODE, FLAG)]

    def applies(self, response: ResponseText) -> bool:
        """Return whether a response has the condition."""
        raise NotImplementedError


@dataclass(frozen=True)
class BlankRule(Rule):
    """Nothing that a reader would see."""

    code = "B"

    def applies(self, response: ResponseText) -> bool:
        return not response.folded.strip()


@dataclass(frozen=True)
class RefusalRule(Rule):
    """One of `phrases`, by language, beside at most `extra_words` others."""

    code = "R"
    extra_words: Annotated[int, whole(0, 100)]
    phrases: Annotated[Mapping[str, tuple[str, ...]], lists_of_texts]

    @cached_property
    def by_first_word(self) -> Mapping[str, list[Run]]:
        """The phrases as words, by the first of them, the longest first."""
        phrases = {tuple(words(fold(phrase))) for language in self.phrases.values() for phrase in language} - {()}
        by_first_word: dict[str, list[Run]] = {}
        for phrase in sorted(phrases, key=lambda phrase: (-len(phrase), phrase)):
            by_first_word.setdefault(phrase[0], []).append(phrase)
        return by_first_word

    def applies(self, response: ResponseText) -> bool:
        if len(response.words) > _MOST_WORDS_OF_REFUSAL:
            return False
        plain = response.plain_words
        for reading in (response.words,) if plain is response.words else (response.words, plain):
            if self.by_first_word.keys().isdisjoint(reading):
                continue
            rest = list(self._without_phrases(reading))
            if len(rest) < len(reading) and sum(word not in _SPARE_WORDS for word in rest) <= self.extra_words:
                return True
        return False

    def _without_phrases(self, reading: Sequence[str]) -> Iterator[str]:
        """Yield the words that are part of no phrase."""
        place = 0
        while place < len(reading):
            phrases = self.by_first_word.get(reading[place], ())
            phrase = next((p for p in phrases if tuple(reading[place : place + len(p)]) == p), None)
            if phrase is None:
                yield reading[place]
            place += len(phrase or " ")


@dataclass(frozen=True)
class CopiedRule(Rule):
    """Taken from the task's texts: a run of so many words, and such a share of the words in shared runs."""

    code = "C"
    run: Annotated[int, whole(RUN, 1000)]
    share: Annotated[float, number(0, 1)]

    def applies(self, response: ResponseText) -> bool:
        joined = "".join(response.words)
        if len(joined) >= _LETTERS_TO_COPY and any(joined in letters for letters in response.task.letters):
            return True
        if len(response.words) < self.run:
            return False
        covered, longest = response.coverage()
        return longest >= self.run and covered >= self.share * len(response.words)


@dataclass(frozen=True)
class UninterpretableRule(Rule):
    """No words: of at least so many letter trigrams, less than a share is known to some language."""

    code = "U"
    letters: Annotated[int, whole(1, 10_000)]
    share: Annotated[float, number(0, 1)]

    def applies(self, response: ResponseText) -> bool:
        if not response.words:
            return bool(response.folded.strip())
        if response.plainly_accepted:
            return False
        trigrams = response.trigrams
        # Letters of other scripts are the business of `language`, numbers and signs are answers to some tasks.
        visible_signs = len(response.folded) - response.folded.count(" ")
        if len(trigrams) < self.letters or len(trigrams) < _MOSTLY * min(visible_signs, MOST_LETTERS):
            return False
        if known_share(trigrams, response.task.languages) >= self.share:
            return False
        return known_share(trigrams, languages()) < self.share


@dataclass(frozen=True)
class LanguageRule(Rule):
    """Of at least so many letters, and with such a probability in a language that is not accepted."""

    code = "L"
    letters: Annotated[int, whole(1, 10_000)]
    probability: Annotated[float, number(0, 1)]
    languages: Annotated[tuple[str, ...], texts] = ()

    def applies(self, response: ResponseText) -> bool:
        accepted = response.task.languages
        if not accepted or sum(map(str.isalpha, response.folded)) < self.letters or response.plainly_accepted:
            return False
        code, probability = response.identify()
        return code not in accepted and probability >= self.probability


@dataclass(frozen=True)
class InsufficientRule(Rule):
    """Fewer different words than `words`."""

    code = "I"
    words: Annotated[int, whole(1, 1000)]

    def applies(self, response: ResponseText) -> bool:
        return len(set(response.words)) < self.words


@dataclass(frozen=True)
class Conditions:
    """The rules of a policy, in the order in which they are tried; None: not tried."""

    blank: Annotated[BlankRule | None, table_of(BlankRule)] = None
    refusal: Annotated[RefusalRule | None, table_of(RefusalRule)] = None
    copied: Annotated[CopiedRule | None, table_of(CopiedRule)] = None
    uninterpretable: Annotated[UninterpretableRule | None, table_of(UninterpretableRule)] = None
    language: Annotated[LanguageRule | None, table_of(LanguageRule)] = None
    insufficient: Annotated[InsufficientRule | None, table_of(InsufficientRule)] = None

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that are tried."""
        parts = (getattr(self, part.name) for part in fields(self))
        return tuple(rule for rule in parts if rule is not None)
