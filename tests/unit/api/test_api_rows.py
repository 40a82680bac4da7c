"""Rows that people read: what is stored before the answer, and what platforms are told of them."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from apis import KEY, RoutedTransport, api, grant, made, row, score
from desks import FAST_HASHER, PASSWORD, Programme, Work
from scoremux_batch.people import Alert, ReadBehind
from scoremux_client.contract import Status
from scoremux_client.rows import Scored
from scoremux_desk import exports
from scoremux_desk.api import api_app, live_intake
from scoremux_desk.api.api_app import create_app as create_api
from scoremux_desk.api.live_intake import ScoredArrival
from scoremux_desk.api.services import Services
from scoremux_desk.database import log
from scoremux_desk.database.accounts import add_person
from scoremux_desk.database.programme import Item, save_items
from scoremux_desk.database.schema import alerts, api_rows, reads, record, rows
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.erasure import ErasureRequest, erase, expire
from scoremux_desk.exports import export_labelled
from scoremux_desk.pages.desk_app import Desk, create_app
from scoremux_desk.reading.alerts import listed_alerts
from scoremux_evidence.rows.matching import match_files
from scoremux_server.front_door.access_tokens import AccessTokenFile
from serving import run_here
from waiting import until

MACHINE = Scored("t-1", 1, 0.5, (), Status.OK, "", 0, False, route="machine")
BEHIND = ReadBehind(0.25, b"s" * 32)


def stored(services: Services, query: Any) -> list[Any]:
    with services.database.read() as connection:
        return list(connection.execute(query).all())


def work_of(services: Services, **policy: Any) -> Work:
    """Return a desk on the API's database, with a leader lee and raters anna and ben."""
    clock, database = [1.8e9], services.database
    database.now = lambda: clock[0]
    roles = {"lee": "leader", "anna": "rater", "ben": "rater"}
    people = {who: add_person(database, who, role, PASSWORD, "test", FAST_HASHER) for who, role in roles.items()}
    programme = Programme(
        Path(str(database.engine.url.database)).parent, database, create_app(Desk(database)), people, clock
    )
    work = Work(programme, DeskPolicy(**{"groups": False, "guard_s": 0, **policy}))
    work.keep_policy()
    return work


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[TestClient, Services]]:
    """An API with an alert task, where people read all rows of t-2."""
    settings = {"alert": Alert("danger", 0.3), "read_behind": ReadBehind({"t-1": 0.0, "t-2": 1.0}, b"s" * 32)}
    with api(tmp_path, RoutedTransport(), **settings) as (client, services):
        yield client, services


def test_rows_for_people_are_stored_and_those_of_the_machine_are_not(running: tuple[TestClient, Services]) -> None:
    client, services = running
    sent = [
        row("a"),
        row("b", "sure"),
        row("c", "unsure, too", "t-2@" + "ab" * 32),
        row("d", None),
        row("e", task="no"),
    ]
    statuses = [scored["status"] for scored in score(client, *sent).json()["rows"]]
    assert statuses == ["OK", "OK", "OK", "INVALID_TEXT", "UNKNOWN_TASK"]
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


def test_same_row_again_is_one_row_and_another_text_is_refused(running: tuple[TestClient, Services]) -> None:
    client, services = running
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


class Told:
    """What a platform is told of rows: by `GET /v1/rows`, and by `GET /v1/changes`."""

    def __init__(self, running: tuple[TestClient, Services]) -> None:
        self.client, self.services = running

    def history(self, name: str, task: str = "t-1") -> list[tuple[Any, ...]]:
        shown = self.client.get(f"/v1/rows/{task}/{quote(name, safe='')}").json()
        history = [(change["state"], change["level"], change["condition"]) for change in shown["history"]]
        assert history[-1] == (shown["state"], shown["level"], shown["condition"]) and shown["id"] == name
        return history

    def changes(self) -> list[tuple[Any, ...]]:
        """Return type, id, level and condition of each change, the first one first."""
        changes = self.client.get("/v1/changes").json()["changes"]
        return [(change["type"], change["id"], change["level"], change["condition"]) for change in changes]


@pytest.fixture
def told(running: tuple[TestClient, Services]) -> Told:
    return Told(running)


