"""The scheduler: one queue of rows; the next micro-batch is formed from all waiting requests when a stream is free."""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from scoremux_engine.errors import DroppedError, EngineError
from scoremux_engine.runners.runner import Outputs
from scoremux_engine.scoring.micro_batches import MicroBatch, most_rows, split
from scoremux_engine.scoring.row_plan import PlannedRow
from scoremux_engine.scoring.row_request import Arrival, RowRequest
from scoremux_engine.scoring.shares import Part
from scoremux_engine.scoring.turns import Dropped, Turns

log = logging.getLogger(__name__)

Compute = Callable[[MicroBatch, RowRequest], Outputs]
"""Runs a micro-batch; time and shape count for the request."""


@dataclass(frozen=True)
class QueueStats:
    """The rows that are queued, rows dropped by reason, and padded tokens computed by tenant."""

    rows: int
    dropped: dict[str, int]
    tokens: dict[str, int]


class Scheduler:
    """Computes the rows of all requests. Thread-safe.

    Each request is split into parts as if it were alone. Tenants have shares of the work (`shares`); within a share,
    small requests are computed first, large ones give way between micro-batches, and a request that has waited as long
    as its own work takes is not overtaken any more. A part that leaves room in its micro-batch is joined by parts of
    other requests with rows of the same shape. No bit depends on any of this: a row's shapes are its own.

    Args:
        streams: How many micro-batches compute side by side, so that a small request is worth splitting.
        overlap: How many may be under way at once.
        may_kill: Digests of rows that may kill the process: each is computed with nothing beside it, before all others.
        admit: Plans requests; those that cannot be planned it answers.
        done: Called with requests that ended together, each once.
        express: Whether a lone row may be computed beside as many micro-batches as may be under way: it ends
            sooner than any of them.
        quiet_s: Seconds without two micro-batches at once, after which a lone row gets all cores: it ends a seventh
            sooner and costs half more processor time.
    """

    def __init__(
        self,
        compute: Compute,
        streams: int,
        overlap: int,
        budget_tokens: int,
        may_kill: Callable[[], Collection[str]] = lambda: (),
        admit: Callable[[Sequence[Arrival]], Sequence[RowRequest]] = lambda _: (),
        done: Callable[[Sequence[RowRequest]], None] = lambda _: None,
        *,
        express: bool = False,
        quiet_s: float = 0.1,
    ) -> None:
        self.budget_tokens = budget_tokens
        self._compute = compute
        self._streams = streams
        self._overlap = overlap
        self._may_kill = may_kill
        self._admit = admit
        self._done = done
        self._lock = threading.Lock()
        self._most_working = overlap + express
        self._pool = ThreadPoolExecutor(self._most_working, "scoring")
        self._arrivals: list[Arrival] = []
        self._turns = Turns(streams, overlap, budget_tokens)
        self._requests: set[RowRequest] = set()
        self._working = 0  # threads that take parts
        self._quiet_s, self._quiet_at = quiet_s, -math.inf
        self._dropped: Counter[str] = Counter()

    @property
    def stats(self) -> QueueStats:
        with self._lock:
            rows = sum(len(arrival.rows.texts) for arrival in self._arrivals)
            rows += sum(request.rows_left for request in self._requests)
            return QueueStats(rows, dict(self._dropped), dict(self._turns.shares.computed))

    def run(self, request: RowRequest) -> None:
        """Compute a request; this thread helps. Raises what its computation raised."""
        if self._add(request):
            with self._lock:
                helps = self._working < self._overlap
                self._working += helps
            if helps:
                self._work(request)
            else:
                self._start_workers()
            request.finished.wait()
        if request.error:
            raise request.error

    def submit(self, request: RowRequest) -> None:
        """Compute a request in other threads."""
        if self._add(request):
            self._start_workers()

    def submit_arrival(self, arrival: Arrival) -> None:
        """Compute a request in other threads. It is planned with all others that came until one of them is free."""
        with self._lock:
            self._arrivals.append(arrival)
        self._start_workers(arrival)

    def drop_all(self, reason: str, message: str) -> None:
        """Fail whatever waits; micro-batches that are under way end."""
        self._admit_arrivals()
        with self._lock:
            requests = list(self._requests)
        for request in requests:
            self._fail(request, DroppedError(reason, message))

    def count_dropped(self, rows: int, reason: str) -> None:
        with self._lock:
            self._dropped[reason] += rows

    def _add(self, request: RowRequest) -> bool:
        """Add a request to the queue. Return whether there is anything to compute."""
        if not request.plan.rows:
            self._finish([request])
            return False
        may_kill = self._may_kill()
        parts = [
            Part(request, part.rows, bool(may_kill) and part.rows[0].digest in may_kill)
            for part in split(request.plan.computed, self.budget_tokens, self._streams, may_kill)
        ]
        with self._lock:
            if request.finished.is_set():  # dropped before it was here
                return False
            self._requests.add(request)
            self._turns.arrive(request, parts, time.monotonic())
        return True

    def _admit_arrivals(self) -> None:
        with self._lock:
            arrivals, self._arrivals = self._arrivals, []
        if arrivals:
            requests = self._admit(arrivals)
            with self._lock:
                self._requests.update(requests)
            for request in requests:
                self._add(request)

    def _start_workers(self, arrival: Arrival | None = None) -> None:
        with self._lock:
            waiting = len(self._turns) + len(self._arrivals)
            express = self._turns.shares.wants_express(arrival.terms if arrival else None)
            most = self._most_working if express else self._overlap
            count = 0 if self._turns.running_alone else max(0, min(most - self._working, waiting))
            self._working += count
        for _ in range(count):
            self._pool.submit(self._work)

    def _work(self, until: RowRequest | None = None) -> None:
        """Compute what waits; with `until`, only until this request is finished."""
        try:
            while parts := self._take(until):
                self._run(parts)
        except BaseException as error:
            with self._lock:
                self._working -= 1
                # No caller may wait for ever; an interrupt is for this thread alone.
                requests = list(self._requests) if isinstance(error, Exception) else []
            for request in requests:
                self._fail(request, EngineError(f"the scheduler failed: {type(error).__name__}"))
            raise
        finally:
            if until is not None:
                self._start_workers()

    def _take(self, until: RowRequest | None) -> list[Part]:
        """Return the parts of the next micro-batch; none where this thread has nothing to do: it works no more."""
        self._admit_arrivals()
        dropped: Dropped = []
        now = time.monotonic()
        with self._lock:
            parts = [] if until is not None and until.finished.is_set() else self._turns.next(now, dropped)
            if parts:
                for request in {part.request for part in parts}:
                    if request.trace.waited_s is None:
                        request.trace.waited_s = max(0.0, now - request.arrival.at)
                self._turns.begin(parts[0])
            else:
                self._working -= 1
            more = bool(self._arrivals or (parts and self._turns))
        for request, reason in dropped:
            self._fail(request, reason)
        if more:
            self._start_workers()
        return parts

    def _run(self, parts: list[Part]) -> None:
        rows = [row for part in parts for row in part.rows]
        requests = {part.request for part in parts}
        pooled = any(request.arrival.pooled for request in requests)
        express = parts[0].express
        with self._lock:
            now = time.monotonic()
            if self._turns.running > 1 or self._turns.shares.tokens:
                self._quiet_at = now + self._quiet_s
            alone = express or (len(rows) == 1 and now > self._quiet_at)
        error: BaseException | None = None
        try:
            fill = len(rows) / most_rows(rows[0], self.budget_tokens)
            distinct, numbers = _distinct(rows)
            out = self._compute(MicroBatch(distinct, pooled, alone, fill), parts[0].request)
            if len(distinct) < len(rows):
                out = Outputs(out.logits[numbers], None if out.pooled is None else out.pooled[numbers])
            first = 0
            for part in parts:
                part.request.place(part.rows, out, first)
                first += len(part.rows)
        except BaseException as caught:
            error = caught
        with self._lock:
            self._turns.end(parts[0])
            for part in parts:
                part.request.rows_left -= len(part.rows)
        if error:
            for request in requests:
                self._fail(request, error if isinstance(error, Exception) else EngineError("scoring was interrupted"))
        else:
            self._finish(request for request in requests if not request.rows_left)
        if error and not isinstance(error, Exception):
            raise error

    def _fail(self, request: RowRequest, error: Exception) -> None:
        with self._lock:
            if request not in self._requests:
                return
            request.error = request.error or error
            if isinstance(error, DroppedError):
                self._dropped[error.reason] += request.rows_left
        self._finish([request])

    def _finish(self, requests: Iterable[RowRequest]) -> None:
        with self._lock:
            ended = [request for request in requests if not request.finished.is_set()]
            self._requests.difference_update(ended)
            for request in ended:
                request.finished.set()
        try:
            self._done(ended)
        except Exception as error:  # other requests must not suffer from it
            log.error("answers cannot be handed over: %s", type(error).__name__)


def _distinct(rows: Sequence[PlannedRow]) -> tuple[Sequence[PlannedRow], list[int]]:
    """Return the rows without those of one text that traits of one item ask for, and the number of each row's text."""
    if not any(row.version.task.traits for row in rows):
        return rows, list(range(len(rows)))
    distinct: dict[object, PlannedRow] = {}
    keys = [row.digest if row.version.task.traits else id(row) for row in rows]
    for key, row in zip(keys, rows, strict=True):
        distinct.setdefault(key, row)
    places = {key: number for number, key in enumerate(distinct)}
    return list(distinct.values()), [places[key] for key in keys]
