"""Whether a response is taken from one of its task's texts, word for word or with some words changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from scoremux_decide.conditions.phrases import vocabulary
from scoremux_decide.conditions.source_text import SourceText, keys_of

_WORDS_PER_NEW, _WORDS_PER_NEW_ASKED = 8, 5
"""With so many words a copy may have one word of its own, and one more with each so many more."""
_LEAST_RESTATED, _RESTATED = 4, 0.6
_LEAST_ALTERED, _ALTERED, _WHOLE = 12, 0.8, 0.7
_ASKING = vocabulary("asking")
_SHORT_REFERENCE, _HALF = 12, 0.5
_FIRST_WORDS = 5
_ANSWERS = vocabulary("answers")
"""Words that make an answer of a question's words."""
_CONDITIONS = vocabulary("conditional")
_LITTLE = vocabulary("little in a copy")
"""Words that add little to a copy."""


def is_run(said: Sequence[str], source: SourceText, run: int, share: float) -> bool:
    """Return whether so many words in a row are the source's, and such a share of all words in runs of three."""
    if len(said) < run:
        return False
    covered, longest = source.coverage(said)
    if longest < run or covered < share * len(said):
        return False
    return len(_own(said, source)) <= len(said) // _WORDS_PER_NEW


def is_restated(said: Sequence[str], question: SourceText) -> bool:
    """Return whether a response says what the question says, with other endings or in another order, and no more."""
    asks = any(word in _ASKING for word in said[:_FIRST_WORDS])
    answers = _ANSWERS - _CONDITIONS if asks else _ANSWERS
    if len(said) < _LEAST_RESTATED or answers & (set(said) - question.vocabulary):
        return False
    if len(_own(said, question)) > (len(said) // _WORDS_PER_NEW_ASKED if asks else 0):
        return False
    return any(_share(said, sentence) >= _RESTATED for sentence in question.sentences)


def is_answer(said: Sequence[str], reference: SourceText) -> bool:
    """Return whether a response has half of what a short reference says: then it may as well be an answer."""
    if len(reference.words) > _SHORT_REFERENCE or not reference.sentences:
        return False
    return _share(said, reference.sentences[0]) >= _HALF


def is_altered(said: Sequence[str], source: SourceText) -> bool:
    """Return whether most words of a response are those of most of a source, in the same order."""
    if len(source.words) < _LEAST_ALTERED or len(said) < _WHOLE * len(source.words):
        return False
    if _ANSWERS & (set(said) - source.vocabulary):
        return False
    in_order = source.in_order(said)
    return in_order >= _ALTERED * len(said) and in_order >= _WHOLE * len(source.words)


def _share(said: Sequence[str], sentence: Collection[tuple[str, str]]) -> float:
    """Return the share of a sentence's words that a response has."""
    keys = frozenset(key for word in said for key in keys_of(word))
    return sum(not keys.isdisjoint(word) for word in sentence) / len(sentence)


def _own(said: Sequence[str], source: SourceText) -> list[str]:
    """Return the words that mean something and are not in a source."""
    return [word for word in said if not source.has(word) and word not in _LITTLE]
