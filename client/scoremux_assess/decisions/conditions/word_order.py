"""Whether a response is the task's own words without order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from scoremux_assess.decisions.conditions.phrases import vocabulary
from scoremux_assess.decisions.conditions.source_text import SourceText

_LEAST_OWN_SHARE, _MOST_ORDERED_SHARE = 0.85, 0.4
_LEAST_WORDS, _MOST_WORDS = 5, 400
_STOPS = re.compile(r"[.,;:!?()\n–—-]")

_DETERMINERS = vocabulary("determiners")
_PREPOSITIONS = vocabulary("prepositions")
_CONJUNCTIONS = vocabulary("joining")
_VERBS = vocabulary("verbs")
_NEVER_AFTER = {
    **dict.fromkeys(_DETERMINERS, _PREPOSITIONS | _CONJUNCTIONS | _VERBS | vocabulary("articles")),
    **dict.fromkeys(_PREPOSITIONS, _CONJUNCTIONS | _VERBS | vocabulary("subjects")),
    **dict.fromkeys(_CONJUNCTIONS, _CONJUNCTIONS - vocabulary("clauses")),
}
"""Word → words that do not come after it in a sentence."""
ASKING = vocabulary("asking")
"""Words that ask; a sentence that answers has none of them."""
_NOT_LAST = (_DETERMINERS | _PREPOSITIONS | _CONJUNCTIONS) - vocabulary("ending")
FUNCTION = _DETERMINERS | _PREPOSITIONS | _CONJUNCTIONS | _VERBS | vocabulary("small")


def is_word_salad(words: Sequence[str], question: SourceText, reference: SourceText, text: str) -> bool:
    """Return whether the words of a response are almost all the task's own, few in its order, and at least
    one thing shows that they make no sentence: a pair that no sentence has, a question's word, no small words.

    Args:
        words: The words.
        question: The task's question.
        reference: Its reference.
        text: The response.
    """
    if not _LEAST_WORDS <= len(words) <= _MOST_WORDS:
        return False
    task_words = sum(word in question.vocabulary or word in reference.vocabulary for word in words)
    if task_words < _LEAST_OWN_SHARE * len(words) or sum(map(str.isalpha, words)) < _LEAST_OWN_SHARE * len(words):
        return False
    pairs = list(pairwise(words))
    ordered = sum(pair in question.pairs or pair in reference.pairs for pair in pairs)
    if ordered > _MOST_ORDERED_SHARE * len(pairs):
        return False
    asked = ASKING & set(words) and set(words) <= question.vocabulary
    return bool(asked) or _impossible(words) > 0 or _mere_list(words, text)


def _impossible(words: Sequence[str]) -> int:
    """Return how many pairs of words no sentence has."""
    pairs = pairwise(words)
    return sum(after in _NEVER_AFTER.get(word, ()) or word == after for word, after in pairs) + (words[-1] in _NOT_LAST)


def _mere_list(words: Sequence[str], text: str) -> bool:
    """Return whether words follow each other without the small words and the signs that a sentence or a list has."""
    small = sum(word in FUNCTION for word in words)
    return small <= len(words) // 10 and not _STOPS.search(text.strip().rstrip(".!?"))
