"""`/v1/batches`: files of rows, from the upload to results, errors, webhooks and expiry."""

import asyncio
import json
import os
import resource
import shutil
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from threading import Event, Semaphore, Thread
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert, select, update

from apis import KEY, TASKS, RoutedTransport, api, grant, row, score
from scoremux_batch.people import Alert, ReadBehind
from scoremux_client import UnavailableError
from scoremux_client.rows import Columns
from scoremux_client.testing import FakeTransport
from scoremux_desk.api.batches import batch_files, batch_runner, batch_table
from scoremux_desk.api.idempotency import Once
from scoremux_desk.api.rows.live_intake import LiveIntake
from scoremux_desk.api.services import Services
from scoremux_desk.database.schema import api_rows, batches, deliveries, rows, webhooks
from scoremux_desk.errors import DatabaseError
from scoremux_server.front_door.access_tokens import AccessTokenFile
from waiting import until


def body_of(*rows: dict[str, Any] | bytes) -> bytes:
    return b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)


def sent(client: TestClient, *rows: dict[str, Any] | bytes, **headers: str) -> str:
    answer = client.post("/v1/batches", content=body_of(*rows), headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (202, "validating"), answer.text
    return str(answer.json()["id"])


def shown(client: TestClient, batch: str, **headers: str) -> dict[str, Any]:
    return dict(client.get(f"/v1/batches/{batch}", headers=headers).json())


def ended(client: TestClient, batch: str, **headers: str) -> dict[str, Any]:
    """Wait until a batch has ended, and return it."""
    ends, seen = ("completed", "failed", "cancelled", "expired"), partial(shown, client, batch, **headers)
    until(lambda: seen()["status"] in ends, shown=seen, within_s=60)
    return seen()


def completed(client: TestClient, batch: str) -> int:
    return int(shown(client, batch)["request_counts"]["completed"])


def read(client: TestClient, batch: str, what: str) -> list[dict[str, Any]]:
    answer = client.get(f"/v1/batches/{batch}/{what}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/jsonl")
    return [json.loads(line) for line in answer.text.splitlines()]


def ids(results: list[dict[str, Any]]) -> list[str]:
    return [scored["id"] for scored in results]


def texts_of(transport: FakeTransport) -> list[str]:
    return [bytes(response.text or b"").decode() for request in transport.requests for response in request]


def people_read(services: Services) -> list[tuple[str, str]]:
    with services.database.read() as connection:
        return [(row.name, row.text) for row in connection.execute(select(rows).order_by(rows.c.id))]


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_runner, "LAYOUT", replace(batch_files.LAYOUT, part_rows=7))
    monkeypatch.setattr(batch_runner, "_LOOK_S", 0.1)


@pytest.fixture
def tokens(tmp_path: Path) -> AccessTokenFile:
    file = AccessTokenFile(tmp_path / "tokens.json")
    for name in ("north", "south"):
        file.add(name, ["t-1", "t-2"], 0, 9)
    return file


def test_results_are_the_rows_of_score_in_order(tmp_path: Path) -> None:
    body = [row(n, "" if n % 5 else None, f"t-{1 + n % 3}") for n in range(40)]
    with api(tmp_path) as (client, _):
        batch = sent(client, *body)
        end = ended(client, batch)
        assert (end["status"], end["errors"]) == ("completed", None)
        assert end["request_counts"] == {"total": 40, "completed": 40, "failed": 0}
        assert end["created_at"] <= end["in_progress_at"] <= end["finalizing_at"] <= end["completed_at"]
        assert read(client, batch, "results") == score(client, *body).json()["rows"]
        assert read(client, batch, "errors") == []
        until(lambda: not [*tmp_path.rglob("body.jsonl"), *tmp_path.rglob("rows.jsonl")])  # no text is kept


