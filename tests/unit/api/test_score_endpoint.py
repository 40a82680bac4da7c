"""`POST /v1/score` and `GET /v1/tasks`: rows, statuses, problems, and whose request it is."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from apis import TASKS, api
from scoremux_client import ScoringClient, UnavailableError
from scoremux_client.rows import Response
from scoremux_client.testing import FakeTransport
from scoremux_engine.scoring.permission import HEADER, Grant

KEY = b"k" * 32


def row(name: str, text: str | None = "It hands out addresses.", task: str = "t-1") -> dict[str, str | None]:
    return {"id": name, "task": task, "text": text}


def test_rows_come_back_in_order_with_their_outcomes(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        answer = client.post("/v1/score", json={"rows": [row("a"), row("b", task="none"), row("c", task="t-2")]})
    with ScoringClient(FakeTransport(TASKS)) as direct:
        [expected] = direct.score([Response("t-1", "It hands out addresses.")])
    first, unknown, last = answer.json()["rows"]
    assert first["probabilities"] == list(expected.probabilities)
    assert (first["id"], first["status"], first["level"], first["score"], first["route"]) == (
        "a",
        "OK",
        2,
        1,
        "machine",
    )
    assert (unknown["status"], unknown["level"], unknown["score"], unknown["version"]) == ("UNKNOWN_TASK", *[None] * 3)
    assert (last["id"], last["task"], last["level"]) == ("c", "t-2", 1)


@pytest.mark.parametrize("text", ["null", r'"half \ud800 a pair"'])
def test_text_that_cannot_be_sent_gets_a_status(tmp_path: Path, text: str) -> None:
    body = f'{{"rows": [{{"id": "a", "task": "t-1", "text": {text}}}, {{"id": "b", "task": "t-1", "text": "x"}}]}}'
    with api(tmp_path) as (client, _):
        answer = client.post("/v1/score", content=body)
    assert [scored["status"] for scored in answer.json()["rows"]] == ["INVALID_TEXT", "OK"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("", "JSON"),
        ('{"rows": [', "JSON"),
        ("[" * 100_000, "JSON"),
        (r'{"rows": [{"id": "\ud800", "task": "t", "text": ""}]}', "rows.0.id"),
        ('{"rows": []}', "rows"),
        ('{"rows": [{"id": "", "task": "t", "text": "my secret"}]}', "rows.0.id"),
        ('{"rows": [{"id": "a", "task": "t", "text": "my secret", "more": 1}]}', "rows.0: input should be an object with these members"),
        ('{"rows": [{"id": "a", "task": "t", "text": ["my secret"]}]}', "rows.0.text"),
        ('{"rows": [{"id": "a", "task": "t", "text": "", "my secret": 1}]}', "rows.0: input should be an object with these members"),
    ],
)
def test_bad_request_is_a_problem_that_names_what_is_wrong(tmp_path: Path, body: str, named: str) -> None:
    with api(tmp_path) as (client, _):
        answer = client.post("/v1/score", content=body)
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert (problem["title"], problem["status"], problem["retryable"]) == ("Invalid request", 422, False)
    assert named.lower() in problem["detail"].lower()
    assert "my secret" not in answer.text


def test_members_that_are_unknown_are_one_error_and_are_not_named(tmp_path: Path) -> None:
    members = {f"secret-{n}": n for n in range(1_000)}
    with api(tmp_path) as (client, _):
        answer = client.post("/v1/score", json={"rows": [row("a") | members]})
    detail = "rows.0: Input should be an object with these members alone: id, task, text"
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)


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


def test_more_than_512_rows_are_refused(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        assert client.post("/v1/score", json={"rows": [row(str(i)) for i in range(513)]}).status_code == 422
        assert len(client.post("/v1/score", json={"rows": [row(str(i)) for i in range(512)]}).json()["rows"]) == 512


def test_server_that_does_not_answer_is_a_problem_to_retry(tmp_path: Path) -> None:
    transport = FakeTransport(TASKS)
    transport.fail(UnavailableError("restarting"))
    with api(tmp_path, transport) as (client, _):
        answer = client.post("/v1/score", json={"rows": [row("a")]})
    assert (answer.status_code, answer.json()["retryable"], answer.headers["retry-after"]) == (503, True, "2")


def test_grant_says_who_calls(tmp_path: Path) -> None:
    ends = int(time.time()) + 60
    good = Grant("north", ends, ("t-*",)).signed(KEY)
    wrong = {
        "none": {},
        "of another key": {HEADER: Grant("north", ends, ("*",)).signed(b"x" * 32)},
        "expired": {HEADER: Grant("north", 1, ("*",)).signed(KEY)},
    }
    with api(tmp_path, key=KEY) as (client, _):
        assert client.post("/v1/score", json={"rows": [row("a")]}, headers={HEADER: good}).status_code == 200
        for headers in wrong.values():
            answer = client.post("/v1/score", json={"rows": [row("a")]}, headers=headers)
            assert (answer.status_code, answer.json()["title"]) == (401, "No permission")


def test_unknown_path_and_method_are_problems(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        for answer in (client.get("/v1/nothing"), client.delete("/v1/score")):
            assert answer.status_code == answer.json()["status"] in (404, 405)
            assert answer.headers["content-type"] == "application/problem+json"


def test_body_that_is_too_large_is_a_problem(tmp_path: Path) -> None:
    with api(tmp_path) as (client, _):
        answer = client.post("/v1/score", content=b" " * ((8 << 20) + 1))
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
