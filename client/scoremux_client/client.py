"""The clients that grading platforms call."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TypeVar

from scoremux_client.call import Call, Options
from scoremux_client.contract import MAX_BATCH_ROWS
from scoremux_client.drive import MakeCall, drive, drive_async
from scoremux_client.errors import InputError
from scoremux_client.frames import FrameRows
from scoremux_client.response import Response
from scoremux_client.retries import Retries
from scoremux_client.scored import Scored
from scoremux_client.security import Tls, headers_with
from scoremux_client.servers import Servers
from scoremux_client.sizing import Sizer
from scoremux_client.transport import Transport, connect

_WINDOW = 4
"""Requests in flight for each server: one is computed, the next batch is complete when it is done."""

Frame = TypeVar("Frame")
Source = str | Transport | Sequence[str | Transport]


class _Client:
    """Scores responses to any mix of tasks on one server, or on several that serve the same tasks.

    url: ``host:port`` (gRPC), ``grpcs://host:port``, ``http://host:port`` or ``https://host:port``; a transport of your
        own; or a list of these. Several are balanced by the fewest requests under way, and a server that fails is left
        alone until it answers again: its rows go to the others.
    chunk_rows: rows a request carries, 1…512; None adapts it to about a second of the server's work, 16…512.
    window: requests in flight at most in a call; None takes 4 for each server.
    timeout_s: deadline of each request in seconds; None waits for ever.
    deadline_s: deadline of a whole call in seconds, unless the call has its own; None waits for ever.
    retries: how long what is safe to send again is sent again (see `Retries`, `NO_RETRIES`).
    deduplicate: send rows of the same task and text once. `score` does in the whole call, `score_iter` among the rows
        under way, so that an endless source needs no endless memory.
    tls: certificates; given with ``host:port`` the connection is encrypted.
    token: sent as ``Authorization: Bearer``. headers: sent with every request.

    May be shared by threads, or by the tasks of event loops.
    """

    def __init__(
        self,
        url: Source,
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
    ) -> None:
        if chunk_rows is not None and not 1 <= chunk_rows <= MAX_BATCH_ROWS:
            raise InputError(f"chunk_rows is {chunk_rows}; it must be 1…{MAX_BATCH_ROWS}")
        if window is not None and window < 1:
            raise InputError(f"window is {window}; it must be 1 or more")
        for name, value in (("timeout_s", timeout_s), ("deadline_s", deadline_s)):
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}; it must be above 0")
        made = headers_with(headers, token)
        # A transport of one's own has to be told from a sequence of them, and need not be a class of ours.
        urls = list(url) if isinstance(url, Sequence) and not isinstance(url, str) else [url]
        if not urls:
            raise InputError("there is no address; give one at least")
        transports = [connect(one, tls, made) if isinstance(one, str) else one for one in urls]
        self._servers = Servers(transports, retries or Retries())
        self._sizer = Sizer(chunk_rows)
        self._window = window or _WINDOW * len(transports)
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._deduplicate = deduplicate
        self._closed = False

    def _call(self, deadline_s: float | None, *, remember: bool) -> MakeCall:
        if self._closed:
            raise InputError("this client is closed")
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        options = Options(self._window, self._timeout_s, limit_s, self._deduplicate, remember)
        return partial(Call, self._servers, self._sizer, options)

    def _close(self) -> None:
        self._closed = True
        self._servers.close()


class ScoringClient(_Client):
    __doc__ = f"""{_Client.__doc__}
    >>> from scoremux_client import Response, ScoringClient
    >>> from scoremux_client.testing import FakeTransport
    >>> with ScoringClient(FakeTransport({{"t-1": [0, 0.5, 1]}})) as client:
    ...     [scored] = client.score([Response("t-1", "It hands out addresses.", id="r1")])
    >>> scored.id, scored.status.value, scored.score
    ('r1', 'OK', 1.0)
    """

    def score(self, responses: Iterable[Response], *, deadline_s: float | None = None) -> list[Scored]:
        """Return one `Scored` a response, in order.

        A row that cannot be scored comes back with its status. Raises TransportError, whose `rows` are the positions
        of the rows that got no outcome, once tries are used up; DeadlineError after `deadline_s` seconds.
        """
        return list(drive(self._call(deadline_s, remember=True), responses))

    def score_iter(self, responses: Iterable[Response], *, deadline_s: float | None = None) -> Iterator[Scored]:
        """Yield one `Scored` a response, in order, holding a bounded part of the iterable in memory.

        Nothing is sent before the first outcome is asked for; closing the iterator cancels what is in flight. Raises
        as `score` does, after the outcomes of the rows before.
        """
        return drive(self._call(deadline_s, remember=False), responses)

    def score_frame(
        self,
        frame: Frame,
        *,
        task: str = "task",
        text: str = "text",
        prefix: str = "",
        deadline_s: float | None = None,
    ) -> Frame:
        """Return the data frame with an outcome a row in new columns (see `frames.COLUMNS`).

        frame: pandas, Polars or pyarrow; anything else with Arrow's stream interface comes back as a pyarrow table.
        task, text: its columns. prefix: put before the new columns' names. A missing task or text gets a status; a row
        without a score has level −1 and, as score, NaN in pandas and null elsewhere. Raises InputError for a column
        that is missing or there already, and as `score` does.
        """
        rows = FrameRows(frame, task, text, prefix)
        made: Frame = rows.with_outcomes(self.score(rows.responses(), deadline_s=deadline_s))
        return made

    def close(self) -> None:
        """Close the connections."""
        self._close()

    def __enter__(self) -> ScoringClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncScoringClient(_Client):
    __doc__ = f"""{_Client.__doc__}
    >>> import asyncio
    >>> from scoremux_client import AsyncScoringClient, Response
    >>> from scoremux_client.testing import FakeTransport
    >>> async def main():
    ...     async with AsyncScoringClient(FakeTransport({{"t-1": [0, 0.5, 1]}})) as client:
    ...         return await client.score([Response("t-1", "It hands out addresses.", id="r1")])
    >>> asyncio.run(main())[0].score
    1.0
    """

    async def score(
        self, responses: Iterable[Response] | AsyncIterable[Response], *, deadline_s: float | None = None
    ) -> list[Scored]:
        """As `ScoringClient.score`. Cancelling the task cancels what is in flight."""
        return [scored async for scored in drive_async(self._call(deadline_s, remember=True), responses)]

    def score_iter(
        self, responses: Iterable[Response] | AsyncIterable[Response], *, deadline_s: float | None = None
    ) -> AsyncIterator[Scored]:
        """As `ScoringClient.score_iter`. Whoever breaks out of the loop should close it: `contextlib.aclosing`.

        A slow asynchronous source holds up nothing: rows that are there go out as soon as nothing is in flight.
        """
        return drive_async(self._call(deadline_s, remember=False), responses)

    async def score_frame(
        self,
        frame: Frame,
        *,
        task: str = "task",
        text: str = "text",
        prefix: str = "",
        deadline_s: float | None = None,
    ) -> Frame:
        """As `ScoringClient.score_frame`."""
        rows = FrameRows(frame, task, text, prefix)
        made: Frame = rows.with_outcomes(await self.score(rows.responses(), deadline_s=deadline_s))
        return made

    async def close(self) -> None:
        """Close the connections."""
        self._close()

    async def __aenter__(self) -> AsyncScoringClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
