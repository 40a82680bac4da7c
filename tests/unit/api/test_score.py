"""`POST /v1/score`: rows, statuses, problems, and whose request it is."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from apis import KEY as GRANT_KEY
from apis import TASKS, RoutedTransport, api, grant, row, score
from making import ROOT
from scoremux_client import ScoringClient, UnavailableError
from scoremux_client.rows import Response
from scoremux_client.testing import FakeTransport
from scoremux_desk.api import triton_scorer
from scoremux_desk.api.problems import ApiProblem
from scoremux_desk.api.shapes import parsed
from waiting import until


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
            parsed(body.encode())


@pytest.mark.parametrize("text", ["[{,", '"[', "\\[", '\\"[{,', '\\\\",', '"'])
def test_text_of_brackets_commas_quotes_and_backslashes_is_no_value(text: str) -> None:
    sent = [row(n, text * 2_000) for n in range(511)]
    assert [kept.text for kept in parsed(json.dumps({"rows": sent}).encode()).rows] == [text * 2_000] * 511


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
            for path in ("/v1/changes", "/v1/rows/t-1/a"):
                assert client.get(path, headers=grant("other")).status_code in (200, 404)
            assert score(client, row("a"), headers=grant("other")).status_code == 200
            assert len(asked) == 16
        finally:
            may_end.set()
        assert {answer.result().status_code for answer in waiting} == {200}
    assert len(asked) == 30  # one for each token, though each asked twice


def test_same_rows_again_get_the_same_answer(tmp_path: Path) -> None:
    transport = RoutedTransport()
    with api(tmp_path, transport) as (client, _):
        first = score(client, row("a"), row("b", "sure"), headers={"idempotency-key": "k"})
        transport.fail(UnavailableError("restarting"))
        refused = score(client, row("a"), row("b", "sure"), headers={"idempotency-key": "k"})
    assert (refused.status_code, refused.json()["retryable"], refused.headers["retry-after"]) == (503, True, "2")
    with api(tmp_path, transport) as (client, _):
        again = score(client, row("a"), row("b", "sure"), headers={"idempotency-key": "k"})
    assert first.status_code == 200 and first.content == again.content


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("path", "page"), [("webhooks", "#changes"), ("webhooks/wh_1", "#changes"), ("batches/b/results", "#many-rows")]
)
def test_removed_endpoint_names_the_page(tmp_path: Path, method: str, path: str, page: str) -> None:
    with api(tmp_path) as (client, _):
        answer = client.request(method, f"/v1/{path}")
    assert (answer.status_code, answer.json()["title"]) == (410, "Endpoint removed")
    file, anchor = answer.json()["detail"].rpartition("see ")[2].split("#")
    headings = (ROOT / file).read_text(encoding="utf-8").lower().splitlines()
    assert f"#{anchor}" == page and f"## {anchor.replace('-', ' ')}" in headings
