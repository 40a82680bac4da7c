"""Both clients on the transport that ships for tests: order, chunks, window, identical rows, deadlines, ends."""

import asyncio
import importlib.metadata
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import held as held_transport
import scoremux
from held import HeldTransport
from peers import TASKS, fake, numbered, sent
from scoremux_client import (
    NO_RETRIES,
    AsyncScoringClient,
    BusyError,
    DeadlineError,
    InputError,
    RejectedError,
    Response,
    Retries,
    Scored,
    ScoringClient,
    Status,
    TooLargeError,
    TransportError,
    UnavailableError,
)
from scoremux_client.calls.request_size import RequestSize
from scoremux_client.rows import Columns
from waiting import until

SECRET = "the dog ate my router"


def levels(scored: Iterable[Scored]) -> list[int]:
    return [s.level for s in scored]


Score = Callable[..., list[Scored]]


def score_in_thread(transport: Any, responses: Iterable[Response], **options: Any) -> list[Scored]:
    with ScoringClient(transport, **options) as client:
        return client.score(responses)


def score_on_loop(transport: Any, responses: Iterable[Response], **options: Any) -> list[Scored]:
    async def main() -> list[Scored]:
        async with AsyncScoringClient(transport, **options) as client:
            return await client.score(responses)

    return asyncio.run(main())


@pytest.fixture(params=[score_in_thread, score_on_loop], ids=["thread", "loop"])
def score(request: pytest.FixtureRequest) -> Score:
    """`score` of either client."""
    made: Score = request.param
    return made


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 30])
def test_every_row_comes_back_once_and_in_order(score: Score, count: int) -> None:
    scored = score(fake(), numbered(count), chunk_rows=4, window=3)
    assert levels(scored) == list(range(count))
    assert [s.id for s in scored] == [f"id-{i}" for i in range(count)]


def released_soon(transport: HeldTransport, requests: int) -> threading.Thread:
    def release() -> None:
        while transport.in_flight < requests:
            time.sleep(0.001)
        transport.release()

    thread = threading.Thread(target=release)
    thread.start()
    return thread


@pytest.mark.parametrize("window", [1, 2, 5])
def test_the_window_is_used_and_never_exceeded_and_answers_are_put_back_in_order(score: Score, window: int) -> None:
    transport = held()
    thread = released_soon(transport, window)
    assert levels(score(transport, numbered(20), chunk_rows=2, window=window)) == list(range(20))
    thread.join()
    assert transport.most_in_flight == window


