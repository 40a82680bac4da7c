"""Calls of the client in random schedules with virtual time: the order of events is a function of a seed.

Every defect is found, with its seed, when it is put in.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from contextlib import aclosing, closing
from types import SimpleNamespace
from typing import Any

import pytest

from scoremux_client import AsyncScoringClient, DeadlineError, Response, UnavailableError
from scoremux_client.calls import merged, servers
from scoremux_client.rows import Answer, Columns
from scoremux_client.testing import FakeTransport
from seeded_loop import SeededLoop, cancel_all_others

MOST_DOWN_S = 5.0
"""No server is down for longer, and clients try for 30 s: no call may see that one was."""


def level_of(_: str, text: str) -> int:
    return len(text) % 3


class Unsteady:
    """A server that takes random times, is down at times, and forgets some requests."""

    def __init__(self, name: str, draw: random.Random) -> None:
        self.url, self._draw = name, draw
        self._answers = FakeTransport({"t-1": [0, 0.5, 1], "t-2": [0, 1, 2]}, level_of)
        self._down_at = [(start := draw.uniform(0, 20), start + draw.uniform(0, MOST_DOWN_S)) for _ in range(2)]

    def submit(self, inputs: Columns, timeout_s: float | None) -> Answer:
        answer, loop, took_s = Answer(), asyncio.get_event_loop(), self._draw.expovariate(4)
        now = loop.time()
        if any(start <= now + took_s and now <= end for start, end in self._down_at) or self._draw.random() < 0.05:
            loop.call_later(took_s / 4, self._settle, answer, UnavailableError("down"))
        elif timeout_s is not None and timeout_s < took_s:
            loop.call_later(timeout_s, self._settle, answer, DeadlineError("late"))
        else:
            loop.call_later(took_s, self._settle, answer, self._answers.submit(inputs, None).result())
        return answer

    def close(self) -> None:
        pass

    @staticmethod
    def _settle(answer: Answer, outcome: Columns | Exception) -> None:
        if not answer.set_running_or_notify_cancel():
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)


class TimerOfLoop:
    """What the client needs of `threading.Timer`, on the loop's virtual time."""

    daemon = True

    def __init__(self, pause_s: float, call: Any, arguments: list[Any]) -> None:
        self._begin = lambda: asyncio.get_event_loop().call_later(pause_s, call, *arguments)

    def start(self) -> None:
        self._begin()


def run(seed: int, defect: Callable[[pytest.MonkeyPatch], None] = lambda _: None) -> None:
    """Run one schedule: five callers that share a client of two servers. Raises an error where a promise breaks."""
    draw = random.Random(seed)
    random.seed(seed)  # the client draws its pauses
    with closing(SeededLoop(seed)) as loop, pytest.MonkeyPatch.context() as patch:
        asyncio.set_event_loop(loop)
        patch.setattr(time, "monotonic", loop.time)
        patch.setattr(servers, "threading", SimpleNamespace(Timer=TimerOfLoop, RLock=threading.RLock))
        defect(patch)
        loop.run_until_complete(_run(draw))
        asyncio.set_event_loop(None)


async def _run(draw: random.Random) -> None:
    loop = asyncio.get_running_loop()
    client = AsyncScoringClient([Unsteady("a", draw), Unsteady("b", draw)], chunk_rows=draw.choice((None, 8)))

    def check(rows: list[Response], scored: list[Any]) -> None:
        assert [row.id for row in scored] == [row.id for row in rows[: len(scored)]], "rows are out of order"
        levels = [level_of("", each.text or "") for each in rows[: len(scored)]]
        assert [row.level for row in scored] == levels, "levels of other rows"

    async def call(caller: int) -> None:
        for number in range(6):
            await asyncio.sleep(draw.expovariate(1))
            rows = [
                Response(draw.choice(("t-1", "t-2")), "x" * draw.randint(1, 60), id=f"{caller}/{number}/{place}")
                for place in range(draw.choice((1, 1, 1, 3, 40)))
            ]
            kind, begun_at = draw.choice(("plain", "plain", "deadline", "cancelled", "left")), loop.time()
            try:
                if kind == "plain":
                    check(rows, scored := await client.score(rows))
                    assert len(scored) == len(rows), "rows were lost"
                elif kind == "deadline":
                    check(rows, await client.score(rows, deadline_s=0.3))
                elif kind == "cancelled":
                    await asyncio.wait_for(client.score(rows), draw.uniform(0.001, 0.5))
                else:
                    async with aclosing(client.score_iter(rows)) as outcomes:
                        check(rows, [await anext(outcomes)])
            except DeadlineError:
                assert kind == "deadline" and loop.time() >= begun_at + 0.3, "a deadline that nobody set has passed"
            except asyncio.TimeoutError:
                assert kind == "cancelled"
            took_s, most_s = loop.time() - begun_at, 1 if kind in ("deadline", "cancelled") else 3 * MOST_DOWN_S
            assert took_s < most_s, f"{kind}: took {took_s:.0f} s"

    try:
        await asyncio.gather(*map(call, range(5)))
    finally:
        await cancel_all_others()
    await asyncio.sleep(60)
    left = [len(server.attempts) for server in client._servers._servers]
    assert left == [0, 0], "requests are in flight that nobody waits for"
    await client.close()


@pytest.mark.parametrize("schedules", [40, pytest.param(3000, marks=pytest.mark.nightly)])
def test_every_call_gets_its_own_rows_in_order_whatever_others_and_servers_do(schedules: int) -> None:
    for seed in range(schedules):
        run(seed)


def cuts_without_the_cancelled(patch: pytest.MonkeyPatch) -> None:
    """The answer to a shared request is cut as if the rows of callers who went away were not in it."""

    def parts(columns: Columns, together: list[Any]) -> list[Columns]:
        answers, start = list[Columns](), 0
        for small in together:
            answers.append({name: column[start : start + small.rows] for name, column in columns.items()})
            start += 0 if small.answer.cancelled() else small.rows
        return answers

    patch.setattr(merged, "_parts", parts)


def tells_no_call(patch: pytest.MonkeyPatch) -> None:
    """Calls that wait for a server do not learn that it is up again."""
    patch.setattr(servers.Servers, "_notify_calls", lambda _: None)


def forgets_to_probe(patch: pytest.MonkeyPatch) -> None:
    """A server whose probe came due while nobody called is never probed again."""
    probe = servers.Servers._probe
    patch.setattr(servers.Servers, "_probe", lambda self, server: probe(self, server) if self._calls else None)


@pytest.mark.nightly
@pytest.mark.parametrize("defect", [cuts_without_the_cancelled, tells_no_call, forgets_to_probe])
def test_defects_are_found_when_they_are_put_in(defect: Callable[[pytest.MonkeyPatch], None]) -> None:
    for seed in range(1000):
        try:
            run(seed, defect)
        except (AssertionError, UnavailableError, asyncio.CancelledError) as error:
            print(f"found at seed {seed}: {error!r}")
            return
    pytest.fail("not found in 1,000 schedules")
