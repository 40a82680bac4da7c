"""The interface of backbone runners, the one that calls another Triton model, and how the CPU is shared out."""

import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from scoremux_engine.errors import RunnerError
from scoremux_engine.model import backbone as names
from scoremux_engine.model.backbone import BackboneSpec
from scoremux_engine.model.tables import DTypes, Tables
from scoremux_engine.model.tokens import Tokens

MORE_MEMORY = "give the server more memory, or serve with fewer threads: --set threads=1"

_QUOTA = Path("/sys/fs/cgroup/cpu.max")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
T = TypeVar("T")
Infer = Callable[[dict[str, npt.NDArray[Any]], list[str]], list[Floats]]
"""Runs the graph: its inputs by name and the names of outputs in, these outputs out. Called from several threads."""


@dataclass(frozen=True)
class RowInputs:
    """The rows of one micro-batch: input_ids and attention_mask int64 [B, S], group int64 [B].

    token_type_ids int64 [B, S], where the graph takes them (`BackboneSpec.token_types`). prefix_tokens int64 [B], how
    many tokens of its prefix each row reads, where the graph reads prefixes (`BackboneSpec.prefix_layers`).
    alone: there is one row, which need not wait for a stream.
    """

    input_ids: Ints
    attention_mask: Ints
    group: Ints
    token_type_ids: Ints | None = None
    prefix_tokens: Ints | None = None
    alone: bool = False

    @property
    def feeds(self) -> dict[str, Ints]:
        """The graph's inputs that differ by micro-batch, under their names; the tables are the others."""
        feeds = {names.INPUT_IDS: self.input_ids, names.ATTENTION_MASK: self.attention_mask, names.GROUP: self.group}
        also = {names.TOKEN_TYPE_IDS: self.token_type_ids, names.PREFIX_TOKENS: self.prefix_tokens}
        return feeds | {name: array for name, array in also.items() if array is not None}


def pad(
    tokens: Sequence[Tokens], group: Ints, bucket: int, spec: BackboneSpec, prefix_tokens: Sequence[int] | None = None
) -> RowInputs:
    """Return the rows as the graph takes them, padded on the right to `bucket`.

    A row without tokens, which some tokenizers make of an empty text, becomes one padding token, not masked: with all
    of it masked, attention would have nothing to read.

    Args:
        group: int64 [B], which of the tables each row reads.
        spec: The padding token, whether the graph takes token types, and whether it reads prefixes.
        prefix_tokens: How many tokens of its prefix each row reads before these; None: no row has a prefix.
    """
    places = np.arange(bucket)
    lengths = np.array([len(row.ids) for row in tokens], dtype=np.int64)[:, None]
    mask = places < lengths
    attended = places < np.maximum(lengths, 1)
    types = _spread((row.types for row in tokens), mask, 0) if spec.token_types else None
    before = np.array(prefix_tokens or [0] * len(tokens), dtype=np.int64) if spec.prefix_layers else None
    return RowInputs(
        _spread((row.ids for row in tokens), mask, spec.pad_id), attended.astype(np.int64), group, types, before
    )


def _spread(values: Iterable[list[int]], mask: npt.NDArray[np.bool_], fill: int) -> Ints:
    """Return int64 [B, S]: each row's values where `mask` is set, `fill` elsewhere."""
    out = np.full(mask.shape, fill, dtype=np.int64)
    out[mask] = np.fromiter(chain.from_iterable(values), dtype=np.int64, count=int(mask.sum()))
    return out


@dataclass(frozen=True)
class Outputs:
    """logits float32 [B, L_max]; pooled float32 [B, H], the vectors that the head read, None unless asked for."""

    logits: Floats
    pooled: Floats | None = None

    @classmethod
    def joined(cls, parts: "Sequence[Outputs]") -> "Outputs":
        """Return the rows of all parts, which are of one width, and either all have vectors or none."""
        if len(parts) == 1:
            return parts[0]
        vectors = [part.pooled for part in parts if part.pooled is not None]
        return cls(np.concatenate([part.logits for part in parts]), np.concatenate(vectors) if vectors else None)


