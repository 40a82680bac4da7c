"""What drives a `Call`: once by waiting in the caller's thread, once on asyncio's loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from queue import Empty, SimpleQueue

from scoremux_client.call import Call
from scoremux_client.response import Response
from scoremux_client.scored import Scored

MakeCall = Callable[[Callable[[], None]], Call]
"""Makes the call, given the function that wakes its driver from any thread."""


def drive(make: MakeCall, responses: Iterable[Response]) -> Iterator[Scored]:
    """Yield the outcomes in order. Waits in the caller's thread, where Ctrl-C interrupts it."""
    bell: SimpleQueue[None] = SimpleQueue()
    call = make(lambda: bell.put(None))
    try:
        source = iter(responses)
        while True:
            call.advance()
            while scored := call.take():  # until there is nothing, or an error behind what was there
                yield from scored
            if call.finished:
                return
            if wanted := call.wanted:
                block, ended = _block(source, wanted, call.wanted_bytes)
                call.feed(block, ended=ended)
                continue
            call.check_deadline()
            with contextlib.suppress(Empty):
                bell.get(timeout=call.pause_s)
    finally:
        call.close()


def _block(source: Iterator[Response], rows: int, room_bytes: int) -> tuple[list[Response], bool]:
    """Take so many rows, fewer where they are long or the source ends; return them and whether it did."""
    block = []
    for response in islice(source, rows):
        block.append(response)
        room_bytes -= _size(response)
        if room_bytes <= 0:
            return block, False
    return block, len(block) < rows


def _size(response: Response) -> int:
    # What is no text is refused when it is fed.
    return len(response.text) if isinstance(response.text, (str, bytes)) else 0


async def drive_async(make: MakeCall, responses: Iterable[Response] | AsyncIterable[Response]) -> AsyncIterator[Scored]:
    """Yield the outcomes in order. Waits on the running loop; cancelling it cancels what is under way."""
    loop, bell = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # an answer that comes after the loop was closed
            loop.call_soon_threadsafe(bell.set)

    call = make(wake)
    reader = _Reader(responses, bell)
    try:
        while True:
            bell.clear()
            call.advance()
            while taken := call.take():
                for scored in taken:
                    yield scored
            if call.finished:
                return
            reader.want(call.wanted, call.wanted_bytes)
            await asyncio.sleep(0)  # a source that has its rows at hand gives them now
            if reader.complete or (reader.rows and call.idle):
                block, complete = reader.take()
                call.feed(block, ended=reader.ended, stalled=not complete)
                continue
            call.check_deadline()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(bell.wait(), call.pause_s)
    finally:
        call.close()
        await reader.close()


class _Reader:
    """Reads rows ahead while the call goes on, so that a slow source holds up nothing but itself."""

    def __init__(self, responses: Iterable[Response] | AsyncIterable[Response], bell: asyncio.Event) -> None:
        self.rows: list[Response] = []
        self.ended = False
        self._source = responses if isinstance(responses, AsyncIterable) else _asynchronous(responses)
        self._iterator = aiter(self._source)
        self._bell = bell
        self._task: asyncio.Task[None] | None = None

    @property
    def complete(self) -> bool:
        """Whether the rows that were wanted are there, or the source ended or broke."""
        return self._task is not None and self._task.done()

    def want(self, rows: int, room_bytes: int) -> None:
        """Start to read so many rows, fewer where they are long, unless some are being read."""
        if rows and self._task is None:
            self._task = asyncio.create_task(self._read(rows, room_bytes))

    def take(self) -> tuple[list[Response], bool]:
        """Return the rows read so far and whether they are complete. Raises what the source raised."""
        complete = self.complete
        if self._task is not None and complete:
            self._task.result()
            self._task = None
        taken, self.rows = self.rows, []
        return taken, complete

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _read(self, rows: int, room_bytes: int) -> None:
        try:
            for _ in range(rows):
                row = await anext(self._iterator)
                self.rows.append(row)  # not before the wait: `take` puts another list there
                self._bell.set()
                room_bytes -= _size(row)
                if room_bytes <= 0:
                    return
        except StopAsyncIteration:
            self.ended = True
        finally:
            self._bell.set()


async def _asynchronous(responses: Iterable[Response]) -> AsyncIterator[Response]:
    for response in responses:
        yield response
