"""Segments: how tokens lie where adapters are computed. Each has tokens of one task, and all have one length."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

STEP = 8
"""Products read a multiple of this many tokens: with fewer than five rows, some take other kernels."""

_TABLES_COST = 16
"""The cost of copying the tables of a segment, in tokens."""
_LENGTHS = STEP * np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128])

Places = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Segments:
    """P segments of Q places for N tokens, each with tokens of one group.

    tokens: int32 [P, Q], the token at each place; a group's last token is repeated. group: int32 [P]. places: int32
    [N], where each token is in P · Q.
    """

    tokens: Places
    group: Places
    places: Places

    @classmethod
    def of(cls, group: npt.NDArray[np.int64]) -> "Segments":
        """Cut tokens into segments of the length that costs least.

        Args:
            group: int64 [N], the group of each token.
        """
        groups, counts = np.unique(group, return_counts=True)
        length = _length(counts)
        segments = -(-counts // length)
        begins, ends = length * (np.cumsum(segments) - segments), np.cumsum(counts)
        order = np.argsort(group, kind="stable").astype(np.int32)
        places = np.arange(len(order), dtype=np.int32) + np.repeat(begins - ends + counts, counts).astype(np.int32)
        tokens = np.repeat(order[ends - 1], segments * length)
        tokens[places] = order
        back = np.empty_like(places)
        back[order] = places
        return cls(tokens.reshape(-1, length), np.repeat(groups, segments).astype(np.int32), back)


def _length(counts: npt.NDArray[np.int64]) -> int:
    """Return Q for groups of so many tokens: one segment for each group, or more that are shorter."""
    lengths = np.append(_LENGTHS, -(-counts.max() // STEP) * STEP)
    costs = (-(-counts[:, None] // lengths)).sum(axis=0) * (lengths + _TABLES_COST)
    return int(lengths[costs.argmin()])
