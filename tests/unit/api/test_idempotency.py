"""`Idempotency-Key`: one answer for each key and body, also when the process that worked on it died."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from apis import TASKS, api
from scoremux_api.idempotency import HEADER
from scoremux_client import UnavailableError
from scoremux_client.testing import FakeTransport
from scoremux_review.database.schema import idempotency
from waiting import until

BODY = {"rows": [{"id": "a", "task": "t-1", "text": "It hands out addresses."}]}
OTHER = {"rows": [{"id": "b", "task": "t-1", "text": "It hands out addresses."}]}
KEY = {HEADER: "key-1"}


def test_same_key_and_body_get_the_stored_answer(tmp_path: Path) -> None:
    transport = FakeTransport(TASKS)
    with api(tmp_path, transport) as (client, _):
        first, again = (client.post("/v1/score", json=BODY, headers=KEY) for _ in range(2))
    with api(tmp_path, transport) as (client, _):  # after a restart, too
        later = client.post("/v1/score", json=BODY, headers=KEY)
    assert first.status_code == 200 and first.content == again.content == later.content
    assert [answer.headers.get("idempotent-replayed") for answer in (first, again, later)] == [None, "true", "true"]
    assert len(transport.requests) == 1


def test_key_with_another_body_is_refused(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        client.post("/v1/score", json=BODY, headers=KEY)
        answer = client.post("/v1/score", json=OTHER, headers=KEY)
    assert (answer.status_code, answer.json()["title"]) == (422, "Idempotency key reused")


def test_key_of_a_running_request_is_a_conflict(tmp_path: Path) -> None:
    transport = FakeTransport(TASKS)
    transport.hold()
    with api(tmp_path, transport) as (client, _), ThreadPoolExecutor(1) as thread:
        first = thread.submit(client.post, "/v1/score", json=BODY, headers=KEY)
        until(lambda: transport.in_flight == 1)
        second = client.post("/v1/score", json=BODY, headers=KEY)
        transport.release()
        assert (second.status_code, second.json()["retryable"]) == (409, True)
        assert first.result().status_code == 200


def test_request_that_failed_can_be_sent_again(tmp_path: Path) -> None:
    transport = FakeTransport(TASKS)
    transport.fail(UnavailableError("restarting"))
    with api(tmp_path, transport) as (client, _):
        assert [client.post("/v1/score", json=BODY, headers=KEY).status_code for _ in range(2)] == [503, 200]


def test_requests_for_tasks_that_wait_hold_up_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    came, may_end = threading.Semaphore(0), threading.Event()

    def wait(*_: Any, **__: Any) -> list[Any]:
        came.release()
        may_end.wait(60)
        return []

    with api(tmp_path) as (client, services), ThreadPoolExecutor(36) as pool:
        monkeypatch.setattr(services.scorer, "tasks", wait)
        waiting = [pool.submit(client.get, "/v1/tasks") for _ in range(36)]  # asyncio has 32 threads at most
        try:
            for _ in waiting:
                assert came.acquire(timeout=30)
            assert client.post("/v1/score", json=BODY, headers=KEY).status_code == 200
        finally:
            may_end.set()


def test_key_of_a_process_that_died_is_free_again(tmp_path: Path) -> None:
    with api(tmp_path) as (client, services):
        client.post("/v1/score", json=BODY, headers=KEY)
        with services.database.write() as connection:  # as if the process had died in the middle
            connection.execute(update(idempotency).values(status=None, answer=None))
        assert client.post("/v1/score", json=BODY, headers=KEY).status_code == 409
        with services.database.write() as connection:
            connection.execute(update(idempotency).values(at=services.database.now() - 301))
        assert client.post("/v1/score", json=BODY, headers=KEY).status_code == 200
        with services.database.read() as connection:
            [stored] = connection.execute(select(idempotency)).all()
    assert (stored.status, b"It hands out" in stored.answer) == (200, False)


def test_requests_with_one_key_at_once_are_worked_on_once(tmp_path: Path) -> None:
    transport, barrier = FakeTransport(TASKS), threading.Barrier(4)

    def post() -> int:
        barrier.wait()
        return client.post("/v1/score", json=BODY, headers=KEY).status_code

    with api(tmp_path, transport) as (client, _), ThreadPoolExecutor(4) as threads:
        statuses = [made.result() for made in [threads.submit(post) for _ in range(4)]]
    assert 200 in statuses and set(statuses) <= {200, 409}
    assert len(transport.requests) == 1
