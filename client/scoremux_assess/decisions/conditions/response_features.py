"""Features of a response: its words, their letters and order, and counts.

A feature is at the place that the CRC-32 of its name gives; the first letter of the name says its kind. Words of the
task count as such, whatever they are.
"""

from __future__ import annotations

import re
from bisect import bisect, bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import accumulate, pairwise, product
from math import isqrt
from operator import eq, or_
from typing import Any, NamedTuple
from zlib import crc32

from scoremux_assess.decisions.conditions.letters import MOST_LETTERS, known_share, languages, trigrams_of
from scoremux_assess.decisions.conditions.phrases import LANGUAGES, spare_words, vocabulary
from scoremux_assess.decisions.conditions.source_text import SourceText
from scoremux_assess.decisions.conditions.word_order import ASKING, FUNCTION

PLACES = 1 << 17
RUNS = "bskg"
ONE = 1024
_MOST_WORDS = 300
_GRAM = 4
_VOWELS = frozenset("aeiouy")
_SIGNS = re.compile(r"[^\w\s]|_")
_FORMAL = re.compile(r"(?<![.!?:\"“„»\n])\s(?:Sie|Ihnen|Ihre?[nmr]?)\b")
_FORMAL_ANYWHERE = re.compile(r"\b(?:Sie|Ihnen|Ihre?[nmr]?)\b")
_LENGTHS, _SIZES, _NAMED = (1, 2, 3, 4, 6, 8, 11, 15, 20, 30, 45, 70), (4, 8, 15, 30), (3, 8, 15, 25)

_SHARES = "plain bad odd repeated alike begin rhyme single digits mixed vowels order asked capitals"
_WITH_SIZE = ("plain", "own", "repeated", "known", "odd", "begin", "rhyme", "content", "small")
_SIGNS_IN = "? ! .. : quotes end first"
_YES_OR_NO = "you me asks tells told_formally starts_you starts_me"
_VALUES: Mapping[str, Sequence[object]] = {
    **dict.fromkeys(_SHARES.split(), range(9)),
    **{"own": range(10), "length": range(len(_LENGTHS) + 1), "known": range(22), "letters": range(17)},
    **{"content": range(10), "small": range(10), "signs": range(8), "comma": range(21)},
    **dict.fromkeys(_SIGNS_IN.split(), (False, True)),
    **{"size": range(len(_SIZES) + 1), "near": range(6), "formal": range(3), "named": range(len(_NAMED) + 1)},
    **dict.fromkeys(_YES_OR_NO.split(), (False, True)),
}
"""Count → its values."""
_MADE_OF_COUNTS = {
    **{f"n{count} {{}}": count for count in list(_VALUES)[: list(_VALUES).index("size")]},
    **{f"x{count} {{}} {{}}": f"{count} size" for count in (*_WITH_SIZE, "end")},
    **{"xorder {} {}": "near order", "x? {} {}": "near ?", "xcomma {} {}": "comma end"},
    **{"mformal {} {}": "formal told_formally", "mpersons {} {} {}": "you me formal"},
    **{"mpersons own {} {} {} {}": "you me formal near", "mpersons ? {} {} {} {}": "you me formal ?"},
    **{"masked {} {} {} {}": "asks you me formal", "mtold {} {}": "tells me", "mnamed {} {}": "named asks"},
    "mstarts [{}, {}] {} {}": "starts_you starts_me near asks",
}
"""The features that counts make: their names, and the counts whose values are in the names."""


class Features(NamedTuple):
    """Features of a response.

    Attributes:
        words: The different words that are not the task's.
        runs: The CRC-32 of runs of words, of each kind in `RUNS`; a run counts once in a response.
        counts: Counts in ranges, which make features (`count_names`).
        factor: How much words and runs weigh: 2 / √(different words), 4 words at least, in 1/1024.
    """

    words: set[str]
    runs: list[list[int]]
    counts: Mapping[str, int]
    factor: int


