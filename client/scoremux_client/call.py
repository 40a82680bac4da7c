"""One call from its first row to its last: the core behind both clients.

It decides what is sent where and when, what is tried again, and which outcome comes next, and never waits: it knows a
clock, futures and a function that wakes whoever drives it. `drive` pulls rows, waits and hands outcomes on, once for
threads and once for asyncio, in a few lines each; so both clients have the same transports, and none has a loop or a
thread that the other would have to share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from scoremux_client.flights import Flight, Flights
from scoremux_client.response import Response
from scoremux_client.scored import Scored
from scoremux_client.servers import Servers
from scoremux_client.sizing import CHUNK_BYTES, Sizer, fitting

_TEXT = (str, bytes)


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
        self._flights = Flights(servers, options.timeout_s, self._deadline, wake)
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
        busy = len(self._waiting) + self._flights.chunks
        if self._ended or self._failed or busy >= self._options.window or (self._order and self._overdue):
            return 0
        if self._servers.is_reserved_for(self):
            return 0  # a source may take a long time, and others must not wait for it
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
        return not self._waiting and not self._flights.chunks

    @property
    def finished(self) -> bool:
        """Whether every row was taken."""
        return self._ended and not self._order

    @property
    def pause_s(self) -> float | None:
        """How long nothing happens unless somebody wakes the driver, in seconds; None: for ever."""
        now = self._clock()
        times = [self._flights.expires_at, self._deadline, self._servers.next_probe_at() if self._probes else None]
        # What was ready when `_send` looked waits for a server, and is woken; what became ready since must not wait.
        times += [chunk.ready_at for chunk in self._waiting if chunk.ready_at > self._looked_at]
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
        """Do whatever can be done now."""
        for flight in self._flights.landed():
            self._settle(flight)
        if self._overdue:
            return
        self._probe()
        self._cut()
        self._send()

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
        if out:
            # Whoever gets them may take a long time, and others must not wait for what this call only waits for.
            self._servers.release(self)
        if self._order and not out and (error := self._order[0][1].error) is not None:
            raise self._named(error, lambda pair: pair.error is error)
        return out

    def check_deadline(self) -> None:
        """Raise DeadlineError where the call's own deadline passed: nothing is to be waited for any more."""
        if self._overdue and not self._flights.any_landed:
            message = f"the deadline of {self._options.deadline_s:g} s passed"
            raise self._named(DeadlineError(message), lambda pair: pair.scored is None)

    def close(self) -> None:
        """Cancel what is under way."""
        self._servers.leave(self, self._wake, self._flights.close())

    @property
    def _overdue(self) -> bool:
        return self._deadline is not None and self._clock() >= self._deadline

    @property
    def _probes(self) -> bool:
        return bool(self._waiting) or (bool(self._order) and not self._failed)

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
            if self._flights.chunks >= self._options.window or chunk.ready_at > now:
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
                    self._flights.send(chunk, ticket)
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
                self._flights.probe(server)

    def _settle(self, flight: Flight) -> None:
        """Give the rows of a request that ended their outcomes, or another try."""
        if flight.chunk is None or flight.ticket is None:
            self._give_up_waiting(flight.error)
            return
        scored, error = flight.outcome()
        if error is not None:
            arrived = not flight.ahead and _may_have_arrived(error)
            alone = flight.alone and len(flight.chunk.pairs) == 1
            self._failed_try(flight.chunk, Failure(flight.server, flight.ticket.era, alone, arrived), error)
            return
        self._sizer.answered(len(scored), flight.ended_at - flight.sent_at, flight.ticket.queued)
        for pair, outcome in zip(flight.chunk.pairs, scored, strict=True):
            pair.scored = outcome

    def _failed_try(self, chunk: Chunk, failure: Failure, error: TransportError) -> None:
        """Let a chunk wait for its next try, or fail it."""
        if isinstance(error, TooLargeError) and len(chunk.pairs) > 1:
            self._sizer.late()
            self._waiting += chunk.halves()
            return
        now, served_s = self._clock(), self._servers.served_s
        # A death is known for one only now; it bounds the tries itself, however long each restart takes.
        if chunk.failing_since is None or chunk.failures[-1].by_death:
            chunk.failing_since = served_s
        chunk.failures += (failure,)
        chunk.seen_up = -1
        # How long a dead server is waited for is a matter of the outage, see `_give_up_waiting`.
        out_of_patience = served_s - chunk.failing_since >= self._servers.patience_s
        if not isinstance(error, (UnavailableError, DeadlineError)) or out_of_patience:
            self._fail(chunk, error)
            return
        elsewhere = self._servers.up_besides(failure.server) and len(chunk.failures) == 1
        chunk.ready_at = now if elsewhere else now + self._servers.retries.pause_s(len(chunk.failures))
        late = isinstance(error, DeadlineError) and failure.arrived
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

    def _named(self, error: TransportError, concerned: Callable[[Pair], bool]) -> TransportError:
        """Return the error with the positions of the rows that it concerns."""
        places = [self._taken + i for i, (_, pair) in enumerate(self._order) if concerned(pair)]
        return error.at(places)


def _may_have_arrived(error: TransportError) -> bool:
    """Whether the server may have had the request: not if it is full, or nothing is there."""
    nowhere = isinstance(error, ServerDownError) and not isinstance(error, ServerDiedError)
    return not nowhere and not isinstance(error, BusyError)
