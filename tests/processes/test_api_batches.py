"""Batches of `scoremux api` as a process: killed at any time, and uploads that are cut off or never end."""

import json
import random
import signal
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

import postgres
import routed
from api_processes import api_process
from peers import answer, listening
from scoremux_review.database import schema
from scoremux_review.database.connection import Database
from scoremux_review.database.verification import verify
from waiting import until


def shown(client: httpx.Client, batch: str) -> dict[str, Any]:
    return dict(client.get(f"/v1/batches/{batch}").json())


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.nightly)])
def test_killed_process_resumes_its_batches(tmp_path: Path, kills: int) -> None:
    scored = list[bytes]()
    randomly = random.Random(7)

    def slowly(request: Any, context: Any) -> Any:
        time.sleep(0.01)
        return answer(request, context)

    rows = [{"id": f"r{n}", "task": "t", "text": str(n % 4)} for n in range(6_000 * kills)]
    body = "".join(json.dumps(row) + "\n" for row in rows)
    with listening(slowly) as url:
        with api_process(tmp_path, "--url", url) as (client, process):
            batch = client.post("/v1/batches", content=body).json()["id"]
        seen = 0
        for _ in range(kills):
            with api_process(tmp_path, "--url", url) as (client, process):
                goal = seen + randomly.randrange(1, 3000)
                until(lambda goal=goal: shown(client, batch)["request_counts"]["completed"] >= goal, process)
                now = client.get(f"/v1/batches/{batch}/results").content.splitlines()
                assert now[: len(scored)] == scored and len(now) >= goal
                scored, seen = now, len(now)
                process.send_signal(signal.SIGKILL)
        with api_process(tmp_path, "--url", url) as (client, process):
            until(lambda: shown(client, batch)["status"] == "completed", process)
            results = client.get(f"/v1/batches/{batch}/results").content.splitlines()
    assert results[: len(scored)] == scored
    assert [(row["id"], row["level"]) for row in map(json.loads, results)] == [
        (f"r{n}", n % 4) for n in range(6_000 * kills)
    ]


def test_upload_that_is_cut_off_or_never_ends_leaves_nothing(tmp_path: Path) -> None:
    with listening(answer) as url, api_process(tmp_path, "--url", url) as (client, process):
        head = b"POST /v1/batches HTTP/1.1\r\nHost: a\r\n"
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as cut:
            cut.sendall(head + b'Content-Length: 1000\r\n\r\n{"id": "a"')
            until(lambda: list(tmp_path.glob("batch_*")))
        until(lambda: not list(tmp_path.glob("batch_*")), process)
        block, sent = b"10000\r\n" + b"x" * 65_536 + b"\r\n", 0
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as endless:
            endless.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            with pytest.raises(OSError):
                while sent < 1 << 30:
                    endless.sendall(block)
                    sent += len(block)
        memory = int(Path(f"/proc/{process.pid}/status").read_text().split("VmHWM:")[1].split()[0])
        assert sent < 400 << 20 and memory < 400 << 10
        assert client.get("/v1/batches").json()["data"] == [] == list(tmp_path.glob("batch_*"))


@pytest.mark.nightly
def test_client_that_never_reads_its_answer_does_not_keep_the_api_from_stopping(tmp_path: Path) -> None:
    with api_process(tmp_path, "--sandbox") as (client, process):
        batch = client.post("/v1/batches", content=b"null\n" * 200_000).json()["id"]  # errors that fill all buffers
        until(lambda: shown(client, batch)["status"] == "failed", process)
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as never_read:
            never_read.sendall(f"GET /v1/batches/{batch}/errors HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert never_read.recv(8) == b"HTTP/1.1"
            process.terminate()
            process.wait(60)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)])
def test_two_processes_share_batches_and_one_goes_on_alone(tmp_path: Path, kind: str) -> None:
    body = [{"id": str(n), "task": "t-1", "text": "unsure" if n % 100 == 0 else "sure"} for n in range(3000)]
    sent = ["".join(json.dumps({**row, "id": f"{n}-{row['id']}"}) + "\n" for row in body) for n in range(4)]
    with ExitStack() as stack:
        name = stack.enter_context(postgres.database_name(kind, tmp_path))
        one, process = stack.enter_context(routed.api_process(name, tmp_path))
        two, _ = stack.enter_context(routed.api_process(name, tmp_path))
        first = {"id": "2-7", "task": "t-1", "text": "unsure"}  # which a batch has with another text
        assert two.post("/v1/score", json={"rows": [first]}).status_code == 200
        batches = [(one, two)[n % 2].post("/v1/batches", content=rows).json()["id"] for n, rows in enumerate(sent)]
        until(lambda: any(shown(one, batch)["request_counts"]["completed"] for batch in batches), process)
        process.kill()
        for n, batch in enumerate(batches):
            until(lambda batch=batch: shown(two, batch)["status"] == "completed", shown=lambda: shown(two, batches[0]))
            results = two.get(f"/v1/batches/{batch}/results").text.splitlines()
            expected = [f"{n}-{row['id']}" for row in body]
            errors = [json.loads(line)["line"] for line in two.get(f"/v1/batches/{batch}/errors").text.splitlines()]
            assert errors == [expected.index(first["id"]) + 1 for _ in range(expected.count(first["id"]))]
            assert [json.loads(row)["id"] for row in results] == [name for name in expected if name != first["id"]]
            counts = {"total": 3000, "completed": len(results), "failed": len(errors)}
            assert shown(two, batch)["request_counts"] == counts
        with closing(Database(name)) as database, database.read() as connection:
            verify(connection)
            names = list(connection.scalars(select(schema.rows.c.name)))
    assert sorted(names) == sorted([first["id"], *(f"{n}-{k}" for n in range(4) for k in range(0, 3000, 100))])
