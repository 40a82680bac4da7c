"""Padded sizes: a response's by its own number of tokens, a version's by its own adapter."""

from bisect import bisect_left
from dataclasses import dataclass

from scoremux_engine.errors import BackboneError

# Steps grow with the length: finer ones save padding and lose as much to smaller micro-batches.
_LADDER = (*range(8, 128, 8), *range(128, 256, 16), *range(256, 513, 32))

# The ranks that PEFT's users choose most, 8 and 16, each have a class: rows read tables of their own rank.
_LEAST_RANKS, _LEAST_LEVELS = (8, 16), (8,)
_PREFIXES = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Padded lengths of prefixes: more of them would leave fewer rows to a micro-batch, fewer would take more memory."""


class Buckets:
    """The ladder of padded lengths up to `max_tokens`, which is itself the last rung."""

    def __init__(self, max_tokens: int) -> None:
        if max_tokens < 1:
            raise BackboneError(f"max_tokens is {max_tokens}; a backbone takes at least one token")
        longer = range(544, max_tokens, 32)
        self.lengths: tuple[int, ...] = (*(n for n in (*_LADDER, *longer) if n < max_tokens), max_tokens)

    def of(self, tokens: int) -> int:
        """Return the smallest rung that holds `tokens` tokens."""
        return self.lengths[bisect_left(self.lengths, tokens)]


@dataclass(frozen=True, order=True)
class SizeClass:
    """The padded sizes of a version's tables: R of every site, L_max of its head, and P of its prefix (0: none).

    A function of that version alone. A product's bits can follow its inner size, so two versions share a micro-batch
    only where their size class is the same: the version of another row never changes a shape.
    """

    rank: int
    levels: int
    prefix: int = 0


def classes(most: int, *, levels: bool) -> tuple[int, ...]:
    """Return the rank classes up to the one that holds `most`, or with `levels` those of L_max."""
    sizes = list(_LEAST_LEVELS if levels else _LEAST_RANKS)
    while sizes[-1] < most:
        sizes.append(sizes[-1] * 4)
    return tuple(size for size, before in zip(sizes, [0, *sizes], strict=False) if before < most)


def padded_prefix(tokens: int) -> int:
    """Return P for the tokens of a prefix: the least of a ladder that holds them."""
    if not tokens:
        return 0
    longest = _PREFIXES[-1]
    return next((size for size in _PREFIXES if tokens <= size), -(-tokens // longest) * longest)
