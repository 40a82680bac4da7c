"""The client that grading platforms call, and what it has in common with the one for asyncio.

Both drive a `Call`: they feed it rows, let it advance, hand out outcomes in order, and wait until it notifies them.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue

from scoremux_client.calls.call import Call, Options
from scoremux_client.calls.request_size import RequestSize
from scoremux_client.calls.servers import Retries, Servers
from scoremux_client.calls.traits import Traits
from scoremux_client.contract import MAX_BATCH_ROWS, outputs
from scoremux_client.errors import InputError
from scoremux_client.frames import Scores
from scoremux_client.rows import AnyRow, Scored
from scoremux_client.served_tasks import ServedTask, served_tasks
from scoremux_client.transports.connect import connect_all, headers_with
from scoremux_client.transports.transport import Tls, Transport

_WINDOW = 4
"""Requests in flight for each server: it computes one, and the next batch is complete when it has finished."""

SLOW_S = 0.05
"""A source that has not given a full request's rows by then holds up the rows it has given no longer."""

Source = str | Transport | Sequence[str | Transport]


class BaseClient:
    """Scores responses to any mix of tasks on one server, or on several that serve the same tasks.

    May be shared by threads, or by the tasks of event loops.

    Args:
        url: ``host:port`` or ``grpcs://host:port`` of Triton's gRPC; a transport of your own; or a list of these. A
            task has its server among them; tasks of many rows go to the one with the fewest requests in flight. A
            server that fails gets no rows until it answers a probe. None means ``$SCOREMUX_URL``, else
            ``localhost:8001``.
        chunk_rows: rows of a request, 1…512; None adapts it to about a second of the server's work, 16…512.
        window: requests of a call in flight at most; None means 4 for each server.
        timeout_s: deadline of each request in seconds; None waits for ever.
        deadline_s: deadline of a whole call in seconds, unless the call has its own; None waits for ever.
        retries: how long a request is sent again after a failure (see `Retries`, `NO_RETRIES`).
        deduplicate: send rows of the same task and text once: `score` in the whole call, `score_iter` among the rows
            under way, so that an endless source needs bounded memory.
        tls: certificates; with ``host:port`` they mean that the connection is encrypted.
        token: sent as ``Authorization: Bearer``, to another machine only over an encrypted connection.
        insecure: send the token over unencrypted connections too.
        mixed_arithmetic: take scores of servers that compute in different arithmetics (`Scored.arithmetic`), where
            equal responses may get different scores; otherwise such an answer is a RejectedError.
        embeddings: ask for each row's `Scored.embedding` too, which makes answers larger by H float32 values a row; a
            transport of your own asks by itself.
        served: asks for the live tasks, when a row names an item with several traits: its text is scored for each of
            them (`Scored.traits`). None asks the first server.
        batch: these rows belong to a batch job: the server computes rows of others first, then these.

    Raises:
        InputError: an option is out of range, or an address makes no sense.
    """

    _merges = False

    def __init__(
        self,
        url: Source | None = None,
        *,
        chunk_rows: int | None = None,
        window: int | None = None,
        timeout_s: float | None = 120.0,
        deadline_s: float | None = None,
        retries: Retries | None = None,
        deduplicate: bool = True,
        tls: Tls | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        insecure: bool = False,
        embeddings: bool = False,
        batch: bool = False,
        mixed_arithmetic: bool = False,
        served: Callable[[], Iterable[ServedTask]] | None = None,
    ) -> None:
        if chunk_rows is not None and not 1 <= chunk_rows <= MAX_BATCH_ROWS:
            raise InputError(f"chunk_rows is {chunk_rows}; it must be 1…{MAX_BATCH_ROWS}")
        if window is not None and window < 1:
            raise InputError(f"window is {window}; it must be 1 or more")
        for name, value in (("timeout_s", timeout_s), ("deadline_s", deadline_s)):
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}; it must be above 0")
        url = os.environ.get("SCOREMUX_URL", "localhost:8001") if url is None else url
        # A transport of the caller's own need not be a class of ours, so a sequence of them is recognised instead.
        urls = list(url) if isinstance(url, Sequence) and not isinstance(url, str) else [url]
        all_headers = headers_with(headers, token)
        self._urls = urls
        self._ask_tasks = partial(
            served_tasks, urls[0] if urls else "", tls=tls, headers=all_headers, insecure=insecure
        )
        transports = connect_all(urls, tls, all_headers, insecure=insecure, outputs=outputs(embeddings), batch=batch)
        self._size = RequestSize(chunk_rows)
        merged = self._size if self._merges else None
        self._servers = Servers(
            transports, retries or Retries(), timeout_s, merged=merged, mixed_arithmetic=mixed_arithmetic
        )
        self._traits = Traits(served or self._ask_tasks)
        self._options = Options(window or _WINDOW * len(transports), deadline_s, deduplicate)
        self._closed = False

    def __repr__(self) -> str:
        shown = ", ".join(url if isinstance(url, str) else type(url).__name__ for url in self._urls)
        return f"{type(self).__name__}({shown!r}{', closed' if self._closed else ''})"

    def _options_of(self, deadline_s: float | None, *, remember: bool) -> Options:
        if self._closed:
            raise InputError("this client is closed")
        options = replace(self._options, remember=remember)
        return options if deadline_s is None else replace(options, deadline_s=deadline_s)

    def _close(self) -> None:
        self._closed = True
        self._servers.close()


