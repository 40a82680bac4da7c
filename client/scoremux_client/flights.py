"""Requests under way."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

from scoremux_client import rows
from scoremux_client.chunks import Chunk
from scoremux_client.errors import DeadlineError, RejectedError, TransportError
from scoremux_client.response import Response
from scoremux_client.rows import Columns
from scoremux_client.scored import Scored
from scoremux_client.servers import Server, Servers, Ticket

_GRACE_S = 0.25
"""What a transport may be late with its own deadline before the request is cancelled."""

_PROBE = [Response(task="", text="")]
"""What proves a server: an empty task is answered with a status and costs nothing. Triton's own readiness stays green
over a dead stub."""

_LEAST_PROBE_S = 10.0
"""A probe waits no longer than patience, but as long as a batch may be computed before it, or a front door may look for
a server."""

_LATE = "no answer within the deadline of the request"


@dataclass(eq=False)
class Flight:
    """A request under way: with a chunk and a ticket, or a probe of `server`.

    ahead: what is under way, or what failed, is a probe ahead of the chunk. over: it has ended, or was given up, and
    `servers` know. Then `error` says why it brought nothing, and `alone` whether nothing else of this client was under
    way on the server meanwhile.
    """

    server: Server
    chunk: Chunk | None = None
    ticket: Ticket | None = None
    ahead: bool = False
    future: Future[Columns] = field(default_factory=Future)
    sent_at: float = 0.0
    expires_at: float | None = None
    over: bool = False
    ended_at: float = 0.0
    error: TransportError | None = None
    alone: bool = False

    def outcome(self) -> tuple[list[Scored], TransportError | None]:
        """Return the chunk's outcomes, or why there are none."""
        if self.error is not None or self.chunk is None:
            return [], self.error
        try:
            return rows.decode(self.chunk.responses, self.future.result()), None
        except Exception as error:
            return [], _as_ours(error)


class Flights:
    """The requests of one call that are under way; timeout_s: of each; deadline: the call's, on the servers' clock.

    How one ended, `servers` are told at once, by whichever thread has the answer, and a chunk follows the probe ahead
    of it as soon: whoever drives the call may be busy for as long as it likes with rows that it was handed, and the
    other calls of the client must not wait for that.
    """

    def __init__(
        self, servers: Servers, timeout_s: float | None, deadline: float | None, wake: Callable[[], None]
    ) -> None:
        self._servers = servers
        self._clock = servers.clock
        self._timeout_s = timeout_s
        self._deadline = deadline
        self._wake = wake
        self._lock = threading.Lock()
        self._under_way: set[Flight] = set()
        self._ended: deque[Flight] = deque()

    @property
    def chunks(self) -> int:
        """How many carry rows."""
        return sum(flight.chunk is not None for flight in self._under_way)

    @property
    def expires_at(self) -> float | None:
        """When the first of them is given up, unless it ends before."""
        return min((f.expires_at for f in self._under_way if f.expires_at is not None), default=None)

    @property
    def any_landed(self) -> bool:
        """Whether one ended that `landed` has not yielded yet."""
        return bool(self._ended)

    def send(self, chunk: Chunk, ticket: Ticket) -> None:
        """Send a chunk; one that goes alone, once the server has answered a probe.

        A stub that is dead says what one says that dies: a suspect goes where one answered just now.
        """
        self._start(Flight(ticket.server, chunk, ticket, ahead=chunk.alone))

    def probe(self, server: Server) -> None:
        """Ask a server whether it is there."""
        self._start(Flight(server))

    def landed(self) -> Iterator[Flight]:
        """Yield those that ended since the last call, and those whose time is up, each once."""
        while self._ended:
            flight = self._ended.popleft()
            self._under_way.discard(flight)
            yield flight
        now = self._clock()
        for flight in [f for f in self._under_way if f.expires_at is not None and f.expires_at <= now]:
            if self._end(flight, flight.future, DeadlineError(_LATE)):
                flight.future.cancel()
                self._under_way.discard(flight)
                yield flight

    def close(self) -> list[Server]:
        """Cancel all; return the servers whose probes were under way."""
        cancelled = []
        for flight in self._under_way:
            with self._lock:
                if flight.over:
                    continue
                flight.over = True
            cancelled.append(flight)
            flight.future.cancel()
            if flight.ticket is not None:
                self._servers.drop(flight.ticket)
        self._under_way = set()
        return [flight.server for flight in cancelled if flight.ticket is None]

    def _start(self, flight: Flight) -> None:
        self._under_way.add(flight)
        self._submit(flight)

    def _submit(self, flight: Flight) -> None:
        carries = flight.chunk is not None and not flight.ahead
        timeout_s = self._limit_s(None if carries else max(_LEAST_PROBE_S, self._servers.retries.patience_s))
        now = flight.sent_at = self._clock()
        flight.expires_at = None if timeout_s is None else now + timeout_s + _GRACE_S
        future: Future[Columns]
        try:
            responses = flight.chunk.responses if flight.chunk and carries else _PROBE
            future = flight.server.transport.submit(rows.encode(responses), timeout_s)
        except Exception as error:
            future = Future()
            future.set_exception(error)
        with self._lock:
            flight.future, over = future, flight.over
        if over:
            future.cancel()
        else:
            future.add_done_callback(lambda _: self._answered(flight, future))

    def _limit_s(self, limit_s: float | None) -> float | None:
        left_s = None if self._deadline is None else max(0.0, self._deadline - self._clock())
        return min((limit for limit in (limit_s, self._timeout_s, left_s) if limit is not None), default=None)

    def _answered(self, flight: Flight, future: Future[Columns]) -> None:
        """Take an answer; called by whichever thread has it."""
        error = _error_of(future)
        with self._lock:
            goes_on = error is None and flight.ahead and not flight.over
            flight.ahead = flight.ahead and not goes_on
        if goes_on:
            self._servers.came_up(flight.server)
            self._submit(flight)
        elif self._end(flight, future, error):
            self._ended.append(flight)
            self._wake()

    def _end(self, flight: Flight, future: Future[Columns], error: TransportError | None) -> bool:
        """Tell the servers how a request ended; return whether it had not ended before."""
        with self._lock:
            if flight.over or flight.future is not future:
                return False
            flight.over = True
        flight.ended_at, flight.error = self._clock(), error
        if flight.ticket is None:
            self._servers.probed(flight.server, error)
        else:
            flight.alone = self._servers.give_back(flight.ticket, error)
        return True


def _error_of(future: Future[Columns]) -> TransportError | None:
    try:
        error = future.exception()
    except CancelledError:
        return DeadlineError(_LATE)
    return None if error is None else _as_ours(error)


def _as_ours(error: BaseException) -> TransportError:
    if isinstance(error, TransportError):
        return error
    # A transport of the caller's own. What it says may quote what it was given, in a traceback too.
    return RejectedError(f"the transport raised {type(error).__name__}")