class _Word(NamedTuple):
    """A word, or the sign before or after all words.

    Attributes:
        itself, ending, kind: What it is in runs of words, a space before it: its letters, `T` for the task's words; for
            words that are not plain, `T` or `#` with their endings, and without.
        b, s, k, g: The CRC-32 of the beginning of runs of this kind.
        begin, end: Its first and its last letters.
        long_begin, rhyme: The first and the last letters of a longer word.
        own: The other numbers are what is counted.
    """

    itself: bytes
    ending: bytes
    kind: bytes
    b: int
    s: int
    k: int
    g: int
    begin: str
    end: str
    long_begin: str
    rhyme: str
    own: int
    content: int
    plain: int
    alphabetic: int
    bad: int
    odd: int
    single: int
    digits: int
    mixed: int
    vowels: int
    named: int
    letters: int
    trigrams: int
    de: int
    en: int

    @classmethod
    def of(cls, itself: str, ending: str, kind: str, *counts: Any) -> _Word:
        """Return a word of its names in runs, and what is counted of it."""
        names = ("b", itself), ("s", itself), ("k", ending), ("g", kind)
        spaced = [f" {name}".encode() for name in (itself, ending, kind)]
        return cls._make([*spaced, *(crc32(f"{run}{name}".encode()) for run, name in names), *counts])


_SUMMED = _Word._fields[_Word._fields.index("own") : _Word._fields.index("trigrams")]
_BEGIN, _END = (_Word.of(sign, sign, sign, *("",) * 4, *(0,) * (len(_SUMMED) + 3)) for sign in "^$")


