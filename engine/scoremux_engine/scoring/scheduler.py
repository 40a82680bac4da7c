"""The scheduler: one queue of rows; the next micro-batch is formed from all waiting requests when a stream is free."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from scoremux_engine.errors import DroppedError, EngineError
from scoremux_engine.runners.runner import Outputs
from scoremux_engine.scoring.micro_batches import MicroBatch, most_rows, split
from scoremux_engine.scoring.row_plan import PlannedRow
from scoremux_engine.scoring.row_request import RowRequest

log = logging.getLogger(__name__)

_MOST_CANDIDATES = 256
"""How many parts of one shape are looked at for one micro-batch."""


@dataclass(eq=False)
class _Part:
    """Rows of one request that are computed in one micro-batch, perhaps with those of others.

    alone: whether nothing else may be computed meanwhile, as one of the rows may kill the process.
    """

    request: RowRequest
    rows: Sequence[PlannedRow]
    alone: bool
    taken: bool = False

    @property
    def tokens(self) -> int:
        return self.rows[0].bucket * len(self.rows)


Compute = Callable[[MicroBatch, RowRequest], Outputs]
"""Runs a micro-batch; time and shape count for the request."""


@dataclass(frozen=True)
class QueueStats:
    """rows: those that wait; dropped: rows that were not computed, by reason."""

    rows: int
    dropped: dict[str, int]


class Scheduler:
    """Computes the rows of all requests. Thread-safe.

    Each request is split into parts as if it were alone. Small requests are computed first, large ones give way between
    micro-batches; a request that has waited as long as its own work takes is not overtaken any more. A part that leaves
    room in its micro-batch is joined by parts of other requests with rows of the same shape. No bit depends on any of
    this: a row's shapes are its own.

    Args:
        compute: Runs one micro-batch.
        streams: How many micro-batches compute side by side, so that a small request is worth splitting.
        overlap: How many may be under way at once.
        budget_tokens: Padded tokens that a micro-batch may have.
        may_kill: Digests of rows that may kill the process: each is computed with nothing beside it, before all others.
    """

    def __init__(
        self,
        compute: Compute,
        streams: int,
        overlap: int,
        budget_tokens: int,
        may_kill: Callable[[], Collection[str]] = lambda: (),
    ) -> None:
        self.budget_tokens = budget_tokens
        self._compute = compute
        self._streams = streams
        self._overlap = overlap
        self._may_kill = may_kill
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(overlap, "scoring")
        self._queue: list[tuple[float, int, _Part]] = []
        self._by_shape: dict[object, dict[_Part, None]] = {}
        self._numbers = itertools.count()
        self._requests: set[RowRequest] = set()
        self._tokens = 0  # of the parts that wait
        self._working = 0  # threads that take parts
        self._running = 0  # micro-batches
        self._running_alone = False
        self._dropped: dict[str, int] = {}

    @property
    def stats(self) -> QueueStats:
        with self._lock:
            return QueueStats(sum(request.rows_left for request in self._requests), dict(self._dropped))

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
        """Compute a request in other threads, which call its `done`."""
        if self._add(request):
            self._start_workers()

    def drop_all(self, reason: str, message: str) -> None:
        """Fail whatever waits; micro-batches that are under way end."""
        with self._lock:
            requests = list(self._requests)
        for request in requests:
            self._fail(request, DroppedError(reason, message))

    def count_dropped(self, rows: int, reason: str) -> None:
        """Count rows that were refused or dropped."""
        with self._lock:
            self._dropped[reason] = self._dropped.get(reason, 0) + rows

    def _add(self, request: RowRequest) -> bool:
        """Add a request to the queue. Return whether there is anything to compute."""
        if not request.plan.rows:
            self._finish(request)
            return False
        may_kill, rank = self._may_kill(), request.rank
        parts = [
            _Part(request, part.rows, bool(may_kill) and part.rows[0].digest in may_kill)
            for part in split(request.plan.rows, self.budget_tokens, self._streams, may_kill)
        ]
        with self._lock:
            self._requests.add(request)
            for part in parts:
                self._tokens += part.tokens
                heapq.heappush(self._queue, (-math.inf if part.alone else rank, next(self._numbers), part))
                if not part.alone:
                    self._by_shape.setdefault(part.rows[0].shape, {})[part] = None
        return True

    def _start_workers(self) -> None:
        with self._lock:
            count = 0 if self._running_alone else min(self._overlap - self._working, len(self._queue))
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
                # Nobody may wait for ever, whatever went wrong here; an interrupt is this thread's alone.
                requests = list(self._requests) if isinstance(error, Exception) else []
            for request in requests:
                self._fail(request, EngineError(f"the scheduler failed: {type(error).__name__}"))
            raise
        finally:
            if until is not None:
                self._start_workers()

    def _take(self, until: RowRequest | None) -> list[_Part]:
        """Return the parts of the next micro-batch; none where this thread has nothing to do: it works no more."""
        dropped: list[tuple[RowRequest, DroppedError]] = []
        now = time.monotonic()
        with self._lock:
            parts = [] if until is not None and until.finished.is_set() else self._next_parts(now, dropped)
            if parts:
                self._running += 1
                self._running_alone = parts[0].alone
            else:
                self._working -= 1
        for request, reason in dropped:
            self._fail(request, reason)
        if parts and self._queue:
            self._start_workers()
        return parts

    def _next_parts(self, now: float, dropped: list[tuple[RowRequest, DroppedError]]) -> list[_Part]:
        while self._queue and not self._running_alone:
            lead = self._queue[0][2]
            if lead.alone and self._running and not lead.taken:
                return []  # whoever ends the last micro-batch takes it
            heapq.heappop(self._queue)
            if not self._take_part(lead, now, dropped):
                continue
            parts = [lead]
            idle = max(1, self._streams - self._running)
            share = (self._tokens + lead.tokens) // idle // lead.rows[0].bucket
            room = min(most_rows(lead.rows[0], self.budget_tokens), share) - len(lead.rows)
            waiting = self._by_shape.get(lead.rows[0].shape, {}) if room > 0 and not lead.alone else {}
            for part in list(itertools.islice(waiting, _MOST_CANDIDATES)):
                # Parts of one request were split on purpose.
                if len(part.rows) > room or part.request is lead.request or not self._take_part(part, now, dropped):
                    continue
                parts.append(part)
                room -= len(part.rows)
                if not room:
                    break
            return parts
        return []

    def _take_part(self, part: _Part, now: float, dropped: list[tuple[RowRequest, DroppedError]]) -> bool:
        """Remove a part from the queue. Return whether it is still to be computed."""
        if part.taken:
            return False
        part.taken = True
        self._tokens -= part.tokens
        if not part.alone:
            shape = part.rows[0].shape
            del self._by_shape[shape][part]
            if not self._by_shape[shape]:
                del self._by_shape[shape]
        if part.request.finished.is_set():
            return False
        reason = part.request.reason_to_drop(now)
        if reason is not None:
            dropped.append((part.request, reason))
        return reason is None

    def _run(self, parts: list[_Part]) -> None:
        rows = [row for part in parts for row in part.rows]
        requests = {part.request for part in parts}
        pooled = any(request.pooled for request in requests)
        with self._lock:
            alone = len(rows) == 1 and self._running == 1 and not self._tokens
        error: BaseException | None = None
        try:
            out = self._compute(MicroBatch(rows, pooled, alone), parts[0].request)
            first = 0
            for part in parts:
                part.request.place(part.rows, out, first)
                first += len(part.rows)
        except BaseException as caught:
            error = caught
        with self._lock:
            self._running -= 1
            self._running_alone = False
            for part in parts:
                part.request.rows_left -= len(part.rows)
        for request in requests:
            if error:
                self._fail(request, error if isinstance(error, Exception) else EngineError("scoring was interrupted"))
            elif not request.rows_left:
                self._finish(request)
        if error and not isinstance(error, Exception):
            raise error

    def _fail(self, request: RowRequest, error: Exception) -> None:
        with self._lock:
            if request not in self._requests:
                return
            request.error = request.error or error
            if isinstance(error, DroppedError):
                self._dropped[error.reason] = self._dropped.get(error.reason, 0) + request.rows_left
        self._finish(request)

    def _finish(self, request: RowRequest) -> None:
        with self._lock:
            self._requests.discard(request)
            if request.finished.is_set():
                return
            request.finished.set()
        try:
            request.done(request)
        except Exception as error:  # other requests must not suffer from it
            log.error("an answer cannot be handed over: %s", type(error).__name__)
