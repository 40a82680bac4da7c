"""`scoremux api` on a real Triton: the bits of the Python client, and the grant of each caller."""

import random
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from apis import listening_api
from doors import KEY, granted, serving
from making import TASKS, WORDS
from scoremux_client import Response, Scored, ScoringClient
from scoremux_client.transports.grpc import GrpcTransport
from scoremux_server.front_door.access_tokens import AccessTokenFile
from scoremux_server.triton.server import TritonServer

ROWS = 512


def rows_of(count: int) -> list[Response]:
    """Return rows of all tasks, and of none, with texts of 0 to 60 words."""
    draw, tasks = random.Random(7), [*TASKS, *TASKS, *TASKS, "nobody", "t 1"]
    texts = (" ".join(draw.choices(WORDS, k=draw.randrange(60))) for _ in range(count))
    return [Response(draw.choice(tasks), text, f"r{number}") for number, text in enumerate(texts)]


def through_json(address: str, rows: list[Response], **headers: str) -> list[dict[str, Any]]:
    draw, answered, left = random.Random(8), list[dict[str, Any]](), rows
    with httpx.Client(base_url=f"http://{address}", timeout=120, headers=headers) as client:
        while left:
            count = draw.choice([1, 7, 64, ROWS])
            body = {"rows": [{"id": row.id, "task": row.task, "text": row.text} for row in left[:count]]}
            answer = client.post("/v1/score", json=body)
            assert answer.status_code == 200, answer.text
            answered += answer.json()["rows"]
            left = left[count:]
    return answered


def bits(values: Any) -> bytes:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float32).tobytes()


def compare(answered: list[dict[str, Any]], expected: list[Scored]) -> None:
    assert [(row["id"], row["status"], row["version"] or "") for row in answered] == [
        (scored.id, scored.status.value, scored.version) for scored in expected
    ]
    assert [row["level"] for row in answered] == [scored.level if scored.ok else None for scored in expected]
    for json_row, scored in zip(answered, expected, strict=True):
        assert bits(json_row["probabilities"] or ()) == bits(scored.probabilities)
        assert bits([json_row["score"], json_row["confidence"]]) == bits([scored.score, scored.confidence])
        assert (json_row["route"] or "", json_row["arithmetic"] or "") == (scored.route, scored.arithmetic)


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_scores_have_the_bits_of_the_python_client(server: TritonServer, tmp_path: Path, count: int) -> None:
    rows = rows_of(count)
    with ScoringClient(server.endpoints.grpc_url) as client:
        expected = client.score(rows)
    with listening_api(tmp_path, GrpcTransport(server.endpoints.grpc_url)) as address:
        compare(through_json(address, rows), expected)
    assert len({scored.status for scored in expected}) == 3


def test_rows_are_scored_with_the_grant_of_their_caller(small_repository: Path, tmp_path: Path) -> None:
    rows = [{"id": task, "task": task, "text": "It hands out addresses."} for task in TASKS]
    (tokens := AccessTokenFile(tmp_path / "tokens.json")).add("test", ["*"], 0, 1)
    with (
        serving(small_repository, tmp_path / "log") as server,
        listening_api(tmp_path, GrpcTransport(server.endpoints.grpc_url), key=KEY, tokens=tokens.path) as address,
        httpx.Client(base_url=f"http://{address}", timeout=120) as client,
    ):
        for patterns, allowed in ((["t-1", "t-2"], {"t-1", "t-2"}), (["*"], set(TASKS)), (["t-1"], {"t-1"})):
            client.headers.update(granted(patterns))
            answer = client.post("/v1/score", json={"rows": rows}).json()["rows"]
            assert {row["id"] for row in answer if row["status"] == "OK"} == allowed
            assert {row["status"] for row in answer if row["id"] not in allowed} <= {"FORBIDDEN_TASK"}
            assert {task["id"] for task in client.get("/v1/tasks").json()["tasks"]} == allowed
        assert client.get("/readyz").status_code == 200
