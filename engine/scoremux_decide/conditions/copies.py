"""Whether a response is taken from one of its task's texts, word for word or with some words changed."""

from collections.abc import Collection, Sequence

from scoremux_decide.conditions.phrases import vocabulary
from scoremux_decide.conditions.source_text import SourceText, keys_of

# Thresholds were chosen on the development responses of tests/data/conditions.
_WORDS_PER_NEW, _WORDS_PER_NEW_ASKED = 8, 5
"""A copy may have a new word for each eight of its words; one that begins as a question does, for each five."""
_LEAST_RESTATED, _RESTATED = 4, 0.6
"""Fewest words that repeat a question, and the share of a sentence of it that they have."""
_LEAST_ALTERED, _ALTERED, _WHOLE = 12, 0.8, 0.7
"""Fewest words of a source whose order can tell a copy, and the shares of the response and of the source in order."""
_ASKING = vocabulary("asking")
_SHORT_REFERENCE, _HALF = 12, 0.5
"""A reference of at most twelve words is said alike by those who know it; half of its words make an answer."""
_FIRST_WORDS = 5
_ANSWERS = vocabulary("answers")
"""Words that make an answer of a question's words."""
_CONDITIONS = vocabulary("conditional")
_LITTLE = vocabulary("little in a copy")
"""Words that add little to a copy."""


def is_run(response: Sequence[str], source: SourceText, run: int, share: float) -> bool:
    """Return whether `run` words in a row are the source's, and a share of all words lies in runs of three of it."""
    if len(response) < run:
        return False
    covered, longest = source.coverage(response)
    if longest < run or covered < share * len(response):
        return False
    return len(_new_words(response, source)) <= len(response) // _WORDS_PER_NEW


def is_restated(response: Sequence[str], question: SourceText) -> bool:
    """Return whether a response says what the question says, with other endings or in another order, and no more."""
    asks = any(word in _ASKING for word in response[:_FIRST_WORDS])
    answers = _ANSWERS - _CONDITIONS if asks else _ANSWERS
    if len(response) < _LEAST_RESTATED or answers & (set(response) - question.vocabulary):
        return False
    if len(_new_words(response, question)) > (len(response) // _WORDS_PER_NEW_ASKED if asks else 0):
        return False
    return any(_share(response, sentence) >= _RESTATED for sentence in question.sentences)


def is_answer(response: Sequence[str], reference: SourceText) -> bool:
    """Return whether a response has half of the words of a short reference: then it may as well be an answer."""
    if len(reference.words) > _SHORT_REFERENCE or not reference.sentences:
        return False
    return _share(response, reference.sentences[0]) >= _HALF


def is_altered(response: Sequence[str], source: SourceText) -> bool:
    """Return whether most words of a response are those of most of a source, in the same order."""
    if len(source.words) < _LEAST_ALTERED or len(response) < _WHOLE * len(source.words):
        return False
    if _ANSWERS & (set(response) - source.vocabulary):
        return False
    in_order = source.in_order(response)
    return in_order >= _ALTERED * len(response) and in_order >= _WHOLE * len(source.words)


def _share(response: Sequence[str], sentence: Collection[tuple[str, str]]) -> float:
    """Return the share of a sentence's words that a response has."""
    keys = frozenset(key for word in response for key in keys_of(word))
    return sum(not keys.isdisjoint(word) for word in sentence) / len(sentence)


def _new_words(response: Sequence[str], source: SourceText) -> list[str]:
    """Return the words that mean something and are not in a source."""
    return [word for word in response if not source.has(word) and word not in _LITTLE]
