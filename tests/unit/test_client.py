"""`ScoringClient` on a transport that answers when somebody waits for it."""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from scoremux_client import (
    DeadlineError,
    InputError,
    RejectedError,
    Response,
    Scored,
    ScoringClient,
    TransportError,
    UnavailableError,
)
from scoremux_client.rows import Columns

SECRET = "the dog ate my router"


def echo(texts: list[bytes]) -> Columns:
    """Answer each text, a whole number, with that level."""
    rows = len(texts)
    return {
        "STATUS": np.array([[b"OK"]] * rows, dtype=np.object_),
        "LEVEL": np.array([[int(text)] for text in texts], dtype=np.int32),
        "SCORE": np.array([[float(text)] for text in texts], dtype=np.float32),
        "PROBABILITIES": np.full((rows, 2), 0.5, dtype=np.float32),
        "VERSION": np.array([[b"f" * 64]] * rows, dtype=np.object_),
        "TOKENS": np.ones((rows, 1), dtype=np.int32),
        "TRUNCATED": np.zeros((rows, 1), dtype=np.bool_),
    }


class OnDemand(Future[Columns]):
    """A request that stays in flight until somebody waits for it."""

    def __init__(self, answer: Callable[[], Columns]) -> None:
        super().__init__()
        self._answer = answer

    def result(self, timeout: float | None = None) -> Columns:
        if not self.done():
            try:
                self.set_result(self._answer())
            except TransportError as error:
                self.set_exception(error)
        return super().result(timeout)


class FakeTransport:
    """Remembers what was sent; `answers` may replace the answer to a chunk, by the chunk's number."""

    def __init__(self, answers: dict[int, Callable[[], Columns]] | None = None) -> None:
        self.chunks: list[list[bytes]] = []
        self.tasks: list[bytes] = []
        self.timeouts: list[float | None] = []
        self.futures: list[OnDemand] = []
        self.most_in_flight = 0
        self.closed = False
        self._answers = answers or {}

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
        texts = inputs["TEXT"][:, 0].tolist()
        self.futures.append(OnDemand(self._answers.get(len(self.chunks), lambda: echo(texts))))
        self.chunks.append(texts)
        self.tasks += inputs["TASK"][:, 0].tolist()
        self.timeouts.append(timeout_s)
        self.most_in_flight = max(self.most_in_flight, sum(not f.done() for f in self.futures))
        return self.futures[-1]

    def close(self) -> None:
        self.closed = True


def failing(error: TransportError) -> Callable[[], Columns]:
    def answer() -> Columns:
        raise error

    return answer


def numbered(count: int) -> list[Response]:
    return [Response("t-1", str(i), f"id-{i}") for i in range(count)]


def levels(scored: list[Scored]) -> list[int]:
    return [s.level for s in scored]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 30])
def test_every_row_comes_back_once_and_in_order(count: int) -> None:
    scored = ScoringClient(FakeTransport(), chunk_rows=4, window=3).score(numbered(count))
    assert levels(scored) == list(range(count))
    assert [s.id for s in scored] == [f"id-{i}" for i in range(count)]


def test_answers_that_overtake_each_other_are_put_back_in_order() -> None:
    transport = FakeTransport()

    def answer_the_last_first() -> Columns:
        for future in reversed(transport.futures[1:]):
            future.result()
        return echo(transport.chunks[0])

    transport._answers[0] = answer_the_last_first
    client = ScoringClient(transport, chunk_rows=2, window=4)
    assert levels(client.score(numbered(8))) == list(range(8))


def test_no_chunk_is_larger_than_chunk_rows() -> None:
    transport = FakeTransport()
    ScoringClient(transport, chunk_rows=4).score(numbered(10))
    assert [len(chunk) for chunk in transport.chunks] == [4, 4, 2]


@pytest.mark.parametrize("window", [1, 2, 5])
def test_the_window_is_used_and_never_exceeded(window: int) -> None:
    transport = FakeTransport()
    ScoringClient(transport, chunk_rows=1, window=window).score(numbered(12))
    assert transport.most_in_flight == window


def test_an_endless_source_is_read_no_further_than_the_window() -> None:
    drawn = itertools.count()
    source = (Response("t-1", str(next(drawn))) for _ in itertools.repeat(None))
    scored = ScoringClient(FakeTransport(), chunk_rows=5, window=2).score_iter(source)
    assert levels(list(itertools.islice(scored, 23))) == list(range(23))
    assert next(drawn) <= 23 + 2 * 5


def test_nothing_is_sent_before_the_first_row_is_asked_for() -> None:
    transport = FakeTransport()
    scored = ScoringClient(transport).score_iter(numbered(3))
    assert transport.chunks == []
    next(scored)
    assert len(transport.chunks) == 1


