"""Rows that people read: what is stored before the answer, and what `GET /v1/rows` says of them."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, insert, select, update

from apis import KEY, RoutedTransport, api, grant, row, score
from desks import FAST_HASHER, PASSWORD, Programme, Work
from scoremux_api.rows import live_intake
from scoremux_api.rows.live_intake import ScoredArrival
from scoremux_api.services import Services
from scoremux_cli.batch.people import Alert, ReadBehind
from scoremux_client.contract import Status
from scoremux_client.rows import Scored
from scoremux_review.database import log
from scoremux_review.database.accounts import add_person
from scoremux_review.database.programme import Item, save_items
from scoremux_review.database.schema import alerts, api_rows, idempotency, reads, record, rows
from scoremux_review.desk_policy import DeskPolicy
from scoremux_review.erasure import ErasureRequest, erase, expire
from scoremux_review.pages.desk_app import Desk, create_app
from scoremux_review.reading.alerts import listed_alerts
from waiting import until

MACHINE = Scored("t-1", 1, 0.5, (), Status.OK, "", 0, False, route="machine")
BEHIND = ReadBehind(0.25, b"s" * 32)


def stored(services: Services, query: Any) -> list[Any]:
    with services.database.read() as connection:
        return list(connection.execute(query).all())


def work_of(services: Services, policy: DeskPolicy | None = None) -> Work:
    """Return a desk on the API's database, with a leader lee and raters anna and ben."""
    clock, database = [1.8e9], services.database
    database.now = lambda: clock[0]
    roles = {"lee": "leader", "anna": "rater", "ben": "rater"}
    people = {who: add_person(database, who, role, PASSWORD, "test", FAST_HASHER) for who, role in roles.items()}
    work = Work(
        Programme(services.folder, database, create_app(Desk(database)), people, clock),
        policy or DeskPolicy(groups=False),
    )
    work.keep_policy()
    return work


@pytest.fixture
def routed(tmp_path: Path) -> Iterator[tuple[TestClient, Services]]:
    with api(tmp_path, RoutedTransport()) as running:
        yield running


def test_rows_for_people_are_stored_and_those_of_the_machine_are_not(routed: tuple[TestClient, Services]) -> None:
    client, services = routed
    sent = [
        row("a"),
        row("b", "sure"),
        row("c", "unsure, too", "t-2@" + "ab" * 32),
        row("d", None),
        row("e", task="no"),
    ]
    assert [scored["status"] for scored in score(client, *sent).json()["rows"]] == [
        "OK", "OK", "OK", "INVALID_TEXT", "UNKNOWN_TASK",
    ]  # fmt: skip
    columns = (rows.c.name, rows.c.task, rows.c.text, rows.c.administration, rows.c.source, rows.c.level, rows.c.reason)
    assert stored(services, select(*columns).order_by(rows.c.id)) == [
        ("a", "t-1", "unsure", "local", "api local", 1, "LOW_CONFIDENCE"),
        ("c", "t-2", "unsure, too", "local", "api local", 1, "LOW_CONFIDENCE"),
    ]
    tables = (rows, reads, api_rows, record)
    before = [stored(services, select(func.count()).select_from(table)) for table in tables]
    for request in range(4):
        assert score(client, *(row(f"{request}-{n}", f"sure {n}") for n in range(512))).status_code == 200
    assert [stored(services, select(func.count()).select_from(table)) for table in tables] == before
    work = work_of(services)
    assert work.row(work.take("anna", "t-1").row).name == "a"
    work.verify()


def test_same_row_again_is_one_row_and_another_text_is_refused(routed: tuple[TestClient, Services]) -> None:
    client, services = routed
    for _ in range(2):
        assert score(client, row("a"), row("a"), row("a", task="t-2")).status_code == 200
    assert len(stored(services, select(rows.c.id))) == 2
    answer = score(client, row("new"), row("a", "sure, a changed text"), row("b"))
    problem = answer.json()
    assert (answer.status_code, problem["title"], problem["retryable"]) == (409, "Row exists", False)
    assert "ids: a;" in problem["detail"]
    assert "changed" not in answer.text
    assert len(stored(services, select(rows.c.id))) == 2
    assert score(client, row("x", "one"), row("x", "two")).status_code == 409
    assert score(client, row("a", None)).json()["rows"][0]["status"] == "INVALID_TEXT"


def test_read_behind_is_the_share_that_the_key_picks(tmp_path: Path) -> None:
    with api(tmp_path, RoutedTransport(), read_behind=BEHIND) as (client, services):
        score(client, *(row(f"r{n}", f"sure {n}") for n in range(200)))
        names = {name for (name,) in stored(services, select(rows.c.name).where(rows.c.read_behind == 0.25))}
        assert names == {name for name in (f"r{n}" for n in range(200)) if BEHIND.picks("t-1", name, MACHINE, "local")}
        assert 20 < len(names) < 80
        work, name = work_of(services), min(names)
        assert client.get(f"/v1/rows/t-1/{name}").json()["state"] == "machine"
        assert work.row(work.take("anna").row).reason == "READ_BEHIND"


