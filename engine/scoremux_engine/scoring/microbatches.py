"""Bucket → micro-batch: rows of one bucket and size class that run through the backbone together."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from scoremux_engine.model.backbone import BackboneSpec
from scoremux_engine.model.buckets import Buckets
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.runners.runner import Ints, RowInputs

CALL_TOKENS = 40
"""What a call costs beside its padded tokens, in tokens: MiniLM's weights have to be read, 20 to 70 by precision."""

LEAST_TOKENS = 64
"""Fewer padded tokens are not split among streams."""

_MOST_PARTS = 4

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
    """Split a batch: rows of one bucket and one size class, as many as fit `budget_tokens` (at least one).

    Every row is in exactly one micro-batch. Those with most work come first: they decide when a batch is done. A batch
    is split further where its `streams` are done earlier then, by what calls and tokens cost.

    Args:
        lengths: tokens of each row.
        sizes: the size class of each row's version; rows of different classes never share a micro-batch.
        buckets: the padded lengths.
        budget_tokens: padded tokens that a micro-batch may have.
        streams: how many micro-batches the runner computes side by side.
        prefixes: padded tokens of the prefix that each row reads, the same in a size class; None: no row reads one.
    """
    together: dict[tuple[int, Hashable], list[int]] = {}
    for row, (length, size) in enumerate(zip(lengths, sizes, strict=True)):
        together.setdefault((buckets.of(length), size), []).append(row)
    groups = [(bucket, rows, prefixes[rows[0]] if prefixes else 0) for (bucket, _), rows in together.items()]
    budgets = [budget_tokens]
    if streams > 1:
        share = sum(bucket * len(rows) for bucket, rows, _ in groups) // streams
        shares = (max(LEAST_TOKENS, share // parts) for parts in range(1, _MOST_PARTS + 1))
        budgets += [fewer for fewer in dict.fromkeys(shares) if fewer < budget_tokens]
    splits = [[_parts(len(rows), bucket, prefix, most) for bucket, rows, prefix in groups] for most in budgets]
    split = splits[0] if len(splits) == 1 else min(splits, key=lambda counts: _done_after(groups, counts, streams))
    planned = [
        MicroBatch(np.array(part, dtype=np.int64), bucket)
        for (bucket, rows, _), count in zip(groups, split, strict=True)
        for part in _even_parts(rows, count)
    ]
    return sorted(planned, key=lambda part: -part.bucket * len(part.rows))


def _parts(rows: int, bucket: int, prefix: int, budget_tokens: int) -> int:
    """Return into how many parts so many rows are split; prefix: padded tokens of a prefix that each reads."""
    most = budget_tokens // bucket
    if prefix:
        most = min(most, PREFIX_TOKENS // prefix)
    return -(-rows // max(1, most))


def _even_parts(rows: list[int], count: int) -> Iterator[list[int]]:
    """Yield so many parts, as equal as can be: a last part of one or two rows would run badly."""
    for part in range(count):
        yield rows[part * len(rows) // count : (part + 1) * len(rows) // count]


def _done_after(groups: Iterable[tuple[int, list[int], int]], counts: Iterable[int], streams: int) -> int:
    """Return after how many tokens the last stream is done, each taking the largest part that is left."""
    costs = []
    for (bucket, rows, _), count in zip(groups, counts, strict=True):
        larger = len(rows) % count
        costs += [CALL_TOKENS + bucket * (len(rows) // count + (part < larger)) for part in range(count)]
    done = [0] * streams
    for cost in sorted(costs, reverse=True):
        heapq.heapreplace(done, done[0] + cost)
    return max(done)


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
