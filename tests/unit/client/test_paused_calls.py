"""Calls whose caller is busy with the rows that it was handed: nobody else waits for that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from fakes import FAST, TASKS, numbered
from scoremux_client import Scored, ScoringClient, UnavailableError
from scoremux_client.rows import Columns
from scoremux_client.testing import FakeTransport

ANSWER_S = 0.01


class Restarts(FakeTransport):
    """A server that answers after a moment, and that is away for a while once it has had the text "20"."""

    away_s = 0.1
    _away_from: float | None = None

    @property
    def has_failed(self) -> bool:
        return self._away_from is not None

    @property
    def was_probed(self) -> bool:
        return any(not request[0].task for request in self.requests)

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
        now = time.monotonic()
        if self._away_from is None and b"20" in inputs["TEXT"][:, 0].tolist():
            self._away_from = now
        if self._away_from is not None and now < self._away_from + self.away_s:
            self.fail(UnavailableError("connection refused"))
        answer, future = super().submit(inputs, timeout_s), Future[Columns]()

        def end() -> None:
            if future.set_running_or_notify_cancel():
                error = answer.exception()
                future.set_exception(error) if error else future.set_result(answer.result())

        threading.Timer(ANSWER_S, end).start()
        return future


def pause_where(scored: Iterator[Scored], is_met: Callable[[], bool]) -> bool:
    """Take rows until the condition is met, and say whether it ever was."""
    for _ in scored:
        time.sleep(ANSWER_S / 4)
        if is_met():
            return True
    return False


def scores_meanwhile(client: ScoringClient) -> bool:
    done = threading.Event()

    def score() -> None:
        client.score(numbered(3))
        done.set()

    threading.Thread(target=score, daemon=True).start()
    return done.wait(60)


@pytest.mark.parametrize("condition", ["has_failed", "was_probed"])
def test_another_call_goes_on_while_an_iterator_waits_for_its_caller(condition: str) -> None:
    for _ in range(20):
        transport = Restarts(TASKS, lambda _, text: int(text))
        client = ScoringClient(transport, chunk_rows=8, retries=FAST)
        scored = client.score_iter(numbered(64))
        if pause_where(scored, lambda: getattr(transport, condition)):  # noqa: B023
            break
    else:
        pytest.fail("the iterator never met the restart")
    assert scores_meanwhile(client)
    assert sum(1 for _ in scored) > 40
