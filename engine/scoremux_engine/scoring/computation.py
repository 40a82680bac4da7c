"""Micro-batch → logits: tables and padded tokens for the runner, and the rows' outputs."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from scoremux_engine.bank.residents import Version
from scoremux_engine.model.backbone import Backbone, BackboneSpec
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.model.tables import DTypes, Tables, size_class, stack
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.runners.runner import BackboneRunner, Ints, Outputs, pad
from scoremux_engine.scoring.in_flight import InFlight
from scoremux_engine.scoring.micro_batches import MicroBatch
from scoremux_engine.scoring.observer import COMPUTE, TABLES, MicroBatchShape
from scoremux_engine.scoring.row_request import RowRequest

SHARED_GROUPS = 64
"""Most versions that are copied together for a whole request; with more, each micro-batch copies its own few."""


class TableLookup:
    """The tables of the versions that the rows of a micro-batch need, all of one size class. Thread-safe.

    Where all of them are in one pool and the runner reads it in place, that pool is handed over whole and rows index
    slots: nothing is copied, and the graph sees the same tables at every call. Else the tables are copied together,
    once for all micro-batches in a row that need no others.
    """

    def __init__(self, spec: BackboneSpec, dtypes: DTypes, *, in_place: bool, most_groups: int = 0) -> None:
        self._spec = spec
        self._dtypes = dtypes
        self._in_place = in_place
        self._most_shared = min(SHARED_GROUPS, most_groups or SHARED_GROUPS)
        self._copied: dict[SizeClass, tuple[dict[str, int], Tables]] = {}

    def find(self, versions: Sequence[Version], soon: Iterable[Version] = ()) -> tuple[Ints, Tables]:
        """Return `group` int64 [B] for rows of these versions, and the tables that it indexes.

        soon: versions that rows of the next micro-batches will need.
        """
        size, pool = versions[0].size, versions[0].pool
        if self._in_place and pool is not None and all(version.pool is pool for version in versions):
            slots = [version.slot for version in versions]
            return np.array(slots, dtype=np.int64), pool.tables
        index, tables = self._copied.get(size, ({}, None))
        if tables is None or any(version.digest not in index for version in versions):
            members = {version.digest: version for version in versions}
            more = members | {version.digest: version for version in soon if version.size == size}
            members = more if len(more) <= self._most_shared else members
            index = {digest: place for place, digest in enumerate(members)}
            adapters = [version.tables for version in members.values()]
            tables = stack(adapters, self._spec, size, self._dtypes)
            self._copied[size] = index, tables
        places = [index[version.digest] for version in versions]
        return np.array(places, dtype=np.int64), tables


class Computation:
    """Runs micro-batches. Thread-safe where the runner is."""

    def __init__(self, spec: BackboneSpec, runner: BackboneRunner, in_flight: InFlight | None = None) -> None:
        self._spec = spec
        self._runner = runner
        self._in_flight = in_flight
        self._lookup = TableLookup(spec, runner.dtypes, in_place=runner.in_place, most_groups=runner.most_rows)

    def run(self, part: MicroBatch, request: RowRequest) -> Outputs:
        """Return the outputs of a micro-batch; its time and shape count for the request.

        The vectors of rows whose decisions need them come anyway. More rows than the runner takes are halved.
        """
        rows, trace = part.rows, request.trace
        if 0 < self._runner.most_rows < len(rows):
            part = replace(part, pooled=part.pooled or any(row.needs_pooled for row in rows))
            middle = len(rows) // 2
            halves = [replace(part, rows=half) for half in (rows[:middle], rows[middle:])]
            return Outputs.joined([self.run(half, request) for half in halves])
        with trace.stage(TABLES):
            versions = [row.version for row in rows]
            group, tables = self._lookup.find(versions, request.plan.versions)
            tables = tables if rows[0].prefix_tokens else tables.bare
        trace.parts.append(MicroBatchShape(len(rows), part.bucket, len(np.unique(group)), part.fill))
        noted = self._in_flight.running([row.digest for row in rows]) if self._in_flight else nullcontext()
        with trace.stage(COMPUTE), noted:
            tokens = [row.tokens.after(row.prefix_tokens) for row in rows]
            prefix_tokens = [row.prefix_tokens for row in rows]
            inputs = pad(tokens, group, part.bucket, self._spec, prefix_tokens)
            vectors = part.pooled or any(row.needs_pooled for row in rows)
            return self._runner.run(replace(inputs, alone=part.alone), tables, pooled=vectors)


def add_prefix(package: TaskPackage, backbone: Backbone, runner: BackboneRunner) -> TaskPackage:
    """Return the package with the keys and values of its prefix among its tables.

    They are computed with the version's own adapter, alone, and in a shape that is a function of the version, so they
    have the same bits whenever they are computed. Thread-safe. Raises RunnerError.
    """
    ids = list(package.prefix)
    if not ids:
        return package
    tokens = Tokens(ids, [0] * len(ids), truncated=False)
    rows = pad([tokens], np.zeros(1, np.int64), backbone.buckets.of(len(ids)), backbone.spec)
    tables = stack([package.tables], backbone.spec, size_class(package.tables, package.outputs), runner.dtypes)
    keys_and_values = runner.keys_and_values(rows, tables)
    prefix = {name: array[0, :, : len(ids)] for name, array in keys_and_values.items()}
    return replace(package, tables={**package.tables, **prefix})