class BackboneRunner:
    """logits = head(pooled, tables)[group], pooled = backbone(input_ids, attention_mask, tables)[group]

    overlap: how many calls of `run` may be under way at once, from several threads. streams: how many of them compute
    side by side, so that a small batch is worth splitting. express: whether a call with one row may be under way beside
    them. in_place: whether `run` reads tables where they lie, so that large ones cost no more than small ones.
    anytime: whether it computes before the first batch is scored. most_rows: of a micro-batch; 0: any number.
    dtypes: the types it takes tables in. precision: its name.
    """

    overlap: int
    streams: int
    express = False
    in_place = False
    anytime = False
    most_rows = 0
    dtypes: DTypes = MappingProxyType({})
    precision: str
    _kept: Mapping[str, str]  # see `BackboneSpec.kept`

    @property
    def arithmetic(self) -> str:
        """The name of its arithmetic, which decides bits (`runners.arithmetic`)."""
        raise NotImplementedError

    def run(self, rows: RowInputs, tables: Tables, *, pooled: bool = False) -> Outputs:
        """Return the logits of the rows, and with `pooled` the vectors that the head read.

        A row's outputs depend on that row and its group's tables alone, bit for bit. Raises RunnerError.
        """
        try:
            return Outputs(*self._compute(rows, tables, [names.LOGITS, names.POOLED][: 1 + pooled]))
        except MemoryError as error:
            raise RunnerError(f"a micro-batch cannot be computed: {error}; {MORE_MEMORY}") from error

    def run_on_each_stream(self, rows: RowInputs, tables: Tables) -> list[Outputs]:
        """Return the logits and vectors of the rows, computed by each stream at the same moment."""
        return at_once([partial(self.run, rows, tables, pooled=True)] * self.streams)

    def keys_and_values(self, rows: RowInputs, tables: Tables) -> dict[str, Floats]:
        """Return the keys and values that rows with this beginning read, by graph input name.

        The tables K.<layer> and V.<layer>, each float32 [B, heads, S, width]; the backbone reads prefixes.
        """
        return dict(zip(self._kept, self._compute(rows, tables, list(self._kept.values())), strict=True))

    def _compute(self, rows: RowInputs, tables: Tables, outputs: list[str]) -> Sequence[Floats]:
        """Return outputs of the graph by their names."""
        raise NotImplementedError


class TritonRunner(BackboneRunner):
    """Hands each micro-batch to `infer`, a call to the model `backbone` (BLS inside Triton's Python backend).

    precision, arithmetic: of that model, by name. most_rows: of a call; a TensorRT plan is built for so many.
    """

    overlap = 4
    streams = 1
    in_place = False  # tables travel with every call
    anytime = False  # Triton takes no such calls before the calling model is loaded
    arithmetic = ""

    def __init__(
        self, infer: Infer, spec: BackboneSpec, precision: str = "float32", arithmetic: str = "", most_rows: int = 0
    ) -> None:
        self.precision, self.arithmetic, self.most_rows = precision, arithmetic, most_rows
        self._infer = infer
        self._kept = spec.kept

    def _compute(self, rows: RowInputs, tables: Tables, outputs: list[str]) -> Sequence[Floats]:
        return self._infer({**rows.feeds, **tables.arrays}, outputs)


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Return the results of functions that begin at the same moment, each in a thread of its own."""
    together = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        together.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@dataclass(frozen=True)
class Streams:
    """`count` micro-batches are computed at once, each by `threads` threads.

    One thread each is the default. Nothing waits for the slowest part of a product then, and no library has cause to
    split a sum between threads, so bits do not depend on how many cores there are.
    """

    count: int
    threads: int

    @classmethod
    def of(cls, threads: int | None, streams: int | None) -> "Streams":
        """Share out `threads` (None: all cores) among `streams` (None: one a thread). Raises RunnerError."""
        cores = threads or available_cores()
        count = streams or cores
        if count > cores:
            raise RunnerError(f"streams is {count}, but there are {cores} threads; each stream takes at least one")
        return cls(count, cores // count)


def available_cores(quota: Path = _QUOTA) -> int:
    """Return how many cores this process can keep busy: those it may run on, or fewer if its control group says so.

    quota: control group v2's `cpu.max`, "QUOTA PERIOD" in microseconds or "max PERIOD".
    """
    cores = len(os.sched_getaffinity(0))
    try:
        granted, period = quota.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if granted == "max" else max(1, min(cores, math.ceil(int(granted) / int(period))))
