"""The engine: a batch of (text, task) rows in, one outcome a row out, in this process."""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scoremux_client.answer_columns import decode_tasks
from scoremux_client.contract import MACHINE
from scoremux_client.rows import Scored
from scoremux_engine.bank.bank import BUDGET_BYTES, MACHINE_BYTES, Bank
from scoremux_engine.errors import EngineError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.buckets import SizeClass, padded_prefix
from scoremux_engine.model.tables import size_class
from scoremux_engine.runners.choose import RunnerChoice, choice_of
from scoremux_engine.runners.expected import check
from scoremux_engine.runners.runner import BackboneRunner, Outputs
from scoremux_engine.scoring import outcomes
from scoremux_engine.scoring.computation import Computation, add_prefix
from scoremux_engine.scoring.in_flight import InFlight
from scoremux_engine.scoring.micro_batches import MicroBatch
from scoremux_engine.scoring.observer import POST, TOKENISE, BatchTrace, Columns, Observer, ScoredBatch
from scoremux_engine.scoring.row_plan import Allowed, RowPlan, RowTexts, Texts
from scoremux_engine.scoring.row_request import Arrival, RowRequest
from scoremux_engine.scoring.scheduler import Scheduler
from scoremux_engine.store.store import Store

Compute = Callable[[MicroBatch, RowRequest], Outputs]

log = logging.getLogger(__name__)

BUDGET_TOKENS = 2048
"""Padded tokens a micro-batch may have."""

_CHECKED_TASKS = 64
"""Live tasks whose size classes are checked before the first row."""

_FEW_ROWS, _FEW_BYTES = 8, 16_384
"""Requests of at most this size are planned together, by the thread that computes the next micro-batch."""


