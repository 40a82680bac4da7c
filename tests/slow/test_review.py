"""The review desk under load: 200 raters at servers that are killed."""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

import postgres
from desks import Programme, make_programme, scored_rows
from killable import Killable, listening
from scoremux_desk.database.accounts import begin_session
from scoremux_desk.database.schema import decisions, reads
from scoremux_desk.database.verification import verify
from scoremux_desk.desk_policy import DeskPolicy
from waiting import Result, Scaled

RATERS = 200
TOKEN = re.compile(r'name="token" value="([^"]+)"')
FORM_KEY = re.compile(r'name="form_key" value="([^"]+)"')


@contextmanager
def desks(database: str, folder: Path, number: int) -> Iterator[list[Killable]]:
    started = [listening(folder / f"desk {n}", "review", "open", "--database", database) for n in range(number)]
    try:
        for desk in started:
            desk.wait_for("/login")
        yield started
    finally:
        for desk in started:
            desk.kill()


@dataclass
class Seen:
    """What the raters were told. saved: token → (rater, level)."""

    saved: dict[str, tuple[str, int]] = field(default_factory=dict)
    lost: int = 0
    retries: int = 0
    kills: int = 0
    idle: int = 0


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_200_raters_at_servers_that_are_killed(kind: str, tmp_path: Path, scaled: Scaled, result: Result) -> None:
    if kind == "sqlite":
        simulate(kind, str(tmp_path / "reviews.db"), tmp_path, scaled(240), result)
        return
    if postgres.programs() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with postgres.running() as url:
        simulate(kind, url, tmp_path, scaled(240), result)


def simulate(kind: str, name: str, folder: Path, seconds: float, result: Result) -> None:
    raters = tuple(f"rater{n}" for n in range(RATERS))
    policy = DeskPolicy(groups=False, guard_s=0.0, second_reads=0.2, validity=0.05, adjudicate="never", lease_s=90.0)
    programme = make_programme(folder, policy=policy, rows=scored_rows(20_000), name=name, raters=raters)
    programme.clock[0] = time.time()
    cookies = {rater: begin_session(programme.database, programme.people[rater]) for rater in raters}
    seen = Seen()
    with desks(name, folder, 2) as servers:
        asyncio.run(day(servers, cookies, seen, seconds))
    check(programme, seen)
    with programme.database.read() as connection:
        entries, _ = verify(connection)
    programme.database.close()
    figure = (
        f"{len(seen.saved):,} decisions saved, 0 lost, 0 rows scored twice, {entries:,} entries intact; "
        f"{seen.kills} SIGKILLs, {seen.retries:,} requests sent again, {seen.lost:,} leases ended in other hands"
    )
    result(f"{RATERS} raters for {seconds:g} s at 2 servers on {kind}", figure)
    assert len(seen.saved) > RATERS / 2


def check(programme: Programme, seen: Seen) -> None:
    with programme.database.read() as connection:
        query = select(reads.c.token, reads.c.kind, decisions.c.row, decisions.c.person, decisions.c.level)
        kept = connection.execute(query.join(decisions, decisions.c.read == reads.c.id)).all()
        assert connection.execute(select(func.count()).select_from(decisions)).scalar_one() == len(kept)
    told = {one.token: one for one in kept}
    for token, (rater, level) in seen.saved.items():
        assert (told[token].person, told[token].level) == (programme.people[rater], level)
    scores = [one for one in kept if one.kind != "validity"]
    assert max(Counter((one.row, one.kind) for one in scores).values()) == 1
    assert max(Counter((one.row, one.person) for one in kept).values()) == 1


async def day(servers: list[Killable], cookies: dict[str, str], seen: Seen, seconds: float) -> None:
    until = time.monotonic() + seconds
    killer = asyncio.create_task(kill_at_random(servers, until, seen))
    limits = httpx.Limits(max_connections=60)
    async with httpx.AsyncClient(timeout=40, limits=limits) as http:
        await asyncio.gather(*(rate(http, servers, who, cookie, seen, until) for who, cookie in cookies.items()))
    await killer


async def kill_at_random(servers: list[Killable], until: float, seen: Seen) -> None:
    draw = random.Random(18)
    while time.monotonic() < until - 10:
        await asyncio.sleep(draw.uniform(3, 9))
        server = draw.choice(servers)
        server.kill()
        seen.kills += 1
        await asyncio.sleep(draw.uniform(0, 1))
        server.start()
        await asyncio.to_thread(server.wait_for, "/login")


async def rate(
    http: httpx.AsyncClient, servers: list[Killable], who: str, cookie: str, seen: Seen, until: float
) -> None:
    """Read and decide until the day is over; now and then, fall asleep over a response."""
    draw = random.Random(who)
    headers = {"X-Desk": "1", "Cookie": f"desk={cookie}"}

    async def ask(method: str, path: str, **options: Any) -> str:
        while True:
            try:
                answer = await http.request(method, draw.choice(servers).url + path, headers=headers, **options)
                if answer.status_code < 500:
                    assert answer.status_code == 200, (answer.status_code, answer.text[-300:])
                    return answer.text
            except httpx.TransportError:
                pass
            seen.retries += 1
            await asyncio.sleep(draw.uniform(0.05, 0.5))

    page = await ask("GET", "/read")
    while time.monotonic() < until:
        found = TOKEN.search(page)
        if found is None:
            seen.idle += 1
            await asyncio.sleep(1)
            page = await ask("GET", "/read")
            continue
        token, level = found[1], draw.randrange(2)
        await asyncio.sleep(100.0 if draw.random() < 0.03 else draw.uniform(1, 12))
        form_key = FORM_KEY.search(page)[1]  # type: ignore[index]
        page = await ask("POST", "/decide", data={"form_key": form_key, "token": token, "level": level})
        if "nothing was saved" in page:
            seen.lost += 1
        else:
            seen.saved[token] = (who, level)
