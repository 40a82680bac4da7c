"""The change feed in random schedules with virtual time: the order of events is a function of a seed.

Every defect that was mended once is found again, with its seed, when it is taken back.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from scoremux_desk.api import change_endpoints
from scoremux_desk.api.followers import Followers
from scoremux_desk.api.problems import ApiProblem
from scoremux_desk.reading.change_feed import ChangePage, changes_after
from seeded_loop import SeededLoop, cancel_all_others

MOST_LATE_S = 3.0
TOKENS = ("a", "b")


class Record:
    """Entries in the order of their numbers, which a reader sees once they are committed.

    locks: Whether a number is drawn under the lock that its writer commits under, as the desk's database does.
    """

    def __init__(self, draw: random.Random, *, locks: bool = True) -> None:
        self.draw = draw
        self.committed: dict[int, tuple[str, float]] = {}
        self._numbers: Iterator[int] = iter(range(1, 1000))
        self._lock = asyncio.Lock() if locks else asyncio.Semaphore(99)

    async def write(self, token: str) -> None:
        async with self._lock:
            number = next(self._numbers)
            await asyncio.sleep(self.draw.uniform(0, 0.3))
            self.committed[number] = token, asyncio.get_running_loop().time()

    @property
    def last(self) -> int:
        return max(self.committed, default=0)


class OnRecord(Followers):
    """Followers that read a `Record`, and take random times for it."""

    def __init__(self, record: Record) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self._record = record

    def _changes_after(self, token: str, cursor: str | None) -> ChangePage:
        after, last = int(cursor or 0), self._record.last
        changes = [{"n": n} for n, (of, _) in sorted(self._record.committed.items()) if of == token and n > after]
        return ChangePage(changes, last, str(last), is_last=True)

    def _tokens_changed(self, seen: int) -> tuple[int, dict[str, int]]:
        newer = sorted((n, token) for n, (token, _) in self._record.committed.items() if n > seen)
        return self._record.last, {token: n for n, token in newer}

    async def _read(self, question: Callable[..., Any], *arguments: Any) -> Any:
        await asyncio.sleep(self._record.draw.uniform(0, 0.1))
        answer = (self._changes_after if question is changes_after else self._tokens_changed)(*arguments)
        await asyncio.sleep(self._record.draw.uniform(0, 0.1))
        return answer


class ForgetsThoseThatReadLess(OnRecord):
    """A defect: a request that has read less than the newest one is not looked for."""

    async def wait(self, token: str, number: int, seconds: float) -> bool:
        self._seen = max(self._seen, number)
        waits = asyncio.ensure_future(super().wait(token, number, seconds))
        await asyncio.sleep(0)
        self._seen = max(self._seen, number)
        return await waits


def run(seed: int, followers: type[OnRecord] = OnRecord, *, locks: bool = True, asks_again: bool = True) -> None:
    """Run one schedule: writers, four followers, and a token that is revoked. Raises AssertionError."""
    draw = random.Random(seed)
    random.seed(seed)  # the followers draw how long they wait
    with closing(SeededLoop(seed)) as loop, pytest.MonkeyPatch.context() as patch:
        patch.setattr(change_endpoints, "time", SimpleNamespace(monotonic=loop.time))
        loop.run_until_complete(_run(draw, followers, locks=locks, asks_again=asks_again))


async def _run(draw: random.Random, followers: type[OnRecord], *, locks: bool, asks_again: bool) -> None:
    loop, record, revoked_at = asyncio.get_running_loop(), Record(draw, locks=locks), draw.uniform(0, 9)

    def check_in_force(caller: Any) -> None:
        if asks_again and caller.namespace == "b" and loop.time() > revoked_at:
            raise ApiProblem(401, "No permission", "revoked")

    services: Any = SimpleNamespace(followers=followers(record), callers=SimpleNamespace(check_in_force=check_in_force))

    async def write() -> None:
        for _ in range(4):
            await asyncio.sleep(draw.expovariate(1))
            await record.write(draw.choice(TOKENS))

    async def follow(token: str) -> None:
        seen, cursor, caller = list[int](), None, SimpleNamespace(namespace=token)
        while loop.time() < 60:
            try:
                answer = await change_endpoints.list_changes(services, caller, cursor, wait=draw.choice((5, 30)))  # type: ignore[arg-type]
            except ApiProblem:
                return
            page = orjson.loads(answer.body)
            assert token != "b" or loop.time() <= revoked_at, "a revoked token goes on"
            cursor = page["cursor"]
            for change in page["changes"]:
                seen.append(change["n"])
                late = loop.time() - record.committed[change["n"]][1]
                assert late < MOST_LATE_S, f"a change came {late:.0f} s late"
            await asyncio.sleep(draw.choice((0, 0.5)))
        assert seen == sorted(n for n, (of, _) in record.committed.items() if of == token), "changes were skipped"

    try:
        await asyncio.gather(*(write() for _ in range(3)), *(follow(token) for token in TOKENS * 2))
    finally:
        await cancel_all_others()


@pytest.mark.parametrize("schedules", [100, pytest.param(3000, marks=pytest.mark.nightly)])
def test_every_follower_gets_every_change_once_soon_and_in_order(schedules: int) -> None:
    for seed in range(schedules):
        run(seed)


@pytest.mark.parametrize(
    ("defect", "says"),
    [
        ({"locks": False}, "changes were skipped"),
        ({"asks_again": False}, "a revoked token goes on"),
        ({"followers": ForgetsThoseThatReadLess}, "late"),
    ],
    ids=["a change committed late", "a token revoked while it waits", "a follower that has read less"],
)
def test_mended_defects_are_found_when_they_are_taken_back(defect: dict[str, Any], says: str) -> None:
    for seed in range(1000):
        try:
            run(seed, **defect)
        except AssertionError as error:
            assert says in str(error), seed
            return
    pytest.fail("not found in 1,000 schedules")
