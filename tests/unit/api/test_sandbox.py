"""`scoremux api --sandbox` as a platform's CI starts it: ids choose the outcome, and a human decides after 5 s."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from apis import RoutedTransport, api, api_process, row
from apis import score as apis_score
from scoremux_desk.api import sandbox as sandbox_module
from scoremux_desk.api.sandbox import SandboxScorer
from scoremux_desk.database import programme
from scoremux_desk.desk_policy import DeskPolicy
from waiting import until


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with api_process(tmp_path_factory.mktemp("sandbox"), "--sandbox") as (client, _):
        yield client


def score(client: httpx.Client, *names: str) -> list[dict[str, Any]]:
    rows = [{"id": name, "task": "sandbox-1", "text": "any text"} for name in names]
    scored: list[dict[str, Any]] = client.post("/v1/score", json={"rows": rows}).raise_for_status().json()["rows"]
    return scored


def test_ids_choose_the_outcome_and_refusals(sandbox: httpx.Client) -> None:
    scored = score(sandbox, "r1", "blank-1", "routed-1", "truncated-1", "unknown-1")
    assert [(row["status"], row["level"], row["condition"], row["route"], row["truncated"]) for row in scored] == [
        ("OK", 1, None, "machine", False),
        ("CONDITION", None, "B", "machine", False),
        ("OK", 1, None, "human:LOW_CONFIDENCE", False),
        ("OK", 1, None, "human:TRUNCATED", True),
        ("UNKNOWN_TASK", None, None, None, False),
    ]
    assert sandbox.get("/v1/rows/sandbox-1/routed-1").json()["state"] == "pending"
    assert sandbox.get("/v1/rows/sandbox-1/r1").status_code == 404
    ranges = [(row["confidence"] and round(row["confidence"], 3), row["range"]) for row in scored[:3]]
    assert ranges == [(0.9, [1, 1]), (None, None), (0.55, [0, 1])]
    for name, status in (("limited-1", 429), ("busy-1", 503)):
        rows = {"rows": [{"id": name, "task": "sandbox-1", "text": "any text"}]}
        refused = sandbox.post("/v1/score", json=rows)
        assert (refused.status_code, refused.headers["retry-after"]) == (status, "1")
        assert refused.json()["retryable"]
        assert sandbox.post("/v1/score", json=rows).json()["rows"][0]["level"] == 1


def test_human_decides_after_five_seconds(sandbox: httpx.Client) -> None:
    began = time.monotonic()
    score(sandbox, "human-1", "human-2")
    rows = ["/v1/rows/sandbox-1/human-1", "/v1/rows/sandbox-1/human-2"]
    assert sandbox.get(rows[0]).json()["state"] == "pending" or time.monotonic() - began > 5
    until(lambda: all(sandbox.get(row).json()["state"] == "final" for row in rows))
    assert time.monotonic() - began >= 5
    row = sandbox.get(rows[0]).json()
    assert (row["level"], row["machine_level"]) == (0, 1)


def test_sandbox_alone_sends_rows_to_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_module, "HUMAN_S", 0.1)
    with api(tmp_path, RoutedTransport()) as (client, services):
        with services.database.write() as connection:
            programme.save_policy(connection, DeskPolicy(guard_s=9), "test")
        apis_score(client, row("other", "unsure"), row("human-0", "unsure"))  # rows of a desk, read before others
        services.scorer = SandboxScorer(services.database)
        score(client, "human-1")
        until(lambda: client.get("/v1/rows/sandbox-1/human-1").json()["state"] == "final")
        assert {client.get(f"/v1/rows/t-1/{name}").json()["state"] for name in ("other", "human-0")} == {"pending"}


def test_human_corrects_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_module, "HUMAN_S", 0.2)
    with api(tmp_path) as (client, services):
        services.scorer = SandboxScorer(services.database)
        score(client, "corrected-1", "human-1")
        until(lambda: client.get("/v1/rows/sandbox-1/corrected-1").json()["state"] == "corrected")
        row = client.get("/v1/rows/sandbox-1/corrected-1").json()
        assert (row["level"], row["score"]) == (1, 0.5)
        assert [(change["state"], change["score"]) for change in row["history"]] == [
            ("pending", None), ("final", 0.0), ("pending", None), ("corrected", 0.5),
        ]  # fmt: skip
        assert client.get("/v1/rows/sandbox-1/human-1").json()["state"] == "final"