def lease_of(work: Work, name: str) -> str:
    """Return the token of what a person has after undoing."""
    mine = (reads.c.person == work.programme.people[name]) & (reads.c.state == "leased")
    (token,) = work.programme.select(select(reads.c.token).where(mine))
    return str(token)


def test_decision_tells_level_reason_and_the_machines_level(told: Told) -> None:
    score(told.client, row(name := "a/b ?%ü"))
    work = work_of(told.services)
    path = "/v1/rows/t-1/a%2Fb%20%3F%25%C3%BC"
    first = told.client.get(path).json()
    assert (first["id"], first["state"], first["level"], first["machine_level"]) == (name, "pending", None, 1)
    assert (first["reason"], first["route"]) == ("LOW_CONFIDENCE", "human:LOW_CONFIDENCE")
    work.decide("anna", work.take("anna").token, 2, note="a remark of the rater")
    assert told.history(name) == [("pending", None, None), ("final", 2, None)]
    [change] = told.client.get("/v1/changes").json()["changes"]
    assert change.pop("cursor").count("-") == 1 and change.pop("at") == told.client.get(path).json()["at"].replace(
        "Z", ".000+00:00"
    )
    assert change == {
        "type": "final", "task": "t-1", "id": name, "level": 2, "score": 1.0, "condition": None,
        "reason": "LOW_CONFIDENCE", "machine_level": 1, "total": None,
    }  # fmt: skip
    assert told.client.get(path).json()["score"] == 1.0
    said = told.client.get("/v1/changes").text + told.client.get(path).text
    assert not {word for word in ("anna", "remark", "unsure") if word in said}


def test_undoing_and_reopening_lead_to_corrections(told: Told) -> None:
    score(told.client, row("a"))
    work = work_of(told.services)
    work.decide("anna", (read := work.take("anna")).token, 1)
    work.undo("anna")
    work.decide("anna", lease_of(work, "anna"), None, code="B")
    work.reopen("lee", read.row)
    assert told.history("a")[-1] == ("pending", None, None)
    work.decide("ben", work.take("ben").token, 0)
    undecided, decided = ("pending", None, None), [(1, None), (None, "B"), (0, None)]
    states = [undecided, ("final", 1, None), undecided, ("corrected", None, "B"), undecided, ("corrected", 0, None)]
    assert told.history("a") == states
    kinds = ("final", "corrected", "corrected")
    assert told.changes() == [(kind, "a", *how) for kind, how in zip(kinds, decided, strict=True)]


def test_second_read_and_adjudication_end_in_one_change(told: Told) -> None:
    score(told.client, row("a"))
    work = work_of(told.services, second_reads=1.0)

    def read(name: str, level: int) -> str:
        lease = work.take(name, reason="ADJUDICATION" if name == "lee" else "LOW_CONFIDENCE")
        work.decide(name, lease.token, level)
        return str(work.row(lease.row).name)

    read("anna", 2)
    work.undo("anna")
    work.decide("anna", lease_of(work, "anna"), 1)
    assert (told.changes(), told.history("a")) == ([], [("pending", None, None)])
    assert read("ben", 1) == "a" and told.changes() == [("final", "a", 1, None)]
    score(told.client, row("b"))
    assert [read("anna", 0), read("ben", 2)] == ["b", "b"] and len(told.changes()) == 1
    assert read("lee", 1) == "b" and told.changes()[1:] == [("final", "b", 1, None)]
    assert told.history("b") == [("pending", None, None), ("final", 1, None)]


def test_equal_texts_that_are_decided_as_one_have_a_change_each(told: Told) -> None:
    score(told.client, *(row(name) for name in "abc"))
    work = work_of(told.services, groups=True)
    read = work.take("anna")
    members = work.members(read)
    assert len(work.decide("anna", read.token, 1, also=[member.token for member in members])) == 3
    assert sorted(told.changes()) == [("final", name, 1, None) for name in "abc"]