def features(words: Sequence[str], text: str, question: SourceText, reference: SourceText) -> Features:
    """Return the features of a response with these folded words, one at least; text: without what is invisible."""
    words, text = words[:_MOST_WORDS], text[: 20 * _MOST_WORDS]
    different = set(words)
    task_words = {word for word in different - plain_words() if question.has(word) or reference.has(word)}
    of_word = {word: _word(word, word in task_words) for word in different}
    columns = zip(_BEGIN, *map(of_word.__getitem__, words), _END, strict=True)
    fields = dict(zip(_Word._fields, columns, strict=True))
    return Features(
        different - task_words,
        _runs(fields),
        _counts(words, fields, text, question, reference),
        isqrt(4 * ONE * ONE // max(4, len(different))),
    )


def letters(word: str) -> list[int]:
    """Return the places of a word and of its letters."""
    framed = f" {word} "
    grams = (f"c{framed[start : start + _GRAM]}" for start in range(len(framed) - _GRAM + 1))
    return [place(f"w{word}"), *map(place, grams)]


def place(name: str) -> int:
    """Return the place of a feature."""
    return crc32(name.encode()) % PLACES


def count_names() -> Iterator[tuple[str, tuple[str, ...], dict[Any, str]]]:
    """Yield the features that counts make: the kind, the counts, and the names by the values of these counts."""
    for name, counts in _MADE_OF_COUNTS.items():
        values = product(*(_VALUES[count] for count in counts.split()))
        names = {of if len(of) > 1 else of[0]: name.format(*of) for of in values}
        yield name[0], tuple(counts.split()), names


@cache
def plain_words() -> frozenset[str]:
    """Return the words that hold sentences together."""
    common = (languages()[code].common for code in LANGUAGES)
    return FUNCTION.union(*common, ASKING, vocabulary("you"), vocabulary("me"))


@lru_cache(maxsize=1 << 15)
def _word(word: str, of_task: bool) -> _Word:
    trigrams, plain, alphabetic = trigrams_of([word]), word in plain_words(), word.isalpha()
    share = known_share(trigrams, LANGUAGES) if alphabetic else 1.0
    long, spare = alphabetic and len(word) > 2, word in spare_words()
    kind = "T" if of_task else "#"
    return _Word.of(
        "T" if of_task else word,
        word if plain else f"{kind}{word[-2:]}",
        word if plain else kind,
        word[:3],
        word[-3:],
        word[:3] if long else "",
        word[-2:] if long else "",
        of_task and not spare,
        not plain and not spare,
        plain,
        alphabetic,
        share < 0.6,
        alphabetic and not plain and share < 0.75,
        len(word) == 1,
        word.isdigit(),
        not alphabetic and not word.isdigit(),
        long and _VOWELS.isdisjoint(word),
        word in vocabulary("you") or word in vocabulary("me"),
        len(word),
        len(trigrams),
        *(sum(map(languages()[code].trigrams.__contains__, trigrams)) for code in LANGUAGES),
    )


def _runs(fields: Mapping[str, Sequence[Any]]) -> list[list[int]]:
    """Return the CRC-32 of runs of words, of each kind.

    Of words (`b`, and `s` with any word between two); of plain words and the endings of others (`k`); of plain
    words and whether others are the task's (`g`).
    """
    words, endings, kinds = fields["itself"], fields["ending"], fields["kind"]
    two = _longer(fields["g"], kinds[1:])
    three = _longer(two, kinds[2:])
    return [
        _longer(fields["b"], words[1:]),
        _longer(fields["s"], words[2:]),
        _longer(fields["k"], endings[1:]),
        [*two, *three, *_longer(three, kinds[3:])],
    ]


def _longer(runs: Sequence[int], words: Sequence[bytes]) -> list[int]:
    """Return the CRC-32 of runs that have one of the words more."""
    return list(map(crc32, words, runs))


def _counts(
    words: Sequence[str],
    fields: Mapping[str, Sequence[Any]],
    text: str,
    question: SourceText,
    reference: SourceText,
) -> dict[str, int]:
    """Return the counts, in ranges."""
    total = {name: sum(fields[name]) for name in _SUMMED}
    count, different, pairs, parts = len(words), set(words), list(pairwise(words)), text.split()
    alphabetic, content = total["alphabetic"], total["content"]
    begin, end = fields["begin"][1:-1], fields["end"][1:-1]
    alike = sum(map(or_, map(eq, begin, begin[1:]), map(eq, end, end[1:])))
    ordered = sum(pair in question.pairs or pair in reference.pairs for pair in pairs)
    begins, rhymes = (list(filter(None, fields[name])) for name in ("long_begin", "rhyme"))
    heard = bisect_left(list(accumulate(fields["trigrams"])), MOST_LETTERS) + 1
    trigrams, *by_language = (sum(fields[name][:heard]) for name in ("trigrams", *LANGUAGES))
    chain = bytes(fields["plain"][1:-1])
    own_share = _share(total["own"], content) if content else 9
    # The first search is for speed alone.
    formal = ("Sie" in text or "Ih" in text) and _FORMAL_ANYWHERE.search(text)
    you, me = vocabulary("you"), vocabulary("me")
    return {
        **{name: _share(total[name], count) for name in ("plain", "bad", "single", "digits", "mixed")},
        **{"odd": _share(total["odd"], alphabetic), "vowels": _share(total["vowels"], alphabetic)},
        "begin": _share(len(begins) - len(set(begins)), alphabetic),
        "rhyme": _share(len(rhymes) - len(set(rhymes)), alphabetic),
        "repeated": _share(count - len(different), count),
        "alike": _share(alike, len(pairs)),
        "order": _share(ordered, len(pairs)),
        "asked": _share(sum(map(question.vocabulary.__contains__, words)), count),
        "capitals": _share(sum(part[0].isupper() for part in parts), len(parts)),
        "own": own_share,
        "length": bisect(_LENGTHS, count),
        "known": int(20 * (max(by_language) / trigrams)) if trigrams else 21,
        "letters": min(16, 2 * total["letters"] // count),
        "content": min(9, max(map(len, chain.split(b"\1")))),
        "small": min(9, max(map(len, chain.split(b"\0")))),
        "signs": (100 * len(_SIGNS.findall(text)) // max(1, len(text))).bit_length(),
        "comma": (100 * text.count(",") // count).bit_length(),
        **{sign: sign in text for sign in ("?", "!", "..", ":")},
        "quotes": any(sign in text for sign in '"“„«»'),
        "end": text.rstrip()[-1:] in (".", "?", "!"),
        "first": text[:1].isupper(),
        "size": bisect(_SIZES, count),
        "near": (own_share + 1) // 2,
        "formal": (2 if _FORMAL.search(text) else 1) if formal else 0,
        "named": bisect(_NAMED, 100 * total["named"] // count),
        "you": not you.isdisjoint(different),
        "me": not me.isdisjoint(different),
        "asks": not you.isdisjoint(question.vocabulary),
        "tells": not me.isdisjoint(reference.vocabulary),
        "told_formally": not you.isdisjoint(reference.vocabulary),
        "starts_you": words[0] in you,
        "starts_me": words[0] in me,
    }


def _share(part: int, whole: int) -> int:
    """Return 0 for none, 8 for all, 1 to 7 between."""
    return min(8, 1 + 7 * part // whole) if part else 0
