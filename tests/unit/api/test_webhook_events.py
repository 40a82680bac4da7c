"""What webhooks are told, and whose they are: decisions at a real desk, and the endpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, literal, select, update

from apis import KEY, api, grant
from desks import Work, make_programme, scored_rows
from scoremux_api.webhooks.webhook_endpoints import MOST_WEBHOOKS
from scoremux_review.database import log, outbox
from scoremux_review.database.schema import api_rows, deliveries, reads, rows
from scoremux_review.desk_policy import DeskPolicy

URL = "https://localhost/hooks"


@pytest.fixture
def work(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Work]:
    """A desk whose rows all came by the API with the token lms, which has a webhook; so has another token."""
    policy = DeskPolicy(**{"groups": False, "guard_s": 0, **getattr(request, "param", {})})
    scored = [row | {"read_behind": 0.25 if row["route"] == "machine" else None} for row in scored_rows(40)]
    next(row for row in scored if row["route"] == "machine")["read_behind"] = None
    for row in scored[3::4]:  # of geo-2
        row["text"] = "An answer that several students give."
    made = Work(make_programme(tmp_path, policy=policy, rows=scored), policy)
    with made.database.write() as connection:
        for token in ("lms", "other"):
            outbox.save_webhook(connection, 0.0, token, URL, [outbox.ROW_FINAL, outbox.ROW_CORRECTED])
        owned = select(rows.c.id, literal("lms"), rows.c.task, rows.c.name, literal(0.0)).where(
            rows.c.chosen_by != "validity"
        )
        connection.execute(insert(api_rows).from_select(["row", "token", "task", "name", "at"], owned))
    yield made
    made.verify()
    made.database.close()


def events(work: Work) -> list[tuple[str, dict[str, Any]]]:
    """Return type and data of all events, the first one first."""
    written = work.programme.select(select(deliveries.c.type, deliveries.c.body).order_by(deliveries.c.number))
    return [(kind, json.loads(body)["data"]) for kind, body in written]


def lease_of(work: Work, name: str) -> str:
    """Return the token of what a person has after undoing."""
    mine = (reads.c.person == work.programme.people[name]) & (reads.c.state == "leased")
    (token,) = work.programme.select(select(reads.c.token).where(mine))
    return str(token)


def short(work: Work) -> list[tuple[Any, ...]]:
    return [(kind, data["id"], data["level"], data["condition"]) for kind, data in events(work)]


def test_a_decision_tells_level_reason_and_the_machines_level(work: Work) -> None:
    read = work.take("anna", "phy-3", "LOW_CONFIDENCE")
    row = work.row(read.row)
    work.decide("anna", read.token, 2, note="a note of the rater")
    ((kind, data),) = events(work)
    assert (kind, data) == (
        "row.final",
        {"task": "phy-3", "id": row.name, "level": 2, "condition": None, "reason": "LOW_CONFIDENCE",
         "machine_level": row.level},
    )  # fmt: skip
    stored = str(work.programme.select(select(deliveries)))
    assert "anna" not in stored and row.text not in stored and "note" not in stored
    assert work.programme.select(select(deliveries.c.subject)) == [f"phy-3 {row.name}"]


def test_undoing_and_reopening_lead_to_corrections(work: Work) -> None:
    read = work.take("anna", reason="LOW_CONFIDENCE")
    name = work.row(read.row).name
    work.decide("anna", read.token, 1)
    work.undo("anna")
    work.decide("anna", lease_of(work, "anna"), None, code="B")
    work.reopen("lee", read.row)
    work.assign("lee", read.row, "ben")
    work.decide("ben", work.take("ben", reason="LOW_CONFIDENCE").token, 0)
    assert short(work) == [
        ("row.final", name, 1, None), ("row.corrected", name, None, "B"), ("row.corrected", name, 0, None)
    ]  # fmt: skip


@pytest.mark.parametrize("work", [{"second_reads": 1.0}], indirect=True)
def test_a_second_read_and_an_adjudication_end_in_one_event(work: Work) -> None:
    def read(name: str, level: int) -> str:
        lease = work.take(name, "bio-7", "LOW_CONFIDENCE" if name != "lee" else "ADJUDICATION")
        work.decide(name, lease.token, level)
        return str(work.row(lease.row).name)

    first = read("anna", 2)
    work.undo("anna")
    work.decide("anna", lease_of(work, "anna"), 1)
    assert events(work) == []
    assert read("ben", 1) == first and short(work) == [("row.final", first, 1, None)]
    second = read("anna", 0)
    assert read("ben", 2) == second and len(events(work)) == 1
    assert read("lee", 1) == second
    assert short(work)[1:] == [("row.final", second, 1, None)]


@pytest.mark.parametrize("work", [{"groups": True}], indirect=True)
def test_equal_texts_that_are_decided_as_one_have_an_event_each(work: Work) -> None:
    read = work.take("anna", "geo-2", "LOW_CONFIDENCE")
    members = work.members(read)
    decided = work.decide("anna", read.token, 1, also=[member.token for member in members])
    assert len(decided) == len(events(work)) > 1
    assert {data["id"] for _, data in events(work)} == {work.row(r.row).name for r in (read, *members)}


def test_reads_behind_the_machine_lead_to_events_too(work: Work) -> None:
    read = work.take("anna", reason="READ_BEHIND")
    work.decide("anna", read.token, 1)
    work.reopen("lee", read.row)
    work.assign("lee", read.row, "ben")
    work.decide("ben", work.take("ben", reason="READ_BEHIND").token, 2)
    assert [kind for kind, _ in events(work)] == ["row.final", "row.corrected"]
    assert {data["reason"] for _, data in events(work)} == {"READ_BEHIND"}


def test_a_row_of_the_machine_that_is_reopened_is_corrected(work: Work) -> None:
    (row,) = work.programme.select(select(rows.c.id).where(rows.c.state == "machine"))
    work.reopen("lee", row)
    work.decide("ben", work.take("ben", reason="REOPENED").token, 2)
    assert [kind for kind, _ in events(work)] == ["row.corrected"]


def test_an_event_is_written_with_its_decision_or_not_at_all(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    read = work.take("anna", reason="LOW_CONFIDENCE")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the process ends here")

    monkeypatch.setattr(log, "append", fail)
    with pytest.raises(RuntimeError):
        work.decide("anna", read.token, 1)
    monkeypatch.undo()
    assert events(work) == [] and work.row(read.row).state == "waiting"


def test_webhooks_belong_to_their_token(tmp_path: Path) -> None:
    lms, other = grant("lms"), grant("other")
    with api(tmp_path, key=KEY, allowed_hosts=frozenset({"localhost"})) as (client, services):
        made = client.post("/v1/webhooks", json={"url": URL}, headers=lms)
        assert made.status_code == 201
        webhook, secret = made.json()["id"], made.json()["secret"]
        again = client.post("/v1/webhooks", json={"url": URL, "events": ["row.final"]}, headers=lms).json()
        assert (again["id"], again["events"]) == (webhook, ["row.final"]) and again["secret"] != secret
        listed = client.get("/v1/webhooks", headers=lms)
        assert listed.json() == {"webhooks": [{**again, "secret": None}]}
        assert client.get("/v1/webhooks", headers=other).json() == {"webhooks": []}
        with services.database.write() as connection:
            outbox.add_event(connection, services.database.now(), "lms", "t r1", outbox.ROW_FINAL, {"id": "r1"})
            outbox.add_event(connection, services.database.now(), "lms", "t r1", outbox.ROW_CORRECTED, {"id": "r1"})
            outbox.add_event(connection, services.database.now(), "other", "t r1", outbox.ROW_FINAL, {"id": "r1"})
            connection.execute(update(deliveries).values(state="dead"))
        place = f"/v1/webhooks/{webhook}"
        (delivery,) = client.get(f"{place}/deliveries?state=dead", headers=lms).json()["deliveries"]
        assert (delivery["type"], delivery["data"], delivery["id"][:4]) == ("row.final", {"id": "r1"}, "msg_")
        for method, path in (("GET", f"{place}/deliveries"), ("DELETE", place)):
            refused = client.request(method, path, headers=other)
            assert (refused.status_code, refused.json()["title"]) == (404, "Not found")
        assert client.get(f"{place}/deliveries?state=waiting", headers=lms).json() == {"deliveries": []}
        assert client.delete(place, headers=lms).status_code == 204
        assert client.get(f"{place}/deliveries", headers=lms).status_code == 404


@pytest.mark.parametrize(
    ("body", "detail"),
    [({"url": "https://localhost/"}, "public addresses alone"), ({"url": "http://u:p@x.example/"}, "neither a user"),
     ({"url": "https://169.254.169.254/latest"}, "--allow-webhook 169.254.169.254"), ({}, "url: Field required"),
     ({"url": "https://x.example/", "events": []}, "events"), ({"url": "x", "events": ["row.made"]}, "events"),
     ({"url": "https://x.example/", "secret": "mine"}, "url, events")],
)  # fmt: skip
def test_refused_webhooks_are_not_kept(tmp_path: Path, body: dict[str, Any], detail: str) -> None:
    with api(tmp_path) as (client, _):
        refused = client.post("/v1/webhooks", json=body)
        assert refused.status_code == 422 and detail in refused.json()["detail"]
        assert client.get("/v1/webhooks").json() == {"webhooks": []}


def test_a_token_has_so_many_webhooks_at_most(tmp_path: Path) -> None:
    with api(tmp_path, allowed_hosts=frozenset({"localhost"})) as (client, _):
        for n in range(MOST_WEBHOOKS):
            assert client.post("/v1/webhooks", json={"url": f"{URL}{n}"}).status_code == 201
        assert client.post("/v1/webhooks", json={"url": URL}).json()["title"] == "Too many webhooks"
        assert client.post("/v1/webhooks", json={"url": f"{URL}0"}).status_code == 201