@pytest.mark.parametrize(("sent", "queue"), [(row("a", "sure", "t-2"), "READ_BEHIND"), (row("a", "hurt"), "REOPENED")])
def test_row_that_the_machine_decided_is_corrected(told: Told, sent: dict[str, Any], queue: str) -> None:
    score(told.client, sent)
    work, [(number,)] = work_of(told.services), stored(told.services, select(rows.c.id))
    history, events = [("machine", 1, None)], []
    if queue == "READ_BEHIND":
        work.decide("anna", work.take("anna", reason=queue).token, 1)
        history, events = [*history, ("final", 1, None)], [("final", "a", 1, None)]
    work.reopen("lee", number)
    work.decide("ben", work.take("ben").token, 0)
    assert told.history("a", sent["task"]) == [*history, ("pending", None, None), ("corrected", 0, None)]
    assert told.changes() == [*events, ("corrected", "a", 0, None)]


def test_change_is_committed_with_its_decision_or_not_at_all(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    score(told.client, row("a"))
    work = work_of(told.services)
    read = work.take("anna")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the process ends here")

    monkeypatch.setattr(log, "append", fail)
    with pytest.raises(RuntimeError):
        work.decide("anna", read.token, 1)
    monkeypatch.undo()
    assert told.changes() == [] and work.row(read.row).state == "waiting"
    work.verify()


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
def test_id_that_no_row_can_have_is_refused(running: tuple[TestClient, Services], name: str) -> None:
    client, _ = running
    assert client.get(f"/v1/rows/t-1/{name}").status_code == 422
    assert score(client, row(unquote(name))).status_code == 422


def test_longest_id_and_a_text_with_nul_are_kept_until_erased(running: tuple[TestClient, Services]) -> None:
    client, services = running
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
        score(client, row("done", "unsure old words"), row("alerted", "they hurt me"), row("waits"))
        work.decide("anna", work.take("anna").token)
        before = work.database.now() + 86_400
        score(client, row("new"))
        work.programme.clock[0] = before + 60
        assert expire(services.database, before, "test") == 1
        held = b"".join(file.read_bytes() for file in tmp_path.glob("reviews.db*"))
        assert b"unsure old words" not in held
        left = dict(stored(services, select(rows.c.name, rows.c.text)))
        assert (left["erased 1"], {*left}) == ("", {"erased 1", "alerted", "waits", "new"})
        assert [change["type"] for change in client.get("/v1/changes").json()["changes"]] == ["erased"]
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


def test_wrong_clock_erases_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(api_app, "_TIDY_S", 0.01)
    with api(tmp_path, RoutedTransport(), alert=Alert("danger", 0.9)) as (client, services):
        score(client, row("a", "sure, they hurt me"))
        with services.database.write() as connection:
            connection.execute(update(alerts).values(handled_at=1.0, handled_by=1))
    wrong_s, day_s = time.time() + 400 * 86_400, 86_400.0
    with made(tmp_path, RoutedTransport(), keep_days=30) as services:
        services.database.now = lambda: wrong_s
        with TestClient(create_api(services)) as client:
            until(lambda: "the clock is 400 days ahead" in caplog.text)
            score(client, row("b"))  # an entry with the wrong time
            assert client.get("/v1/rows/t-1/a").json()["state"] == "machine"
            monkeypatch.setattr(api_app, "_HOURS", 1)  # a day goes by
            until(lambda: client.get("/v1/rows/t-1/a").status_code == 404)
            services.database.now = lambda: wrong_s + 1.5 * day_s
            caplog.clear()
            until(lambda: "the clock is 1 days ahead" in caplog.text)


def test_busy_database_is_to_be_retried(running: tuple[TestClient, Services], monkeypatch: pytest.MonkeyPatch) -> None:
    client, services = running
    monkeypatch.setattr(live_intake, "_PATIENCE_S", 0.3)
    with services.database.write():  # someone writes for a long time
        answer = score(client, row("a"))
        assert (answer.status_code, answer.json()["retryable"], "retry-after" in answer.headers) == (503, True, True)
        assert "nothing was stored" not in answer.text  # the row will be, once the writer has ended
        assert score(client, row("b", "sure")).status_code == 503  # it waits behind the other request
    monkeypatch.setattr(live_intake, "_PATIENCE_S", 30)
    assert score(client, row("a")).status_code == 200
    assert stored(services, select(rows.c.name)) == [("a",)]


def test_desk_that_knows_fewer_levels_is_a_problem_of_that_request_alone(running: tuple[TestClient, Services]) -> None:
    client, services = running
    with services.database.write() as connection:
        save_items(connection, [Item("t-1", (0, 0.5), "Why?")], "test")
    unusual = replace(MACHINE, id="a", probabilities=(0.1, 0.8, 0.1), route="human:UNUSUAL")
    arrivals = [ScoredArrival("x", replace(unusual, task=task)) for task in ("t-2", "t-1", "t-2", "t-1")]

    async def commit_all() -> list[Any]:
        waiting = (services.intake.commit("local", [arrival]) for arrival in arrivals)
        return await asyncio.gather(*waiting, return_exceptions=True)

    assert [str(ended or "")[:19] for ended in asyncio.run(commit_all())] == ["", "task t-1 has 2 levels"[:19]] * 2
    assert stored(services, select(rows.c.task)) == [("t-2",)]
    answer = score(client, row("b"))
    assert (answer.status_code, answer.json()["title"]) == (503, "Desk out of date")


STUDENT = {"student": "s-1", "administration": "2026-fall", "keep": {"region": "north"}}


def test_student_administration_and_groups_reach_the_exports(tmp_path: Path) -> None:
    with api(tmp_path, RoutedTransport()) as (client, services):
        assert score(client, {**row("r1"), **STUDENT}, row("r2")).status_code == 200
        work = work_of(services)
        for _ in range(2):
            work.decide("anna", work.take("anna").token, 1)
        exported = tmp_path / "labelled.jsonl"
        assert export_labelled(services.database, exported) == 2
        found = {r["id"]: r for r in map(json.loads, exported.read_text().splitlines())}
    assert {k: found["r1"][k] for k in ("student", "administration", "region")} == {
        "student": "s-1", "administration": "2026-fall", "region": "north",
    }  # fmt: skip
    assert (found["r2"]["student"], found["r2"]["administration"], found["r2"]["region"]) == (None, "local", None)


@pytest.mark.parametrize(
    ("name", "now", "said"),
    [
        ("student", "s-2", "another student"),
        ("administration", "2027-spring", "another administration"),
        ("keep", {"region": "south"}, "other kept columns"),
    ],
)
def test_an_id_that_comes_again_from_elsewhere_is_refused(
    running: tuple[TestClient, Services], name: str, now: Any, said: str
) -> None:
    client, services = running
    sent = {**row("r1"), **STUDENT}
    assert score(client, sent).status_code == score(client, sent).status_code == 200
    answer = score(client, {**sent, name: now}, row("r2"))
    assert answer.status_code == 409 and f"rows with {said} have" in answer.json()["detail"]
    assert len(stored(services, select(rows.c.id))) == 1


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"student": "a\nb"}, "rows.0.student"),
        ({"keep": {"level": "1"}}, "column level cannot be kept"),
        ({"keep": {"a secret text ?": "x"}}, "Names should be letters"),
        ({"keep": {"region": 1}}, "values strings"),
        ({"keep": {f"g{n}": "x" for n in range(21)}}, "at most 20 strings"),
        ({"keep": "north"}, "at most 20 strings"),
        ({"keep": {"region": "no\ud800rth"}}, "control characters"),
        ({"keep": {"region": "no\u0085rth"}}, "control characters"),
        ({"keep": {"region": "\u202enorth"}}, "control characters"),
        ({"student": "s\u009b1"}, "rows.0.student"),
        ({"administration": "\u2066fall\u2069"}, "rows.0.administration"),
    ],
)
def test_wrong_groups_are_refused_without_a_word_of_them(tmp_path: Path, more: dict[str, Any], complaint: str) -> None:
    with api(tmp_path, RoutedTransport()) as (client, _):
        answer = client.post("/v1/score", content=json.dumps({"rows": [{**row("r1"), **more}]}))
    assert answer.status_code == 422 and complaint in answer.json()["detail"] and "secret" not in answer.text