class Client(BaseClient):
    __doc__ = f"""{BaseClient.__doc__}
    >>> from scoremux import Client, Response
    >>> from scoremux_client.testing import FakeTransport
    >>> with Client(FakeTransport({{"t-1": [0, 0.5, 1]}})) as client:
    ...     [scored] = client.score([Response("t-1", "It hands out addresses.", id="r1")])
    >>> scored.id, scored.status.value, scored.score
    ('r1', 'OK', 1.0)
    """

    def score(self, responses: Iterable[AnyRow], *, deadline_s: float | None = None) -> Scores:
        """Return one `Scored` for each row, in order. A row that cannot be scored comes back with its status.

        A row is a `Response`, or a dict with `task`, `text` and, if you like, `id`; its other keys are ignored. The
        list has `to_frame()`.

        Raises:
            TransportError: some rows got no outcome until patience ended; `rows` has their positions.
            DeadlineError: the call took longer than `deadline_s` seconds.
            InputError: the task or text of a row is neither str nor bytes.
        """
        return Scores(self._drive(responses, self._options_of(deadline_s, remember=True)))

    def score_iter(self, responses: Iterable[AnyRow], *, deadline_s: float | None = None) -> Iterator[Scored]:
        """Yield one `Scored` for each response, in order, holding a bounded part of the iterable in memory.

        Nothing is sent before the first outcome is asked for; closing the iterator cancels what is in flight. Raises
        as `score` does, after the outcomes of the rows before.
        """
        return self._drive(responses, self._options_of(deadline_s, remember=False))

    def tasks(self) -> list[ServedTask]:
        """Return the live tasks of the first server that the token may score, by id. Raises as `served_tasks` does."""
        return self._ask_tasks()

    def close(self) -> None:
        """Close the connections."""
        self._close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drive(self, responses: Iterable[AnyRow], options: Options) -> Iterator[Scored]:
        # A queue, because its `put` may be called even by a signal handler or finaliser that interrupts its `get`.
        notifications: SimpleQueue[None] = SimpleQueue()
        call = Call(self._servers, self._size, options, lambda: notifications.put(None), self._traits)
        try:
            source = source_of(responses)
            while not call.finished:
                pause_s = call.advance()
                scored = call.next_outcomes()
                yield from scored
                if call.has_room:
                    _feed(call, source)
                elif not scored:
                    call.check_deadline()
                    with contextlib.suppress(Empty):
                        notifications.get(timeout=pause_s)
        finally:
            call.close()


def source_of(responses: Iterable[AnyRow]) -> Iterator[AnyRow]:
    """Return an iterator of rows. Raises InputError for an object without one, such as a single row."""
    try:
        return iter(responses)
    except TypeError:
        kind = type(responses).__name__
        raise InputError(f"rows are of type {kind}; pass a list of them: client.score([Response(…)])") from None


def _feed(call: Call, source: Iterator[AnyRow]) -> None:
    """Feed rows until the call has enough, or the source ends or proves slow."""
    slow_at = time.monotonic() + SLOW_S
    for response in source:
        call.feed(response)
        if not call.has_room or time.monotonic() > slow_at:
            return
    call.end()


ScoringClient = Client
"""The name of `Client` in `scoremux_client`."""
