"""Search for ids as whole words of a text, in one pass that costs the same for one id and for many."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path

from scoremux_files.errors import reading

_WORD = re.compile(r"[\w-]+")
_CUT = "\N{LINEAR B SYLLABLE B008 A}"
"""Stands for the rest of a word that a block's edge cuts: a letter that no id has."""
_BLOCK = 1 << 20


class IdSearch:
    """Finds ids that are whole words: no letter, digit, `_` or `-` is beside them."""

    def __init__(self, ids: Collection[str]) -> None:
        parts = {name: set(_WORD.findall(name)) or {""} for name in ids}
        shared = Counter(word for words in parts.values() for word in words)
        self._by_word: dict[str, list[str]] = defaultdict(list)
        for name, words in parts.items():  # an id of several words is looked for where its rarest one is
            self._by_word[min(words, key=lambda word: (shared[word], word))].append(name)
        self._overlap = max(map(len, ids), default=0) + 1

    def in_file(self, path: Path) -> bool:
        """Return whether an id is in a file. Raises InputError."""
        with reading(path), path.open(encoding="utf-8", errors="replace", newline="") as file:
            return self.in_blocks(iter(lambda: file.read(_BLOCK), ""))

    def in_blocks(self, blocks: Iterable[str]) -> bool:
        """Return whether an id is in a text that comes block by block."""
        if not self._by_word:
            return False
        text = ""
        for block in blocks:
            text += block
            if self._in_text(text + _CUT):
                return True
            text = text if len(text) <= self._overlap else _CUT + text[-self._overlap :]
        return self._in_text(text)

    def _in_text(self, text: str) -> bool:
        words = self._by_word.keys() & {"", *_WORD.findall(text)}
        return any(
            name in text and re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)
            for word in words
            for name in self._by_word[word]
        )
