"""Which texts are the same, or nearly: for deciding duplicates together, and for folds that keep near copies apart."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from scoremux_evidence.rows.table import Ints

NEAR = 0.8
"""Share of trigrams in common from which a text is a near copy of another: some words were changed."""

_QUOTES = re.compile(r"""(?<!\d)["'‘’“”„«»!](?!\d)""")
_STOPS = re.compile(r"[.,;:?…¿¡،؛؟。、](?!\d)")
_GRAM = 3
_BLOCK = 1024
"""Texts that are compared with as many others at a time."""


def fold(text: str) -> str:
    """Return a text without features that do not change an answer: case, runs of white space, punctuation of sentences.

    Signs that may be mathematics stay: dashes, brackets, and whatever touches a digit, such as the point in 2.5.

    >>> fold(" It hands out\\n ADDRESSES. ") == fold("it hands out addresses")
    True
    >>> fold("It's -2.5!")
    'its -2.5!'
    """
    folded = unicodedata.normalize("NFC", text).casefold()
    return " ".join(_STOPS.sub(" ", _QUOTES.sub("", folded)).split())


def _trigrams(text: str) -> set[str]:
    padded = f" {fold(text)} "
    return {padded[n : n + _GRAM] for n in range(max(1, len(padded) - _GRAM + 1))}


def near_copies(texts: Sequence[str]) -> list[int]:
    """Return for each text the place of the first that it is a near copy of, its own where there is none.

    Texts with |a ∩ b| / |a ∪ b| of at least `NEAR` belong together, and so do their copies. a and b: the sets of three
    characters in a row after folding, the ends of the text included.

    >>> near_copies(["Green light is reflected.", "It hands out addresses.", "green light is reflected"])
    [0, 1, 0]
    """
    first_of: dict[str, int] = {}
    for n, text in enumerate(texts):
        first_of.setdefault(fold(text), n)
    places = np.array(list(first_of.values()), dtype=np.int64)
    grams = [_trigrams(texts[n]) for n in places]
    place_of = {gram: n for n, gram in enumerate(sorted(set().union(*grams)))}
    has = np.zeros((len(grams), len(place_of)), np.bool_)
    for n, of_text in enumerate(grams):
        has[n, [place_of[gram] for gram in of_text]] = True
    sizes = has.sum(axis=1)
    group = list(range(len(texts)))
    for first in range(0, len(grams), _BLOCK):
        rows = slice(first, first + _BLOCK)
        for other in range(0, first + 1, _BLOCK):
            columns = slice(other, other + _BLOCK)
            common = has[rows].astype(np.float32) @ has[columns].astype(np.float32).T
            alike = common >= NEAR * (sizes[rows, None] + sizes[columns] - common)
            for row, column in zip(*np.nonzero(alike), strict=True):
                join_groups(group, int(places[first + row]), int(places[other + column]))
    return [group_of(group, first_of[fold(text)]) for text in texts]


def related(texts: Sequence[str], student: Ints) -> list[int]:
    """Return a number for each group of texts that tell of each other: near copies, and those of one student.

    student: A number for who wrote each text, −1 where that is not known.
    """
    groups: list[int] = connected_rows([student, np.array(near_copies(texts), np.int64)]).tolist()
    return groups


def connected_rows(columns: Sequence[Ints]) -> Ints:
    """Return a number for each group of rows, int64 [B]: those that share a value in any column are in one.

    columns: int64 [B] each; rows with a negative value share it with no other.
    """
    groups = list(range(len(columns[0])))
    for column in columns:
        first: dict[int, int] = {}
        for row, value in enumerate(column.tolist()):
            if value >= 0:
                join_groups(groups, row, first.setdefault(value, row))
    roots = [group_of(groups, row) for row in range(len(groups))]
    return np.unique(roots, return_inverse=True)[1]


def group_of(groups: list[int], place: int) -> int:
    """Return the first place of a group. groups: for each place an earlier one of its group, or itself."""
    while groups[place] != place:
        groups[place] = groups[groups[place]]
        place = groups[place]
    return place


def join_groups(groups: list[int], place: int, other: int) -> None:
    """Make one group of two."""
    first, second = sorted((group_of(groups, place), group_of(groups, other)))
    groups[second] = first