@pytest.mark.parametrize(("row_s", "expected"), [(0.01, 100), (0.5, 16), (1e-9, 512), (0.004, 250)])
@pytest.mark.parametrize("queued", [0, 3])
def test_a_chunk_becomes_a_second_of_the_servers_work(row_s: float, expected: int, queued: int) -> None:
    size, fixed = RequestSize(), RequestSize(40)
    for _ in range(12):
        before = size.rows
        size.answered(before, (queued + 1) * before * row_s, queued)
        assert before // 2 <= size.rows <= before * 2
        fixed.answered(40, (queued + 1) * 40 * row_s, queued)
    assert size.rows == pytest.approx(expected, abs=1)
    assert fixed.rows == 40
    size.too_large()
    assert size.rows == pytest.approx(max(16, expected // 2), abs=1)


@pytest.mark.parametrize("identical", [False, True])
def test_an_endless_source_is_read_no_further_than_twice_the_window(identical: bool) -> None:
    drawn = itertools.count()
    source = (Response("t-1", "7" if identical else str(n), str(n)) for n in drawn)
    scored = ScoringClient(fake(), chunk_rows=5, window=2).score_iter(source)
    assert [s.id for s in itertools.islice(scored, 500)] == [str(i) for i in range(500)]
    assert next(drawn) <= 500 + 2 * 2 * 5


def test_nothing_is_sent_before_the_first_row_is_asked_for() -> None:
    transport = fake()
    scored = ScoringClient(transport).score_iter(numbered(3))
    assert transport.requests == []
    next(scored)
    assert len(transport.requests) == 1


def test_an_asynchronous_source_fills_its_chunks_and_holds_up_nothing_where_it_is_slow() -> None:
    async def main() -> list[int]:
        arrived: asyncio.Queue[int] = asyncio.Queue()

        async def source() -> AsyncIterator[Response]:
            for i in range(3):
                yield Response("t-1", str(i))
                assert await asyncio.wait_for(arrived.get(), 60) == i

        scored = []
        async for one in AsyncScoringClient(fake()).score_iter(source()):
            scored.append(one.level)
            arrived.put_nowait(one.level)
        return scored

    assert asyncio.run(main()) == [0, 1, 2]

    async def source() -> AsyncIterator[Response]:
        for response in numbered(100):
            yield response

    transport = fake()
    assert levels(score_on_loop(transport, source(), chunk_rows=30)) == list(range(100))  # type: ignore[arg-type]
    assert [len(request) for request in transport.requests] == [30, 30, 30, 10]


def test_identical_rows_are_sent_once_unless_wanted_and_come_back_under_their_own_ids(score: Score) -> None:
    transport = fake()
    rows = [Response("t-1", str(i % 3), f"id-{i}") for i in range(50)] + [Response("t-2", "0", "other")]
    scored = score(transport, rows, chunk_rows=2)
    assert sorted((r.task, r.text) for request in transport.requests for r in request) == [
        ("t-1", b"0"), ("t-1", b"1"), ("t-1", b"2"), ("t-2", b"0")
    ]  # fmt: skip
    assert [s.id for s in scored] == [r.id for r in rows]
    assert levels(scored) == [i % 3 for i in range(50)] + [0]
    score(everything := fake(), numbered(3) * 4, deduplicate=False)
    assert sum(map(len, everything.requests)) == 12


@pytest.mark.parametrize("kind", [UnavailableError, DeadlineError, RejectedError])
def test_a_failed_chunk_keeps_its_kind_and_names_its_rows(score: Score, kind: type[TransportError]) -> None:
    error = kind("host:1: no")
    error.__cause__ = foreign = OSError("socket")
    transport = fake()
    transport.fail(error)
    with pytest.raises(kind, match="rows 0–3: host:1: no") as caught:
        score(transport, numbered(10), chunk_rows=4, retries=NO_RETRIES)
    assert list(caught.value.rows) == [0, 1, 2, 3]
    assert caught.value.__cause__ is foreign


class TakesFew(HeldTransport):
    """Refuses requests of more than `most` rows, as a server with a limit of bytes does."""

    most = 3

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
        if len(inputs["TEXT"]) > self.most:
            self.fail(TooLargeError("host:1: the request is larger than max"))
        return super().submit(inputs, timeout_s)


def test_requests_that_are_too_large_go_out_in_smaller_ones(score: Score) -> None:
    transport = TakesFew(TASKS, lambda _, text: int(text))
    assert levels(score(transport, numbered(10), chunk_rows=10, retries=NO_RETRIES)) == list(range(10))
    transport = TakesFew(TASKS)
    transport.most = 0
    with pytest.raises(TooLargeError, match="row 0: host:1: the request is larger than max"):
        score(transport, numbered(1), retries=NO_RETRIES)


class ByHand(HeldTransport):
    """Leaves its requests to the test: `futures` in the order of sending."""

    def __init__(self) -> None:
        super().__init__(TASKS)
        self.futures: list[Future[Columns]] = []

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
        self.futures.append(Future())
        self.last = super().submit(inputs, timeout_s).result()
        return self.futures[-1]


def test_an_error_that_came_before_the_rows_ahead_of_it_is_raised_behind_them() -> None:
    transport = ByHand()

    def answer() -> None:
        while len(transport.futures) < 2:
            time.sleep(0.001)
        transport.futures[1].set_exception(RejectedError("no"))
        time.sleep(0.1)
        transport.futures[0].set_result(transport.last)

    thread = threading.Thread(target=answer)
    thread.start()
    scored = ScoringClient(transport, chunk_rows=2, window=2).score_iter(numbered(4), deadline_s=60)
    assert [one.id for one in itertools.islice(scored, 2)] == ["id-0", "id-1"]
    with pytest.raises(RejectedError, match="rows 2–3: no"):
        next(scored)
    thread.join()


def held() -> HeldTransport:
    transport = fake()
    transport.hold()
    return transport


def test_a_caller_who_loses_interest_cancels_what_is_in_flight() -> None:
    transport = fake()
    scored = ScoringClient(transport, chunk_rows=1, window=3).score_iter(numbered(90))
    next(scored)
    transport.hold()
    for _ in range(6):
        next(scored)
        if transport.in_flight:
            break
    scored.close()  # type: ignore[attr-defined]
    assert transport.in_flight == 0


async def until_in_loop(is_met: Callable[[], bool]) -> None:
    async def look() -> None:
        while not is_met():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(look(), 60)


def test_a_caller_who_leaves_the_asynchronous_loop_cancels_what_is_in_flight() -> None:
    transport = held()

    async def main() -> None:
        async with aclosing(AsyncScoringClient(transport, chunk_rows=1).score_iter(numbered(9))) as scored:  # type: ignore[type-var]
            first = asyncio.ensure_future(anext(scored))
            await until_in_loop(lambda: transport.in_flight == 4)
            first.cancel()
            await asyncio.wait([first])
        assert transport.in_flight == 0

    asyncio.run(main())


INTERRUPTED = """
import time
from threading import Thread

from scoremux_client import Response, ScoringClient
from held import HeldTransport

transport = HeldTransport({"t-1": [0, 1]}, lambda task, text: 0)
transport.hold()
submit = transport.submit

def announce(future):
    while not future._done_callbacks:  # until the client has it
        time.sleep(0.001)
    print("sent", flush=True)

def announced(inputs, timeout_s):
    future = submit(inputs, timeout_s)
    Thread(target=announce, args=[future]).start()
    return future

transport.submit = announced
try:
    ScoringClient(transport).score([Response("t-1", text) for text in "abc"])
except KeyboardInterrupt:
    print(transport.in_flight)
"""


def test_ctrl_c_stops_at_once_and_cancels_what_is_in_flight() -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    environment = {**os.environ, "PYTHONPATH": str(Path(held_transport.__file__).parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "sent\n"
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=240)[0] == "0\n"
        finally:
            process.kill()


def test_the_deadline_of_a_call_names_the_rows_without_an_outcome(score: Score) -> None:
    class Forgets(HeldTransport):
        def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
            return Future() if b"2" in inputs["TEXT"] else super().submit(inputs, timeout_s)

    transport = Forgets(TASKS, lambda _, text: int(text))
    with pytest.raises(DeadlineError, match="rows 2–3: the deadline of 2 s passed") as caught:
        score(transport, numbered(6), chunk_rows=2, window=3, deadline_s=2)
    assert list(caught.value.rows) == [2, 3]


def test_a_transport_that_forgets_its_deadline_is_cancelled(score: Score) -> None:
    transport = held()
    started = time.monotonic()
    with pytest.raises(DeadlineError, match="rows 0–2: no answer"):
        score(transport, numbered(3), timeout_s=0.1, retries=NO_RETRIES)
    assert time.monotonic() - started < 60
    until(lambda: transport.in_flight == 0)  # a thread ends a moment later


def test_a_request_gets_no_more_time_than_its_call_has_left(score: Score) -> None:
    def given(**options: Any) -> list[float | None]:
        transport = fake()
        score(transport, numbered(2), chunk_rows=1, **options)
        return transport.timeouts_s

    assert given(timeout_s=5, deadline_s=600) == pytest.approx([5, 5], abs=1)
    assert all(540 < (timeout_s or 0) <= 600 for timeout_s in given(timeout_s=6000, deadline_s=600))
    assert given(timeout_s=None) == [None, None]


def test_a_late_request_is_tried_again_in_halves(score: Score) -> None:
    transport = fake()
    transport.fail(DeadlineError("late"))
    assert levels(score(transport, numbered(8), chunk_rows=8)) == list(range(8))
    assert sorted(map(len, transport.requests)) == [1, 4, 4, 8]


def test_a_source_that_breaks_cancels_what_is_in_flight(score: Score) -> None:
    def broken() -> Iterator[Response]:
        yield from numbered(3)
        raise OSError("disk")

    transport = held()
    with pytest.raises(OSError, match="disk"):
        score(transport, broken(), chunk_rows=1, window=9)
    assert transport.in_flight == 0


class Careless(HeldTransport):
    """A transport of a user's own with a mistake in it."""

    def __init__(self, result: Any) -> None:
        super().__init__(TASKS)
        self.result = result

    def submit(self, _: Columns, timeout_s: float | None) -> Future[Columns]:  # noqa: ARG002
        future: Future[Columns] = Future()
        if isinstance(self.result, Exception):
            raise self.result
        future.set_result(self.result)
        return future


@pytest.mark.parametrize("result", [{}, None, KeyError(SECRET), RejectedError("no")])
def test_no_failure_shows_a_text(score: Score, result: Any) -> None:
    with pytest.raises(RejectedError, match="row 0") as caught:
        score(Careless(result), [Response("t-1", SECRET)])
    caught.value.__cause__ = None  # a foreign error's own words are its transport's to answer for
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        *((row, "row 2: task and text are") for row in (Response(7, "x"), Response("t-1", ["x"]))),  # type: ignore[arg-type]
        ("text", r"row 2: it is of type str, not a scoremux_client\.Response\(task=…, text=…\)"),
    ],
)
def test_a_row_of_another_type_is_named(score: Score, row: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        score(fake(), [*numbered(2), row])


def test_texts_that_json_cannot_carry_get_a_status_and_are_not_sent(score: Score) -> None:
    server = fake()
    odd = [Response("t-1", None, "none"), Response("t-1", "half \ud800", "half")] * 2
    rows = [*odd, *numbered(20), *odd]
    scored = score(server, rows, chunk_rows=8)
    assert [one.id for one in scored] == [row.id for row in rows]
    assert [one.status for one in scored] == [*[Status.INVALID_TEXT] * 4, *[Status.OK] * 20, *[Status.INVALID_TEXT] * 4]
    assert all((one.level, one.score, one.route, one.task) == (-1, None, "", "t-1") for one in scored if not one.ok)
    assert sorted(sent(server)) == sorted(str(i) for i in range(20))
    assert [one.status for one in score(server, odd)] == [Status.INVALID_TEXT] * 4  # without a row that is sent


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"chunk_rows": 0}, "chunk_rows is 0; it must be 1…512"),
        ({"chunk_rows": 513}, "chunk_rows is 513; it must be 1…512"),
        ({"window": 0}, "window is 0; it must be 1 or more"),
        ({"timeout_s": 0}, "timeout_s is 0; it must be above 0"),
        ({"deadline_s": -1}, "deadline_s is -1; it must be above 0"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ScoringClient(fake(), **options)
    with pytest.raises(InputError, match="patience_s is -1"):
        Retries(patience_s=-1)
    with pytest.raises(InputError, match="an address is missing"):
        ScoringClient([])


def test_a_closed_client_says_so() -> None:
    transport = fake()
    with ScoringClient(transport) as client:
        assert not transport.closed
    assert transport.closed
    with pytest.raises(InputError, match="closed"):
        client.score(numbered(1))


def test_one_client_serves_many_threads() -> None:
    transport = fake()
    client = ScoringClient(transport, chunk_rows=3)
    with ThreadPoolExecutor(8) as threads:
        out = list(threads.map(lambda _: levels(client.score(numbered(40))), range(8)))
    assert out == [list(range(40))] * 8


def test_the_shipped_transport_gives_the_statuses_of_a_server() -> None:
    pairs = [("t-2", "1"), ("no", "1"), ("", ""), ("t-2", b"\xff"), ("t-2", "x" * 2**21)]
    rows = [Response(task, text) for task, text in pairs]
    statuses = [s.status for s in score_in_thread(HeldTransport(TASKS), rows)]
    assert statuses == [
        Status.OK, Status.UNKNOWN_TASK, Status.INVALID_TASK, Status.INVALID_TEXT, Status.TEXT_TOO_LONG
    ]  # fmt: skip


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
    class TurnsRowsAway(HeldTransport):
        def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
            if inputs["TASK"][0, 0]:
                self.fail(error("nobody is there"))
            return super().submit(inputs, timeout_s)

    retries = Retries(patience_s=0.3, contact_s=0.3, base_s=0.01, cap_s=0.05)
    client = ScoringClient(TurnsRowsAway(TASKS), retries=retries)
    with pytest.raises(error, match="rows 0–1: nobody is there"):
        client.score(numbered(2), deadline_s=60)


def test_a_call_that_runs_out_of_time_does_not_count_against_the_server() -> None:
    class Slow(HeldTransport):
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


def test_rows_may_be_dicts_and_the_client_says_where_it_sends_them() -> None:
    row = {"task": "t-1", "text": "It hands out addresses.", "id": "r1", "level": 2}
    with ScoringClient(HeldTransport({"t-1": [0, 0.5, 1]})) as client:
        assert client.score([row]) == client.score([Response("t-1", "It hands out addresses.", "r1")])
        with pytest.raises(InputError, match=r"row 0: it lacks the key task$"):
            client.score([{"text": "a secret"}])
    assert repr(client) == "Client('HeldTransport', closed)"
    assert repr(ScoringClient(["localhost:8001", "localhost:9001"])) == "Client('localhost:8001, localhost:9001')"


def test_the_client_asks_for_tasks_at_its_own_address() -> None:
    client = ScoringClient("localhost:1", token="smx_secret")
    with pytest.raises(UnavailableError, match="localhost:1"):
        client.tasks()
    client.close()
    assert "smx_secret" not in repr(client)


def test_the_face_says_its_version() -> None:
    assert scoremux.__version__ == importlib.metadata.version("scoremux")


def test_a_client_without_an_address_takes_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOREMUX_URL", raising=False)
    assert repr(ScoringClient()) == "Client('localhost:8001')"
    monkeypatch.setenv("SCOREMUX_URL", "localhost:9001")
    assert repr(ScoringClient()) == "Client('localhost:9001')"
