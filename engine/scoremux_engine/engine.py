"""The engine: a batch of (text, task) rows in, one outcome a row out, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scoremux_client import rows as wire_rows
from scoremux_client.contract import Status
from scoremux_client.rows import Response, Scored
from scoremux_engine.bank.bank import BUDGET_BYTES, MACHINE_BYTES, Bank, BatchVersions
from scoremux_engine.bank.lookup import Lookup
from scoremux_engine.errors import EngineError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.buckets import Buckets
from scoremux_engine.runners.choose import REFERENCE, RunnerChoice
from scoremux_engine.runners.runner import BackboneRunner, Outputs
from scoremux_engine.scoring import microbatches, outcomes
from scoremux_engine.scoring.batch import AdmittedRow, Allowed, Batch, Texts
from scoremux_engine.scoring.in_flight import InFlight
from scoremux_engine.scoring.microbatches import MicroBatch
from scoremux_engine.scoring.observer import COMPUTE, POST, TABLES, TOKENISE, Observer, Part, SeenBatch, Trace
from scoremux_engine.scoring.prefixes import Prefixes
from scoremux_engine.store.store import Store

Run = Callable[[MicroBatch], Outputs]
BUDGET_TOKENS = 2048
"""Padded tokens a micro-batch may have."""


class Engine:
    """Scores rows of any tasks. Not safe to call from several threads at once.

    A row's level and probabilities depend on its text, its task version, the backbone and the precision alone.
    observers: see what `score` and `score_columns` answer, before it leaves; in_flight: finds rows that kill.
    """

    def __init__(
        self,
        backbone: Backbone,
        store: Store,
        runner: BackboneRunner,
        *,
        budget_tokens: int = BUDGET_TOKENS,
        bank_bytes: int = BUDGET_BYTES,
        observers: Sequence[Observer] = (),
        in_flight: InFlight | None = None,
    ) -> None:
        if bank_bytes > MACHINE_BYTES:
            raise EngineError(f"bank_bytes is {bank_bytes:,}, but this machine has {MACHINE_BYTES:,} bytes of memory")
        self.backbone = backbone
        # Loading a version takes a run of the backbone if it has a prefix.
        background = runner.anytime or not backbone.spec.prefix_layers
        complete = Prefixes(backbone, runner).add
        self.bank = Bank(store, backbone, runner.dtypes, bank_bytes, background=background, complete=complete)
        self.bank.refresh()
        self._runner = runner
        self.tokenizer = backbone.tokenizer
        self.buckets = Buckets(backbone.spec.max_tokens)
        self.budget_tokens = budget_tokens
        self._observers = tuple(observers)
        self._in_flight = in_flight
        self._pool = ThreadPoolExecutor(runner.overlap) if runner.overlap > 1 else None

    @property
    def precision(self) -> str:
        """What it computes in, by name: for `auto`, what that became."""
        return self._runner.precision

    @classmethod
    def open(
        cls,
        repository: str | Path,
        *,
        store: str | Path | None = None,
        runner: RunnerChoice = REFERENCE,
        budget_tokens: int = BUDGET_TOKENS,
        bank_bytes: int = BUDGET_BYTES,
    ) -> Engine:
        """Open the backbone and the store of a repository.

        Args:
            repository: the folder with `backbone/` and, unless `store` says otherwise, `store/`.
            store: the folder of task packages.
            runner: what computes.
            budget_tokens: padded tokens that a micro-batch may have; no bit depends on it.
            bank_bytes: most memory for adapters; those used least recently leave it first.

        Raises:
            BackboneError, StoreError, RunnerError: one of them cannot be opened.
        """
        root = Path(repository)
        backbone = Backbone.open(root / "backbone" / "1")
        opened = Store(Path(store) if store else root / "store")
        engine = cls(backbone, opened, runner.make(backbone), budget_tokens=budget_tokens, bank_bytes=bank_bytes)
        engine.bank.describe()
        return engine

    def score(self, texts: Texts, tasks: Texts) -> list[Scored]:
        """Return one `Scored` a row, in order; a row that cannot be scored has a status."""
        responses = [Response(_name(task), text) for text, task in zip(texts, tasks, strict=True)]
        return wire_rows.decode(responses, self.score_columns(texts, tasks)) if responses else []

    def score_columns(
        self, texts: Texts, tasks: Texts, allowed: Sequence[Allowed] | None = None, *, embeddings: bool = False
    ) -> outcomes.Columns:
        """Return the wire's output tensors by name, batch dimension first (see `scoremux_client.contract`).

        Args:
            texts: the responses.
            tasks: the task of each.
            allowed: one entry a row, which says whether the row may name a task; None allows everything.
            embeddings: whether EMBEDDING is among the tensors.
        """
        trace = Trace()
        with self.bank.checkout() as versions:
            batch = self._admit(texts, tasks, versions, trace, allowed)
            out = self._run(batch, trace, pooled=embeddings)
            with trace.stage(POST):
                columns = outcomes.columns(batch, out, embeddings=embeddings)
        for observer in self._observers:
            observer.saw(SeenBatch(texts, batch, columns, trace))
        return columns

    def score_plainly(self, texts: Texts, tasks: Texts, *, embeddings: bool = False) -> list[Scored]:
        """As `score`, but a condition takes no row's score away. embeddings: whether rows come with theirs."""
        responses = [Response(_name(task), text) for text, task in zip(texts, tasks, strict=True)]
        trace = Trace()
        with self.bank.checkout() as versions:
            batch = self._admit(texts, tasks, versions, trace, coding=False)
            out = self._run(batch, trace, pooled=embeddings)
            columns = outcomes.columns(batch, out, embeddings=embeddings)
        return wire_rows.decode(responses, columns) if responses else []

    def logits(self, texts: Texts, tasks: Texts) -> npt.NDArray[np.float32]:
        """Return float32 [B, L_max]: NaN beyond a task's levels, and in all of a row that cannot be scored.

        A task whose head has one output has its value, in points, in the first column. L_max is `Bank.levels_max`, or
        more where a row's head is wider.
        """
        return self._outputs(texts, tasks, pooled=False).logits

    def embed(self, texts: Texts, tasks: Texts) -> npt.NDArray[np.float32]:
        """Return float32 [B, H]: the vector that the task's head reads of each text, NaN where there is none."""
        return np.asarray(self._outputs(texts, tasks, pooled=True).pooled)

    def _outputs(self, texts: Texts, tasks: Texts, *, pooled: bool) -> Outputs:
        trace = Trace()
        with self.bank.checkout() as versions:
            return self._run(self._admit(texts, tasks, versions, trace, coding=False), trace, pooled=pooled)

    def _admit(
        self,
        texts: Texts,
        tasks: Texts,
        versions: BatchVersions,
        trace: Trace,
        allowed: Sequence[Allowed] | None = None,
        *,
        coding: bool = True,
    ) -> Batch:
        with trace.stage(TOKENISE):
            batch = Batch.admit(texts, tasks, versions, self.tokenizer, allowed, coding=coding)
        if self._in_flight is None or not self._in_flight.deadly:
            return batch
        deadly = {row.place for row in batch.admitted if row.digest in self._in_flight.deadly}
        return batch.without(deadly, Status.SERVER_DIED) if deadly else batch

    def _run(self, batch: Batch, trace: Trace, *, pooled: bool = False) -> Outputs:
        """Run the admitted rows: bucket, group, tables, backbone, and back to their places.

        pooled: whether the vectors of all rows are wanted; those of rows whose decisions need them are there anyway.
        """
        rows = batch.admitted
        width = max([self.bank.levels_max, *(row.version.outputs for row in rows)])
        logits = np.full((batch.size, width), np.nan, dtype=np.float32)
        vectors = None
        if pooled or any(row.needs_pooled for row in rows):
            vectors = np.full((batch.size, self.backbone.spec.pooled_size), np.nan, dtype=np.float32)
        if not rows:
            return Outputs(logits, vectors)
        versions, group = batch.groups()
        before = [row.version.prefix_tokens(row.tokens.ids, self.backbone.spec.pad_id) for row in rows]
        with trace.stage(TABLES):
            lookup = Lookup(versions, self.backbone.spec, self._runner.dtypes, in_place=self._runner.in_place)

        def run(part: MicroBatch) -> Outputs:
            own = group[part.rows]
            trace.parts.append(Part(len(own), part.bucket, len(set(own.tolist()))))
            with trace.stage(TABLES):
                indexed, tables = lookup.of(own, prefixes=before[part.rows[0]] > 0)
            with trace.stage(COMPUTE), self._noted([rows[i] for i in part.rows]):
                tokens = [rows[i].tokens.after(before[i]) for i in part.rows]
                skipped = [before[i] for i in part.rows]
                inputs = microbatches.pad(tokens, indexed, part.bucket, self.backbone.spec, skipped)
                wanted = pooled or any(rows[i].needs_pooled for i in part.rows)
                return self._runner.run(replace(inputs, alone=len(rows) == 1), tables, pooled=wanted)

        for part, out in self._run_all(run, rows, before):
            places = [rows[i].place for i in part.rows]
            for place, i, row_logits in zip(places, part.rows, out.logits, strict=True):
                width = versions[group[i]].outputs
                logits[place, :width] = row_logits[:width]
            if vectors is not None and out.pooled is not None:
                vectors[places] = out.pooled
        return Outputs(logits, vectors)

    def _run_all(
        self, run: Run, rows: Sequence[AdmittedRow], before: Sequence[int]
    ) -> Iterator[tuple[MicroBatch, Outputs]]:
        """Plan the micro-batches and yield each with what it gave; rows that may kill come first, each alone.

        before: how many tokens of each row its prefix stands for.
        """
        unfinished = self._in_flight.unfinished if self._in_flight else {}
        alone = {i for i, row in enumerate(rows) if unfinished and row.digest in unfinished}
        lengths = [len(row.tokens.ids) - known for row, known in zip(rows, before, strict=True)]
        # A size class of its own keeps a row alone.
        sizes = [(r.version.size, before[i] > 0, i if i in alone else None) for i, r in enumerate(rows)]
        prefixes = [row.version.size.prefix if known else 0 for row, known in zip(rows, before, strict=True)]
        parts = microbatches.plan(lengths, sizes, self.buckets, self.budget_tokens, self._runner.streams, prefixes)
        first = [part for part in parts if part.rows[0] in alone]
        rest = [part for part in parts if part.rows[0] not in alone]
        yield from ((part, run(part)) for part in first)
        side_by_side = self._pool.map if self._pool and len(rest) > 1 else map
        yield from zip(rest, side_by_side(run, rest), strict=True)

    def _noted(self, rows: Sequence[AdmittedRow]) -> AbstractContextManager[None]:
        return self._in_flight.running([row.digest for row in rows]) if self._in_flight else nullcontext()


def _name(task: str | bytes) -> str:
    return task if isinstance(task, str) else task.decode("utf-8", "replace")
