"""Micro-batch → logits: tables and padded tokens for the runner, and the rows' outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain

import numpy as np
import numpy.typing as npt

from scoremux_engine.bank.residents import Version
from scoremux_engine.model.backbone import Backbone, BackboneSpec
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.model.tables import DTypes, Tables, size_class, stack
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.runners.runner import BackboneRunner, Ints, Outputs, RowInputs
from scoremux_engine.scoring.in_flight import InFlight
from scoremux_engine.scoring.observer import COMPUTE, TABLES, BatchTrace, MicroBatchShape
from scoremux_engine.scoring.scheduler import MicroBatch

SHARED_GROUPS = 64
"""Most versions that are copied together once for a whole batch; with more, each micro-batch copies its own few."""


class TableLookup:
    """The tables of the versions that the rows of a request need, by size class.

    Where all versions of a class are in one pool and the runner reads it in place, that pool is handed over whole and
    rows index slots: nothing is copied, and the graph sees the same tables at every call. Else the tables of the
    versions present are copied together.

    Args:
        versions: What rows may need.
        spec: Says which tables there are.
        dtypes: The types that the runner takes tables in.
        in_place: Whether the runner reads pools in place.
    """

    def __init__(self, versions: Iterable[Version], spec: BackboneSpec, dtypes: DTypes, *, in_place: bool) -> None:
        self._spec = spec
        self._dtypes = dtypes
        self._shared: dict[SizeClass, Tables] = {}
        self._index: dict[str, int] = {}
        by_size: dict[SizeClass, dict[str, Version]] = {}
        for version in versions:
            by_size.setdefault(version.size, {})[version.digest] = version
        for size, members in by_size.items():
            pools = {version.pool for version in members.values()}
            pool = pools.pop() if in_place and len(pools) == 1 else None
            if pool is not None:
                self._shared[size] = pool.tables
                self._index |= {digest: version.slot for digest, version in members.items()}
            elif len(members) <= SHARED_GROUPS:
                self._shared[size] = self._stack(members.values())
                self._index |= {digest: index for index, digest in enumerate(members)}

    def find(self, versions: Sequence[Version]) -> tuple[Ints, Tables]:
        """Return `group` int64 [B] for rows of these versions, all of one size class, and the tables to index."""
        tables, index = self._shared.get(versions[0].size), self._index
        if tables is None:
            members = {version.digest: version for version in versions}
            tables, index = self._stack(members.values()), {digest: place for place, digest in enumerate(members)}
        return np.array([index[version.digest] for version in versions], dtype=np.int64), tables

    def _stack(self, versions: Iterable[Version]) -> Tables:
        members = list(versions)
        return stack([version.tables for version in members], self._spec, members[0].size, self._dtypes)


def compute(
    part: MicroBatch,
    lookup: TableLookup,
    spec: BackboneSpec,
    runner: BackboneRunner,
    trace: BatchTrace,
    *,
    in_flight: InFlight | None = None,
    pooled: bool = False,
    alone: bool = False,
) -> Outputs:
    """Run one micro-batch.

    Args:
        part: The rows.
        lookup: Their tables.
        spec: How rows are padded.
        runner: Computes.
        trace: Gets the time and the shape.
        in_flight: Where the rows are noted while they are computed.
        pooled: Whether the vectors of all rows are wanted; those of rows whose decisions need them come anyway.
        alone: Whether no other row is computed meanwhile.
    """
    rows = part.rows
    with trace.stage(TABLES):
        group, tables = lookup.find([row.version for row in rows])
        tables = tables if rows[0].prefix_tokens else tables.bare
    trace.parts.append(MicroBatchShape(len(rows), part.bucket, len(np.unique(group))))
    noted = in_flight.running([row.digest for row in rows]) if in_flight else nullcontext()
    with trace.stage(COMPUTE), noted:
        tokens = [row.tokens.after(row.prefix_tokens) for row in rows]
        inputs = pad(tokens, group, part.bucket, spec, [row.prefix_tokens for row in rows])
        wanted = pooled or any(row.needs_pooled for row in rows)
        return runner.run(replace(inputs, alone=alone), tables, pooled=wanted)


def pad(
    tokens: Sequence[Tokens],
    group: Ints,
    bucket: int,
    spec: BackboneSpec,
    prefix_tokens: Sequence[int] | None = None,
) -> RowInputs:
    """Return the rows as the graph takes them, padded on the right to `bucket`.

    A row without tokens, which some tokenizers make of an empty text, becomes one padding token, not masked: with all
    of it masked, attention would have nothing to read.

    Args:
        tokens: The tokens of each row.
        group: int64 [B], which of the tables each row reads.
        bucket: S.
        spec: The padding token, whether the graph takes token types, and whether it reads prefixes.
        prefix_tokens: How many tokens of its prefix each row reads before these; None: no row any.
    """
    lengths = np.array([len(row.ids) for row in tokens], dtype=np.int64)
    mask = np.arange(bucket) < lengths[:, None]
    attended = np.arange(bucket) < np.maximum(lengths, 1)[:, None]
    input_ids = _spread((row.ids for row in tokens), mask, spec.pad_id)
    types = _spread((row.types for row in tokens), mask, 0) if spec.token_types else None
    before = np.zeros_like(lengths) if prefix_tokens is None else np.array(prefix_tokens, dtype=np.int64)
    return RowInputs(input_ids, attended.astype(np.int64), group, types, before if spec.prefix_layers else None)


def add_prefix(package: TaskPackage, backbone: Backbone, runner: BackboneRunner) -> TaskPackage:
    """Return the package with the keys and values of its prefix among its tables.

    They are computed with the version's own adapter, alone, and in a shape that is a function of the version, so they
    have the same bits whenever they are computed. Thread-safe. Raises RunnerError.
    """
    ids = list(package.prefix)
    if not ids:
        return package
    own = package.tables
    tokens = Tokens(ids, [0] * len(ids), truncated=False)
    rows = pad([tokens], np.zeros(1, np.int64), backbone.buckets.of(len(ids)), backbone.spec)
    tables = stack([own.tables], backbone.spec, size_class(own.tables, own.outputs), runner.dtypes)
    kept = runner.keys_and_values(rows, tables)
    prefix = {name: array[0, :, : len(ids)] for name, array in kept.items()}
    return replace(package, tables=replace(own, tables={**own.tables, **prefix}))


def _spread(values: Iterable[list[int]], mask: npt.NDArray[np.bool_], fill: int) -> Ints:
    """Return int64 [B, S]: each row's values where `mask` is set, `fill` elsewhere."""
    out = np.full(mask.shape, fill, dtype=np.int64)
    out[mask] = np.fromiter(chain.from_iterable(values), dtype=np.int64, count=int(mask.sum()))
    return out
