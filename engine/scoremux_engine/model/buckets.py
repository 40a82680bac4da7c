"""Tokens → bucket: the padded length a response gets, a function of its own length alone."""

from __future__ import annotations

from bisect import bisect_left

from scoremux_engine.errors import BackboneError

# Steps grow with the length: finer ones save padding and lose as much to smaller micro-batches.
_LADDER = (*range(8, 128, 8), *range(128, 256, 16), *range(256, 513, 32))


class Buckets:
    """The ladder of padded lengths up to `max_tokens`, which is itself the last rung."""

    def __init__(self, max_tokens: int, ladder: tuple[int, ...] = _LADDER) -> None:
        if max_tokens < 1:
            raise BackboneError(f"max_tokens is {max_tokens}; a backbone takes at least one token")
        longer = range(544, max_tokens, 32)
        self.lengths: tuple[int, ...] = (*(n for n in (*ladder, *longer) if n < max_tokens), max_tokens)

    def of(self, tokens: int) -> int:
        """Return the smallest rung that holds `tokens` tokens."""
        return self.lengths[bisect_left(self.lengths, tokens)]