NO_ROWS = [
    (b"not JSON", "invalid json"),
    (b"null", "should be an object"),
    (b"[1, 2]", "should be an object"),
    (b"[" * 4_000, "recursion"),
    (b'{"id": [' + b"[]," * 100_000 + b"0]}", "more than 16,384 values"),
    (b'{"id": 7, "task": "t-1", "text": "my secret"}', "id"),
    (b'{"id": "b", "task": "t-1", "text": ["my secret"]}', "text"),
    (b'{"id": "b", "task": null, "text": "my secret"}', "task"),
    (b'{"id": "b", "task": "t-1"}', "text: field required"),
    (b'{"id": "b", "task": "t-1", "text": "my secret", "more": 1}', "these members alone"),
    (b'{"id": "b", "task": "t-1", "text": "\xff my secret"}', "can't decode"),
    (b'{"id": "b", "task": "t-1", "text": "' + b"x" * (5 << 20) + b'"}', "longer than 4,194,304 bytes"),
]


def test_line_that_is_no_row_is_an_error_and_the_others_are_scored(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        batch = sent(client, row("a"), b"", *(line for line, _ in NO_ROWS), row("c"))
        assert ended(client, batch)["request_counts"] == {"total": 14, "completed": 2, "failed": 12}
        assert ids(read(client, batch, "results")) == ["a", "c"]
        errors = read(client, batch, "errors")
    assert [error["line"] for error in errors] == [*range(3, 15)] and "secret" not in str(errors)
    assert {(error["title"], error["status"], error["retryable"]) for error in errors} == {
        ("Invalid request", 422, False)
    }
    assert all(said in error["detail"].lower() for error, (_, said) in zip(errors, NO_ROWS, strict=True))


def test_longest_lines_get_an_outcome_or_an_error(tmp_path: Path) -> None:
    def line(name: str, text: str, size: int) -> bytes:
        begin = f'{{"id":"{name}","task":"t-1","text":"'
        return (begin + text * ((size - len(begin) - 2) // len(text.encode())) + '"}').encode()

    most = batch_files.LAYOUT.line_bytes
    body = [line("a", "é", most - 4), line("b", "x", most - 2), line("c", "😀", most - 4), line("d", "x", most)]
    with api(tmp_path) as (client, _):
        batch = sent(client, *body)
        assert ended(client, batch)["request_counts"] == {"total": 4, "completed": 3, "failed": 1}
        assert ids(read(client, batch, "results")) == ["a", "b", "c"]
        assert [error["line"] for error in read(client, batch, "errors")] == [4]


def test_row_whose_id_has_another_text_is_an_error_and_the_others_are_scored(tmp_path: Path) -> None:
    body = [row(n, f"unsure {n}") for n in range(20)]
    body[10:10] = [row("student-a", "unsure too"), row("0", "a changed text"), row("0", None), row("1", "unsure 1")]
    with api(tmp_path, RoutedTransport()) as (client, services):
        score(client, row("student-a", "unsure"))
        batch = sent(client, *body)
        end, results, errors = ended(client, batch), read(client, batch, "results"), read(client, batch, "errors")
        assert [name for name, _ in people_read(services)] == ["student-a", *map(str, range(20))]
    assert (end["status"], end["request_counts"]) == ("completed", {"total": 24, "completed": 22, "failed": 2})
    assert ids(results) == ids([*body[:10], *body[12:]])
    problem = {"type": "urn:scoremux:row-exists", "title": "Row exists", "status": 409, "retryable": False}
    assert errors == [  # without the ids, which would outlive their erasure
        {**problem, "line": 12, "detail": "an earlier line has this id with another text; give a new id"},
        {**problem, "line": 11, "detail": "the desk has a row of this id with another text; give a new id"},
    ]


@pytest.mark.parametrize("body", [b"", b"\n \n", b"null\n{}\n", b"\x1f\x8b\x08 gzip"])
def test_file_without_rows_fails_and_says_why(tmp_path: Path, body: bytes) -> None:
    with api(tmp_path) as (client, _):
        end = ended(client, sent(client, body))
    assert (end["status"], end["errors"][0]["code"]) == ("failed", "no_rows")


@pytest.mark.parametrize("line", [json.dumps(row("a")).encode(), b"null", b"", b" \r"])
def test_file_with_too_many_lines_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    monkeypatch.setattr(batch_files, "MOST_LINES", 3, raising=False)
    with api(tmp_path) as (client, _):
        end = ended(client, sent(client, row("a"), line, line, row("b")))
        assert (end["status"], end["errors"][0]["code"]) == ("failed", "too_many_rows")
        assert ended(client, sent(client, row("a"), line, row("b"), b""))["status"] == "completed"


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
        problem = answer.json()
        assert (problem["status"], problem["title"], problem["retryable"]) == (503, "Storage unavailable", True)
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


def test_batch_resumes_with_the_next_process(tmp_path: Path) -> None:
    slow, second = Slow(), FakeTransport(TASKS)
    with api(tmp_path, slow) as (client, _):
        batch = sent(client, *(row(n, f"text {n}") for n in range(400)))
        slow.may_answer.release(2)
        until(lambda: completed(client, batch) > 0)
        done = len(read(client, batch, "results"))
        assert 0 < done < 400
    with api(tmp_path, second) as (client, _):
        assert ended(client, batch)["status"] == "completed"
        assert ids(read(client, batch, "results")) == [str(n) for n in range(400)]
    assert not {*texts_of(second)} & {f"text {n}" for n in range(done)}


def test_cancelled_batch_keeps_its_results(tmp_path: Path) -> None:
    slow = Slow()
    with api(tmp_path, slow) as (client, _):
        batch = sent(client, *(row(n) for n in range(400)))
        slow.may_answer.release(2)
        until(lambda: completed(client, batch) > 0)
        assert client.post(f"/v1/batches/{batch}/cancel").json()["status"] == "cancelling"
        slow.may_answer.release(1)
        assert ended(client, batch)["status"] == "cancelled"
        assert 0 < len(read(client, batch, "results")) == completed(client, batch) < 400
        assert client.post(f"/v1/batches/{batch}/cancel").json()["status"] == "cancelled"
        other = sent(client, row("a"))
        slow.may_answer.release(99)
        ended(client, other)
        again = client.post(f"/v1/batches/{other}/cancel")
        assert (again.status_code, again.json()["title"]) == (409, "Batch has ended")


def test_batch_whose_files_are_lost_can_be_cancelled(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        batch = sent(client, *(row(n) for n in range(4000)))
    shutil.rmtree(tmp_path / batch)
    with api(tmp_path) as (client, _):
        assert client.get(f"/v1/batches/{batch}/results").status_code == 503
        for _ in range(2):
            assert client.post(f"/v1/batches/{batch}/cancel").json()["status"] == "cancelled"


def test_batch_goes_on_after_each_step_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = RoutedTransport()
    transport.fail(UnavailableError("restarting"), 3)

    def fail_first(place: Any, name: str, fails: Any) -> list[Exception]:
        work, errors = getattr(place, name), [DatabaseError("down")] * 3

        def call(*of: Any, **values: Any) -> Any:
            if errors and fails(values):
                raise errors.pop()
            return work(*of, **values)

        monkeypatch.setattr(place, name, call)
        return errors

    commits = fail_first(LiveIntake, "commit_now", lambda _: not list(tmp_path.rglob("part-*")))  # nobody sees the part
    counts = fail_first(batch_table, "count", lambda values: values["completed"])
    with api(tmp_path, transport) as (client, services):
        end = ended(client, sent(client, row("a"), row("a", "another text")))
        assert (end["status"], end["request_counts"]) == ("completed", {"total": 2, "completed": 1, "failed": 1})
        assert people_read(services) == [("a", "unsure")] and not (commits or counts)


def test_batches_are_of_the_token_that_sent_them(tmp_path: Path, tokens: AccessTokenFile) -> None:
    north, south = grant("north"), grant("south")
    with api(tmp_path, key=KEY, tokens=tokens.path) as (client, _):
        mine = [sent(client, row("a"), **north) for _ in range(5)]
        for batch in mine:
            ended(client, batch, **north)
        for path in ("", "/results", "/errors"):
            assert client.get(f"/v1/batches/{mine[0]}{path}", headers=south).status_code == 404
        assert client.post(f"/v1/batches/{mine[0]}/cancel", headers=south).status_code == 404
        assert client.get("/v1/batches", headers=south).json() == {"object": "list", "data": [], "has_more": False}
        seen, after = [], ""
        while True:
            page = client.get(f"/v1/batches?limit=2{after}", headers=north).json()
            seen += ids(page["data"])
            if not page["has_more"]:
                break
            after = f"&after={seen[-1]}"
        assert seen == mine[::-1]


@pytest.mark.parametrize("said", ["the token north was revoked", "the token north may no longer use t-2"])
def test_batch_of_a_token_that_lost_its_permission_fails(tmp_path: Path, said: str, tokens: AccessTokenFile) -> None:
    slow, north = Slow(), grant("north", "t-1", "t-2")
    with api(tmp_path, slow, key=KEY, tokens=tokens.path) as (client, _):
        batch = sent(client, row("a"), row("b", task="t-2"), **north)
        until(lambda: shown(client, batch, **north)["status"] == "in_progress")
        tokens.revoke("north")
        if "t-2" in said:
            tokens.add("north", ["t-1"], 0, 9)
        slow.may_answer.release(9)
        end = ended(client, batch, **north)
        assert client.get(f"/v1/batches/{batch}/results", headers=north).content == b""
    assert end["status"] == "failed" and said in end["errors"][0]["message"]


def test_tokens_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: AccessTokenFile) -> None:
    monkeypatch.setattr(batch_runner, "LAYOUT", replace(batch_files.LAYOUT, part_rows=100))
    slow, north, south = Slow(), grant("north"), grant("south")
    with api(tmp_path, slow, key=KEY, tokens=tokens.path) as (client, _):
        large = sent(client, *(row(n, f"north {n}") for n in range(4000)), **north)
        small = sent(client, row("a", "south"), **south)
        slow.may_answer.release(9999)
        ended(client, small, **south)
        ended(client, large, **north)
    order = texts_of(slow)
    assert len(order) == 4001  # no row is sent twice because of turns
    assert order.index("south") < order.index("north 3999")


def test_end_of_a_batch_is_an_event_and_old_batches_expire(tmp_path: Path) -> None:
    with api(tmp_path, keep_days=3) as (client, services):
        hook = {"id": "wh_1", "token": "local", "url": "https://a.example", "events": '["batch.completed"]'}
        with services.database.write() as connection:
            connection.execute(insert(webhooks).values(**hook, secrets="[]", created_at=0.0))
        good, bad = sent(client, row("a")), sent(client, b"null")
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


def test_batches_expire_and_rows_stay_unless_days_are_given(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with api(tmp_path, RoutedTransport()) as (client, services):
        batch = sent(client, row("a"))
        ended(client, batch)
        with services.database.write() as connection:
            old = services.database.now() - batch_runner.KEPT_DAYS * 86_400 - 1
            connection.execute(update(batches).values(changed_at=old))
            connection.execute(update(api_rows).values(at=old))
            connection.execute(update(rows).values(state="machine"))
    with api(tmp_path, RoutedTransport()) as (client, services):
        until(lambda: shown(client, batch)["status"] == "expired")
        assert people_read(services) == [("a", "unsure")]
    assert f"removed {tmp_path / batch}: older than 90 days" in caplog.text


def test_folders_that_vanish_do_not_keep_old_ones_and_ended_batches_are_left_alone(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        batch = sent(client, row("a"))
        ended(client, batch)
    (tmp_path / batch / ".lock").unlink()
    orphan = tmp_path / f"batch_{0:028x}"
    orphan.mkdir()
    os.utime(orphan, (1, 1))
    for n in range(1, 30):  # as if requests had removed them after they were listed
        (tmp_path / f"batch_{n:028x}").symlink_to("gone")
    with api(tmp_path):
        until(lambda: not orphan.exists(), within_s=30)
    assert not (tmp_path / batch / ".lock").exists()


def test_rows_that_people_read_are_on_the_desk_before_the_results(tmp_path: Path) -> None:
    sent_rows = [row(n, f"unsure {n}" if n % 3 else f"sure {n}") for n in range(50)] + [row("half", None)]
    settings = {"read_behind": ReadBehind(0.5, b"s" * 32), "alert": Alert("danger", 0.5)}
    with api(tmp_path, RoutedTransport(), **settings) as (client, services):
        batch = sent(client, *sent_rows)
        ended(client, batch)
        stored, results = people_read(services), read(client, batch, "results")
        assert results == score(client, *sent_rows).json()["rows"]
        assert people_read(services) == stored  # as for /v1/score, so nothing is new
        assert {name for name, _ in stored} > {row["id"] for row in results if "human" in (row["route"] or "")}
        assert client.get("/v1/rows/t-1/1").json()["state"] == "pending"


def test_idempotency_key_makes_one_batch_also_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(answer: Any) -> Any:
        answer.close()
        raise RuntimeError("the process ends here")

    with api(tmp_path) as (client, _):
        post = partial(client.post, "/v1/batches", headers={"idempotency-key": "k-1"})
        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "shield", crash)
            assert post(content=body_of(row("a"))).status_code == 500
        first, again = (post(content=body_of(row("a"))) for _ in range(2))
        assert (first.status_code, first.json()) == (202, again.json()), again.text
        assert post(content=body_of(row("b"))).status_code == 422
        assert ids(client.get("/v1/batches").json()["data"]) == [first.json()["id"]]
        assert [folder.name for folder in tmp_path.glob("batch_*")] == [first.json()["id"]]
        assert ended(client, first.json()["id"])["status"] == "completed"


def owner_of(place: str, services: Services) -> Any:
    """Return what a thread takes a function from while a request for a batch awaits the thread."""
    owners = {"sync": batch_files, "batch_of": batch_table, "set": services.batches_changed}
    return owners.get(place, Once)


async def post_and_cancel(client: TestClient, key: str, owner: Any, name: str, patched: pytest.MonkeyPatch) -> None:
    """Send row a, and cancel the request in the middle; then the thread that it awaits goes on."""
    came, may_go, loop, work = asyncio.Event(), Event(), asyncio.get_running_loop(), getattr(owner, name)

    def wait(*of: Any) -> Any:
        patched.undo()
        loop.call_soon_threadsafe(came.set)
        assert may_go.wait(60)
        return work(*of)

    async def receive() -> Any:
        return {"type": "http.request", "body": body_of(row("a")), "more_body": False}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    headers = [(b"idempotency-key", key.encode())] if key else []
    scope = {"type": "http", "method": "POST", "path": "/v1/batches", "query_string": b"", "headers": headers}
    patched.setattr(owner, name, wait)
    request = asyncio.ensure_future(client.app(scope, receive, send))
    await came.wait()
    request.cancel()
    for _ in range(20):  # the request does what it does without the thread
        await asyncio.sleep(0)
    may_go.set()
    await asyncio.wait([request])
    assert request.cancelled()


@pytest.mark.parametrize(("name", "key"), [("_begin", "k"), *product(["sync", "batch_of", "keep", "set"], ["k", ""])])
def test_cancelled_request_adds_its_batch_wholly_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    with api(tmp_path) as (client, services):
        with monkeypatch.context() as patched:
            asyncio.run(post_and_cancel(client, key, owner_of(name, services), name, patched))
        with services.database.write():  # the thread has ended its change
            pass
        again = client.post("/v1/batches", content=body_of(row("a")), headers={"idempotency-key": key or "new"})
        listed = ids(client.get("/v1/batches").json()["data"])
        assert sorted(folder.name for folder in tmp_path.glob("batch_*")) == sorted(listed)
        assert all(ended(client, batch)["status"] == "completed" for batch in listed)
        if name == "_begin":  # as if the process had died
            assert (again.status_code, listed) == (409, [])
        else:
            assert again.json()["id"] == listed[0] and len(listed) == 1 + (name == "set" and not key), again.text


@pytest.mark.parametrize("lost", ["body.jsonl", ""])
def test_batch_whose_files_are_gone_fails_and_the_next_one_is_computed(tmp_path: Path, lost: str) -> None:
    gone = f"batch_{1:028x}"
    with api(tmp_path) as (client, services), services.database.write() as connection:
        values = {"id": gone, "token": "local", "patterns": '["*"]', "state": "validating", "counts": "{}"}
        connection.execute(insert(batches).values(**values, created_at=1.0, changed_at=1.0))
    if lost:
        (tmp_path / gone).mkdir()
    with api(tmp_path) as (client, _):
        end = ended(client, gone)
        assert (end["status"], end["errors"][0]["code"]) == ("failed", "files_lost")
        assert ended(client, sent(client, row("a")))["status"] == "completed"
