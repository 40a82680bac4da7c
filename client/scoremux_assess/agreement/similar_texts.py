"""Which texts are the same, or nearly: for deciding duplicates together, and for folds that keep near copies apart."""

from __future__ import annotations

import re
import unicodedata

_QUOTES = re.compile(r"""(?<!\d)["'‘’“”„«»!](?!\d)""")
_STOPS = re.compile(r"[.,;:?…¿¡،؛؟。、](?!\d)")
_GRAM = 3


def fold(text: str) -> str:
    """Return a text without what does not change an answer: case, runs of white space, punctuation of sentences.

    Signs that may be mathematics stay: dashes, brackets, and whatever touches a digit, such as the point in 2.5.

    >>> fold(" It hands out\\n ADDRESSES. ") == fold("it hands out addresses")
    True
    >>> fold("It's -2.5!")
    'its -2.5!'
    """
    folded = unicodedata.normalize("NFC", text).casefold()
    return " ".join(_STOPS.sub(" ", _QUOTES.sub("", folded)).split())


def likeness(text: str, other: str) -> float:
    """Return the share of trigrams that two texts have in common after folding, 0 to 1.

    |a ∩ b| / |a ∪ b|, a and b: the sets of three characters in a row, the ends of the text included.

    >>> likeness("Green light is reflected.", "green light is reflected")
    1.0
    """
    a, b = _trigrams(text), _trigrams(other)
    return len(a & b) / len(a | b) if a | b else 1.0


def _trigrams(text: str) -> set[str]:
    padded = f" {fold(text)} "
    return {padded[n : n + _GRAM] for n in range(max(1, len(padded) - _GRAM + 1))}