class Engine:
    """Scores rows of any tasks. Thread-safe: rows of several calls share micro-batches.

    A row's level and probabilities depend on its text, its task version, the backbone and the precision alone.

    Attributes:
        checked: How far the runner is from the expected outputs, as a sentence; empty where nothing was compared.

    Args:
        budget_tokens: Padded tokens that a micro-batch may have; no bit depends on it.
        bank_bytes: Most memory for adapters; those used least recently leave it first.
        observers: See what `score` and `score_columns` answer, before it leaves.
        in_flight: Finds rows that kill the process.
        uncalibrated: Where rows of tasks without a calibration go: "human" (ROUTE is human:UNCALIBRATED) or "machine".

    Raises:
        EngineError: This machine has less memory than `bank_bytes`, or `uncalibrated` is neither.
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
        uncalibrated: str = outcomes.PEOPLE,
    ) -> None:
        if uncalibrated not in (outcomes.PEOPLE, MACHINE):
            raise EngineError(f"uncalibrated is {uncalibrated!r}, not {outcomes.PEOPLE!r} or {MACHINE!r}")
        self._uncalibrated = uncalibrated
        self.backbone = backbone
        self.bank = _filled_bank(backbone, store, runner, bank_bytes)
        self._runner = runner
        check_runner = partial(_check, backbone, store, runner)
        self.checked = check_runner() if runner.anytime else ""
        self._observers = tuple(observers)
        self._observing = threading.Lock()
        self._in_flight = in_flight
        compute: Compute = Computation(backbone.spec, runner, in_flight).run
        if not runner.anytime:
            compute = _after(check_runner, compute)
        may_kill = (lambda: in_flight.unfinished) if in_flight else tuple
        self.queue = Scheduler(
            compute,
            runner.streams,
            runner.overlap,
            budget_tokens,
            may_kill,
            self._admit,
            self._hand_over,
            express=runner.express,
        )

    @property
    def precision(self) -> str:
        return self._runner.precision

    @property
    def arithmetic(self) -> str:
        """The name of its arithmetic, which decides bits; every row that it computes has it."""
        return self._runner.arithmetic

    def check(self, sizes: Iterable[SizeClass]) -> str:
        """Compare the runner with the expected outputs in further size classes (`runners.expected.check`)."""
        return check(self.backbone, self._runner, sizes)

    @classmethod
    def open(
        cls,
        repository: str | Path,
        *,
        store: str | Path | None = None,
        runner: RunnerChoice | None = None,
        bank_bytes: int = BUDGET_BYTES,
        uncalibrated: str = outcomes.PEOPLE,
    ) -> "Engine":
        """Open the backbone and the store of a repository.

        Args:
            repository: The folder with `backbone/` and, unless `store` says otherwise, `store/`.
            runner: The runner; None for that of `scoremux serve` (`choice_of`).

        Raises BackboneError, StoreError or RunnerError where one of them cannot be opened, and EngineError as `Engine`.
        """
        root = Path(repository)
        backbone = Backbone.open(root / "backbone" / "1")
        packages = Store(Path(store) if store else root / "store")
        loaded = (runner or choice_of(root)).make(backbone)
        engine = cls(backbone, packages, loaded, bank_bytes=bank_bytes, uncalibrated=uncalibrated)
        engine.bank.describe()
        return engine

    def score(self, texts: Texts, tasks: Texts) -> list[Scored]:
        """Return one `Scored` a row, in order; a row that cannot be scored has a status."""
        return decode_tasks(tasks, self.score_columns(texts, tasks))

    def score_columns(
        self, texts: Texts, tasks: Texts, allowed: Allowed = None, *, embeddings: bool = False
    ) -> Columns:
        """Return the wire's output tensors by name, batch dimension first (see `scoremux_client.contract`).

        allowed: Whether rows may name a task; None: any.
        """
        return self._answer([self._run(RowTexts(texts, tasks, allowed), pooled=embeddings)])[0]

    def submit(self, arrival: Arrival) -> None:
        """As `score_columns`, without waiting: the answer goes to `done` of the arrival."""
        if self.takes_at_once(arrival.rows.texts):
            self.queue.submit_arrival(arrival)
        else:
            for request in self._admit([arrival]):
                self.queue.submit(request)

    @staticmethod
    def takes_at_once(texts: Texts) -> bool:
        """Whether `submit` returns before it has tokenised these."""
        return len(texts) <= _FEW_ROWS and sum(map(len, texts)) <= _FEW_BYTES

    def score_plainly(self, texts: Texts, tasks: Texts, *, embeddings: bool = False) -> list[Scored]:
        """As `score`, with embeddings if asked; but conditions take no row's score away, and observers see nothing."""
        request = self._run(RowTexts(texts, tasks), pooled=embeddings, coding=False)
        columns = outcomes.columns(request.plan, request.out, arithmetic=self.arithmetic, embeddings=embeddings)
        return decode_tasks(tasks, columns)

    def logits(self, texts: Texts, tasks: Texts) -> npt.NDArray[np.float32]:
        """Return float32 [B, L_max]: NaN beyond a task's levels, and in all of a row that cannot be scored.

        A task whose head has one output has its value, in points, in the first column. L_max is `Bank.levels_max`, or
        more where a row's head is wider.
        """
        return self._run(RowTexts(texts, tasks), coding=False).out.logits

    def embed(self, texts: Texts, tasks: Texts) -> npt.NDArray[np.float32]:
        """Return float32 [B, H]: the vector that the task's head reads of each text, NaN where there is none."""
        return np.asarray(self._run(RowTexts(texts, tasks), pooled=True, coding=False).out.pooled)

    def _run(self, rows: RowTexts, *, pooled: bool = False, coding: bool = True) -> RowRequest:
        (request,) = self._plan([Arrival(rows, pooled=pooled)], coding=coding)
        with request.versions:
            self.queue.run(request)
        request.out = request.plan.merged(request.out, self.bank.levels_max)
        return request

    def _admit(self, arrivals: Sequence[Arrival]) -> list[RowRequest]:
        """Plan requests, and answer those that cannot be planned."""
        try:
            return self._plan(arrivals)
        except Exception as error:
            if len(arrivals) > 1:  # no other may suffer from it
                return [request for arrival in arrivals for request in self._admit([arrival])]
            _send(arrivals[0], error)
            return []

    def _plan(self, arrivals: Sequence[Arrival], *, coding: bool = True) -> list[RowRequest]:
        """Return requests ready to be computed; the caller closes their `versions` after that."""
        traces = [BatchTrace(len(arrival.rows.texts)) for arrival in arrivals]
        versions = self.bank.checkout(len(arrivals))
        self.bank.expect(task for arrival in arrivals for task in arrival.rows.tasks)
        try:
            with traces[0].stage(TOKENISE):
                deadly = self._in_flight.deadly if self._in_flight else ()
                rows = [arrival.rows for arrival in arrivals]
                plans = RowPlan.admit(rows, versions, self.backbone, coding=coding, deadly=deadly)
            most, width = self.bank.levels_max, self.backbone.spec.pooled_size
            return [
                RowRequest(arrival, plan, versions, plan.empty_outputs(most, width, pooled=arrival.pooled), trace)
                for arrival, plan, trace in zip(arrivals, plans, traces, strict=True)
            ]
        except BaseException:
            for _ in arrivals:
                versions.close()
            raise

    def _hand_over(self, ended: Sequence[RowRequest]) -> None:
        """Answer requests that no thread waits for; those whose answers have the same tensors are one batch."""
        alike: dict[object, list[RowRequest]] = {}
        for request in ended:
            if request.arrival.done:
                request.versions.close()
                request.out = request.plan.merged(request.out, self.bank.levels_max)
                shape = request.out.logits.shape[1], request.out.pooled is None, request.arrival.pooled
                alike.setdefault((request.error, *shape), []).append(request)
        for requests in alike.values():
            answers: Sequence[Columns | Exception]
            try:
                answers = [error] * len(requests) if (error := requests[0].error) else self._answer(requests)
            except Exception as caught:
                answers = [caught] * len(requests)
            for request, answer in zip(requests, answers, strict=True):
                _send(request.arrival, answer)

    def _answer(self, requests: Sequence[RowRequest]) -> list[Columns]:
        """Return the answers of requests whose answers have the same tensors; observers see one batch."""
        traces = [request.trace for request in requests]
        with traces[0].stage(POST):
            plan = RowPlan.joined([request.plan for request in requests])
            out = Outputs.joined([request.out for request in requests])
            columns = outcomes.columns(
                plan,
                out,
                arithmetic=self.arithmetic,
                embeddings=requests[0].arrival.pooled,
                uncalibrated=self._uncalibrated,
            )
        with self._observing:
            for observer in self._observers:
                texts = [text for request in requests for text in request.arrival.rows.texts]
                observer.observe(ScoredBatch(texts, plan, columns, traces))
        answers, first = [], 0
        for trace in traces:
            answers.append({name: column[first : first + trace.rows] for name, column in columns.items()})
            first += trace.rows
        return answers


