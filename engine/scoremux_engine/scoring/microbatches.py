"""Bucket → micro-batch: rows of one bucket and size class that run through the backbone together."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from scoremux_engine.backbone import BackboneSpec
from scoremux_engine.runners.runner import Ints, RowInputs
from scoremux_engine.scoring.buckets import Buckets
from scoremux_engine.scoring.tokens import Tokens

PARTS_A_STREAM = 2
LEAST_TOKENS = 512
"""What keeps one core well fed: with fewer padded tokens, a call's own cost shows."""

PREFIX_TOKENS = 16_384
"""Padded tokens of prefixes that a micro-batch may read: each row gets a copy of its own while a layer runs."""


@dataclass(frozen=True)
class MicroBatch:
    """`rows` int64 [B]: places of the rows in the whole batch; `bucket`: their padded length S."""

    rows: Ints
    bucket: int


def plan(
    lengths: Sequence[int],
    sizes: Sequence[Hashable],
    buckets: Buckets,
    budget_tokens: int,
    streams: int = 1,
    prefixes: Sequence[int] | None = None,
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
        prefixes: padded tokens of the prefix that each row reads, the same in a size class; None: no row reads one.
    """
    if streams > 1:
        share = sum(map(buckets.of, lengths)) // (PARTS_A_STREAM * streams)
        budget_tokens = min(budget_tokens, max(LEAST_TOKENS, share))
    together: dict[tuple[int, Hashable], list[int]] = {}
    for row, (length, size) in enumerate(zip(lengths, sizes, strict=True)):
        together.setdefault((buckets.of(length), size), []).append(row)
    planned = []
    for (bucket, _), members in sorted(together.items(), key=lambda item: -item[0][0]):
        most = budget_tokens // bucket
        if prefixes and prefixes[members[0]]:
            most = min(most, PREFIX_TOKENS // prefixes[members[0]])
        for rows in _even_parts(members, max(1, most)):
            planned.append(MicroBatch(np.array(rows, dtype=np.int64), bucket))
    return planned


def _even_parts(rows: list[int], most: int) -> Iterator[list[int]]:
    """Yield parts of at most `most` rows, as equal as can be: a last part of one or two rows would run badly."""
    parts = -(-len(rows) // most)
    for part in range(parts):
        yield rows[part * len(rows) // parts : (part + 1) * len(rows) // parts]


def pad(
    tokens: Sequence[Tokens],
    group: Ints,
    bucket: int,
    backbone: BackboneSpec,
    prefix_tokens: Sequence[int] | None = None,
) -> RowInputs:
    """Return the rows as the graph takes them, padded on the right to `bucket`.

    A row without tokens, which some tokenizers make of an empty text, becomes one padding token, not masked: with all
    of it masked, attention would have nothing to read.

    Args:
        tokens: the tokens of each row.
        group: int64 [B], which of the tables each row reads.
        bucket: S.
        backbone: its padding token, whether it takes token types, and whether it reads prefixes.
        prefix_tokens: how many tokens of its prefix each row reads before these; None: no row any.
    """
    lengths = np.array([len(row.ids) for row in tokens], dtype=np.int64)
    mask = np.arange(bucket) < lengths[:, None]
    seen = np.arange(bucket) < np.maximum(lengths, 1)[:, None]
    input_ids = _spread((row.ids for row in tokens), mask, backbone.pad_id)
    types = _spread((row.types for row in tokens), mask, 0) if backbone.token_types else None
    before = np.zeros_like(lengths) if prefix_tokens is None else np.array(prefix_tokens, dtype=np.int64)
    return RowInputs(input_ids, seen.astype(np.int64), group, types, before if backbone.prefix_layers else None)


def _spread(values: Iterable[list[int]], mask: npt.NDArray[np.bool_], fill: int) -> Ints:
    """Return int64 [B, S]: each row's values where `mask` is set, `fill` elsewhere."""
    out = np.full(mask.shape, fill, dtype=np.int64)
    out[mask] = np.fromiter(chain.from_iterable(values), dtype=np.int64, count=int(mask.sum()))
    return out
