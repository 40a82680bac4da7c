"""Calls of AsyncScoringClient that are made at the same time share a request, and nothing else."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from functools import wraps
from typing import Any

import pytest

from held import HeldTransport
from scoremux_client import (
    NO_RETRIES,
    AsyncScoringClient,
    DeadlineError,
    RejectedError,
    Response,
    Scored,
    TransportError,
    UnavailableError,
)
from scoremux_client.calls.merged import MergingTransport
from scoremux_client.calls.request_size import RequestSize
from scoremux_client.errors import TooLargeError
from scoremux_client.rows import Columns, encode

TASKS = {"t-1": [float(points) for points in range(200)]}
FOR_EVER_S = 3600.0


def fake() -> HeldTransport:
    return HeldTransport(TASKS, lambda _, text: int(text))


class Refusing(HeldTransport):
    """Refuses requests that hold more than `most` rows or the row `bad`."""

    def __init__(self, most: int = 100, bad: bytes = b"") -> None:
        super().__init__(TASKS, lambda _, text: int(text))
        self.most, self.bad = most, bad

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
        texts = inputs["TEXT"][:, 0].tolist()
        if len(texts) > self.most:
            self.fail(TooLargeError("host:1: the request is larger than max"))
        elif self.bad in texts:
            self.fail(RejectedError("host:1: no"))
        return super().submit(inputs, timeout_s)


class Short(HeldTransport):
    """Leaves out the last row of an answer to more than one."""

    def _columns(self, responses: list[Response]) -> dict[str, Any]:
        return super()._columns(responses[: max(1, len(responses) - 1)])


async def call(client: AsyncScoringClient, number: int, **options: Any) -> int:
    [scored] = await client.score([Response("t-1", str(number), f"id-{number}")], **options)
    assert scored.id == f"id-{number}"
    return scored.level


async def calls(client: AsyncScoringClient, numbers: Sequence[int]) -> list[Any]:
    return await asyncio.gather(*(call(client, number) for number in numbers), return_exceptions=True)


def sizes(transport: HeldTransport) -> list[int]:
    return [len(request) for request in transport.requests]


async def until(transport: HeldTransport, requests: int) -> None:
    while len(transport.requests) < requests:
        await asyncio.sleep(0.001)


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test on a loop of its own, within a minute."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*arguments, **named), 60))

    return run


@on_loop
async def test_calls_made_at_once_share_requests_of_32_rows() -> None:
    transport = fake()
    assert await calls(AsyncScoringClient(transport), range(70)) == list(range(70))
    assert sizes(transport) == [32, 32, 6]


@on_loop
async def test_a_call_alone_waits_for_nobody() -> None:
    transport = fake()
    client = AsyncScoringClient(MergingTransport(transport, RequestSize(), FOR_EVER_S))
    for number in range(3):
        assert await call(client, number) == number
    assert sizes(transport) == [1, 1, 1]


@pytest.mark.parametrize(("pause_s", "released"), [(FOR_EVER_S, True), (0.001, False)])
@on_loop
async def test_calls_during_a_request_go_together(pause_s: float, released: bool) -> None:
    transport = fake()
    transport.hold()
    client = AsyncScoringClient(MergingTransport(transport, RequestSize(), pause_s))
    first = asyncio.ensure_future(call(client, 0))
    await until(transport, 1)
    others = asyncio.ensure_future(calls(client, [1, 2, 3]))
    await asyncio.sleep(0.05)
    assert sizes(transport) == ([1] if released else [1, 3])
    transport.release()
    assert await first == 0
    assert await others == [1, 2, 3]
    assert sizes(transport) == [1, 3]


@on_loop
async def test_a_cancelled_call_leaves_the_others_alone_and_the_last_of_them_cancels_their_request() -> None:
    transport = fake()
    transport.hold()
    client = AsyncScoringClient(transport)
    several = [asyncio.ensure_future(call(client, number)) for number in range(3)]
    await until(transport, 1)
    several[1].cancel()
    await asyncio.wait([several[1]])
    assert transport.in_flight == 1
    transport.release()
    assert [await several[0], await several[2]] == [0, 2]
    transport.hold()
    lost = [asyncio.ensure_future(call(client, number)) for number in range(3)]
    await until(transport, 2)
    for one in lost:
        one.cancel()
    await asyncio.wait(lost)
    assert transport.in_flight == 0


@on_loop
async def test_a_request_that_is_cancelled_while_it_waits_is_not_sent() -> None:
    transport = fake()
    transport.hold()
    merging = MergingTransport(transport, RequestSize(), FOR_EVER_S)
    answers = [merging.submit(encode([Response("t-1", "0")]), None)]
    await until(transport, 1)
    answers += [merging.submit(encode([Response("t-1", str(number))]), 5) for number in (1, 2)]
    answers[1].cancel()
    transport.release()
    await asyncio.wrap_future(answers[0])
    assert (await asyncio.wrap_future(answers[2]))["LEVEL"].tolist() == [[2]]
    assert [[row.text for row in request] for request in transport.requests] == [[b"0"], [b"2"]]
    assert transport.timeouts_s == [None, pytest.approx(5, abs=1)]


@on_loop
async def test_each_call_has_its_own_deadline() -> None:
    transport = fake()
    transport.hold()
    client = AsyncScoringClient(transport, timeout_s=100)
    several = [asyncio.ensure_future(call(client, n, deadline_s=0.1 if n == 1 else None)) for n in range(3)]
    with pytest.raises(DeadlineError, match=r"row 0: the deadline of 0\.1 s passed"):
        await several[1]
    assert transport.timeouts_s == [pytest.approx(100, abs=1)]  # that of those that have most time
    transport.release()
    assert [await several[0], await several[2]] == [0, 2]
    assert sizes(transport) == [3]  # and the server was not taken for one that is down


@on_loop
async def test_a_call_that_the_server_refuses_fails_alone() -> None:
    transport = Refusing(bad=b"3")
    outcomes = await calls(AsyncScoringClient(transport, retries=NO_RETRIES), range(5))
    assert str(outcomes.pop(3)) == "row 0: host:1: no"
    assert outcomes == [0, 1, 2, 4]


@pytest.mark.parametrize("most", [2, 0])
@on_loop
async def test_calls_that_are_too_large_together_go_alone(most: int) -> None:
    transport = Refusing(most)
    outcomes = await calls(AsyncScoringClient(transport, retries=NO_RETRIES), range(5))
    if most:
        assert outcomes == list(range(5))
    else:
        assert all(isinstance(outcome, TooLargeError) for outcome in outcomes)


@on_loop
async def test_calls_whose_shared_answer_lacks_a_row_go_alone() -> None:
    transport = Short(TASKS, lambda _, text: int(text))
    assert await calls(AsyncScoringClient(transport, retries=NO_RETRIES), range(3)) == [0, 1, 2]
    assert sizes(transport) == [3, 1, 1, 1]


@on_loop
async def test_calls_of_a_lost_request_are_sent_again() -> None:
    transport = fake()
    transport.fail(UnavailableError("restarting"))
    assert await calls(AsyncScoringClient(transport), range(4)) == list(range(4))
    transport.fail(UnavailableError("a student wrote: 12345678"))
    outcomes = await calls(AsyncScoringClient(transport, retries=NO_RETRIES), [12345678, 1])
    assert all(isinstance(outcome, TransportError) and "1234" not in str(outcome) for outcome in outcomes)
    assert 2 in sizes(transport)  # probes have one row


@on_loop
async def test_large_requests_pass_and_chunks_keep_their_rows() -> None:
    transport = fake()
    transport.hold()

    def score(client: AsyncScoringClient, rows: int) -> asyncio.Future[list[Scored]]:
        return asyncio.ensure_future(client.score([Response("t-1", str(n)) for n in range(rows)]))

    several = [score(AsyncScoringClient(MergingTransport(transport, RequestSize(), FOR_EVER_S)), 1)]
    client = AsyncScoringClient(transport, chunk_rows=2)
    several += [score(client, 2), score(client, 1), score(client, 1), score(client, 1)]
    several += [score(AsyncScoringClient(transport), 20)]
    await until(transport, 5)
    assert sorted(sizes(transport)) == [1, 1, 2, 2, 20]
    transport.release()
    await asyncio.gather(*several)


def test_a_client_may_be_shared_by_loops_that_come_and_go() -> None:
    transport = fake()
    client = AsyncScoringClient(transport)
    for _ in range(3):
        assert asyncio.run(calls(client, range(4))) == list(range(4))
    assert sizes(transport) == [4, 4, 4]
