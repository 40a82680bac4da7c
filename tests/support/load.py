"""Clients on threads that score without a pause and compare every outcome with what it should be."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence

from making import WORDS
from scoremux_client import Response, Scored, ScoringClient, TransportError
from waiting import until


def made_up_rows(tasks: Sequence[str], count: int, seed: int) -> list[Response]:
    """Return `count` responses of 3 to 40 words to random tasks."""
    draw = random.Random(seed)
    return [Response(draw.choice(tasks), " ".join(draw.choices(WORDS, k=draw.randint(3, 40)))) for _ in range(count)]


class Load:
    """A context manager. Each client scores random `rows` on a thread of its own, with its own retries.

    A request that raises counts all its rows as lost; `wrong` counts rows whose outcome is not the expected one.
    """

    def __init__(
        self, clients: Sequence[Callable[[], ScoringClient]], rows: Sequence[Response], expected: Sequence[Scored]
    ) -> None:
        self.scored = self.lost = self.wrong = 0
        self.errors: list[str] = []
        self._rows, self._expected = rows, expected
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=pair) for pair in enumerate(clients)]

    def _send(self, seed: int, open_client: Callable[[], ScoringClient], size: int = 64) -> None:
        draw = random.Random(seed)
        with open_client() as client:
            while not self._stop.is_set():
                chosen = [draw.randrange(len(self._rows)) for _ in range(size)]
                try:
                    outcomes = client.score([self._rows[i] for i in chosen])
                except TransportError as error:
                    with self._lock:
                        self.lost += size
                        self.errors.append(str(error))
                    continue
                wrong = sum(outcome != self._expected[i] for outcome, i in zip(outcomes, chosen, strict=True))
                with self._lock:
                    self.scored += size
                    self.wrong += wrong

    def wait_for_answer(self) -> None:
        """Wait until a first request is answered."""
        until(lambda: self.scored, shown=lambda: self.errors)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
