"""Planned rows → micro-batches: rows of one bucket and size class that run through the backbone together."""

import heapq
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from scoremux_engine.scoring.row_plan import PlannedRow

CALL_TOKENS = 40
"""What a call costs beside its padded tokens, in tokens: MiniLM's weights have to be read, 20 to 70 by precision."""

LEAST_TOKENS = 64
"""Fewer padded tokens are not split among streams."""

_MOST_PARTS = 4

PREFIX_TOKENS = 16_384
"""Padded tokens of prefixes that a micro-batch may read: each row gets a copy of its own while a layer runs."""


@dataclass(frozen=True)
class MicroBatch:
    """Rows of one shape (`PlannedRow.shape`) that run through the backbone together.

    Attributes:
        alone: Whether this is one row that need not wait for a stream.
        fill: How many rows these are, of the most that it may have.
    """

    rows: Sequence[PlannedRow]
    pooled: bool = False
    alone: bool = False
    fill: float = 1.0

    @property
    def bucket(self) -> int:
        """The padded length S."""
        return self.rows[0].bucket

    @property
    def tokens(self) -> int:
        return self.bucket * len(self.rows)


def split(
    rows: Iterable[PlannedRow], budget_tokens: int, streams: int = 1, deadly: Collection[str] = ()
) -> list[MicroBatch]:
    """Split rows into micro-batches of one shape, as many rows as fit `budget_tokens` (at least one).

    Every row is in exactly one micro-batch. Those with most work come first: they decide when all are done. Rows are
    split further where the `streams` are done earlier then, by the cost of calls and tokens. `deadly` has the digests
    of rows that may kill the process: each has a micro-batch of its own, before all others.
    """
    together: dict[object, list[PlannedRow]] = {}
    apart: list[MicroBatch] = []
    for row in rows:
        if deadly and row.digest in deadly:
            apart.append(MicroBatch([row]))
        else:
            together.setdefault(row.shape, []).append(row)
    # Rows of a task are neighbours: micro-batches have few tasks, and a runner computes those of a task together.
    groups = [sorted(group, key=lambda row: row.version.digest) for group in together.values()]
    if sum(map(len, groups)) == 1:
        return [*apart, MicroBatch(groups[0])]
    budgets = [budget_tokens]
    if streams > 1:
        share = sum(MicroBatch(group).tokens for group in groups) // streams
        shares = (max(LEAST_TOKENS, share // parts) for parts in range(1, _MOST_PARTS + 1))
        budgets += [fewer for fewer in dict.fromkeys(shares) if fewer < budget_tokens]
    splits = [[-(-len(group) // most_rows(group[0], budget)) for group in groups] for budget in budgets]
    counts = splits[0] if len(splits) == 1 else min(splits, key=lambda counts: _done_after(groups, counts, streams))
    parts = [  # as equal as can be: a last part of one or two rows would run badly
        MicroBatch(group[part * len(group) // count : (part + 1) * len(group) // count])
        for group, count in zip(groups, counts, strict=True)
        for part in range(count)
    ]
    return apart + sorted(parts, key=lambda part: -part.tokens)


def most_rows(row: PlannedRow, budget_tokens: int) -> int:
    """Return how many rows of this shape fit into a micro-batch."""
    most = budget_tokens // row.bucket
    if row.prefix_tokens:
        most = min(most, PREFIX_TOKENS // row.version.size.prefix)
    return max(1, most)


def _done_after(groups: Iterable[Sequence[PlannedRow]], counts: Iterable[int], streams: int) -> int:
    """Return after how many tokens the last stream is done, each taking the largest part that is left."""
    costs = []
    for rows, count in zip(groups, counts, strict=True):
        larger = len(rows) % count
        costs += [CALL_TOKENS + rows[0].bucket * (len(rows) // count + (part < larger)) for part in range(count)]
    done = [0] * streams
    for cost in sorted(costs, reverse=True):
        heapq.heapreplace(done, done[0] + cost)
    return max(done)
