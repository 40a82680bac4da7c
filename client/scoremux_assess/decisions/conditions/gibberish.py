"""Whether a response is gibberish: repeated letters and sounds, rows of keys, words for fun, keys struck at random."""

from __future__ import annotations

import re
from collections.abc import Sequence

from scoremux_assess.decisions.conditions.letters import known_share, languages, trigrams_of
from scoremux_assess.decisions.conditions.phrases import spare_words, vocabulary

_REPEATED_UNIT = re.compile(r"(.{1,4}?)\1{2,}.{0,3}")
_ROWS = (
    *("abcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcba", "poiuytrewqlkjhgfdsamnbvcxz"),
    *("qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm", "azertyuiop", "01234567890", "0987654321"),
)
"""Letters and digits as they stand on keys and in the alphabet."""
_LEAST_ROW, _LONGEST_ROW, _LEAST_REPETITIVE = 4, 26, 5
"""Letters: of a part of a row, and of a word that repeats itself."""
_ONE_WORD, _TWO_WORDS = 3, 6
"""Words of a response that says one word, or two words, again and again."""
_LEAST_MASH = 5
_MASH_SHARE = 0.4
_VOWELS = frozenset("aeiouy")
_MOST_WORDS = 60


def is_gibberish(words: Sequence[str], task_words: frozenset[str]) -> bool:
    """Return whether folded words are gibberish; False for none and for more than 60.

    task_words: those of the task, which are words whatever they look like.
    """
    if not 0 < len(words) <= _MOST_WORDS:
        return False
    different = set(words)
    if not different.isdisjoint(task_words) and different - spare_words() <= task_words:
        return False
    if (len(words) >= _ONE_WORD and len(different) == 1) or (len(words) >= _TWO_WORDS and len(different) == 2):
        return True
    joined = "".join(words)
    if _LEAST_ROW <= len(joined) <= _LONGEST_ROW and any(joined in row for row in _ROWS):
        return True
    fun = vocabulary("fun")
    spare = spare_words()
    if all(word in spare or word in fun or word.isdigit() or _is_sound_or_row(word) for word in words):
        funny = sum(word in fun or _is_sound_or_row(word) for word in words)
        return funny > sum(not word.isdigit() for word in words) - funny
    mash = 0
    for word in words:
        if word not in spare_words():
            if not _is_mash(word, task_words):
                return False
            mash += 1 if len(word) < _LEAST_MASH else 2
    return mash > 1


def _is_sound_or_row(word: str) -> bool:
    """Return whether a word repeats a few letters, such as hahaha, or is part of a row of keys."""
    if len(word) >= _LEAST_REPETITIVE and _REPEATED_UNIT.fullmatch(word):
        return True
    return len(word) >= _LEAST_ROW and word.isalpha() and any(word in row for row in _ROWS)


def _is_mash(word: str, task_words: frozenset[str]) -> bool:
    if not word.isascii() or not word.isalpha() or word in task_words:
        return False
    if len(word) < _LEAST_MASH:
        return len(word) == _LEAST_MASH - 1 and _VOWELS.isdisjoint(word)
    return known_share(trigrams_of([word]), languages()) < _MASH_SHARE
