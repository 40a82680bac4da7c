"""A response and the texts of its task, with the properties that the rules of conditions ask for."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property

from scoremux_decide.conditions.folding import fold, visible, words
from scoremux_decide.conditions.language import identify
from scoremux_decide.conditions.letters import common_share, trigrams_of
from scoremux_decide.conditions.phrases import Line, joined, vocabulary, with_letters_joined, with_spelling_corrected
from scoremux_decide.conditions.source_text import SourceText

_MOST_WORDS_OF_PHRASE, _MOST_WORDS_RESPELLED = 40, 12
"""Most words of a response that counts as short, and of one whose misspelt words are corrected."""
_COMMON_ENOUGH, _LEAST_WORDS = 0.2, 3
"""The share of common words that shows a language, from as many words on."""
_DIGITS = str.maketrans("013457@$", "oieastas")
_REPEATED = re.compile(r"([a-z])\1{2,}")


class TaskTexts:
    """The texts that a response is compared with. languages: ISO 639-1 codes of those that it may be in; none: any."""

    def __init__(self, question: str, reference: str, languages: Sequence[str]) -> None:
        self.languages = tuple(code.lower().partition("-")[0] for code in languages if code)
        self.question, self.reference = SourceText(question), SourceText(reference)
        self.asks_for_letter = not self.question.vocabulary.isdisjoint(vocabulary("letter"))


class ResponseText:
    """A response; its properties are computed when a rule needs them."""

    def __init__(self, text: str, task: TaskTexts) -> None:
        self.text = text
        self.folded = fold(text)
        self.task = task

    @cached_property
    def words(self) -> list[str]:
        return words(self.folded)

    @cached_property
    def readings(self) -> list[Line]:
        """Ways to read the words, one or two.

        With contractions joined; and, where that differs, also with digits as letters (h3lp), letters joined that stand
        alone (i d k), and repeated letters as one (nooo).
        """
        line = joined(self.words)
        plain = _REPEATED.sub(r"\1", self.folded.translate(_DIGITS))
        other = with_letters_joined(line if plain == self.folded else joined(words(plain)))
        return [Line(reading.split()) for reading in dict.fromkeys((line, other))]

    @cached_property
    def short_readings(self) -> list[Line]:
        """The readings of a short response, and so again with misspelt words of phrases; none of a long one."""
        readings = [reading for reading in self.readings if len(reading.words) <= _MOST_WORDS_OF_PHRASE]
        if readings and len(readings[0].words) <= _MOST_WORDS_RESPELLED:
            words_ = with_spelling_corrected(readings[0].words)
            return readings if words_ == readings[0].words else [*readings, Line(words_)]
        return readings

    @cached_property
    def trigrams(self) -> list[str]:
        return trigrams_of(self.words)

    @cached_property
    def clearly_accepted(self) -> bool:
        """Whether many of its words are common in an accepted language, so that no detection is needed."""
        return len(self.words) >= _LEAST_WORDS and common_share(self.words, self.task.languages) >= _COMMON_ENOUGH

    @cached_property
    def likely_languages(self) -> Mapping[str, float]:
        """The likeliest languages of the text, with their probabilities."""
        return identify(self.visible)

    @cached_property
    def visible(self) -> str:
        """The text in its own letters, without invisible characters."""
        return visible(self.text)