def test_alerts_are_among_the_desks_alerts_before_the_answer(tmp_path: Path) -> None:
    with api(tmp_path, RoutedTransport(), key=KEY, alert=Alert("danger", 0.3)) as (client, services):
        sent = [row("a", "sure, but they hurt me"), row("b", "unsure"), row("c", "they hurt me", "no")]
        answer = score(client, *sent, headers=grant("north", "t-*"))
        assert [scored["route"] for scored in answer.json()["rows"]] == ["machine", "human:LOW_CONFIDENCE", None]
        score(client, *sent, headers=grant("north", "t-*"))
        work = work_of(services)
        with services.database.read() as connection:
            [alert] = listed_alerts(connection, 10)
        assert (alert.name, alert.task, alert.item, alert.handled_at) == ("a", "danger", "t-1", None)
        assert alert.probability == pytest.approx(1)
        state = client.get("/v1/rows/t-1/a", headers=grant("north", "t-*")).json()
        assert (state["state"], state["level"], state["reason"]) == ("machine", 1, None)
        work.verify()


def test_alert_task_that_cannot_be_scored_stops_the_request(tmp_path: Path) -> None:
    with api(tmp_path, RoutedTransport(), alert=Alert("missing", 0.3)) as (client, services):
        answer = score(client, row("a"))
        assert (answer.status_code, answer.json()["title"]) == (503, "Alerts unavailable")
        assert stored(services, select(rows.c.id)) == []


def test_row_goes_from_pending_to_final_to_corrected(routed: tuple[TestClient, Services]) -> None:
    client, services = routed
    score(client, row("a/b ?%ü"))
    work = work_of(services)
    path = "/v1/rows/t-1/a%2Fb%20%3F%25%C3%BC"
    first = client.get(path).json()
    assert (first["id"], first["state"], first["level"], first["machine_level"]) == ("a/b ?%ü", "pending", None, 1)
    assert (first["reason"], first["route"]) == ("LOW_CONFIDENCE", "human:LOW_CONFIDENCE")
    work.decide("anna", work.take("anna").token, 2, note="see anna's notes")
    final = client.get(path).json()
    assert (final["state"], final["level"], final["condition"]) == ("final", 2, None)
    work.reopen("lee", 1)
    assert client.get(path).json()["state"] == "pending"
    work.decide("ben", work.take("ben").token, None, code="B")
    answer = client.get(path)
    assert [(change["state"], change["level"], change["condition"]) for change in answer.json()["history"]] == [
        ("pending", None, None), ("final", 2, None), ("pending", None, None), ("corrected", None, "B"),
    ]  # fmt: skip
    assert answer.json()["state"] == "corrected"
    assert not {word for word in ("anna", "ben", "lee") if word in answer.text}


def test_undone_decision_makes_the_next_one_a_correction(routed: tuple[TestClient, Services]) -> None:
    client, services = routed
    score(client, row("a"))
    work = work_of(services, DeskPolicy(groups=False, second_reads=1.0))
    work.decide("anna", work.take("anna").token, 2)
    assert [change["state"] for change in client.get("/v1/rows/t-1/a").json()["history"]] == ["pending"]
    work.decide("ben", work.take("ben").token, 2)
    work.undo("ben")
    work.decide("ben", work.take("ben").token, 2)
    states = [change["state"] for change in client.get("/v1/rows/t-1/a").json()["history"]]
    assert states == ["pending", "final", "pending", "corrected"]


def test_row_of_another_token_or_of_the_machine_is_not_found(tmp_path: Path) -> None:
    with api(tmp_path, RoutedTransport(), key=KEY) as (client, services):
        score(client, row("a"), row("b", "sure"), headers=grant("north"))
        assert score(client, row("a", "unsure about another text"), headers=grant("south")).status_code == 200
        assert client.get("/v1/rows/t-1/a", headers=grant("north")).json()["state"] == "pending"
        for path, token in (
            ("t-1/a", grant("east")), ("t-1/b", grant("north")), ("t-2/a", grant("north")),
            ("t-1/a", grant("north", "t-2")),
        ):  # fmt: skip
            answer = client.get(f"/v1/rows/{path}", headers=token)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
        assert len(stored(services, select(rows.c.id))) == 2