@pytest.mark.parametrize("kind", [UnavailableError, DeadlineError, RejectedError])
def test_a_failed_chunk_keeps_its_kind_and_names_its_rows(kind: type[TransportError]) -> None:
    transport = FakeTransport({1: failing(kind("host:1: no"))})
    with pytest.raises(kind, match="rows 4–7: host:1: no") as caught:
        ScoringClient(transport, chunk_rows=4).score(numbered(10))
    assert caught.value.rows == range(4, 8)


def test_the_last_chunk_that_fails_names_only_the_rows_it_has() -> None:
    transport = FakeTransport({2: failing(DeadlineError("late"))})
    with pytest.raises(DeadlineError) as caught:
        ScoringClient(transport, chunk_rows=4).score(numbered(9))
    assert caught.value.rows == range(8, 9)


def test_the_foreign_error_stays_the_cause() -> None:
    error = UnavailableError("gone")
    error.__cause__ = foreign = OSError("socket")
    with pytest.raises(UnavailableError) as caught:
        ScoringClient(FakeTransport({0: failing(error)})).score(numbered(1))
    assert caught.value.__cause__ is foreign


def test_rows_before_a_failed_chunk_are_still_yielded() -> None:
    transport = FakeTransport({1: failing(DeadlineError("late"))})
    scored = ScoringClient(transport, chunk_rows=3, window=4).score_iter(numbered(9))
    assert levels(list(itertools.islice(scored, 3))) == [0, 1, 2]
    with pytest.raises(DeadlineError):
        next(scored)


def test_a_failed_chunk_cancels_what_is_in_flight() -> None:
    transport = FakeTransport({0: failing(DeadlineError("late"))})
    with pytest.raises(DeadlineError):
        ScoringClient(transport, chunk_rows=1, window=3).score(numbered(9))
    assert [future.cancelled() for future in transport.futures] == [False, True, True]


def test_a_caller_who_loses_interest_cancels_what_is_in_flight() -> None:
    transport = FakeTransport()
    scored = ScoringClient(transport, chunk_rows=1, window=3).score_iter(numbered(9))
    next(scored)
    scored.close()  # type: ignore[attr-defined]
    assert [future.cancelled() for future in transport.futures] == [False, True, True]


def test_a_source_that_breaks_cancels_what_is_in_flight() -> None:
    def broken() -> Iterator[Response]:
        yield from numbered(3)
        raise OSError("disk")

    transport = FakeTransport()
    with pytest.raises(OSError, match="disk"):
        ScoringClient(transport, chunk_rows=1, window=9).score(broken())
    assert [future.cancelled() for future in transport.futures] == [True] * 3


def test_an_answer_that_breaks_the_contract_names_its_rows() -> None:
    transport = FakeTransport({1: lambda: echo([b"1"])})
    with pytest.raises(RejectedError, match=r"rows 2–3: STATUS has 1 rows where 2 were sent"):
        ScoringClient(transport, chunk_rows=2).score(numbered(4))


@pytest.mark.parametrize(
    "answer", [failing(RejectedError("no")), lambda: {}, lambda: echo([b"1", b"2"])], ids=["error", "empty", "rows"]
)
def test_no_failure_shows_a_text(answer: Callable[[], Columns]) -> None:
    transport = FakeTransport({0: answer})
    with pytest.raises(TransportError) as caught:
        ScoringClient(transport).score([Response("t-1", SECRET)])
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in shown


def test_a_task_goes_out_as_it_was_given() -> None:
    transport = FakeTransport()
    ScoringClient(transport).score([Response("t-1@" + "a" * 64, "1"), Response("prüfung", "2")])
    assert transport.tasks == [b"t-1@" + b"a" * 64, "prüfung".encode()]


@pytest.mark.parametrize("timeout_s", [None, 2.5])
def test_every_request_gets_the_deadline(timeout_s: float | None) -> None:
    transport = FakeTransport()
    ScoringClient(transport, chunk_rows=1, timeout_s=timeout_s).score(numbered(2))
    assert transport.timeouts == [timeout_s] * 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"chunk_rows": 0}, "chunk_rows is 0; it must be 1…512"),
        ({"chunk_rows": 513}, "chunk_rows is 513; it must be 1…512"),
        ({"window": 0}, "window is 0; it must be 1 or more"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ScoringClient(FakeTransport(), **options)


@pytest.mark.parametrize("chunk_rows", [1, 512])
def test_the_bounds_themselves_are_in_range(chunk_rows: int) -> None:
    assert levels(ScoringClient(FakeTransport(), chunk_rows=chunk_rows).score(numbered(2))) == [0, 1]


def test_leaving_the_client_closes_its_transport() -> None:
    transport = FakeTransport()
    with ScoringClient(transport):
        assert not transport.closed
    assert transport.closed
