"""Linear classifier of responses that talk to the scorer (`A`) or mean nothing (`U`), in whole numbers.

It reads words, their letters, their order, and counts of a response; the task's own words count as such, whatever they
are. The weight of a feature is at the place that its CRC-32 gives, so that every machine gets the same sums.
`tests/data/conditions/train_classifier.py` writes the weights (`response_classifier.json`).
"""

from __future__ import annotations

import json
import re
import zlib
from base64 import b85decode
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from itertools import pairwise
from math import isqrt

import numpy as np
import numpy.typing as npt

from scoremux_assess.decisions.conditions.letters import known_share, languages, trigrams_of
from scoremux_assess.decisions.conditions.phrases import LANGUAGES, spare_words, vocabulary
from scoremux_assess.decisions.conditions.source_text import SourceText
from scoremux_assess.decisions.conditions.word_order import ASKING, FUNCTION

CODES = ("A", "U")
PLACES = 1 << 17
UNIT = 64
"""What a weight of 1 is in the file."""
_ONE = 1024
_MOST_WORDS = 300
_GRAM = 4
_VOWELS = frozenset("aeiouy")
_FORMAL = re.compile(r"(?<![.!?:\"“„»\n])\s(?:Sie|Ihnen|Ihre?[nmr]?)\b")
_FORMAL_ANYWHERE = re.compile(r"\b(?:Sie|Ihnen|Ihre?[nmr]?)\b")
_LENGTHS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 30, 45, 70)


