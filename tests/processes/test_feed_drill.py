"""The change feed against the record: three writers, two APIs and a follower that are killed, on both databases."""

import asyncio
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

import apis
import feed_follower
import feed_writer
import postgres
from desks import FAST_HASHER, PASSWORD
from feed_follower import pages
from feed_writer import POLICY, act, work_on
from killable import Killable
from scoremux_client.contract import Status
from scoremux_client.rows import Scored
from scoremux_desk.api.live_intake import LiveIntake, ScoredArrival
from scoremux_desk.database import log
from scoremux_desk.database.accounts import add_person
from scoremux_desk.database.connection import Database
from scoremux_desk.database.programme import save_policy
from scoremux_desk.database.schema import ROW
from scoremux_desk.database.verification import copy_database, verify
from waiting import free_port, until

WRITERS = ("wanda", "will", "wim")
NIGHTLY = pytest.mark.nightly
Expected = list[tuple[str, str, str, int | None]]


def recorded(database: Database) -> Expected:
    """Return cursor, type, id and level of each change that the record has, in its order; read without the feed."""
    seen, expected = set[int](), Expected()
    with database.read() as connection:
        names = dict(connection.execute(ROW.id.table.select().with_only_columns(ROW.id, ROW.name)).all())  # type: ignore[arg-type]
        for entry in log.read_entries(connection):
            body = entry.body
            if "final" in body and body["state"] == "done":
                again = body["row"] in seen or body["round"] > 1
                seen.add(body["row"])
                cursor = f"{entry.number}-{entry.digest[:32]}"
                expected.append((cursor, "corrected" if again else "final", names[body["row"]], body["final"][0]))
    return expected


def followed(file: Path) -> Expected:
    changes = (change for page in pages(file) for change in page["changes"])
    return [(change["cursor"], change["type"], change["id"], change["level"]) for change in changes]


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Database]]:
    with postgres.database_name(request.param, tmp_path) as name, closing(Database(name, create=True)) as made:
        with made.write() as connection:
            save_policy(connection, POLICY, "test")
        for who in WRITERS:
            add_person(made, who, "rater", PASSWORD, "test", FAST_HASHER)
        add_person(made, "lee", "leader", PASSWORD, "test", FAST_HASHER)
        yield name, made


@pytest.mark.parametrize(
    ("database", "seconds", "lost"),
    [
        ("sqlite", 6, 20),
        pytest.param("postgresql", 12, 40, marks=NIGHTLY),
        pytest.param("sqlite", 480, 1_000, marks=NIGHTLY),
        pytest.param("postgresql", 480, 1_000, marks=NIGHTLY),
    ],
    indirect=["database"],
)
def test_follower_sees_the_record_through_kills_and_a_restored_backup(
    database: tuple[str, Database], seconds: int, lost: int, tmp_path: Path
) -> None:
    name, desk = database
    seconds = int(os.environ.get("FEED_DRILL_S", seconds))
    steady, resumed = tmp_path / "steady.jsonl", tmp_path / "resumed.jsonl"
    with ExitStack() as stack:

        def start(output: str, *command: object, url: str = "") -> Killable:
            process = Killable(tmp_path / output, sys.executable, *command, url=url)
            stack.callback(process.kill)
            return process

        ports = [free_port() for _ in range(2)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        servers = [start(f"api{n}", apis.__file__, name, port, url=urls[n]) for n, port in enumerate(ports)]
        for server in servers:
            server.wait_for("/healthz")
        start("steady", feed_follower.__file__, steady, *urls)
        follower = start("resumed", feed_follower.__file__, resumed, *urls)
        with ExitStack() as writing:
            writers = [
                Killable(tmp_path / who, sys.executable, feed_writer.__file__, name, who, *urls) for who in WRITERS
            ]
            for writer in writers:
                writing.callback(writer.kill)
            until(lambda: recorded(desk))
            ends, kills = time.monotonic() + seconds, 0
            while time.monotonic() < ends:
                time.sleep(3)
                random.choice([*servers, *writers, follower]).restart()
                kills += 1

        def is_at_end(file: Path) -> bool:
            # An API may commit rows after the writer who sent them was killed: the end is that of now.
            with desk.read() as connection:
                last, digest = log.head(connection)
            newest = next(reversed([*pages(file)]), None)
            return newest is not None and newest["cursor"] == f"{last}-{digest[:32]}"

        until(lambda: is_at_end(steady) and is_at_end(resumed), within_s=300)
    with desk.read() as connection:
        last, _ = verify(connection)
    expected = recorded(desk)
    assert len(expected) > seconds / 10 and kills >= seconds // 4
    assert followed(steady) == expected
    assert followed(resumed) == expected
    print(f"{len(expected):,} changes, {last:,} entries, {kills} kills: equal")
    check_restored(desk, tmp_path / "restored", lost)


def check_restored(desk: Database, folder: Path, lost: int) -> None:
    """Restore a backup after changes, and make more new ones than were lost; a cursor of before gets 410."""
    folder.mkdir()
    with closing(Database(str(folder / "reviews.db"), create=True)) as restored:
        copy_database(desk, restored)
        decide_more(desk, "lost", lost)
        decide_more(restored, "new", lost + 10)
        before, now = recorded(desk), recorded(restored)
    common = [change for change in before if change in now]
    gone = [cursor for cursor, *_ in before[len(common) :]]
    assert common and len(gone) >= lost and len(now) > len(before)
    with apis.api(folder) as (client, _):
        for cursor in gone[:: max(1, lost // 50)]:
            assert client.get("/v1/changes", params={"after": cursor}).status_code == 410
        page = client.get("/v1/changes", params={"after": common[-1][0]}).json()["changes"]
    assert [change["cursor"] for change in page] == [cursor for cursor, *_ in now[len(common) :]][:500]


def decide_more(desk: Database, prefix: str, number: int) -> None:
    """Have rows decided, also new ones, until there are so many more changes."""
    scored = Scored("t-1", 1, 0.5, (0.2, 0.5, 0.3), Status.OK, "", 0, False, route="human:UNUSUAL")
    arrivals = [ScoredArrival(f"{prefix} {n}", replace(scored, id=f"{prefix}-{n}")) for n in range(number)]
    asyncio.run(LiveIntake(desk).commit("local", arrivals))
    work, before = work_on(desk), len(recorded(desk))
    while len(recorded(desk)) < before + number:
        for who in WRITERS:
            for _ in range(number):
                act(work, who)
