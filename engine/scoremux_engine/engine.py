"""The engine: a batch of (text, task) rows in, one outcome a row out, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scoremux_client import rows as wire_rows
from scoremux_client.rows import Response, Scored
from scoremux_engine.bank.bank import BUDGET_BYTES, MACHINE_BYTES, Bank
from scoremux_engine.errors import EngineError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import REFERENCE, RunnerChoice
from scoremux_engine.runners.runner import BackboneRunner, Outputs
from scoremux_engine.scoring import outcomes
from scoremux_engine.scoring.computation import TableLookup, add_prefix, compute
from scoremux_engine.scoring.in_flight import InFlight
from scoremux_engine.scoring.observer import POST, TABLES, TOKENISE, BatchTrace, Columns, Observer, ScoredBatch
from scoremux_engine.scoring.row_plan import Allowed, RowPlan, Texts
from scoremux_engine.scoring.scheduler import split
from scoremux_engine.store.store import Store

BUDGET_TOKENS = 2048
"""Padded tokens a micro-batch may have."""


class Engine:
    """Scores rows of any tasks. Not safe to call from several threads at once.

    A row's level and probabilities depend on its text, its task version, the backbone and the precision alone.

    Args:
        backbone: The exported backbone.
        store: The task packages.
        runner: What computes.
        budget_tokens: Padded tokens that a micro-batch may have; no bit depends on it.
        bank_bytes: Most memory for adapters; those used least recently leave it first.
        observers: See what `score` and `score_columns` answer, before it leaves.
        in_flight: Finds rows that kill the process.

    Raises:
        EngineError: This machine has less memory than `bank_bytes`.
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
        complete = partial(add_prefix, backbone=backbone, runner=runner)
        self.bank = Bank(store, backbone, runner.dtypes, bank_bytes, background=background, complete=complete)
        self.bank.refresh()
        self._runner = runner
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
            repository: The folder with `backbone/` and, unless `store` says otherwise, `store/`.
            store: The folder of task packages.
            runner: What computes.
            budget_tokens: As for `Engine`.
            bank_bytes: As for `Engine`.

        Raises:
            BackboneError, StoreError, RunnerError: One of them cannot be opened.
        """
        root = Path(repository)
        backbone = Backbone.open(root / "backbone" / "1")
        packages = Store(Path(store) if store else root / "store")
        engine = cls(backbone, packages, runner.make(backbone), budget_tokens=budget_tokens, bank_bytes=bank_bytes)
        engine.bank.describe()
        return engine

    def score(self, texts: Texts, tasks: Texts) -> list[Scored]:
        """Return one `Scored` a row, in order; a row that cannot be scored has a status."""
        return _decode(tasks, self.score_columns(texts, tasks))

    def score_columns(
        self, texts: Texts, tasks: Texts, allowed: Sequence[Allowed] | None = None, *, embeddings: bool = False
    ) -> Columns:
        """Return the wire's output tensors by name, batch dimension first (see `scoremux_client.contract`).

        Args:
            texts: The responses.
            tasks: The task of each.
            allowed: One entry a row, which says whether the row may name a task; None allows everything.
            embeddings: Whether EMBEDDING is among the tensors.
        """
        trace = BatchTrace()
        plan, out = self._run(texts, tasks, trace, allowed, pooled=embeddings)
        with trace.stage(POST):
            columns = outcomes.columns(plan, out, embeddings=embeddings)
        for observer in self._observers:
            observer.observe(ScoredBatch(texts, plan, columns, trace))
        return columns

    def score_plainly(self, texts: Texts, tasks: Texts, *, embeddings: bool = False) -> list[Scored]:
        """As `score`, but a condition takes no row's score away, and nobody observes.

        embeddings: whether rows come with theirs.
        """
        plan, out = self._run(texts, tasks, BatchTrace(), coding=False, pooled=embeddings)
        return _decode(tasks, outcomes.columns(plan, out, embeddings=embeddings))

    def logits(self, texts: Texts, tasks: Texts) -> npt.NDArray[np.float32]:
        """Return float32 [B, L_max]: NaN beyond a task's levels, and in all of a row that cannot be scored.

        A task whose head has one output has its value, in points, in the first column. L_max is `Bank.levels_max`, or
        more where a row's head is wider.
        """
        return self._run(texts, tasks, BatchTrace(), coding=False)[1].logits

    def embed(self, texts: Texts, tasks: Texts) -> npt.NDArray[np.float32]:
        """Return float32 [B, H]: the vector that the task's head reads of each text, NaN where there is none."""
        return np.asarray(self._run(texts, tasks, BatchTrace(), coding=False, pooled=True)[1].pooled)

    def _run(
        self,
        texts: Texts,
        tasks: Texts,
        trace: BatchTrace,
        allowed: Sequence[Allowed] | None = None,
        *,
        coding: bool = True,
        pooled: bool = False,
    ) -> tuple[RowPlan, Outputs]:
        """Plan the rows and compute their outputs: NaN in rows that are not computed.

        pooled: whether the vectors of all rows are wanted; those of rows whose decisions need them are there anyway.
        """
        spec, runner, in_flight = self.backbone.spec, self._runner, self._in_flight
        with self.bank.checkout() as versions:
            with trace.stage(TOKENISE):
                deadly = in_flight.deadly if in_flight else ()
                plan = RowPlan.admit(
                    texts, tasks, versions, self.backbone, allowed=allowed, coding=coding, deadly=deadly
                )
            with trace.stage(TABLES):
                needed = [row.version for row in plan.rows]
                lookup = TableLookup(needed, spec, runner.dtypes, in_place=runner.in_place)
            logits = np.full((len(plan.status), max(self.bank.levels_max, plan.outputs)), np.nan, dtype=np.float32)
            vectors = None
            if pooled or plan.needs_pooled:
                vectors = np.full((len(plan.status), spec.pooled_size), np.nan, dtype=np.float32)
            unfinished = in_flight.unfinished if in_flight else ()
            parts = split(plan.rows, self.budget_tokens, runner.streams, unfinished)
            run = partial(
                compute,
                lookup=lookup,
                spec=spec,
                runner=runner,
                trace=trace,
                in_flight=in_flight,
                pooled=pooled,
                alone=len(plan.rows) == 1,
            )
            # Rows that may kill the process run alone: one after the other, before all others.
            first = len([part for part in parts if unfinished and part.rows[0].digest in unfinished])
            outputs = [run(part) for part in parts[:first]]
            side_by_side = self._pool.map if self._pool and len(parts) - first > 1 else map
            outputs += side_by_side(run, parts[first:])
            for part, out in zip(parts, outputs, strict=True):
                for row, row_logits in zip(part.rows, out.logits, strict=True):
                    logits[row.place, : row.version.outputs] = row_logits[: row.version.outputs]
                if vectors is not None and out.pooled is not None:
                    vectors[[row.place for row in part.rows]] = out.pooled
        return plan, Outputs(logits, vectors)


def _decode(tasks: Texts, columns: Columns) -> list[Scored]:
    names = [task if isinstance(task, str) else task.decode("utf-8", "replace") for task in tasks]
    return wire_rows.decode([Response(name, "") for name in names], columns) if names else []