def test_names_in_hebrew_and_arabic_are_taken(tmp_path: Path) -> None:
    with api(tmp_path, RoutedTransport()) as (client, _):
        named = {"student": "נֹעָה", "administration": "الربيع\u200f 2026", "keep": {"מחוז": "צפון"}}
        assert score(client, {**row("r1"), **named}).is_success


def test_kept_columns_of_a_token_are_bounded(tmp_path: Path) -> None:
    def send(client: TestClient, token: str, first: int, names: int = 20) -> Any:
        keep = {f"{token}-{n}": "x" for n in range(first, first + names)}
        return score(client, {**row(f"r{first}"), "keep": keep}, headers=grant(token))

    with api(tmp_path, RoutedTransport(), key=KEY) as (client, services):
        assert all(send(client, "north", first).is_success for first in range(0, 100, 20))
        refused = send(client, "north", 100, 1)
        assert refused.status_code == 422 and "the rows of north keep 100 columns" in refused.json()["detail"]
        assert send(client, "north", 80).is_success and send(client, "south", 0, 3).is_success
        assert score(client, {**row("more"), "keep": {"south-0": "y"}}, headers=grant("south")).is_success
    with api(tmp_path, RoutedTransport(), key=KEY) as (client, services):
        assert send(client, "north", 100, 1).status_code == 422, "a restart forgot the names"
        assert send(client, "west", 0, 1).is_success
        exported = tmp_path / "final.jsonl"
        assert exports.export_final(services.database, exported) == 8
        columns = {*json.loads(exported.read_text().splitlines()[0])} - {*exports.FINAL.names}
        assert len(columns) == 104 and "south-0" in columns


