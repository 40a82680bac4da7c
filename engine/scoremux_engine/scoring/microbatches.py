"""Bucket → micro-batch: rows of one bucket and size class that run through the backbone together."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoremux_engine.scoring.buckets import Buckets

Ints = npt.NDArray[np.int64]

PARTS_A_STREAM = 2
LEAST_TOKENS = 512
"""What keeps one core well fed: with fewer padded tokens, a call's own cost shows."""


@dataclass(frozen=True)
class MicroBatch:
    """`rows` int64 [B]: places of the rows in the whole batch; `bucket`: their padded length S."""

    rows: Ints
    bucket: int


def plan(
    lengths: Sequence[int], sizes: Sequence[Hashable], buckets: Buckets, budget_tokens: int, streams: int = 1
) -> list[MicroBatch]:
    """Split a batch: rows of one bucket and one size class, in order, as many as fit `budget_tokens` (at least one).

    Every row is in exactly one micro-batch. Longest buckets come first: they decide when a batch is done. A batch with
    little work for so many `streams` is split further, until parts are no longer worth a call of their own.

    Args:
        lengths: tokens of each row.
        sizes: the size class of each row's version; rows of different classes never share a micro-batch.
        buckets: the padded lengths.
        budget_tokens: padded tokens that a micro-batch may have.
        streams: how many micro-batches the runner computes side by side.
    """
    if streams > 1:
        share = sum(map(buckets.of, lengths)) // (PARTS_A_STREAM * streams)
        budget_tokens = min(budget_tokens, max(LEAST_TOKENS, share))
    together: dict[tuple[int, Hashable], list[int]] = {}
    for row, (length, size) in enumerate(zip(lengths, sizes, strict=True)):
        together.setdefault((buckets.of(length), size), []).append(row)
    planned = []
    for (bucket, _), members in sorted(together.items(), key=lambda item: -item[0][0]):
        for rows in _even_parts(members, max(1, budget_tokens // bucket)):
            planned.append(MicroBatch(np.array(rows, dtype=np.int64), bucket))
    return planned


def _even_parts(rows: list[int], most: int) -> Iterator[list[int]]:
    """Yield parts of at most `most` rows, as equal as can be: a last part of one or two rows would run badly."""
    parts = -(-len(rows) // most)
    for part in range(parts):
        yield rows[part * len(rows) // parts : (part + 1) * len(rows) // parts]


def pad(tokens: Sequence[list[int]], bucket: int, pad_id: int) -> tuple[Ints, Ints]:
    """Return input_ids and attention_mask, int64 [B, S], padded on the right to `bucket`."""
    lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
    mask = np.arange(bucket) < lengths[:, None]
    input_ids = np.full(mask.shape, pad_id, dtype=np.int64)
    input_ids[mask] = np.fromiter((i for ids in tokens for i in ids), dtype=np.int64, count=int(lengths.sum()))
    return input_ids, mask.astype(np.int64)
