"""How much of a text looks like words of a language: its letter trigrams, and its most common words."""

import json
import re
from base64 import b85decode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

MOST_LETTERS = 300
_LETTERS = re.compile("[a-z]{2,}")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Letters:
    """One language. trigrams: those of its common words, folded, a space at either end; common: its commonest words."""

    trigrams: frozenset[str]
    common: frozenset[str]


@lru_cache(maxsize=1)
def languages() -> dict[str, Letters]:
    """Return the languages of `letters.json` by their ISO 639-1 codes."""
    data = json.loads(files(__package__).joinpath("letters.json").read_text(encoding="ascii"))
    return {
        code: Letters(_trigrams(b85decode(language["trigrams"])), frozenset(language["common"].split()))
        for code, language in data["languages"].items()
    }


def trigrams_of(words: Iterable[str]) -> list[str]:
    """Return the letter trigrams of folded words, a space at either end, of some 300 letters at most."""
    trigrams: list[str] = []
    for word in _LETTERS.findall(" ".join(words)):
        framed = f" {word} "
        trigrams += [framed[i : i + 3] for i in range(len(word))]
        if len(trigrams) >= MOST_LETTERS:
            break
    return trigrams


def known_share(trigrams: Sequence[str], codes: Iterable[str]) -> float:
    """Return the greatest share of the trigrams that one of these languages knows; 0 without languages."""
    return _greatest_share(trigrams, (known.trigrams for known in _known(codes)))


def common_share(words: Sequence[str], codes: Iterable[str]) -> float:
    """Return the greatest share of the folded words that are among the commonest of one of these languages."""
    return _greatest_share(words, (known.common for known in _known(codes)))


def _known(codes: Iterable[str]) -> Iterator[Letters]:
    by_code = languages()
    return (by_code[code] for code in codes if code in by_code)


def _greatest_share(items: Sequence[str], sets: Iterable[frozenset[str]]) -> float:
    counts = (sum(map(known.__contains__, items)) for known in sets)
    return max(counts, default=0) / max(1, len(items))


def _trigrams(bits: bytes) -> frozenset[str]:
    letters = f" {_ALPHABET}"
    names = (a + b + c for a in letters for b in letters for c in letters)
    return frozenset(name for place, name in enumerate(names) if bits[place >> 3] >> (place & 7) & 1)