def test_platforms_with_equal_ids_and_students_stay_apart_and_a_new_token_goes_on(tmp_path: Path) -> None:
    tokens = AccessTokenFile(tmp_path / "tokens.json")
    for name in ("north", "south"):
        tokens.add(name, ["*"], 0, 9)
    with api(tmp_path, RoutedTransport(), key=KEY, tokens=tokens.path) as (client, services):
        for name in ("north", "south"):
            same = [{**row(f"r{n}", f"unsure {n} {name}"), **STUDENT} for n in range(2)]
            assert score(client, *same, headers=grant(name)).is_success
        work = work_of(services)
        while read := work.take("anna"):
            work.decide("anna", read.token, 1)
        final, labelled = tmp_path / "final.jsonl", tmp_path / "labelled.jsonl"
        exports.export_final(services.database, final)
        export_labelled(services.database, labelled)
        assert len(match_files(final, labelled)) == 4
        assert {r["student"] for r in map(json.loads, labelled.read_text().splitlines())} == {"north/s-1", "south/s-1"}
        tokens.add("north-2027", ["*"], 0, 9, namespace="north")
        tokens.revoke("north")
        services.callers._read_at = -9.0
        assert client.get("/v1/rows/t-1/r0", headers=grant("north")).status_code == 401
        new = grant("north-2027")
        assert client.get("/v1/rows/t-1/r0", headers=new).json()["state"] == "final"
        assert len(client.get("/v1/changes", headers=new).json()["changes"]) == 2
        assert score(client, {**row("r0", "unsure 0 north"), **STUDENT}, headers=new).is_success
        assert len(stored(services, select(rows.c.id))) == 4


def test_an_id_of_two_tokens_is_erased_of_one(tmp_path: Path) -> None:
    with api(tmp_path, RoutedTransport(), key=KEY) as (client, _):
        for name in ("north", "south"):
            assert score(client, row("r1", f"unsure {name}"), headers=grant(name)).is_success
        command = ("erase", "--database", tmp_path / "reviews.db", "--id", "r1")
        refused = run_here("review", *command)
        said = " ".join(refused.stderr.replace("│", " ").split())
        assert refused.returncode == 2 and "of 'r1': --token north, --token south" in said, said
        assert "1 rows erased" in run_here("review", *command, "--token", "south").stderr
        assert client.get("/v1/rows/t-1/r1", headers=grant("north")).json()["state"] == "pending"
        assert client.get("/v1/rows/t-1/r1", headers=grant("south")).status_code == 404
        assert score(client, row("r1", "unsure south"), headers=grant("south")).is_success
        assert "2 rows erased" in run_here("review", *command, "--token", "*").stderr
