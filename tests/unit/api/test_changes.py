"""`GET /v1/changes`: pages, cursors, waiting, restored backups, erasure, and whose changes come."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from apis import KEY, RoutedTransport, api, grant, row, score
from desks import Work
from scoremux_client import Scored, Status
from scoremux_desk.api import followers
from scoremux_desk.api.callers import LOCAL
from scoremux_desk.api.live_intake import LiveIntake, ScoredArrival
from scoremux_desk.api.services import Services
from scoremux_desk.database.connection import Database
from scoremux_desk.database.programme import Item, save_items
from scoremux_desk.database.verification import copy_database
from scoremux_desk.erasure import ErasureRequest, erase
from scoremux_desk.reading import change_feed
from scoremux_server.front_door.access_tokens import AccessTokenFile
from waiting import until

Running = tuple[TestClient, Services, Work]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with api(tmp_path, RoutedTransport()) as (client, services):
        database = Path(str(services.database.engine.url.database))
        work = Work.open(database, anna="rater", lee="leader")
        yield client, services, work
        work.database.close()


def decide(work: Work, level: int = 1) -> str:
    """Have a row decided; return its id."""
    read = work.take("anna")
    work.decide("anna", read.token, level)
    return str(work.row(read.row).name)


def follow(client: TestClient, cursor: str | None = None, **options: Any) -> tuple[list[dict[str, Any]], str]:
    """Return all changes after a cursor, and the last cursor."""
    came: list[dict[str, Any]] = []
    while True:
        asked = {"after": cursor} if cursor else {}
        page = client.get("/v1/changes", params=asked, **options).raise_for_status().json()
        came += page["changes"]
        cursor = page["cursor"]
        if not page["changes"]:
            return came, str(cursor)


def test_pages_have_each_change_once_in_order(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _, work = running
    monkeypatch.setattr(change_feed, "MOST_CHANGES", 3)
    monkeypatch.setattr(change_feed, "_MOST_ENTRIES", 7)
    score(client, *(row(f"r{n}", f"unsure {n}") for n in range(10)))
    decided = [decide(work, n % 3) for n in range(10)]
    came, last = follow(client)
    assert [change["id"] for change in came] == decided
    assert [change["level"] for change in came] == [n % 3 for n in range(10)]
    numbers = [int(change["cursor"].partition("-")[0]) for change in came]
    assert numbers == sorted({*numbers})
    for number in (0, 4, 9):
        later, _ = follow(client, came[number]["cursor"])
        assert later == came[number + 1 :]
    assert follow(client, last) == ([], last)


@pytest.mark.parametrize("cursor", ["", "7", "1-ab", "x-" + "0" * 32, "-1-" + "0" * 32])
def test_cursor_that_no_page_gave_is_refused(running: Running, cursor: str) -> None:
    client, *_ = running
    assert client.get("/v1/changes", params={"after": cursor}).status_code == 422
    assert client.get("/v1/changes", params={"after": "5-" + "0" * 32}).status_code == 410


def test_waiting_follower_learns_of_a_decision_at_once(running: Running) -> None:
    client, _, work = running
    score(client, row("a"))
    _, cursor = follow(client)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.get, "/v1/changes", params={"after": cursor, "wait": 50})
        time.sleep(0.5)
        assert not asked.done()
        began = time.monotonic()
        decide(work, 2)
        page = asked.result(30).json()
    assert time.monotonic() - began < 15
    assert [(change["id"], change["level"]) for change in page["changes"]] == [("a", 2)]
    assert client.get("/v1/changes", params={"after": page["cursor"], "wait": 1}).json()["changes"] == []


def test_many_followers_are_one_look_at_the_database(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    client, services, work = running
    score(client, row("a"))
    _, cursor = follow(client)
    looks, pages = [], []

    def counted(kept: list[float], of: Any) -> Any:
        def ask(*arguments: Any) -> Any:
            kept.append(time.monotonic())
            return of(*arguments)

        return ask

    monkeypatch.setattr(followers, "tokens_changed", counted(looks, followers.tokens_changed))
    monkeypatch.setattr(followers, "changes_after", counted(pages, followers.changes_after))
    with ThreadPoolExecutor(30) as pool:
        asked = [pool.submit(client.get, "/v1/changes", params={"after": cursor, "wait": 50}) for _ in range(30)]
        until(lambda: len(services.followers._waiting) == 30)
        before, began = len(pages), time.monotonic()
        del looks[:]
        time.sleep(1)
        assert len(looks) <= (time.monotonic() - began) / 0.2 + 2
        decide(work)
        assert {len(one.result(30).json()["changes"]) for one in asked} == {1}
    assert len(pages) - before <= 5


def test_followers_that_wait_do_not_keep_the_api_from_stopping(tmp_path: Path) -> None:
    with api(tmp_path) as (client, services), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.get, "/v1/changes", params={"wait": 50})
        until(lambda: services.followers._waiting)
        client.portal.call(services.followers.stop)  # type: ignore[union-attr]
        assert asked.result(20).json()["changes"] == []


def test_cursor_of_a_lost_future_gets_410_after_new_writes_too(tmp_path: Path) -> None:
    (tmp_path / "restored").mkdir()
    with api(tmp_path, RoutedTransport()) as (client, services):
        work = Work.open(tmp_path / "reviews.db", anna="rater", lee="leader")
        score(client, *(row(f"r{n}", f"unsure {n}") for n in range(12)))
        kept = [decide(work) for _ in range(4)]
        seen, known = follow(client)
        with closing(Database(str(tmp_path / "restored/reviews.db"), create=True)) as backup:
            copy_database(services.database, backup)
        for _ in range(3):
            decide(work, 0)
        lost, cursor = follow(client, known)
        work.database.close()
    with api(tmp_path / "restored", RoutedTransport()) as (client, services):
        refused = client.get("/v1/changes", params={"after": cursor})
        assert (refused.status_code, refused.json()["title"]) == (410, "Cursor lost")
        people = work.programme.people
        work = Work.open(tmp_path / "restored/reviews.db")
        work.programme.people.update(people)
        for _ in range(6):  # more than were lost
            decide(work, 2)
        for change in lost:
            assert client.get("/v1/changes", params={"after": change["cursor"], "wait": 50}).status_code == 410
        later, _ = follow(client, known)  # what both have in common goes on
        assert [change["level"] for change in later] == [2] * 6
        assert follow(client)[0] == seen + later and [change["id"] for change in seen] == kept
        work.database.close()


def test_erased_row_leaves_a_change_without_its_id(running: Running) -> None:
    client, services, work = running
    score(client, row("a"), row("b"))
    decided = [decide(work) for _ in range(2)]
    before, cursor = follow(client)
    erase(services.database, ErasureRequest([decided[0]]), "dana")
    came, _ = follow(client)
    assert [change["type"] for change in came] == ["erased", "final"] and came[1] == before[1]
    assert {name for name, value in came[0].items() if value is not None} == {"cursor", "type", "task", "at"}
    assert came[0]["cursor"] == before[0]["cursor"]
    score(client, row(decided[0], "unsure, and another response"))
    assert decide(work, 2) == decided[0]
    assert [(change["type"], change["id"]) for change in follow(client, cursor)[0]] == [("final", decided[0])]
    work.verify()


def test_total_follows_the_traits(running: Running) -> None:
    client, services, work = running
    traits = ("grammar", "syntax")
    rule = '{"weights": {"grammar": 2, "syntax": 1}}'
    with services.database.write() as connection:
        items = [Item(f"essay-1.{trait}", (1.0, 1.5, 2.0), item="essay-1", total=rule) for trait in traits]
        save_items(connection, items, "test")
    scored = Scored("", 1, 1.5, (0.5, 0.5), Status.OK, "ab", 9, False, route="human:LOW_CONFIDENCE")
    arrivals = [
        ScoredArrival(f"Essay {n}", replace(scored, task=f"essay-1.{trait}", id=f"r{n}"), trait=trait)
        for n in range(2)
        for trait in traits
    ]
    asyncio.run(LiveIntake(services.database).commit(LOCAL, arrivals))

    def totals(cursor: str | None = None) -> list[tuple[str, float | None]]:
        return [(change["id"], change["total"]) for change in follow(client, cursor)[0]]

    first = decide(work, 2)
    assert totals() == [(first, None)]
    decide(work, 0)
    assert totals() == [(first, 5.0)] * 2
    other = decide(work, 1)
    cursor = follow(client)[1]
    decide(work, 1)
    assert totals(cursor) == [(other, 4.5)]
    work.undo("anna")
    assert totals()[2:] == [(other, None)] * 2
    decide(work, 2)
    assert totals(cursor) == [(other, 5.0)] * 2
    erase(services.database, ErasureRequest([first]), "dana")
    assert totals()[:2] == [(None, None)] * 2


def test_changes_are_those_of_the_token_until_it_is_revoked(tmp_path: Path) -> None:
    tokens = AccessTokenFile(tmp_path / "tokens.json")
    for name in ("north", "south"):
        tokens.add(name, ["*"], 0, 1)
    with api(tmp_path, RoutedTransport(), key=KEY, tokens=tokens.path) as (client, services):
        for name in ("north", "south"):
            score(client, row("same", f"unsure {name}"), headers=grant(name))
        work = Work.open(tmp_path / "reviews.db", anna="rater")
        decide(work, 1)
        decide(work, 2)
        work.database.close()
        assert [change["level"] for change in follow(client, headers=grant("north"))[0]] == [1]
        came, cursor = follow(client, headers=grant("south"))
        assert [change["level"] for change in came] == [2]
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.get, "/v1/changes", params={"after": cursor, "wait": 2}, headers=grant("south"))
            until(lambda: services.followers._waiting)
            tokens.revoke("south")
            assert asked.result(30).status_code == 401
        assert client.get("/v1/changes", headers=grant("south")).status_code == 401
        assert client.get("/v1/changes", headers=grant("north")).status_code == 200
        assert client.get("/v1/changes").status_code == 401


def test_database_that_does_not_answer_is_a_problem_to_retry(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    client, services, _ = running
    away = threading.Event()
    original = services.database.read

    def read() -> Any:
        if away.is_set():
            raise followers.DatabaseError("the database is away")
        return original()

    monkeypatch.setattr(services.database, "read", read)
    away.set()
    refused = client.get("/v1/changes")
    assert (refused.status_code, refused.json()["retryable"]) == (503, True)
    away.clear()
    assert client.get("/v1/changes").status_code == 200
