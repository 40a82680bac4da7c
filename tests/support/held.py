"""A fake transport that leaves requests unanswered until it is told to answer them."""

import threading
from collections import deque
from typing import Any

from scoremux_client.rows import Answer, Columns, Response
from scoremux_client.testing import FakeTransport


class HeldTransport(FakeTransport):
    """A `FakeTransport` that can hold requests.

    timeouts_s: of the requests so far. most_in_flight: the most that were unanswered at once.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.timeouts_s: list[float | None] = []
        self.most_in_flight = 0
        self._unanswered: deque[tuple[Answer, list[Response]]] | None = None
        self._lock = threading.RLock()

    @property
    def in_flight(self) -> int:
        """Requests that are held and not cancelled."""
        with self._lock:
            return sum(not future.done() for future, _ in self._unanswered or ())

    def hold(self) -> None:
        """Leave requests unanswered from now on."""
        with self._lock:
            self._unanswered = deque() if self._unanswered is None else self._unanswered

    def release(self) -> None:
        """Answer what is held, the last first, and answer at once again."""
        with self._lock:
            waiting, self._unanswered = list(self._unanswered or ()), None
        for future, responses in reversed(waiting):
            super()._answer(future, responses)

    def submit(self, inputs: Columns, timeout_s: float | None) -> Answer:
        """Take one request."""
        self.timeouts_s.append(timeout_s)
        return super().submit(inputs, timeout_s)

    def _answer(self, future: Answer, responses: list[Response]) -> None:
        with self._lock:
            if self._unanswered is not None:
                self._unanswered.append((future, responses))
            self.most_in_flight = max(self.most_in_flight, self.in_flight, 1)
            if self._unanswered is not None:
                return
        super()._answer(future, responses)
