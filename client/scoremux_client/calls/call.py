"""One call: rows come in, each request is a coroutine that ends with outcomes or an error, outcomes go out in order.

The coroutines are generators that the clients resume in their own thread or event loop. On asyncio, in a thread of its
own, a request of one row took a third more processor time.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

from scoremux_client.calls.attempt import Attempt, Notify, Server
from scoremux_client.calls.request_size import REQUEST_BYTES, RequestSize
from scoremux_client.calls.servers import Servers
from scoremux_client.calls.traits import Traits
from scoremux_client.contract import Status
from scoremux_client.errors import DeadlineError, InputError, TooLargeError, TransportError, UnavailableError
from scoremux_client.rows import AnyRow, Response, Row, Scored, as_response, is_text, what_is_wrong

_ASK_AGAIN_S = 0.5
"""How long after a server did not list its tasks it is asked again."""


@dataclass(frozen=True)
class Options:
    """Options of one call; see `ScoringClient`.

    Attributes:
        remember: Whether equal rows of the whole call are sent once, not only those under way.
    """

    window: int
    deadline_s: float | None
    deduplicate: bool
    remember: bool = False


@dataclass
class Patience:
    """How long a request is tried: from the first time that it failed or found no server up."""

    servers: Servers
    failures: int = 0
    since: float | None = None

    @property
    def ends_at(self) -> float:
        """When patience ends. It begins when this is asked first."""
        self.since = time.monotonic() if self.since is None else self.since
        return self.since + self.servers.patience_s

    def left_s(self) -> float:
        return max(0.0, self.ends_at - time.monotonic())


class Call:
    """Feed it rows while it wants some, let it advance, take outcomes; close it in any case."""

    def __init__(self, servers: Servers, size: RequestSize, options: Options, notify: Notify, traits: Traits) -> None:
        self._servers = servers
        self._traits = traits
        self._size = size
        self._options = options
        self._notify = notify
        self._deadline = None if options.deadline_s is None else time.monotonic() + options.deadline_s
        self._order: deque[tuple[Response, Row]] = deque()
        self._row_of: dict[tuple[str, str | bytes | None], Row] = {}
        self._unsent = defaultdict[Server | None, list[Row]](list)  # by the server of their tasks
        self._requests: dict[Iterator[float | None], float | None] = {}  # coroutine → when it is due
        self._in_flight: set[Attempt] = set()
        self._taken = self._held_bytes = 0
        self._ended = self._failed = False
        servers.join(notify)

    @property
    def has_room(self) -> bool:
        """Whether to feed a row now."""
        if self._ended or self._failed or len(self._requests) >= self._options.window:
            return False
        # Finished rows wait for the ones before them: twice the window keeps servers busy and memory bounded.
        most = 2 * self._options.window
        if len(self._order) >= most * self._size.rows or self._held_bytes >= most * REQUEST_BYTES:
            return False
        is_full = any(len(rows) >= self._size.rows for rows in self._unsent.values())
        return not is_full and not (self._order and self._overdue)

    @property
    def finished(self) -> bool:
        """Whether the outcome of every row was taken."""
        return self._ended and not self._order

    def feed(self, given: AnyRow) -> None:
        """Take a row in. Anything else than a row, or a task or text of another type, ends the call: InputError.

        A text that JSON could not carry (None, or half of a surrogate pair) is not sent: it gets INVALID_TEXT.
        """
        response = as_response(given)
        if wrong := what_is_wrong(response):
            error = InputError(f"row {self._taken + len(self._order)}: {wrong}")
            self._order.append((response, Row(response, error=error)))
            self._failed = True
            return
        key = (response.task, response.text)
        row = self._row_of.get(key) if self._options.deduplicate else None
        if row is None:
            row = Row(response)
            if is_text(response.text):
                self._unsent[self._servers.home(response.task)] += self._divide(row)
            else:
                row.scored = Scored.without_score(response, Status.INVALID_TEXT)
            if self._options.deduplicate:
                self._row_of[key] = row
        self._order.append((response, row))
        self._held_bytes += len(response.text or "")

    def end(self) -> None:
        """Note that there are no more rows."""
        self._ended = True

    def advance(self) -> float | None:
        """Do what needs no waiting; return how many seconds to wait for a notification, None for ever."""
        for request in list(self._requests):
            self._resume(request)
        # Full requests, and smaller ones if nothing else is under way.
        sends_all = self._ended or self._failed or not self._requests
        for home, rows in self._unsent.items():
            while rows and not self._overdue:
                count, full = self._size.cut(rows)
                if not (full or sends_all):
                    break
                self._resume(self._request(rows[:count], Patience(self._servers), home))
                del rows[:count]
        due = [at for at in (self._deadline, *self._requests.values()) if at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def next_outcomes(self) -> list[Scored]:
        """Return the outcomes that are next in order; raise the error of the next row where it has one."""
        out: list[Scored] = []
        while self._order:
            response, row = self._order[0]
            if row.scored is None:
                break
            self._order.popleft()
            self._held_bytes -= len(response.text or "")
            out.append(row.scored if response is row.response else row.scored.with_id(response.id))
            if self._options.deduplicate and not self._options.remember:
                self._row_of.pop((response.task, response.text), None)
        self._taken += len(out)
        if self._order and not out and (error := self._order[0][1].error) is not None:
            raise self._named(error, lambda row: row.error is error) if isinstance(error, TransportError) else error
        return out

    def check_deadline(self) -> None:
        """Raise DeadlineError if the deadline of the call has passed."""
        if self._overdue:
            error = DeadlineError(f"the deadline of {self._options.deadline_s:g} s passed")
            raise self._named(error, lambda row: row.scored is None)

    def close(self) -> None:
        """Cancel what is in flight."""
        for attempt in self._in_flight:
            attempt.answer.cancel()
        self._servers.leave(self._notify)

    @property
    def _overdue(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _resume(self, request: Iterator[float | None]) -> None:
        try:
            self._requests[request] = next(request)
        except StopIteration:
            self._requests.pop(request, None)

    def _request(self, rows: list[Row], patience: Patience, home: Server | None) -> Iterator[float | None]:
        """Send rows until they have outcomes or an error; yield, while that waits, when to look again at the latest."""
        server = None
        while isinstance(attempt := (yield from self._attempt(rows, patience, server, home)), Attempt):
            server = attempt.server
            try:
                outcomes = attempt.outcomes()
                self._servers.check_arithmetic(attempt.server, outcomes)
            except TransportError as error:
                halved = isinstance(error, TooLargeError) and len(rows) > 1
                if not halved:
                    if not isinstance(error, (UnavailableError, DeadlineError)) or not patience.left_s():
                        attempt = error
                        break
                    patience.failures += 1
                    resumes_at = time.monotonic() + self._servers.pause_s(patience.failures, server, error)
                    while time.monotonic() < resumes_at:
                        yield resumes_at
                if halved or isinstance(error, DeadlineError):
                    rows = self._halve(rows, patience, home)
            else:
                self._size.answered(len(rows), attempt.ended_at - attempt.sent_at, attempt.ahead)
                items = []
                for row, scored in zip(rows, outcomes, strict=True):
                    row.scored, item = scored, row.item or row
                    if (scored.status is Status.HAS_TRAITS if item is row else item.join()) and not item.listed:
                        item.scored, item.listed = None, True
                        items.append(item)
                if items:
                    yield from self._send_by_trait(items, home)
                return
        if attempt is not None:
            self._failed = True
            for row in rows:
                (row.item or row).error = attempt

    def _divide(self, row: Row) -> list[Row]:
        """Return what is sent for a row: a row for each trait of an item whose traits are known, else the row."""
        row.parts = [Row(response, item=row) for response in self._traits.of(row.response)]
        return row.parts or [row]

    def _send_by_trait(self, items: list[Row], home: Server | None) -> Iterator[float | None]:
        """Send rows that name items by a new list of the server's tasks; yield while that waits for the list.

        A row whose traits it does not list, or of which there is no list, is sent as it is.
        """
        patience = Patience(self._servers)
        while True:
            asked = self._traits.ask(self._notify)
            while not asked.done():
                yield None
            error = asked.exception()
            if not isinstance(error, UnavailableError) or not patience.left_s():
                break
            resumes_at = time.monotonic() + _ASK_AGAIN_S
            while time.monotonic() < resumes_at:
                yield resumes_at
        if isinstance(error, (UnavailableError, DeadlineError)):
            self._failed = True
            for row in items:
                row.error = error
            return
        self._unsent[home] += [part for row in items for part in self._divide(row)]

    def _attempt(
        self, rows: list[Row], patience: Patience, avoid: Server | None, home: Server | None
    ) -> Generator[float | None, None, Attempt | TransportError | None]:
        """Send rows once; return the ended attempt, the error where patience ends first, None where the call does."""
        attempt = None
        while attempt is None:
            if self._overdue:
                return None
            if len(self._in_flight) >= self._options.window:
                yield None
                continue
            responses, again = [row.response for row in rows], patience.failures > 0
            attempt = self._servers.send(responses, self._deadline, self._notify, avoid=avoid, alone=again, home=home)
            if attempt is None:
                if not patience.left_s():
                    return self._servers.last_error
                yield patience.ends_at
        self._in_flight.add(attempt)
        yield attempt.expires_at
        while attempt.is_open:
            yield attempt.expires_at
        self._in_flight.remove(attempt)
        if len(self._requests) > self._options.window:
            self._notify()  # a half of another request waits for this place
        return attempt

    def _halve(self, rows: list[Row], patience: Patience, home: Server | None) -> list[Row]:
        """Return the first half of a request's rows, and send the others on their own."""
        self._size.too_large()
        middle = (len(rows) + 1) // 2
        if others := rows[middle:]:
            self._resume(self._request(others, replace(patience), home))
        return rows[:middle]

    def _named(self, error: TransportError, concerns: Callable[[Row], bool]) -> TransportError:
        """Return the error with the positions of the rows that it concerns."""
        return error.at([self._taken + i for i, (_, row) in enumerate(self._order) if concerns(row)])
