"""Deadlines of calls: what came in time is handed out, the rest is named, and nobody waits any longer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future

import pytest

from fakes import TASKS, fake, numbered, sent
from scoremux_client import (
    AsyncScoringClient,
    BusyError,
    DeadlineError,
    Response,
    Retries,
    ScoringClient,
    TransportError,
    UnavailableError,
)
from scoremux_client.rows import Columns
from scoremux_client.testing import FakeTransport


def test_outcomes_that_came_in_time_are_handed_out_to_who_takes_them_late() -> None:
    transport, taken = fake(), []
    scored = ScoringClient(transport, chunk_rows=8).score_iter(numbered(32), deadline_s=2)
    with pytest.raises(DeadlineError) as caught:
        for one in scored:
            taken.append(one.level)
            if one.level == 0:
                time.sleep(2.1)
    answered = len(sent(transport))
    assert taken == list(range(answered)) and 8 < answered < 32
    assert caught.value.rows[0] == answered


def test_a_silent_source_does_not_hold_up_the_deadline() -> None:
    async def source() -> AsyncIterator[Response]:
        yield Response("t-1", "1")
        await asyncio.sleep(3600)

    async def score() -> list[int]:
        taken = []
        with pytest.raises(DeadlineError, match=r"^the deadline of 2 s passed$") as caught:
            async for scored in AsyncScoringClient(fake()).score_iter(source(), deadline_s=2):
                taken.append(scored.level)
        assert list(caught.value.rows) == []
        return taken

    computed = time.thread_time()
    assert asyncio.run(asyncio.wait_for(score(), 60)) == [1]
    assert time.thread_time() - computed < 1


def slow_rows() -> Iterator[Response]:
    for number in range(1000):
        time.sleep(0.1)
        yield Response("t-1", str(number))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_rows_of_a_slow_synchronous_source_are_sent_and_scored_until_the_deadline(asynchronous: bool) -> None:
    taken, started = list[int](), time.monotonic()

    async def score() -> None:
        async for one in AsyncScoringClient(fake()).score_iter(slow_rows(), deadline_s=2):
            taken.append(one.level)

    with pytest.raises(DeadlineError, match="the deadline of 2 s passed"):
        if asynchronous:
            asyncio.run(score())
        for one in ScoringClient(fake()).score_iter(slow_rows(), deadline_s=2):
            taken.append(one.level)
    assert time.monotonic() - started < 60
    assert taken == list(range(len(taken))) and len(taken) >= 3


@pytest.mark.parametrize("error", [UnavailableError, BusyError])
def test_patience_ends_where_probes_are_answered_and_rows_never(error: type[TransportError]) -> None:
    class TurnsRowsAway(FakeTransport):
        def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
            if inputs["TASK"][0, 0]:
                self.fail(error("nobody is there"))
            return super().submit(inputs, timeout_s)

    retries = Retries(patience_s=0.3, contact_s=0.3, base_s=0.01, cap_s=0.05)
    client = ScoringClient(TurnsRowsAway(TASKS), retries=retries)
    with pytest.raises(error, match="rows 0–1: nobody is there"):
        client.score(numbered(2), deadline_s=60)


def test_a_call_that_runs_out_of_time_does_not_count_against_the_server() -> None:
    class Slow(FakeTransport):
        """Never answers the text "1", and keeps its deadline."""

        def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
            future = super().submit(inputs, timeout_s)
            if b"1" not in inputs["TEXT"]:
                return future
            threading.Timer(timeout_s or 0, late.set_exception, [DeadlineError("late")]).start()
            return late

    late: Future[Columns] = Future()
    transport = Slow(TASKS, lambda _, text: int(text))
    client = ScoringClient(transport, chunk_rows=1)
    scored = client.score_iter(numbered(2), deadline_s=2)
    assert next(scored).level == 0
    assert late.exception(60)  # while the caller is busy, the transport gives up
    with pytest.raises(DeadlineError):
        next(scored)
    assert client.score([Response("t-1", "2")])[0].level == 2
    assert all(row.task for request in transport.requests for row in request)  # nobody had to be probed
