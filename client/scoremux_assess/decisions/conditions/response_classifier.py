"""Linear classifier of responses that talk to the scorer (`A`) or mean nothing (`U`), in whole numbers.

Every machine gets the same sums. `tests/data/conditions/train_classifier.py` writes the weights
(`response_classifier.json`).
"""

from __future__ import annotations

import json
import zlib
from base64 import b85decode
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from scoremux_assess.decisions.conditions.response_features import ONE, PLACES, count_names, features, letters, place
from scoremux_assess.decisions.conditions.source_text import SourceText

CODES = ("A", "U")
UNIT = 64
"""What a weight of 1 is in the file."""
_COLUMN = 40
"""Bits of the weight of one code, where those of all codes are one number."""
_HALF = 1 << _COLUMN - 1


def scores(words: Sequence[str], text: str, question: SourceText, reference: SourceText) -> Mapping[str, int]:
    """Return by how much the score of each code is above what it must be; the arguments are those of `features`."""
    read, weights = features(words, text, question, reference), _weights()
    runs = set().union(*read.runs)
    of_text = sum(map(weights.of_places.__getitem__, [run % PLACES for run in runs])) + sum(map(_letters, read.words))
    of_counts = weights.always + sum([table[counts_of(read.counts)] for counts_of, table in weights.of_counts])
    totals = zip(_columns(of_text), _columns(of_counts), weights.least, strict=True)
    return {
        code: text * read.factor + counts * ONE - least
        for code, (text, counts, least) in zip(CODES, totals, strict=True)
    }


class _Weights(NamedTuple):
    """Weights, each for all codes in one number.

    Attributes:
        of_places: Of each place.
        always: What every response gets.
        of_counts: For each feature that counts make, what takes the counts, and weights by their values.
        least: The least score of each code.
        beside_phrase: See `beside_phrase`.
    """

    of_places: list[int]
    always: int
    of_counts: Sequence[tuple[Callable[[Mapping[str, int]], Any], Mapping[Any, int]]]
    least: list[int]
    beside_phrase: int


def beside_phrase() -> int:
    """Return how far below what it must be the score of `A` may be beside a phrase of the lists."""
    return _weights().beside_phrase


@lru_cache(maxsize=1 << 15)
def _letters(word: str) -> int:
    """Return the weights of a word and its letters."""
    return sum(map(_weights().of_places.__getitem__, letters(word)))


@cache
def _weights() -> _Weights:
    data = json.loads(files(__package__).joinpath("response_classifier.json").read_text(encoding="ascii"))
    packed = np.frombuffer(zlib.decompress(b85decode(data["weights"])), np.int8).reshape(PLACES, len(CODES))
    together = (packed.astype(np.int64) << _COLUMN * np.arange(len(CODES))).sum(axis=1)
    # Equal weights are one object: fewer of them are read from memory.
    different, which = np.unique(together, return_inverse=True)
    places = list(map(different.tolist().__getitem__, which))
    of_counts = [
        (itemgetter(*counts), {values: places[place(name)] for values, name in names.items()})
        for _, counts, names in count_names()
    ]
    least = [data["least"][code] for code in CODES]
    return _Weights(places, places[place("n")], of_counts, least, data["beside_phrase"])


def _columns(total: int) -> list[int]:
    """Return the sum of each code from that of all of them."""
    columns = []
    for _ in CODES:
        column = (total + _HALF) % (2 * _HALF) - _HALF
        columns.append(column)
        total = (total - column) >> _COLUMN
    return columns
