"""`/v1/batches`: files of rows, from the upload to results, errors, webhooks and expiry."""

import asyncio
import json
import os
import resource
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Semaphore, Thread
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert, select, update

from apis import TASKS, api
from routed import RoutedTransport
from scoremux_api.batches import batch_files, batch_runner, batch_table
from scoremux_api.rows.live_intake import LiveIntake
from scoremux_api.services import Services
from scoremux_cli.batch.people import Alert, ReadBehind
from scoremux_client import UnavailableError
from scoremux_client.rows import Columns
from scoremux_client.testing import FakeTransport
from scoremux_engine.scoring.permission import HEADER, Grant
from scoremux_review.database.schema import batches, deliveries, rows, webhooks
from scoremux_review.errors import DatabaseError
from scoremux_server.front_door.access_tokens import TokenFile
from waiting import until

KEY = b"k" * 32


def lines(rows: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def row(name: object, text: Any = "It hands out addresses.", task: str = "t-1") -> dict[str, Any]:
    return {"id": str(name), "task": task, "text": text}


def grant(token: str, patterns: tuple[str, ...] = ("*",)) -> dict[str, str]:
    return {HEADER: Grant(token, int(time.time()) + 60, patterns).signed(KEY)}


def ended(client: TestClient, batch: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Wait until a batch has ended, and return it."""
    seen: list[dict[str, Any]] = []

    def has_ended() -> bool:
        seen[:] = [client.get(f"/v1/batches/{batch}", headers=headers).json()]
        return seen[0]["status"] in ("completed", "failed", "cancelled", "expired")

    until(has_ended, shown=lambda: seen, within_s=60)
    return seen[0]


def sent(client: TestClient, body: bytes, headers: dict[str, str] | None = None) -> str:
    answer = client.post("/v1/batches", content=body, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (202, "validating"), answer.text
    return str(answer.json()["id"])


def texts_of(*transports: FakeTransport) -> list[str]:
    """Return the texts that were sent, in order."""
    requests = (request for transport in transports for request in transport.requests)
    return [bytes(response.text or b"").decode() for request in requests for response in request]


def read(client: TestClient, batch: str, what: str) -> list[dict[str, Any]]:
    answer = client.get(f"/v1/batches/{batch}/{what}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/jsonl")
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_runner, "LAYOUT", replace(batch_files.LAYOUT, part_rows=7))


def test_results_are_the_rows_of_score_in_order(tmp_path: Path) -> None:
    body = [row(n, "" if n % 5 else None, f"t-{1 + n % 3}") for n in range(40)]
    with api(tmp_path) as (client, _):
        batch = sent(client, lines(body))
        shown = ended(client, batch)
        assert (shown["status"], shown["errors"]) == ("completed", None)
        assert shown["request_counts"] == {"total": 40, "completed": 40, "failed": 0}
        assert shown["created_at"] <= shown["in_progress_at"] <= shown["finalizing_at"] <= shown["completed_at"]
        assert read(client, batch, "results") == client.post("/v1/score", json={"rows": body}).json()["rows"]
        assert read(client, batch, "errors") == []
        until(lambda: not [*tmp_path.rglob("body.jsonl"), *tmp_path.rglob("rows.jsonl")])  # no text is kept


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"not JSON", "invalid json"),
        (b"null", "should be an object"),
        (b"[1, 2]", "should be an object"),
        (b"[" * 100_000, "recursion"),
        (b'{"id": 7, "task": "t-1", "text": "my secret"}', "id"),
        (b'{"id": "b", "task": "t-1", "text": ["my secret"]}', "text"),
        (b'{"id": "b", "task": null, "text": "my secret"}', "task"),
        (b'{"id": "b", "task": "t-1"}', "text: field required"),
        (b'{"id": "b", "task": "t-1", "text": "my secret", "more": 1}', "these members alone"),
        (b'{"id": "b", "task": "t-1", "text": "\xff my secret"}', "can't decode"),
        (b'{"id": "b", "task": "t-1", "text": "' + b"x" * (5 << 20) + b'"}', "longer than 4,194,304 bytes"),
    ],
)
def test_line_that_is_no_row_is_an_error_and_the_others_are_scored(tmp_path: Path, line: bytes, said: str) -> None:
    with api(tmp_path) as (client, _):
        batch = sent(client, lines([row("a")]) + b"\n" + line + b"\n" + lines([row("c")]).rstrip())
        shown = ended(client, batch)
        assert (shown["status"], shown["request_counts"]) == ("completed", {"total": 3, "completed": 2, "failed": 1})
        assert [scored["id"] for scored in read(client, batch, "results")] == ["a", "c"]
        [error] = read(client, batch, "errors")
    assert error["line"] == 3 and said in error["detail"].lower() and "secret" not in error["detail"]


@pytest.mark.parametrize("body", [b"", b"\n \n", b"null\n{}\n", b"\x1f\x8b\x08 gzip"])
def test_file_without_rows_fails_and_says_why(tmp_path: Path, body: bytes) -> None:
    with api(tmp_path) as (client, _):
        shown = ended(client, sent(client, body))
    assert (shown["status"], shown["errors"][0]["code"]) == ("failed", "no_rows")


def test_body_that_is_too_large_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_files, "MOST_BYTES", 1 << 20)
    with api(tmp_path) as (client, _):
        for body in (b"x" * ((1 << 20) + 1), iter([b"x" * (1 << 19)] * 3)):
            assert client.post("/v1/batches", content=body).status_code == 413
        assert client.get("/v1/batches").json()["data"] == [] == list(tmp_path.glob("batch_*"))


def test_disk_that_is_full_is_a_problem_to_retry_and_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with api(tmp_path) as (client, _):
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20, before[1]))
        try:
            answer = client.post("/v1/batches", content=b"x" * (17 << 20))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (answer.status_code, answer.json()["title"], answer.json()["retryable"]) == (
            503, "Storage unavailable", True,
        )  # fmt: skip
        assert "cannot be written: File too large" in caplog.text
        assert list(tmp_path.glob("batch_*")) == []


class Slow(FakeTransport):
    """Answers once it is let go on, and then so many requests."""

    def __init__(self) -> None:
        super().__init__(TASKS)
        self.may_answer = Semaphore(0)

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
        future: Future[Columns] = Future()
        Thread(target=self._later, args=(future, inputs, timeout_s), daemon=True).start()
        return future

    def _later(self, future: Future[Columns], inputs: Columns, timeout_s: float | None) -> None:
        self.may_answer.acquire()
        if future.set_running_or_notify_cancel():
            future.set_result(super().submit(inputs, timeout_s).result())


def completed(client: TestClient, batch: str) -> int:
    return int(client.get(f"/v1/batches/{batch}").json()["request_counts"]["completed"])


def test_batch_resumes_with_the_next_process(tmp_path: Path) -> None:
    body, slow = lines(row(n, f"text {n}") for n in range(400)), Slow()
    with api(tmp_path, slow) as (client, _):
        batch = sent(client, body)
        slow.may_answer.release(2)
        until(lambda: completed(client, batch) > 0)
        done = len(read(client, batch, "results"))
        assert 0 < done < 400
    second = FakeTransport(TASKS)
    with api(tmp_path, second) as (client, _):
        assert ended(client, batch)["status"] == "completed"
        assert [scored["id"] for scored in read(client, batch, "results")] == [str(n) for n in range(400)]
    assert not {*texts_of(second)} & {f"text {n}" for n in range(done)}


def test_cancelled_batch_keeps_its_results(tmp_path: Path) -> None:
    slow = Slow()
    with api(tmp_path, slow) as (client, _):
        batch = sent(client, lines(row(n, f"text {n}") for n in range(400)))
        slow.may_answer.release(2)
        until(lambda: completed(client, batch) > 0)
        assert client.post(f"/v1/batches/{batch}/cancel").json()["status"] == "cancelling"
        slow.may_answer.release(1)
        assert ended(client, batch)["status"] == "cancelled"
        results = read(client, batch, "results")
        assert 0 < len(results) == completed(client, batch) < 400
        assert client.post(f"/v1/batches/{batch}/cancel").json()["status"] == "cancelled"
        other = sent(client, lines([row("a")]))
        slow.may_answer.release(99)
        ended(client, other)
        again = client.post(f"/v1/batches/{other}/cancel")
        assert (again.status_code, again.json()["title"]) == (409, "Batch has ended")


def test_batch_whose_files_are_lost_can_be_cancelled(tmp_path: Path) -> None:
    with api(tmp_path, Slow()) as (client, _):
        batch = sent(client, lines([row("a")]))
    shutil.rmtree(tmp_path / batch)
    with api(tmp_path) as (client, _):
        assert client.get(f"/v1/batches/{batch}/results").status_code == 503
        assert client.post(f"/v1/batches/{batch}/cancel").json()["status"] == "cancelled"
        assert client.post(f"/v1/batches/{batch}/cancel").json()["status"] == "cancelled"


def test_batch_waits_for_triton_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_runner, "_LOOK_S", 0.1)
    transport = FakeTransport(TASKS)
    transport.fail(UnavailableError("restarting"), 3)
    with api(tmp_path, transport) as (client, _):
        assert ended(client, sent(client, lines([row("a")])))["status"] == "completed"


def test_batches_are_of_the_token_that_sent_them(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    for name in ("north", "south"):
        tokens.add(name, ["*"], 0, 9)
    north, south = grant("north"), grant("south")
    with api(tmp_path, key=KEY, tokens=tokens.path) as (client, _):
        mine = [sent(client, lines([row("a")]), north) for _ in range(5)]
        for batch in mine:
            ended(client, batch, north)
        for path in ("", "/results", "/errors"):
            assert client.get(f"/v1/batches/{mine[0]}{path}", headers=south).status_code == 404
        assert client.post(f"/v1/batches/{mine[0]}/cancel", headers=south).status_code == 404
        assert client.get("/v1/batches", headers=south).json() == {"object": "list", "data": [], "has_more": False}
        seen, after = [], ""
        while True:
            page = client.get(f"/v1/batches?limit=2{after}", headers=north).json()
            seen += [batch["id"] for batch in page["data"]]
            if not page["has_more"]:
                break
            after = f"&after={seen[-1]}"
        assert seen == mine[::-1]


@pytest.mark.parametrize("change", ["revoked", "other tasks"])
def test_batch_of_a_token_that_lost_its_permission_fails(tmp_path: Path, change: str) -> None:
    tokens, slow = TokenFile(tmp_path / "tokens.json"), Slow()
    tokens.add("north", ["t-1", "t-2"], 0, 9)
    north = grant("north", ("t-1", "t-2"))
    with api(tmp_path, slow, key=KEY, tokens=tokens.path) as (client, _):
        batch = sent(client, lines([row("a"), row("b", task="t-2")]), north)
        until(lambda: client.get(f"/v1/batches/{batch}", headers=north).json()["status"] == "in_progress")
        tokens.revoke("north")
        if change == "other tasks":
            tokens.add("north", ["t-1"], 0, 9)
        slow.may_answer.release(9)
        shown = ended(client, batch, north)
        assert client.get(f"/v1/batches/{batch}/results", headers=north).content == b""
    [error] = shown["errors"]
    said = {"revoked": "the token north was revoked", "other tasks": "the token north may no longer use t-2"}
    assert shown["status"] == "failed" and said[change] in error["message"]


def test_tokens_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_runner, "LAYOUT", replace(batch_files.LAYOUT, part_rows=100))
    tokens, slow = TokenFile(tmp_path / "tokens.json"), Slow()
    for name in ("north", "south"):
        tokens.add(name, ["*"], 0, 9)
    with api(tmp_path, slow, key=KEY, tokens=tokens.path) as (client, _):
        large = sent(client, lines(row(n, f"north {n}") for n in range(4000)), grant("north"))
        small = sent(client, lines([row("a", "south")]), grant("south"))
        slow.may_answer.release(9999)
        ended(client, small, grant("south"))
        ended(client, large, grant("north"))
    order = texts_of(slow)
    assert len(order) == 4001  # no row is sent twice because of turns
    assert order.index("south") < order.index("north 3999")


def test_end_of_a_batch_is_an_event_and_old_batches_expire(tmp_path: Path) -> None:
    with api(tmp_path, keep_days=3) as (client, services):
        hook = {"id": "wh_1", "token": "local", "url": "https://a.example", "events": '["batch.completed"]'}
        with services.database.write() as connection:
            connection.execute(insert(webhooks).values(**hook, secrets="[]", created_at=0.0))
        good, bad = sent(client, lines([row("a")])), sent(client, b"null\n")
        ended(client, good), ended(client, bad)
        with services.database.write() as connection:
            old = services.database.now() - 3 * 86_400 - 1
            connection.execute(update(batches).where(batches.c.id == good).values(changed_at=old))
    orphan = tmp_path / f"batch_{0:028x}"
    orphan.mkdir()
    os.utime(orphan, (1, 1))
    with api(tmp_path, keep_days=3) as (client, services):
        assert ended(client, bad)["status"] == "failed"
        until(lambda: ended(client, good)["status"] == "expired")
        assert client.get(f"/v1/batches/{good}/results").status_code == 410
        until(lambda: [folder.name for folder in tmp_path.glob("batch_*")] == [bad])
        with services.database.read() as connection:
            events = connection.execute(select(deliveries).order_by(deliveries.c.number)).all()
    told = [(event.subject, json.loads(event.body)["data"]["status"]) for event in events]
    assert sorted(told) == sorted([(good, "completed"), (bad, "failed"), (good, "expired")])
    assert {(event.type, json.loads(event.body)["type"]) for event in events} == {("batch.completed",) * 2}


def people_read(services: Services) -> list[tuple[str, str, str]]:
    with services.database.read() as connection:
        return [(r.task, r.name, r.text) for r in connection.execute(select(rows).order_by(rows.c.id))]


def test_rows_that_people_read_are_on_the_desk_before_the_results(tmp_path: Path) -> None:
    sent_rows = [row(n, f"unsure {n}" if n % 3 else f"sure {n}") for n in range(50)] + [row("half", None)]
    settings = {"read_behind": ReadBehind(0.5, b"s" * 32), "alert": Alert("danger", 0.5)}
    transport = RoutedTransport()
    with api(tmp_path, transport, **settings) as (client, services):
        batch = sent(client, lines(sent_rows))
        ended(client, batch)
        stored = people_read(services)
        results = read(client, batch, "results")
        routes = {scored["id"]: scored["route"] for scored in results}
        assert results == client.post("/v1/score", json={"rows": sent_rows}).json()["rows"]
        assert people_read(services) == stored  # as for /v1/score, so nothing is new
        assert {name for _, name, _ in stored} > {name for name, route in routes.items() if "human" in (route or "")}
        assert client.get("/v1/rows/t-1/1").json()["state"] == "pending"


def test_row_whose_id_has_another_text_is_an_error_and_the_others_are_scored(tmp_path: Path) -> None:
    body = [row(n, f"unsure {n}") for n in range(20)]
    body[10:10] = [
        row("student-a", "unsure, another text"),
        row("0", "a changed text"),
        row("0", None),
        row("1", "unsure 1"),
    ]
    with api(tmp_path, RoutedTransport()) as (client, services):
        client.post("/v1/score", json={"rows": [row("student-a", "unsure")]})
        batch = sent(client, lines(body))
        shown, results, errors = ended(client, batch), read(client, batch, "results"), read(client, batch, "errors")
        assert [name for _, name, _ in people_read(services)] == ["student-a", *(str(n) for n in range(20))]
    assert (shown["status"], shown["request_counts"]) == ("completed", {"total": 24, "completed": 22, "failed": 2})
    assert [scored["id"] for scored in results] == [row["id"] for row in [*body[:10], *body[12:]]]
    problem = {"type": "urn:scoremux:row-exists", "title": "Row exists", "status": 409, "retryable": False}
    assert errors == [  # without the ids, which would outlive their erasure
        {**problem, "line": 12, "detail": "an earlier line has this id with another text; give a new id"},
        {**problem, "line": 11, "detail": "the desk has a row of this id with another text; give a new id"},
    ]


def test_counts_are_right_after_a_kill_between_a_part_and_its_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_runner, "_LOOK_S", 0.1)
    count, failures = batch_table.count, [DatabaseError("down")]

    def fail_once(*of: Any, **done: int) -> None:
        if done["completed"] and failures:
            raise failures.pop()
        count(*of, **done)

    monkeypatch.setattr(batch_table, "count", fail_once)
    with api(tmp_path) as (client, _):
        shown = ended(client, sent(client, lines([row("a"), row("a", "another text")])))
    assert shown["request_counts"] == {"total": 2, "completed": 1, "failed": 1} and not failures


def test_part_is_not_shown_where_its_rows_cannot_be_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_runner, "_LOOK_S", 0.1)
    commit, refusals = LiveIntake.commit_now, [DatabaseError("down")] * 3

    def refuse(intake: LiveIntake, *request: Any, **how: bool) -> Any:
        assert not list(tmp_path.rglob("part-*.parquet")) or not refusals
        if refusals:
            raise refusals.pop()
        return commit(intake, *request, **how)

    monkeypatch.setattr(LiveIntake, "commit_now", refuse)
    with api(tmp_path, RoutedTransport()) as (client, services):
        batch = sent(client, lines([row("a", "unsure")]))
        assert ended(client, batch)["status"] == "completed" and not refusals
        assert people_read(services) == [("t-1", "a", "unsure")]


def test_idempotency_key_makes_one_batch_of_two_requests(tmp_path: Path) -> None:
    body, key = lines([row("a")]), {"idempotency-key": "k-1"}
    with api(tmp_path) as (client, _):
        first, again = (client.post("/v1/batches", content=body, headers=key) for _ in range(2))
        assert (first.status_code, first.json()) == (again.status_code, again.json())
        assert client.post("/v1/batches", content=lines([row("b")]), headers=key).status_code == 422
        assert [batch["id"] for batch in client.get("/v1/batches").json()["data"]] == [first.json()["id"]]
        assert [folder.name for folder in tmp_path.glob("batch_*")] == [first.json()["id"]]


def test_crash_after_a_batch_was_added_makes_no_second_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(answer: Any) -> Any:
        answer.close()
        raise RuntimeError("the process ends here")

    with api(tmp_path) as (client, _):
        post = partial(client.post, "/v1/batches", content=lines([row("a")]), headers={"idempotency-key": "k-1"})
        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "shield", crash)
            assert post().status_code == 500
        again = post()
        assert again.status_code == 202, again.text
        assert [batch["id"] for batch in client.get("/v1/batches").json()["data"]] == [again.json()["id"]]
        assert ended(client, again.json()["id"])["status"] == "completed"
