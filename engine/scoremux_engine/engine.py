"""The engine: a batch of (text, task) rows in, one outcome a row out, in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scoremux_client import rows as wire_rows
from scoremux_client.rows import Response, Scored
from scoremux_engine.bank.bank import BUDGET_BYTES, MACHINE_BYTES, Bank
from scoremux_engine.errors import EngineError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import RunnerChoice, choice_of
from scoremux_engine.runners.runner import BackboneRunner, Outputs
from scoremux_engine.scoring import outcomes
from scoremux_engine.scoring.computation import Computation, add_prefix
from scoremux_engine.scoring.in_flight import InFlight
from scoremux_engine.scoring.observer import POST, TOKENISE, BatchTrace, Columns, Observer, ScoredBatch
from scoremux_engine.scoring.row_plan import Allowed, RowPlan, Texts
from scoremux_engine.scoring.row_request import ANY_TERMS, RowRequest, Terms
from scoremux_engine.scoring.scheduler import Scheduler
from scoremux_engine.store.store import Store

BUDGET_TOKENS = 2048
"""Padded tokens a micro-batch may have."""


class Engine:
    """Scores rows of any tasks. Thread-safe: rows of several calls share micro-batches.

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
        self._observers = tuple(observers)
        self._observing = threading.Lock()
        self._in_flight = in_flight
        compute = Computation(backbone.spec, runner, in_flight).run
        may_kill = (lambda: in_flight.unfinished) if in_flight else tuple
        self._scheduler = Scheduler(
            compute, runner.streams, runner.overlap, budget_tokens, may_kill, express=runner.express
        )

    @property
    def precision(self) -> str:
        """What it computes in, by name."""
        return self._runner.precision

    @property
    def arithmetic(self) -> str:
        """What decides its bits, by name; every row that it computes has it."""
        return self._runner.arithmetic

    @classmethod
    def open(
        cls,
        repository: str | Path,
        *,
        store: str | Path | None = None,
        runner: RunnerChoice | None = None,
        bank_bytes: int = BUDGET_BYTES,
    ) -> Engine:
        """Open the backbone and the store of a repository.

        Args:
            repository: The folder with `backbone/` and, unless `store` says otherwise, `store/`.
            store: The folder of task packages.
            runner: What computes; None for what `scoremux serve` takes (`choice_of`).
            bank_bytes: As for `Engine`.

        Raises:
            BackboneError, StoreError, RunnerError: One of them cannot be opened.
        """
        root = Path(repository)
        backbone = Backbone.open(root / "backbone" / "1")
        packages = Store(Path(store) if store else root / "store")
        loaded = (runner or choice_of(root)).make(backbone)
        engine = cls(backbone, packages, loaded, bank_bytes=bank_bytes)
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
        request = self._plan(texts, tasks, allowed=allowed, pooled=embeddings)
        with request.versions:
            self._scheduler.run(request)
        return self._answer(request, texts, embeddings=embeddings)

    def submit(
        self,
        texts: Texts,
        tasks: Texts,
        done: Callable[[Columns | Exception], None],
        allowed: Sequence[Allowed] | None = None,
        *,
        embeddings: bool = False,
        terms: Terms = ANY_TERMS,
    ) -> None:
        """As `score_columns`, without waiting: `done` is called, from any thread, with the tensors or an error.

        Args:
            texts: The responses.
            tasks: The task of each.
            done: Called once; it must not raise.
            allowed: As for `score_columns`.
            embeddings: As for `score_columns`.
            terms: Until when the answer is of use, and who goes first.
        """

        def finish(request: RowRequest) -> None:
            request.versions.close()
            outcome: Columns | Exception
            try:
                outcome = request.error or self._answer(request, texts, embeddings=embeddings)
            except Exception as error:
                outcome = error
            done(outcome)

        try:
            request = self._plan(texts, tasks, allowed=allowed, pooled=embeddings, terms=terms)
        except Exception as error:
            done(error)
            return
        request.done = finish
        self._scheduler.submit(request)

    def score_plainly(self, texts: Texts, tasks: Texts, *, embeddings: bool = False) -> list[Scored]:
        """As `score`, but a condition takes no row's score away, and nobody observes.

        embeddings: whether rows come with theirs.
        """
        request = self._run(texts, tasks, pooled=embeddings)
        columns = outcomes.columns(request.plan, request.out, arithmetic=self.arithmetic, embeddings=embeddings)
        return _decode(tasks, columns)

    def logits(self, texts: Texts, tasks: Texts) -> npt.NDArray[np.float32]:
        """Return float32 [B, L_max]: NaN beyond a task's levels, and in all of a row that cannot be scored.

        A task whose head has one output has its value, in points, in the first column. L_max is `Bank.levels_max`, or
        more where a row's head is wider.
        """
        return self._run(texts, tasks).out.logits

    def embed(self, texts: Texts, tasks: Texts) -> npt.NDArray[np.float32]:
        """Return float32 [B, H]: the vector that the task's head reads of each text, NaN where there is none."""
        return np.asarray(self._run(texts, tasks, pooled=True).out.pooled)

    @property
    def queue(self) -> Scheduler:
        """The rows that wait for their computation."""
        return self._scheduler

    def _run(self, texts: Texts, tasks: Texts, *, pooled: bool = False) -> RowRequest:
        request = self._plan(texts, tasks, coding=False, pooled=pooled)
        with request.versions:
            self._scheduler.run(request)
        return request

    def _plan(
        self,
        texts: Texts,
        tasks: Texts,
        *,
        allowed: Sequence[Allowed] | None = None,
        coding: bool = True,
        pooled: bool = False,
        terms: Terms = ANY_TERMS,
    ) -> RowRequest:
        """Return the rows, ready to be computed; the caller closes the request's `versions` after that.

        pooled: whether the vectors of all rows are wanted; those of rows whose decisions need them are there anyway.
        """
        trace, versions = BatchTrace(), self.bank.checkout()
        try:
            with trace.stage(TOKENISE):
                deadly = self._in_flight.deadly if self._in_flight else ()
                plan = RowPlan.admit(
                    texts, tasks, versions, self.backbone, allowed=allowed, coding=coding, deadly=deadly
                )
        except BaseException:
            versions.close()
            raise
        size = len(plan.status)
        logits = np.full((size, max(self.bank.levels_max, plan.outputs)), np.nan, dtype=np.float32)
        vectors = None
        if pooled or plan.needs_pooled:
            vectors = np.full((size, self.backbone.spec.pooled_size), np.nan, dtype=np.float32)
        return RowRequest(plan, versions, Outputs(logits, vectors), pooled, trace, terms)

    def _answer(self, request: RowRequest, texts: Texts, *, embeddings: bool) -> Columns:
        with request.trace.stage(POST):
            columns = outcomes.columns(request.plan, request.out, arithmetic=self.arithmetic, embeddings=embeddings)
        with self._observing:
            for observer in self._observers:
                observer.observe(ScoredBatch(texts, request.plan, columns, request.trace, request.out.logits))
        return columns


def _decode(tasks: Texts, columns: Columns) -> list[Scored]:
    names = [task if isinstance(task, str) else task.decode("utf-8", "replace") for task in tasks]
    return wire_rows.decode([Response(name, "") for name in names], columns) if names else []