@pytest.mark.parametrize("name", ["%00", "a%00b", "a%09", "x" * 2000, "%F0%9F%99%82" * 201])
def test_id_that_no_row_can_have_is_refused(routed: tuple[TestClient, Services], name: str) -> None:
    client, _ = routed
    assert client.get(f"/v1/rows/t-1/{name}").status_code == 422
    assert score(client, row(unquote(name))).status_code == 422


def test_longest_id_and_a_text_with_nul_are_kept_until_erased(routed: tuple[TestClient, Services]) -> None:
    client, services = routed
    name = "🙂" * 200
    for _ in range(2):
        assert score(client, row(name, "unsure\0 \N{REPLACEMENT CHARACTER}", "t-1")).status_code == 200
    assert client.get(f"/v1/rows/t-1/{quote(name)}").json()["id"] == name
    assert stored(services, select(rows.c.text)) == [("unsure␀ \N{REPLACEMENT CHARACTER}",)]
    assert erase(services.database, ErasureRequest([name]), "dana").rows == 1
    assert client.get(f"/v1/rows/t-1/{quote(name)}").status_code == 404
    assert score(client, row(name, "unsure about another text")).status_code == 200


def test_what_is_settled_and_old_is_erased_and_what_waits_stays(tmp_path: Path) -> None:
    alert = Alert("danger", 0.3)
    with api(tmp_path, RoutedTransport(), alert=alert) as (client, services):
        work = work_of(services)
        score(client, row("done"), row("alerted", "they hurt me"), row("waits"))
        work.decide("anna", work.take("anna").token)
        before = work.database.now() + 86_400
        with services.database.write() as connection:
            for at in (1.0, 2.0e9):
                connection.execute(insert(idempotency).values(token="local", key=str(at), digest="d", at=at))
        score(client, row("new"))
        work.programme.clock[0] = before + 60
        assert expire(services.database, before, "test") == 1
        left = dict(stored(services, select(rows.c.name, rows.c.text)))
        assert (left["erased 1"], {*left}) == ("", {"erased 1", "alerted", "waits", "new"})
        assert stored(services, select(idempotency.c.key)) == [("2000000000.0",)]
        work.verify()
        with services.database.read() as connection:
            [entry] = log.entries_of(connection, log.ERASURE)
        assert (entry.by, entry.body["rows"]) == ("test", 1)


def test_old_rows_are_erased_while_the_api_runs(tmp_path: Path) -> None:
    with api(tmp_path, RoutedTransport(), alert=Alert("danger", 0.9)) as (client, services):
        score(client, row("a", "sure, they hurt me"))
        work = work_of(services)
        with services.database.write() as connection:
            connection.execute(update(api_rows).values(at=1.0))
            connection.execute(update(alerts).values(handled_at=1.0, handled_by=1))
    with api(tmp_path, RoutedTransport(), keep_days=30) as (client, services):
        until(lambda: client.get("/v1/rows/t-1/a").status_code == 404)
        assert stored(services, select(rows.c.text)) == [("",)]
    work.database.close()


def test_database_that_is_busy_is_a_problem_to_retry(
    routed: tuple[TestClient, Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, services = routed
    monkeypatch.setattr(live_intake, "_PATIENCE_S", 0.3)
    with services.database.write():  # someone writes for a long time
        answer = score(client, row("a"))
        assert (answer.status_code, answer.json()["retryable"], "retry-after" in answer.headers) == (503, True, True)
        assert "nothing was stored" not in answer.text  # the row will be, once the writer has ended
        assert score(client, row("b", "sure")).status_code == 503  # it waits behind the other request
    monkeypatch.setattr(live_intake, "_PATIENCE_S", 30)
    assert score(client, row("a")).status_code == 200
    assert stored(services, select(rows.c.name)) == [("a",)]


def test_desk_that_knows_fewer_levels_is_a_problem_of_that_request_alone(
    routed: tuple[TestClient, Services],
) -> None:
    client, services = routed
    with services.database.write() as connection:
        save_items(connection, [Item("t-1", (0, 0.5), "Why?")], "test", 1.0)
    unusual = replace(MACHINE, id="a", probabilities=(0.1, 0.8, 0.1), route="human:UNUSUAL")
    arrivals = [ScoredArrival("x", replace(unusual, task=task)) for task in ("t-2", "t-1", "t-2", "t-1")]

    async def commit_all() -> list[Any]:
        waiting = (services.intake.commit("local", [arrival]) for arrival in arrivals)
        return await asyncio.gather(*waiting, return_exceptions=True)

    assert [str(ended or "")[:19] for ended in asyncio.run(commit_all())] == ["", "task t-1 has 2 levels"[:19]] * 2
    assert stored(services, select(rows.c.task)) == [("t-2",)]
    answer = score(client, row("b"))
    assert (answer.status_code, answer.json()["title"]) == (503, "Desk out of date")
