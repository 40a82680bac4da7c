"""The client that grading platforms call."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from types import TracebackType

from scoremux_client import rows
from scoremux_client.contract import MAX_BATCH_ROWS
from scoremux_client.errors import InputError, TransportError
from scoremux_client.response import Response
from scoremux_client.rows import Columns
from scoremux_client.scored import Scored
from scoremux_client.transport import GrpcTransport, Transport


class ScoringClient:
    """Scores responses to any mix of tasks on one server.

    url: ``host:port`` of the server's gRPC endpoint, or a transport of your own.
    chunk_rows: rows a request carries, 1…512.
    window: requests in flight at most.
    timeout_s: deadline of each request in seconds; None waits for ever.
    """

    def __init__(
        self,
        url: str | Transport,
        *,
        chunk_rows: int = 256,
        window: int = 4,
        timeout_s: float | None = 300.0,
    ) -> None:
        if not 1 <= chunk_rows <= MAX_BATCH_ROWS:
            raise InputError(f"chunk_rows is {chunk_rows}; it must be 1…{MAX_BATCH_ROWS}")
        if window < 1:
            raise InputError(f"window is {window}; it must be 1 or more")
        self._transport = GrpcTransport(url) if isinstance(url, str) else url
        self._chunk_rows = chunk_rows
        self._window = window
        self._timeout_s = timeout_s

    def score(self, responses: Iterable[Response]) -> list[Scored]:
        """Return one `Scored` a response, in order.

        A row that cannot be scored comes back with its status. Raises TransportError, naming the rows, where a
        request failed as a whole.
        """
        return list(self.score_iter(responses))

    def score_iter(self, responses: Iterable[Response]) -> Iterator[Scored]:
        """Yield one `Scored` a response, in order, holding at most `window` chunks of the iterable in memory."""
        source = iter(responses)
        flying: deque[tuple[int, list[Response], Future[Columns]]] = deque()
        start = 0
        try:
            while True:
                while len(flying) < self._window and (chunk := list(islice(source, self._chunk_rows))):
                    flying.append((start, chunk, self._transport.submit(rows.encode(chunk), self._timeout_s)))
                    start += len(chunk)
                if not flying:
                    return
                first, chunk, future = flying[0]
                try:
                    columns = future.result()
                    scored = rows.decode(chunk, columns)
                except TransportError as error:
                    raise error.at(range(first, first + len(chunk))) from error.__cause__
                flying.popleft()
                yield from scored
        finally:
            for _, _, future in flying:
                future.cancel()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def __enter__(self) -> ScoringClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
