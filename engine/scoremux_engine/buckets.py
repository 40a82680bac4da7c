"""Tokens → bucket: the padded length a response gets, a function of its own length alone."""

from __future__ import annotations

from bisect import bisect_left

from scoremux_engine.errors import BackboneError

# Steps grow with the length so that padding stays below an eighth or so; few lengths keep the number of shapes small.
_LADDER = (*range(8, 64, 8), *range(64, 128, 16), *range(128, 256, 32), *range(256, 513, 64))


class Buckets:
    """The ladder of padded lengths up to `max_tokens`, which is itself the last rung."""

    def __init__(self, max_tokens: int) -> None:
        if max_tokens < 1:
            raise BackboneError(f"max_tokens is {max_tokens}; a backbone takes at least one token")
        longer = range(576, max_tokens, 64)
        self.lengths: tuple[int, ...] = (*(n for n in (*_LADDER, *longer) if n < max_tokens), max_tokens)

    def of(self, tokens: int) -> int:
        """Return the smallest rung that holds `tokens` tokens."""
        return self.lengths[bisect_left(self.lengths, tokens)]
