"""`POST /v1/score`: rows, statuses, problems, whose request it is, and idempotency keys."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from apis import KEY as GRANT_KEY
from apis import TASKS, api, grant, row, score
from scoremux_client import ScoringClient, UnavailableError
from scoremux_client.rows import Response
from scoremux_client.testing import FakeTransport
from scoremux_desk.api import idempotency as idempotency_module
from scoremux_desk.api import triton_scorer
from scoremux_desk.api.problems import ApiProblem
from scoremux_desk.api.shapes import ScoreRequest, parsed
from scoremux_desk.database.schema import idempotency
from waiting import until

KEY = {"headers": {"idempotency-key": "key-1"}}


def test_rows_come_back_in_order_with_their_outcomes(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        answer = score(client, row("a"), row("b", task="none"), row("c", task="t-2"))
        assert len(score(client, *(row(n) for n in range(512))).json()["rows"]) == 512
        assert score(client, *(row(n) for n in range(513))).status_code == 422
    with ScoringClient(FakeTransport(TASKS)) as direct:
        [expected] = direct.score([Response("t-1", "unsure")])
    first, unknown, last = answer.json()["rows"]
    assert first["probabilities"] == list(expected.probabilities)
    chosen = ("id", "status", "level", "score", "route")
    assert [first[name] for name in chosen] == ["a", "OK", 2, 1, "machine"]
    assert (unknown["status"], unknown["level"], unknown["score"], unknown["version"]) == ("UNKNOWN_TASK", *[None] * 3)
    assert (last["id"], last["task"], last["level"]) == ("c", "t-2", 1)


@pytest.mark.parametrize("text", ["null", r'"half \ud800 a pair"'])
def test_text_that_cannot_be_sent_gets_a_status(tmp_path: Path, text: str) -> None:
    body = f'{{"rows": [{{"id": "a", "task": "t-1", "text": {text}}}, {{"id": "b", "task": "t-1", "text": "x"}}]}}'
    with api(tmp_path) as (client, _):
        answer = client.post("/v1/score", content=body)
    assert [scored["status"] for scored in answer.json()["rows"]] == ["INVALID_TEXT", "OK"]


MEMBERS = "rows.0: Input should be an object with these members alone: id, task, text"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("", "JSON"),
        ('{"rows": [', "JSON"),
        ("[" * 100_000, "JSON"),
        (r'{"rows": [{"id": "\ud800", "task": "t", "text": ""}]}', "rows.0.id"),
        ('{"rows": []}', "rows"),
        ('{"rows": [{"id": "", "task": "t", "text": "my secret"}]}', "rows.0.id"),
        ('{"rows": [{"id": "a", "task": "t", "text": ["my secret"]}]}', "rows.0.text"),
        ('{"rows": [{"id": "a", "task": "t", "text": "my secret", "more": 1, "other": 2}]}', MEMBERS),
        ('{"rows": [{"id": "a", "task": "t", "text": "", "my secret": 1}]}', MEMBERS),
    ],
)
def test_bad_request_is_a_problem_that_names_what_is_wrong(tmp_path: Path, body: str, named: str) -> None:
    with api(tmp_path) as (client, _):
        answer = client.post("/v1/score", content=body)
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert (problem["title"], problem["status"], problem["retryable"]) == ("Invalid request", 422, False)
    assert named in problem["detail"] and problem["detail"].count("members") <= 1
    assert "my secret" not in answer.text


@pytest.mark.parametrize("value", ["[]", "{}", '""', "1.5", "[" * 900 + "]" * 900, r'"\\\"", "[\\"'])
def test_body_of_very_many_values_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    def fail(_: str) -> None:
        raise AssertionError("nothing else is computed while this runs")

    monkeypatch.setattr(json, "loads", fail)
    for body in (f'{{"rows": [{",".join([value] * 20_000)}]}}', ",".join([value] * 20_000), "[" * 20_000):
        with pytest.raises(ApiProblem, match="more than 16,384 values"):
            parsed(ScoreRequest, body.encode())


@pytest.mark.parametrize("text", ["[{,", '"[', "\\[", '\\"[{,', '\\\\",', '"'])
def test_text_of_brackets_commas_quotes_and_backslashes_is_no_value(text: str) -> None:
    sent = [row(n, text * 2_000) for n in range(511)]
    assert [kept.text for kept in parsed(ScoreRequest, json.dumps({"rows": sent}).encode()).rows] == [
        text * 2_000
    ] * 511


def test_body_that_ends_too_early_is_no_failure_of_the_api(tmp_path: Path) -> None:
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    scope = {"type": "http", "method": "POST", "path": "/v1/score", "query_string": b"", "headers": []}
    answers: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        answers.append(message)

    with api(tmp_path) as (client, _):
        asyncio.run(client.app(scope, receive, send))
    assert answers[0]["status"] == 400


def test_other_refusals_are_problems_too(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        answers = [client.get("/v1/nothing"), client.post("/v1/score/"), client.delete("/v1/score")]
        answers.append(client.post("/v1/score", content=b" " * ((8 << 20) + 1)))
    assert [answer.status_code for answer in answers] == [404, 404, 405, 413]
    for answer in answers:
        assert answer.json()["status"] == answer.status_code
        assert answer.headers["content-type"] == "application/problem+json"


def test_grant_says_who_calls(tmp_path: Path) -> None:
    with api(tmp_path, key=GRANT_KEY) as (client, _):
        assert score(client, row("a"), headers=grant("north", "t-*")).status_code == 200
        for headers in ({}, grant("north", key=b"x" * 32), grant("north", ends_in_s=-1)):
            answer = score(client, row("a"), headers=headers)
            assert (answer.status_code, answer.json()["title"]) == (401, "No permission")


def test_same_key_and_body_get_the_stored_answer_unless_it_failed(tmp_path: Path) -> None:
    transport = FakeTransport(TASKS)
    with api(tmp_path, transport) as (client, _):
        first, again = (score(client, row("a"), **KEY) for _ in range(2))
        other = score(client, row("b"), **KEY)
    with api(tmp_path, transport) as (client, _):  # after a restart, too
        later = score(client, row("a"), **KEY)
    assert first.status_code == 200 and first.content == again.content == later.content
    assert [answer.headers.get("idempotent-replayed") for answer in (first, again, later)] == [None, "true", "true"]
    assert (other.status_code, other.json()["title"]) == (422, "Idempotency key reused")
    assert len(transport.requests) == 1
    transport = FakeTransport(TASKS)
    transport.fail(UnavailableError("restarting"))
    with api(tmp_path, transport) as (client, _):
        first, again = (score(client, row("a"), headers={"idempotency-key": "key-2"}) for _ in range(2))
    assert (first.status_code, first.json()["retryable"], first.headers["retry-after"]) == (503, True, "2")
    assert again.status_code == 200


def test_requests_with_one_key_at_once_are_worked_on_once(tmp_path: Path) -> None:
    transport, barrier = FakeTransport(TASKS), threading.Barrier(4)
    transport.hold()

    def post() -> Any:
        barrier.wait()
        return score(client, row("a"), **KEY)

    with api(tmp_path, transport) as (client, _), ThreadPoolExecutor(4) as threads:
        made = [threads.submit(post) for _ in range(4)]
        until(lambda: sum(one.done() for one in made) == 3)
        transport.release()
        answers = [one.result() for one in made]
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert all(answer.json()["retryable"] for answer in answers if answer.status_code == 409)
    assert len(transport.requests) == 1


def test_requests_for_tasks_that_wait_hold_up_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, may_end = list[object](), threading.Event()

    def wait(*of: object, **_: object) -> list[Any]:
        asked.append(of)
        may_end.wait(60)
        return []

    monkeypatch.setattr(triton_scorer, "served_tasks", wait)
    with api(tmp_path, key=GRANT_KEY) as (client, _), ThreadPoolExecutor(60) as pool:
        grants = [grant(f"token{n % 30}") for n in range(60)]
        waiting = [pool.submit(client.get, "/v1/tasks", headers=headers) for headers in grants]
        try:
            until(lambda: len(asked) == 16)
            for path in ("/v1/batches", "/v1/rows/t-1/a"):
                assert client.get(path, headers=grant("other")).status_code in (200, 404)
            assert score(client, row("a"), headers={**KEY["headers"], **grant("other")}).status_code == 200
            assert len(asked) == 16
        finally:
            may_end.set()
        assert {answer.result().status_code for answer in waiting} == {200}
    assert len(asked) == 30  # one for each token, though each asked twice


def test_request_that_runs_long_keeps_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency_module, "_RENEW_S", 0.1)
    monkeypatch.setattr(idempotency_module, "_ABANDONED_S", 1.0)
    transport = FakeTransport(TASKS)
    transport.hold()
    with api(tmp_path, transport) as (client, _), ThreadPoolExecutor(1) as pool:
        first = pool.submit(score, client, row("a"), **KEY)
        until(lambda: transport.requests)
        began = time.monotonic()
        while time.monotonic() - began < 2.5:
            assert score(client, row("a"), **KEY).status_code == 409
            time.sleep(0.1)
        transport.release()
        assert first.result().status_code == 200
    assert len(transport.requests) == 1


def test_key_of_a_process_that_died_is_free_again(tmp_path: Path) -> None:
    with api(tmp_path) as (client, services):
        score(client, row("a"), **KEY)
        with services.database.write() as connection:  # as if the process had died in the middle
            connection.execute(update(idempotency).values(status=None, answer=None))
        assert score(client, row("a"), **KEY).status_code == 409
        with services.database.write() as connection:
            connection.execute(update(idempotency).values(at=services.database.now() - 10.1))
        assert score(client, row("a"), **KEY).status_code == 200
        with services.database.read() as connection:
            [stored] = connection.execute(select(idempotency)).all()
    assert (stored.status, b"unsure" in stored.answer) == (200, False)
