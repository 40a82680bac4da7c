"""Small requests that are made at the same time go to the server as one."""

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np

from scoremux_client import contract
from scoremux_client.calls.attempt import error_of, submit
from scoremux_client.calls.request_size import FEWEST_ROWS, REQUEST_BYTES, RequestSize
from scoremux_client.errors import RejectedError
from scoremux_client.rows import Answer, Columns, Response
from scoremux_client.transports.transport import Transport

_MOST_ROWS = 32
"""More rows save little per row, and a server with several requests is never idle while the caller reads an answer."""


@dataclass(eq=False)
class _Small:
    """A small request. expires_at: when it gets no more time, by `time.monotonic`; infinite for ever."""

    inputs: Columns
    expires_at: float
    answer: Answer = field(default_factory=Answer)

    @property
    def rows(self) -> int:
        return len(self.inputs[contract.TEXT.name])

    @property
    def text_bytes(self) -> int:
        return sum(map(len, self.inputs[contract.TEXT.name][:, 0]))


class MergingTransport:
    """Sends small requests of an event loop's tasks together; each has its own answer, error and cancellation.

    All requests of one step of the loop are sent as one. While a request is on its way, small ones wait for its
    answer, `pause_s` seconds at most, and go together. Requests of 16 rows and more do not wait.

    Args:
        transport: Sends the requests.
        size: How many rows go together at most, if that is fewer than 32.
    """

    def __init__(self, transport: Transport, size: RequestSize, pause_s: float = 0.001) -> None:
        self._transport, self._size, self._pause_s = transport, size, pause_s
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = WeakKeyDictionary()

    def submit(self, inputs: Columns, timeout_s: float | None) -> Answer:
        """Send a request, or let it wait for others."""
        if len(inputs[contract.TEXT.name]) >= FEWEST_ROWS:
            return self._transport.submit(inputs, timeout_s)
        small = _Small(inputs, math.inf if timeout_s is None else time.monotonic() + timeout_s)
        loop = asyncio.get_running_loop()
        if loop not in self._queues:
            self._queues[loop] = _Queue(self._transport, self._size, self._pause_s)
        self._queues[loop].add(small)
        return small.answer

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


class _Queue:
    """The small requests of one event loop, in whose thread all of this runs."""

    def __init__(self, transport: Transport, size: RequestSize, pause_s: float) -> None:
        self._transport, self._size, self._pause_s = transport, size, pause_s
        self._waiting: list[_Small] = []
        self._in_flight = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, small: _Small) -> None:
        self._waiting.append(small)
        if self._timer is None:
            pause_s = self._pause_s if self._in_flight else 0
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._send_waiting)

    def _send_waiting(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        while waiting:
            count = self._fitting(waiting)
            self._send(waiting[:count])
            del waiting[:count]

    def _fitting(self, waiting: Sequence[_Small]) -> int:
        """Return how many of the first go together, at least one."""
        left_rows, left_bytes = min(_MOST_ROWS, self._size.rows), REQUEST_BYTES
        for count, small in enumerate(waiting):
            left_rows -= small.rows
            left_bytes -= small.text_bytes
            if count and (left_rows < 0 or left_bytes < 0):
                return count
        return len(waiting)

    def _send(self, together: Sequence[_Small]) -> None:
        """Send as one those that were not cancelled; it has the time of the one that has most."""
        together = [small for small in together if not small.answer.cancelled()]
        if not together:
            return
        inputs = {name: np.concatenate([small.inputs[name] for small in together]) for name in together[0].inputs}
        latest = max(small.expires_at for small in together)
        timeout_s = None if latest == math.inf else max(0.0, latest - time.monotonic())
        request, loop = submit(self._transport, inputs, timeout_s), asyncio.get_running_loop()
        self._in_flight += 1

        def ended(answer: Answer) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(self._ended, together, answer)

        def cancel_if_unwanted(_: Answer) -> None:
            if all(small.answer.cancelled() for small in together):
                request.cancel()

        request.add_done_callback(ended)
        for small in together:
            small.answer.add_done_callback(cancel_if_unwanted)

    def _ended(self, together: Sequence[_Small], answer: Answer) -> None:
        self._in_flight -= 1
        texts = [text for small in together for text in small.inputs[contract.TEXT.name][:, 0]]
        error = error_of(answer, [Response("", text) for text in texts])
        answers = [] if error else _parts(answer.result(), together)
        if len(together) > 1 and (isinstance(error, RejectedError) or not (error or answers)):
            for small in together:  # alone, each learns whether it is the reason
                self._send([small])
            together = ()
        for place, small in enumerate(together):
            if not small.answer.set_running_or_notify_cancel():
                continue
            if error:
                small.answer.set_exception(error)
            else:
                small.answer.set_result(answers[place])
        self._send_waiting()


def _parts(columns: Columns, together: Sequence[_Small]) -> list[Columns]:
    """Return the answer to each; none where an answer to several does not have the rows of all."""
    if len(together) == 1:
        return [columns]
    *starts, rows = itertools.accumulate((small.rows for small in together), initial=0)
    try:
        if any(len(column) != rows for column in columns.values()):
            return []
        parts = [slice(start, start + small.rows) for start, small in zip(starts, together, strict=True)]
        return [{name: column[part] for name, column in columns.items()} for part in parts]
    except Exception:  # the caller's own transport
        return []
