"""One call from its first row to its last, for both clients.

A `Call` decides which rows go to which server and when, what is sent again, and which outcome comes next. It never
waits: the clients feed it rows, let it step, take outcomes in order, and wait until it wakes them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from scoremux_client.errors import (
    DeadlineError,
    InputError,
    RejectedError,
    TooLargeError,
    TransportError,
    UnavailableError,
)
from scoremux_client.requests import REQUEST_BYTES, Request, RequestSize, Row
from scoremux_client.rows import Columns, Response, Scored, decode, encode
from scoremux_client.servers import LATE, Server, Servers, error_of, submit

_GRACE_S = 0.25
"""How late a transport may be with its own deadline before the request is cancelled."""


@dataclass(frozen=True)
class Options:
    """Options of one call; see `ScoringClient`. remember: identical rows are sent once in the whole call."""

    window: int
    timeout_s: float | None
    deadline_s: float | None
    deduplicate: bool
    remember: bool = False


class Call:
    """Feed it rows while it wants them, let it step, take what is next; close it in any case."""

    def __init__(self, servers: Servers, size: RequestSize, options: Options, wake: Callable[[], None]) -> None:
        self._servers = servers
        self._size = size
        self._options = options
        self._wake = wake
        self._deadline = None if options.deadline_s is None else time.monotonic() + options.deadline_s
        self._order: deque[tuple[Response, Row]] = deque()
        self._known: dict[tuple[str | bytes, str | bytes], Row] = {}
        self._unsent: list[Row] = []
        self._waiting: list[Request] = []
        self._in_flight: dict[Request, Server] = {}
        self._completed: deque[tuple[Request, Future[Columns], float]] = deque()
        self._requests = self._taken = self._held_bytes = 0
        self._stepped_at = 0.0
        self._ended = self._failed = False
        servers.join(wake)

    @property
    def wanted(self) -> bool:
        """Whether to feed a row now."""
        if self._ended or self._failed or len(self._waiting) + len(self._in_flight) >= self._options.window:
            return False
        # Finished rows wait for the ones before them: twice the window keeps servers busy and memory bounded.
        most = 2 * self._options.window
        if len(self._order) >= most * self._size.rows or self._held_bytes >= most * REQUEST_BYTES:
            return False
        return len(self._unsent) < self._size.rows and not (self._order and self._overdue)

    @property
    def finished(self) -> bool:
        """Whether every row was taken."""
        return self._ended and not self._order

    @property
    def pause_s(self) -> float | None:
        """How long nothing happens unless `wake` is called, in seconds; None for ever."""
        times = [self._deadline, *(request.expires_at for request in self._in_flight)]
        for request in self._waiting:
            times.append(request.not_before)
            if request.failing_since is not None:
                times.append(request.failing_since + self._servers.patience_s)
        # What was due at the last step waits for a wake-up; what became due since must not wait.
        due = [at for at in times if at is not None and at > self._stepped_at]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def feed(self, response: Response) -> None:
        """Take a row in. One whose task or text is neither str nor bytes ends the call with an InputError."""
        if not isinstance(response.text, (str, bytes)) or not isinstance(response.task, (str, bytes)):
            kinds = f"{type(response.task).__name__} and {type(response.text).__name__}"
            error = InputError(f"row {self._taken + len(self._order)}: task and text are {kinds}, not str or bytes")
            self._order.append((response, Row(response, error=error)))
            self._failed = True
            return
        key = (response.task, response.text)
        row = self._known.get(key) if self._options.deduplicate else None
        if row is None:
            row = Row(response)
            self._unsent.append(row)
            if self._options.deduplicate:
                self._known[key] = row
        self._order.append((response, row))
        self._held_bytes += len(response.text)

    def end(self) -> None:
        """Note that there are no more rows."""
        self._ended = True

    def step(self) -> None:
        """Do whatever can be done now: settle the requests that ended, make requests of new rows, send those due."""
        while self._completed:
            request, future, ended_at = self._completed.popleft()
            if request.future is future and request in self._in_flight:
                self._settle(request, error_of(future), ended_at)
        now = self._stepped_at = time.monotonic()
        for request, server in list(self._in_flight.items()):
            if request.expires_at is not None and request.expires_at <= now:
                request.future.cancel()
                self._servers.report(server, DeadlineError(LATE))
                self._settle(request, DeadlineError(LATE), now)
        if not self._overdue:
            self._make_requests()
            for request in sorted(self._waiting, key=lambda request: request.number):
                if request.not_before <= now and len(self._in_flight) < self._options.window:
                    self._try(request, now)

    def take(self) -> list[Scored]:
        """Return the outcomes that are next in order. Raises the error of the next row if it has one."""
        out: list[Scored] = []
        while self._order:
            response, row = self._order[0]
            if row.scored is None:
                break
            self._order.popleft()
            self._held_bytes -= len(response.text)
            out.append(row.scored if response is row.response else replace(row.scored, id=response.id))
            if self._options.deduplicate and not self._options.remember:
                self._known.pop((response.task, response.text), None)
        self._taken += len(out)
        if self._order and not out and (error := self._order[0][1].error) is not None:
            raise self._named(error, lambda row: row.error is error) if isinstance(error, TransportError) else error
        return out

    def check_deadline(self) -> None:
        """Raise DeadlineError if the deadline of the call has passed and nothing is left to take."""
        if self._overdue and not self._completed:
            error = DeadlineError(f"the deadline of {self._options.deadline_s:g} s passed")
            raise self._named(error, lambda row: row.scored is None)

    def close(self) -> None:
        """Cancel what is in flight."""
        in_flight, self._in_flight = self._in_flight, {}
        for request in in_flight:
            request.future.cancel()
        self._servers.leave(self._wake)

    @property
    def _overdue(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _make_requests(self) -> None:
        """Cut the unsent rows into full requests, and into a smaller one if nothing else is under way."""
        while self._unsent:
            count, full = self._size.cut(self._unsent)
            if not (full or self._ended or self._failed or not (self._waiting or self._in_flight)):
                return
            self._waiting.append(Request(self._unsent[:count], self._requests))
            self._requests += 1
            del self._unsent[:count]

    def _try(self, request: Request, now: float) -> None:
        """Send a request; if no server is up, leave it waiting, and fail it once patience ends."""
        server = self._servers.acquire(avoid=request.server if request.failures else None)
        if server is None:
            request.failing_since = now if request.failing_since is None else request.failing_since
            if now - request.failing_since >= self._servers.patience_s:
                self._waiting.remove(request)
                self._fail(request, self._servers.last_error)
            return
        self._waiting.remove(request)
        self._in_flight[request] = server
        left_s = None if self._deadline is None else max(0.0, self._deadline - now)
        timeout_s = min((limit for limit in (self._options.timeout_s, left_s) if limit is not None), default=None)
        request.server, request.ahead, request.sent_at = server, server.in_flight - 1, now
        request.expires_at = None if timeout_s is None else now + timeout_s + _GRACE_S
        inputs = encode([row.response for row in request.rows])
        request.future = submit(server.transport, inputs, timeout_s)
        request.future.add_done_callback(lambda future: self._answered(request, server, future))

    def _answered(self, request: Request, server: Server, future: Future[Columns]) -> None:
        """Report how a request ended, from whichever thread has the answer, so that other calls know at once."""
        self._servers.release(server)
        if not future.cancelled():
            error = error_of(future)
            # A request that the deadline of its call cuts short says nothing about the server.
            if not (self._overdue and isinstance(error, DeadlineError)):
                self._servers.report(server, error)
        self._completed.append((request, future, time.monotonic()))
        self._wake()

    def _settle(self, request: Request, error: TransportError | None, ended_at: float) -> None:
        """Give the rows of a request that ended their outcomes, let it wait for its next try, or fail it."""
        del self._in_flight[request]
        scored: list[Scored] = []
        if error is None:
            try:
                scored = decode([row.response for row in request.rows], request.future.result())
            except RejectedError as refused:
                error = refused
            except Exception as bad:  # the caller's own transport
                error = RejectedError(f"an answer that cannot be read: {type(bad).__name__}")
        if error is None:
            self._size.answered(len(scored), ended_at - request.sent_at, request.ahead)
            for row, outcome in zip(request.rows, scored, strict=True):
                row.scored = outcome
        elif isinstance(error, TooLargeError) and len(request.rows) > 1:
            self._size.too_large()
            self._waiting += request.halves()
        elif isinstance(error, (UnavailableError, DeadlineError)):
            self._retry(request, error)
        else:
            self._fail(request, error)

    def _retry(self, request: Request, error: TransportError) -> None:
        """Let a request wait for its next try, or fail it once patience ends."""
        now = time.monotonic()
        request.failures += 1
        request.failing_since = now if request.failing_since is None else request.failing_since
        if now - request.failing_since >= self._servers.patience_s:
            self._fail(request, error)
            return
        fails_over = request.failures == 1 and self._servers.another_is_up(request.server)
        request.not_before = now if fails_over else now + self._servers.retries.pause_s(request.failures)
        if isinstance(error, DeadlineError):
            self._size.too_large()
            self._waiting += request.halves()
        else:
            self._waiting.append(request)

    def _fail(self, request: Request, error: TransportError) -> None:
        self._failed = True
        for row in request.rows:
            row.error = error

    def _named(self, error: TransportError, concerned: Callable[[Row], bool]) -> TransportError:
        """Return the error with the positions of the rows that it concerns."""
        return error.at([self._taken + i for i, (_, row) in enumerate(self._order) if concerned(row)])