def _filled_bank(backbone: Backbone, store: Store, runner: BackboneRunner, most_bytes: int) -> Bank:
    """Return a bank with the live tasks. Loading a version takes a run of the backbone if it has a prefix."""
    if most_bytes > MACHINE_BYTES:
        raise EngineError(f"bank_bytes is {most_bytes:,}, but this machine has {MACHINE_BYTES:,} bytes of memory")
    background = runner.anytime or not backbone.spec.prefix_layers
    complete = partial(add_prefix, backbone=backbone, runner=runner)
    bank = Bank(store, backbone, runner.dtypes, most_bytes, background=background, complete=complete)
    bank.refresh()
    return bank


def _check(backbone: Backbone, store: Store, runner: BackboneRunner) -> str:
    """Compare a runner with the expected outputs, also in the size classes of live tasks (`expected.check`)."""
    sizes = set[SizeClass]()
    digests = list(islice(store.manifest().tasks.values(), _CHECKED_TASKS) if store.stamp() else ())
    store.begin_fetching(digests)
    for digest in digests:
        with suppress(EngineError):  # of a package that is not served; the bank says why
            package = store.read_package(digest, backbone)
            size = size_class(package.tables, package.outputs)
            sizes.add(replace(size, prefix=padded_prefix(len(package.prefix))))
    return check(backbone, runner, sizes)


def _after(first: Callable[[], object], compute: Compute) -> Compute:
    """Return a computation that does something else before the first time; where that fails, each time again."""
    first, lock = cache(first), threading.Lock()

    def run(part: MicroBatch, request: RowRequest) -> Outputs:
        with lock:
            first()
        return compute(part, request)

    return run


def _send(arrival: Arrival, answer: Columns | Exception) -> None:
    """Hand an answer over, unless a thread waits for the rows."""
    try:
        if arrival.done:
            arrival.done(answer)
    except Exception as error:  # requests answered with it must not suffer from it
        log.error("an answer cannot be handed over: %s", type(error).__name__)
