"""How soon a waiting follower learns of a decision, and what 200 followers cost the rows of another token."""

import asyncio
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from apis import grant, routed_process, row, score
from desks import FAST_HASHER, PASSWORD, Work
from feed_writer import POLICY, work_on
from scoremux_desk.database.accounts import add_person
from scoremux_desk.database.connection import Database
from scoremux_desk.database.programme import save_policy

pytestmark = pytest.mark.nightly
FOLLOWERS, TOKENS, LONE = 200, 10, 400
Running = tuple[httpx.Client, Work]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """An API as a process, and a desk on its database with a rater, anna."""
    name = str(tmp_path / "reviews.db")
    with closing(Database(name, create=True)) as desk:
        with desk.write() as connection:
            save_policy(connection, POLICY.model_copy(update={"second_reads": 0.0}), "test")
        add_person(desk, "anna", "rater", PASSWORD, "test", FAST_HASHER)
        with routed_process(name, "keyed") as (client, _):
            yield client, work_on(desk)


def send(client: httpx.Client, token: str, prefix: str, number: int) -> None:
    rows = [row(f"{prefix}-{n}", f"unsure {token} {prefix} {n}") for n in range(number)]
    score(client, *rows, headers=grant(token)).raise_for_status()


def decide(work: Work) -> None:
    work.decide("anna", work.take("anna").token, wait_s=0)


def p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[98]


def test_follower_learns_of_a_decision_within_a_second(running: Running) -> None:
    client, work = running
    send(client, "north", "r", 150)
    came, decided, cursor = list[float](), list[float](), ""
    for number in range(150):
        page = client.get("/v1/changes", params={"after": cursor} if cursor else {}, headers=grant("north")).json()
        cursor = page["cursor"]

        def later(number: int = number) -> None:
            time.sleep(0.05 + number % 7 * 0.05)
            decide(work)
            decided.append(time.monotonic())

        deciding = threading.Thread(target=later)
        deciding.start()
        answer = client.get("/v1/changes", params={"after": cursor, "wait": 30}, headers=grant("north"))
        came.append(time.monotonic())
        deciding.join()
        assert len(answer.json()["changes"]) == 1
        cursor = answer.json()["cursor"]
    took = [at - of for at, of in zip(came, decided, strict=True)]
    print(f"a waiting follower: median {statistics.median(took):.2f} s, p99 {p99(took):.2f} s of {len(took)} decisions")
    assert p99(took) <= 1


def lone_rows(client: httpx.Client, prefix: str) -> list[float]:
    took = []
    for number in range(LONE):
        began = time.monotonic()
        score(client, row(f"{prefix}-{number}", "sure"), headers=grant("other")).raise_for_status()
        took.append(time.monotonic() - began)
        time.sleep(0.02)
    return took


async def follow(client: httpx.AsyncClient, number: int, seconds: float) -> int:
    """Be a follower for some time; return how many changes came."""
    asked, came, ends_at = dict[str, Any](wait=5), 0, time.monotonic() + seconds
    while time.monotonic() < ends_at:
        answer = await client.get("/v1/changes", params=asked, headers=grant(f"token{number % TOKENS}"))
        page = answer.raise_for_status().json()
        asked["after"] = page["cursor"]
        came += len(page["changes"])
    return came


async def follow_all(url: str, seconds: float) -> int:
    """Be all followers; return how many changes came."""
    limits = httpx.Limits(max_connections=FOLLOWERS)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        return sum(await asyncio.gather(*(follow(client, number, seconds) for number in range(FOLLOWERS))))


def test_many_followers_leave_another_tokens_rows_alone(running: Running) -> None:
    client, work = running
    for number in range(TOKENS):
        send(client, f"token{number}", "r", 10)
    lone_rows(client, "warm")
    idle, over = lone_rows(client, "idle"), threading.Event()

    def decide_all() -> None:
        while not over.wait(0.5):
            if (read := work.take("anna")) is not None:
                work.decide("anna", read.token, wait_s=0)

    command = [sys.executable, __file__, str(client.base_url), "30"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as followers:
        time.sleep(5)
        deciding = threading.Thread(target=decide_all)
        deciding.start()
        took = lone_rows(client, "beside")
        over.set()
        deciding.join()
        came = int(followers.communicate()[0])
    print(
        f"lone rows of another token: p99 {p99(took) * 1000:.0f} ms beside {FOLLOWERS} followers that got {came:,} "
        f"changes, {p99(idle) * 1000:.0f} ms idle; median {statistics.median(took) * 1000:.0f} and "
        f"{statistics.median(idle) * 1000:.0f} ms"
    )
    assert came >= FOLLOWERS and p99(took) <= 2 * p99(idle) + 0.1


if __name__ == "__main__":
    print(asyncio.run(follow_all(sys.argv[1], float(sys.argv[2]))))