@dataclass(frozen=True)
class Features:
    """Features of a response. Those of its text are weighed by 2 / √(different words), 4 words at least.

    Attributes:
        of_text: Words, letters and word order.
        of_counts: Counts, one feature for each range of values.
        different: Number of different words.
    """

    of_text: list[str]
    of_counts: list[str]
    different: int

    @property
    def factor(self) -> int:
        """The weight of the features of the text, in 1/1024."""
        return isqrt(4 * _ONE * _ONE // max(4, self.different))


def features(words: Sequence[str], text: str, question: SourceText, reference: SourceText) -> Features:
    """Return the features of a response with these folded words; the first letter of each names its kind."""
    words, text = words[:_MOST_WORDS], text[: 20 * _MOST_WORDS]
    different = set(words)
    plain = _plain_words()
    own = {word for word in different if word not in plain and (question.has(word) or reference.has(word))}
    of_text = sorted(_orders(words, own))
    for word in sorted(different - own):
        of_text += _letters(word)
    return Features(of_text, list(_counts(words, text, own, question, reference)), len(different))


def scores(words: Sequence[str], text: str, question: SourceText, reference: SourceText) -> Mapping[str, int]:
    """Return by how much the score of each code is above what it must be; the arguments are those of `features`."""
    table, least = _weights()
    read = features(words, text, question, reference)
    of_text = table[[place(name) for name in read.of_text]].sum(axis=0)
    of_counts = table[[place(name) for name in read.of_counts]].sum(axis=0)
    total = of_text * read.factor + of_counts * _ONE
    return {code: int(total[column]) - least[code] for column, code in enumerate(CODES)}


@lru_cache(maxsize=1 << 16)
def place(name: str) -> int:
    """Return where the weights of a feature are."""
    return zlib.crc32(name.encode()) % PLACES


@cache
def _weights() -> tuple[npt.NDArray[np.int64], dict[str, int]]:
    data = json.loads(files(__package__).joinpath("response_classifier.json").read_text(encoding="ascii"))
    packed = np.frombuffer(zlib.decompress(b85decode(data["weights"])), np.int8)
    return packed.reshape(PLACES, len(CODES)).astype(np.int64), data["least"]


@cache
def _plain_words() -> frozenset[str]:
    """Return the words that hold sentences together."""
    common = (languages()[code].common for code in LANGUAGES)
    return FUNCTION.union(*common, ASKING, vocabulary("you"), vocabulary("me"))


@lru_cache(maxsize=1 << 14)
def _letters(word: str) -> tuple[str, ...]:
    framed = f" {word} "
    return (f"w{word}", *(f"c{framed[start : start + _GRAM]}" for start in range(len(framed) - _GRAM + 1)))


@lru_cache(maxsize=1 << 14)
def _known(word: str) -> float:
    return known_share(trigrams_of([word]), LANGUAGES) if word.isalpha() else 1.0


def _orders(words: Sequence[str], own: set[str]) -> set[str]:
    plain = _plain_words()
    # The words; for those that are not plain their endings; for those nothing but whether they are the task's.
    marked = ["^", *("T" if word in own else word for word in words), "$"]
    kinds = ["^", *(word if word in plain else "T" if word in own else "#" for word in words), "$"]
    ends = [kind + word[-2:] if kind in ("T", "#") else kind for kind, word in zip(kinds[1:-1], words, strict=True)]
    ends = ["^", *ends, "$"]
    return {
        *(f"b{a} {b}" for a, b in pairwise(marked)),
        *(f"s{a} {b}" for a, b in zip(marked, marked[2:], strict=False)),
        *(f"k{a} {b}" for a, b in pairwise(ends)),
        *(f"t{a} {b} {c}" for a, b, c in zip(ends, ends[1:], ends[2:], strict=False)),
        *(f"g{' '.join(run)}" for size in (2, 3, 4) for run in zip(*(kinds[i:] for i in range(size)), strict=False)),
    }


def _share(part: int, whole: int) -> int:
    """Return 0 for none, 8 for all, 1 to 7 between."""
    return min(8, 1 + 7 * part // max(1, whole)) if part else 0


def _counts(
    words: Sequence[str], text: str, own: set[str], question: SourceText, reference: SourceText
) -> Iterator[str]:
    plain, count, different = _plain_words(), len(words), set(words)
    alphabetic = [word for word in words if word.isalpha()]
    pairs = list(pairwise(words))
    content = [word for word in words if word not in plain and word not in spare_words()]
    chain = "".join("f" if word in plain else "c" for word in words)
    capitals = [word[0].isupper() for word in text.split()]
    trigrams = trigrams_of(words)
    signs = sum(not char.isalnum() and not char.isspace() for char in text)
    share = {
        "plain": _share(len(words) - chain.count("c"), count),
        "own": _share(sum(word in own for word in content), len(content)) if content else 9,
        "length": bisect(_LENGTHS, count),
        "known": int(20 * known_share(trigrams, LANGUAGES)) if trigrams else 21,
        "bad": _share(sum(_known(word) < 0.6 for word in words), count),
        "odd": _share(sum(word not in plain and _known(word) < 0.75 for word in alphabetic), len(alphabetic)),
        "repeated": _share(count - len(different), count),
        "alike": _share(sum(a[:3] == b[:3] or a[-3:] == b[-3:] for a, b in pairs), len(pairs)),
        "begin": _share(_surplus(word[:3] for word in alphabetic if len(word) > 2), len(alphabetic)),
        "rhyme": _share(_surplus(word[-2:] for word in alphabetic if len(word) > 2), len(alphabetic)),
        "single": _share(sum(len(word) == 1 for word in words), count),
        "digits": _share(sum(map(str.isdigit, words)), count),
        "mixed": _share(sum(not word.isalpha() and not word.isdigit() for word in words), count),
        "vowels": _share(sum(len(word) > 2 and _VOWELS.isdisjoint(word) for word in alphabetic), len(alphabetic)),
        "order": _share(sum(pair in question.pairs or pair in reference.pairs for pair in pairs), len(pairs)),
        "asked": _share(sum(word in question.vocabulary for word in words), count),
        "letters": min(16, 2 * sum(map(len, words)) // max(1, count)),
        "content": min(9, max(map(len, chain.split("f")), default=0)),
        "small": min(9, max(map(len, chain.split("c")), default=0)),
        "capitals": _share(sum(capitals), len(capitals)),
        "signs": (100 * signs // max(1, len(text))).bit_length(),
        "comma": (100 * text.count(",") // max(1, count)).bit_length(),
        "end": text.rstrip()[-1:] in (".", "?", "!"),
        "first": text[:1].isupper(),
        **{sign: sign in text for sign in ("?", "!", "..", ":")},
        "quotes": any(sign in text for sign in '"“„«»'),
    }
    yield "n"
    yield from (f"n{name} {value}" for name, value in share.items())
    size, near = bisect((4, 8, 15, 30), count), (share["own"] + 1) // 2
    with_size = ("plain", "own", "repeated", "known", "odd", "begin", "rhyme", "content", "small", "end")
    yield from (f"x{name} {share[name]} {size}" for name in with_size)
    yield f"xorder {near} {share['order']}"
    yield f"x? {near} {share['?']}"
    yield f"xcomma {share['comma']} {share['end']}"
    formal = 2 if _FORMAL.search(text) else 1 if _FORMAL_ANYWHERE.search(text) else 0
    persons = vocabulary("you"), vocabulary("me")
    you, me = (not names.isdisjoint(different) for names in persons)
    asks, tells = not persons[0].isdisjoint(question.words), not persons[1].isdisjoint(reference.words)
    starts = [bool(words) and words[0] in names for names in persons]
    named = sum(word in persons[0] or word in persons[1] for word in words)
    yield f"mformal {formal} {not persons[0].isdisjoint(reference.words)}"
    yield f"mpersons {you} {me} {formal}"
    yield f"mpersons own {you} {me} {formal} {near}"
    yield f"mpersons ? {you} {me} {formal} {share['?']}"
    yield f"masked {asks} {you} {me} {formal}"
    yield f"mtold {tells} {me}"
    yield f"mnamed {bisect((3, 8, 15, 25), 100 * named // max(1, count))} {asks}"
    yield f"mstarts {starts} {near} {asks}"


def _surplus(parts: Iterator[str]) -> int:
    return sum(count - 1 for count in Counter(parts).values())
