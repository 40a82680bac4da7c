"""Servers in this process that die of some texts, and come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from fakes import TASKS
from scoremux_client import ServerDiedError
from scoremux_client.rows import Columns
from scoremux_client.testing import FakeTransport


class Mortal(FakeTransport):
    """A server that dies of some texts and is dead for `dead_s` seconds then, as a stub that is loaded anew."""

    def __init__(self, deadly: set[bytes], dead_s: float = 0.02, last_words: Callable[[], Exception] | None = None):
        super().__init__(TASKS, lambda _, text: int(text))
        self.deadly, self.dead_s, self.deaths = deadly, dead_s, 0
        self._dead_until = 0.0
        self._last_words = last_words
        self._death = threading.Lock()

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
        with self._death:
            words: Exception | None = None
            if time.monotonic() < self._dead_until:
                words = ServerDiedError("Stub process is not healthy")
            elif self.deadly & set(inputs["TEXT"][:, 0].tolist()):
                self.deaths += 1
                self._dead_until = time.monotonic() + self.dead_s
                words = self._last_words() if self._last_words else ServerDiedError("Stub process is not healthy")
            if words is None:
                return super().submit(inputs, timeout_s)
            self.requests.append([])
            future: Future[Columns] = Future()
            future.set_exception(words)
            return future


class Shared:
    """A server of several clients: each row takes a moment, and one that kills takes all with it that are under way."""

    def __init__(self, deadly: bytes, row_s: float = 0.004, dead_s: float = 0.05) -> None:
        self.deadly, self.row_s, self.dead_s, self.deaths = deadly, row_s, dead_s, 0
        self.lock = threading.Lock()
        self._under_way: dict[Future[Columns], threading.Timer] = {}
        self._dead_until = 0.0

    def transport(self) -> FakeTransport:
        shared = self

        class Client(FakeTransport):
            def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
                return shared.submit(super().submit(inputs, timeout_s).result(), inputs)

        return Client(TASKS, lambda _, text: int(text))

    def submit(self, outcome: Columns, inputs: Columns) -> Future[Columns]:
        future: Future[Columns] = Future()
        with self.lock:
            if time.monotonic() < self._dead_until:
                future.set_exception(ServerDiedError("Stub process is not healthy"))
                return future
            timer = threading.Timer(self.row_s, self._finish, (future, outcome, self.deadly in inputs["TEXT"]))
            self._under_way[future] = timer
        timer.start()
        return future

    def _finish(self, future: Future[Columns], outcome: Columns, deadly: bool) -> None:
        with self.lock:
            if self._under_way.pop(future, None) is None:
                return
            lost: list[Future[Columns]] = []
            if deadly:
                self.deaths += 1
                self._dead_until = time.monotonic() + self.dead_s
                lost, self._under_way = [future, *self._under_way], {}
        for one in lost:
            one.set_exception(ServerDiedError("Stub process is not healthy"))
        if not lost:
            future.set_result(outcome)
