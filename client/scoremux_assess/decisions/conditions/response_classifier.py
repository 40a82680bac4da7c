"""Linear classifier of responses that talk to the scorer (`A`) or mean nothing (`U`), in whole numbers.

Every machine gets the same sums. `tests/data/conditions/train_classifier.py` writes the weights
(`response_classifier.json`).
"""

from __future__ import annotations

import json
import zlib
from base64 import b85decode
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from scoremux_assess.decisions.conditions.response_features import (
    ONE,
    PLACES,
    Ints,
    count_features,
    features,
    letters,
    place,
)
from scoremux_assess.decisions.conditions.source_text import SourceText

CODES = ("A", "U")
UNIT = 64
"""What a weight of 1 is in the file."""


def scores(words: Sequence[str], text: str, question: SourceText, reference: SourceText) -> Mapping[str, int]:
    """Return by how much the score of each code is above what it must be; the arguments are those of `features`."""
    weights, of_counts, least = _weights()
    read = features(words, text, question, reference)
    different = set().union(*read.runs)
    total = weights[np.fromiter(different, np.int64, len(different)) % PLACES].sum(axis=0, dtype=np.int64)
    total += [sum(column) for column in zip((0,) * len(CODES), *map(_letters, read.words), strict=True)]
    total = total * read.factor + of_counts[read.counts].sum(axis=0, dtype=np.int64) * ONE - least
    return dict(zip(CODES, total.tolist(), strict=True))


@lru_cache(maxsize=1 << 15)
def _letters(word: str) -> tuple[int, ...]:
    """Return the weights of a word and its letters, of each code."""
    return tuple(_weights()[0][letters(word)].sum(axis=0, dtype=np.int64).tolist())


@cache
def _weights() -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8], Ints]:
    """Return the weights of all places and of the features of counts, [places, codes], and the least scores."""
    data = json.loads(files(__package__).joinpath("response_classifier.json").read_text(encoding="ascii"))
    packed = np.frombuffer(zlib.decompress(b85decode(data["weights"])), np.int8)
    table = packed.reshape(PLACES, len(CODES))
    return table, table[list(map(place, count_features()[0]))], np.array([data["least"][code] for code in CODES])
