"""Which responses are the same, or nearly: keys for looking them up, and how two of them differ.

Two responses are the same if they differ in nothing but white space. Near-duplicates are found by MinHash over the
character 5-grams of the text, three bands of three hashes, and confirmed by the share of 5-grams they have in common.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_GRAM = 5
_BANDS, _HASHES = 3, 3
_NEAR = 0.6
_MOST_CHARACTERS = 4000
_seeds = np.random.default_rng(20)
_FACTORS = _seeds.integers(1, 2**63, (_BANDS * _HASHES, 1), np.uint64) | np.uint64(1)
_BASE, _HALF = np.uint64(1_000_003), np.uint64(29)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_WORD = re.compile(r"\s+|\w+|[^\w\s]")


class Keys(NamedTuple):
    """Signed 64-bit keys within a task. near is None for a text without 5-grams."""

    exact: int
    near: tuple[int, int, int] | None


class Piece(NamedTuple):
    """A part of a text. kind: same, added, or removed (then it is a part of the other text)."""

    kind: str
    text: str


def normal(text: str) -> str:
    """Return the text with every run of white space as one space.

    >>> normal(" It hands out\\n addresses. ")
    'It hands out addresses.'
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def keys(task: str, text: str) -> Keys:
    """Return the keys under which a response of a task is found."""
    plain = normal(text)
    exact = _signed(hashlib.blake2b(f"{task}\0{plain}".encode(), digest_size=8).digest())
    grams = _grams(plain)
    if not len(grams):
        return Keys(exact, None)
    hashed = grams * _FACTORS
    hashed ^= hashed >> _HALF
    least = hashed.min(axis=1).reshape(_BANDS, _HASHES)
    near = [_signed(hashlib.blake2b(f"{task}\0{n}".encode() + band.tobytes(), digest_size=8).digest())
            for n, band in enumerate(least)]  # fmt: skip
    return Keys(exact, (near[0], near[1], near[2]))


def alike_to(text: str) -> Callable[[str], float]:
    """Return a function that gives the share of 5-grams another text has in common with this one, 0 to 1."""
    own = normal(text)
    grams = set(_grams(own).tolist())

    def alike(other: str) -> float:
        plain = normal(other)
        theirs = set(_grams(plain).tolist())
        return len(grams & theirs) / len(grams | theirs) if grams or theirs else float(own == plain)

    return alike


def near_to(text: str) -> Callable[[str], bool]:
    """Return a function that says whether another text is a near-duplicate of this one."""
    alike = alike_to(text)
    return lambda other: alike(other) >= _NEAR


def differences(text: str, other: str) -> Iterator[Piece]:
    """Yield `other` in pieces, with what `text` has in addition or instead marked as removed."""
    a, b = _WORD.findall(text), _WORD.findall(other)
    for kind, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            yield Piece("same", "".join(b[b0:b1]))
            continue
        if a1 > a0:
            yield Piece("removed", "".join(a[a0:a1]))
        if b1 > b0:
            yield Piece("added", "".join(b[b0:b1]))


def _grams(plain: str) -> npt.NDArray[np.uint64]:
    """Return a hash of each 5-gram of the case-folded text."""
    folded = plain.casefold()[:_MOST_CHARACTERS]
    points = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    number = len(points) - _GRAM + 1
    if number < 1:
        return np.empty(0, np.uint64)
    mixed = np.zeros(number, np.uint64)
    for place in range(_GRAM):
        mixed = mixed * _BASE + points[place : place + number]
    mixed *= _MIX
    mixed ^= mixed >> _HALF
    return mixed


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)
