"""The client for asyncio."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable

from scoremux_client.calls.call import Call, Options
from scoremux_client.client import SLOW_S, BaseClient, source_of
from scoremux_client.frames import Scores
from scoremux_client.rows import AnyRow, Scored


class AsyncClient(BaseClient):
    __doc__ = f"""{BaseClient.__doc__}
    >>> import asyncio
    >>> from scoremux import AsyncClient, Response
    >>> from scoremux_client.testing import FakeTransport
    >>> async def main():
    ...     async with AsyncClient(FakeTransport({{"t-1": [0, 0.5, 1]}})) as client:
    ...         return await client.score([Response("t-1", "It hands out addresses.", id="r1")])
    >>> asyncio.run(main())[0].score
    1.0
    """

    _merges = True

    async def score(
        self, responses: Iterable[AnyRow] | AsyncIterable[AnyRow], *, deadline_s: float | None = None
    ) -> Scores:
        """As `Client.score`. Cancelling the task cancels what is in flight."""
        return Scores([s async for s in self._drive(responses, self._options_of(deadline_s, remember=True))])

    def score_iter(
        self, responses: Iterable[AnyRow] | AsyncIterable[AnyRow], *, deadline_s: float | None = None
    ) -> AsyncIterator[Scored]:
        """As `Client.score_iter`. If you break out of the loop, close the iterator: `contextlib.aclosing`.

        A slow asynchronous source holds nothing up: the rows it has given are sent as soon as nothing is in flight.
        """
        return self._drive(responses, self._options_of(deadline_s, remember=False))

    async def close(self) -> None:
        """Close the connections."""
        self._close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _drive(
        self, responses: Iterable[AnyRow] | AsyncIterable[AnyRow], options: Options
    ) -> AsyncIterator[Scored]:
        loop, notified, room = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def notify() -> None:
            with contextlib.suppress(RuntimeError):  # an answer that comes after the loop was closed
                loop.call_soon_threadsafe(notified.set)

        call = Call(self._servers, self._size, options, notify, self._traits)
        feeder = asyncio.create_task(_feed_async(call, responses, notified, room))
        try:
            while not call.finished:
                notified.clear()
                pause_s = call.advance()
                outcomes = call.next_outcomes()
                for scored in outcomes:
                    yield scored
                if call.has_room:
                    room.set()
                await asyncio.sleep(0)  # a source that has rows at hand gives them now
                if feeder.done():
                    feeder.result()  # raises what the source raised
                if not outcomes and not notified.is_set():
                    call.check_deadline()
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(notified.wait(), pause_s)
        finally:
            call.close()
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)


async def _feed_async(
    call: Call, responses: Iterable[AnyRow] | AsyncIterable[AnyRow], notified: asyncio.Event, room: asyncio.Event
) -> None:
    """Feed rows while the call has room for them, until the source ends. `room` is set whenever it has."""
    try:
        async for response in responses if isinstance(responses, AsyncIterable) else _yielding(responses):
            call.feed(response)
            notified.set()
            while not call.has_room:
                room.clear()
                await room.wait()
        call.end()
    finally:
        notified.set()


async def _yielding(responses: Iterable[AnyRow]) -> AsyncIterator[AnyRow]:
    """Yield the rows of a synchronous source, letting others run if it is slow."""
    slow_at = time.monotonic() + SLOW_S
    for response in source_of(responses):
        yield response
        if time.monotonic() > slow_at:
            await asyncio.sleep(0)
            slow_at = time.monotonic() + SLOW_S


AsyncScoringClient = AsyncClient
"""The name of `AsyncClient` in `scoremux_client`."""
