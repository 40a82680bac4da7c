"""One call from its first row to its last: the core behind both clients.

It decides what is sent where and when, what is tried again, and which outcome comes next, and never waits: it knows a
clock, futures and a function that wakes whoever drives it. `drive` pulls rows, waits and hands outcomes on, once for
threads and once for asyncio, in a few lines each; so both clients have the same transports, and none has a loop or a
thread that the other would have to share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from scoremux_client import rows
from scoremux_client.chunks import Chunk, Failure, Pair
from scoremux_client.contract import Status
from scoremux_client.errors import (
    BusyError,
    DeadlineError,
    InputError,
    ServerDiedError,
    ServerDownError,
    TooLargeError,
    TransportError,
    UnavailableError,
)
from scoremux_client.flights import Flight
from scoremux_client.response import Response
from scoremux_client.rows import Columns
from scoremux_client.scored import Scored
from scoremux_client.servers import Server, Servers, Ticket
from scoremux_client.sizing import CHUNK_BYTES, Sizer, fitting

_GRACE_S = 0.25
"""What a transport may be late with its own deadline before the request is cancelled."""

_TEXT = (str, bytes)

_PROBE = [Response(task="", text="")]
"""What proves a server: an empty task is answered with a status and costs nothing. Triton's own readiness stays green
over a dead stub."""


@dataclass(frozen=True)
class Options:
    """Of one call; see `ScoringClient`. remember: identical rows are sent once in all of the call."""

    window: int
    timeout_s: float | None
    deadline_s: float | None
    deduplicate: bool
    remember: bool


class Call:
    """Feed it rows as it wants them, let it advance, take what is finished; close it whatever happens."""

    def __init__(self, servers: Servers, sizer: Sizer, options: Options, wake: Callable[[], None]) -> None:
        self._servers = servers
        self._sizer = sizer
        self._options = options
        self._wake = wake
        self._clock = servers.clock
        self._deadline = None if options.deadline_s is None else self._clock() + options.deadline_s
        self._inbox: deque[Flight] = deque()
        self._flights: set[Flight] = set()
        self._waiting: list[Chunk] = []
        self._fresh: list[Pair] = []
        self._order: deque[tuple[Response, Pair]] = deque()
        self._known: dict[tuple[str | bytes, str | bytes], Pair] = {}
        self._taken = 0
        self._held_bytes = 0
        self._chunks = 0
        self._looked_at = 0.0
        self._ended = False
        self._stalled = False
        self._failed = False
        servers.watch(wake)

    @property
    def wanted(self) -> int:
        """Rows to feed now; 0 while there is enough to do."""
        busy = len(self._waiting) + self._in_flight
        if self._ended or self._failed or busy >= self._options.window:
            return 0
        # Finished rows wait for the ones before them: twice the window keeps servers busy and memory bounded.
        room = 2 * self._options.window * self._sizer.rows - len(self._order)
        return max(0, min(self._sizer.rows - len(self._fresh), room)) if self.wanted_bytes else 0

    @property
    def wanted_bytes(self) -> int:
        """Bytes of text to feed at most, give or take a row: what `wanted` is in rows, for rows that are long."""
        return max(0, 2 * self._options.window * CHUNK_BYTES - self._held_bytes)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or waits to be sent."""
        return not self._waiting and not self._in_flight

    @property
    def finished(self) -> bool:
        """Whether every row was taken."""
        return self._ended and not self._order

    @property
    def pause_s(self) -> float | None:
        """How long nothing happens unless somebody wakes the driver, in seconds; None: for ever."""
        now = self._clock()
        times = [flight.expires_at for flight in self._flights]
        # What was ready when `_send` looked waits for a server, and is woken; what became ready since must not wait.
        times += [chunk.ready_at for chunk in self._waiting if chunk.ready_at > self._looked_at]
        times += [self._deadline, self._servers.next_probe_at() if self._probes else None]
        return min((max(0.0, at - now) for at in times if at is not None), default=None)

    def feed(self, responses: Sequence[Response], *, ended: bool, stalled: bool = False) -> None:
        """Take rows in. ended: there are no more; stalled: more will come, nobody knows when.

        Raises InputError naming a row whose task or text is neither str nor bytes.
        """
        for response in responses:
            if not isinstance(response.text, _TEXT) or not isinstance(response.task, _TEXT):
                kinds = f"{type(response.task).__name__} and {type(response.text).__name__}"
                raise InputError(f"row {self._taken + len(self._order)}: task and text are {kinds}, not str or bytes")
            key = (response.task, response.text)
            pair = self._known.get(key) if self._options.deduplicate else None
            if pair is None:
                pair = Pair(response)
                self._fresh.append(pair)
                if self._options.deduplicate:
                    self._known[key] = pair
            self._order.append((response, pair))
            self._held_bytes += len(response.text)
        self._ended, self._stalled = ended, stalled

    def advance(self) -> None:
        """Do whatever can be done now. Raises DeadlineError where the call's own deadline passed."""
        while self._inbox:
            self._settle(self._inbox.popleft())
        self._expire()
        self._cut()
        self._send()
        self._probe()

    def take(self) -> list[Scored]:
        """Return the outcomes that are next in order. Raises the TransportError of the next row if it has one."""
        out: list[Scored] = []
        while self._order:
            response, pair = self._order[0]
            if pair.scored is None:
                break
            self._order.popleft()
            self._held_bytes -= len(response.text)
            out.append(pair.scored if response is pair.response else pair.scored.with_id(response.id))
            if self._options.deduplicate and not self._options.remember:
                self._known.pop((response.task, response.text), None)
        self._taken += len(out)
        if self._order and not out and (error := self._order[0][1].error) is not None:
            raise self._named(error, lambda pair: pair.error is error)
        return out

    def close(self) -> None:
        """Cancel what is under way."""
        flights, self._flights = self._flights, set()
        for flight in flights:
            flight.future.cancel()
            if flight.ticket is not None:
                self._servers.drop(flight.ticket)
        self._servers.leave(self, self._wake, [f.server for f in flights if f.ticket is None])

    @property
    def _probes(self) -> bool:
        return bool(self._waiting) or (bool(self._order) and not self._failed)

    @property
    def _in_flight(self) -> int:
        return sum(flight.chunk is not None for flight in self._flights)

    def _cut(self) -> None:
        """Make chunks of fresh pairs: full ones, and a smaller one where no more will come soon."""
        while self._fresh:
            size = fitting([pair.response for pair in self._fresh[: self._sizer.rows]], CHUNK_BYTES)
            last = self._ended or (self.idle and (self._stalled or not self.wanted))
            if size == len(self._fresh) < self._sizer.rows and not last:
                return
            self._waiting.append(Chunk(self._fresh[:size], self._chunks))
            self._chunks += 1
            del self._fresh[:size]

    def _send(self) -> None:
        now = self._looked_at = self._clock()
        for chunk in sorted(self._waiting, key=lambda c: c.number):
            if self._in_flight >= self._options.window or chunk.ready_at > now:
                continue
            if chunk.guilty:
                self._waiting.remove(chunk)
                chunk.pairs[0].scored = Scored.without_score(chunk.pairs[0].response, Status.SERVER_DIED)
            elif chunk.suspect:
                self._waiting.remove(chunk)
                self._waiting += chunk.pieces()
                self._wake()
            elif not (chunk.alone and self._spread(chunk, now)):
                avoid = chunk.failures[-1].server if chunk.failures else None
                ticket = self._servers.take(self, alone=chunk.alone, avoid=avoid)
                if ticket is not None:
                    self._waiting.remove(chunk)
                    # A stub that is dead says what one says that dies: a suspect goes where one answered just now.
                    self._launch(_PROBE if chunk.alone else chunk.responses, ticket.server, chunk, ticket, chunk.alone)
        if not any(chunk.alone and chunk.ready_at <= now for chunk in self._waiting):
            self._servers.release(self)

    def _spread(self, chunk: Chunk, now: float) -> bool:
        """Let a suspect wait after each failure and each recovery for a time drawn anew, and return whether it waits.

        All clients see a server die and come back at once; suspects that meet again would die of one another.
        """
        if chunk.seen_up != self._servers.recoveries:
            chunk.seen_up = self._servers.recoveries
            chunk.ready_at = now + self._servers.retries.spread_s(chunk.deaths)
        return chunk.ready_at > now

    def _probe(self) -> None:
        if self._probes:
            for server in self._servers.due_for_probe():
                self._launch(_PROBE, server)

    def _launch(
        self,
        responses: list[Response],
        server: Server,
        chunk: Chunk | None = None,
        ticket: Ticket | None = None,
        ahead: bool = False,
    ) -> None:
        now = self._clock()
        limits = [self._options.timeout_s, None if self._deadline is None else max(0.0, self._deadline - now)]
        timeout_s = min((limit for limit in limits if limit is not None), default=None)
        future: Future[Columns]
        try:
            future = server.transport.submit(rows.encode(responses), timeout_s)
        except Exception as error:
            future = Future()
            future.set_exception(error)
        expires_at = None if timeout_s is None else now + timeout_s + _GRACE_S
        flight = Flight(future, now, expires_at, server, chunk, ticket, ahead)
        self._flights.add(flight)
        future.add_done_callback(lambda _: self._answered(flight))

    def _answered(self, flight: Flight) -> None:
        """Note an answer; called by whichever thread has it."""
        self._inbox.append(flight)
        self._wake()

    def _settle(self, flight: Flight) -> None:
        if flight not in self._flights:
            return
        self._flights.remove(flight)
        scored, error = flight.outcome()
        if flight.chunk is None or flight.ticket is None:
            self._servers.probed(flight.server, error)
            self._give_up_waiting(error)
            return
        if flight.ahead and error is None:
            self._launch(flight.chunk.responses, flight.server, flight.chunk, flight.ticket)
            return
        alone = self._servers.give_back(flight.ticket, error)
        if error is not None:
            arrived = not flight.ahead and _may_have_arrived(error)
            self._failed_try(flight.chunk, Failure(flight.server, flight.ticket.era, alone, arrived), error)
            return
        took_s = self._clock() - flight.sent_at
        self._sizer.answered(len(scored), took_s, flight.ticket.queued)
        for pair, outcome in zip(flight.chunk.pairs, scored, strict=True):
            pair.scored = outcome

    def _failed_try(self, chunk: Chunk, failure: Failure, error: TransportError) -> None:
        """Let a chunk wait for its next try, or fail it."""
        if isinstance(error, TooLargeError) and len(chunk.pairs) > 1:
            self._sizer.late()
            self._waiting += chunk.halves()
            return
        now, patience_s = self._clock(), self._servers.patience_s
        # A death is known for one only now; it bounds the tries itself, however long each restart takes.
        if chunk.failing_since is None or chunk.failures[-1].by_death:
            chunk.failing_since = now
        chunk.failures += (failure,)
        chunk.seen_up = -1
        # How long a dead server is waited for is a matter of the outage, see `_give_up_waiting`.
        failing_s = 0.0 if isinstance(error, ServerDownError) else now - chunk.failing_since
        if not isinstance(error, (UnavailableError, DeadlineError)) or failing_s >= patience_s:
            self._fail(chunk, error)
            return
        elsewhere = self._servers.up_besides(failure.server) and len(chunk.failures) == 1
        chunk.ready_at = now if elsewhere else now + self._servers.retries.pause_s(len(chunk.failures))
        late = isinstance(error, DeadlineError)
        if late:
            self._sizer.late()
        self._waiting += chunk.halves() if late else [chunk]

    def _give_up_waiting(self, error: TransportError | None) -> None:
        """Fail what waits, once all servers have been out for too long."""
        if error is not None and self._servers.out_s >= self._servers.patience_s:
            for chunk in self._waiting:
                self._fail(chunk, error)
            self._waiting.clear()

    def _fail(self, chunk: Chunk, error: TransportError) -> None:
        self._failed = True
        for pair in chunk.pairs:
            pair.error = error

    def _expire(self) -> None:
        now = self._clock()
        if self._deadline is not None and now >= self._deadline and self._order:
            message = f"the deadline of {self._options.deadline_s:g} s passed"
            raise self._named(DeadlineError(message), lambda pair: pair.scored is None)
        for flight in [f for f in self._flights if f.expires_at is not None and f.expires_at <= now]:
            flight.future.cancel()
            self._settle(flight)

    def _named(self, error: TransportError, concerned: Callable[[Pair], bool]) -> TransportError:
        """Return the error with the positions of the rows that it concerns."""
        places = [self._taken + i for i, (_, pair) in enumerate(self._order) if concerned(pair)]
        return error.at(places)


def _may_have_arrived(error: TransportError) -> bool:
    """Whether the server may have had the request: not if it is full, or nothing is there."""
    nowhere = isinstance(error, ServerDownError) and not isinstance(error, ServerDiedError)
    return not nowhere and not isinstance(error, BusyError)
