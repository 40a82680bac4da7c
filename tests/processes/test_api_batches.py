"""Batches of `scoremux api` as a process: killed at any time, and uploads that are cut off or never end."""

import json
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from batch_jobs import SCOREMUX
from peers import answer, listening
from waiting import free_port, until


@contextmanager
def api_process(folder: Path, url: str) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    port = free_port()
    command = [
        SCOREMUX,
        "api",
        "--url",
        url,
        "--database",
        folder / "reviews.db",
        "--folder",
        folder,
        "--port",
        str(port),
    ]
    process = subprocess.Popen([str(word) for word in command], stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            until(lambda: _answers(client), process)
            yield client, process
    finally:
        process.kill()
        process.wait()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def shown(client: httpx.Client, batch: str) -> dict[str, Any]:
    return dict(client.get(f"/v1/batches/{batch}").json())


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.nightly)])
def test_killed_process_resumes_its_batches(tmp_path: Path, kills: int) -> None:
    scored = list[bytes]()
    randomly = random.Random(7)

    def slowly(request: Any, context: Any) -> Any:
        time.sleep(0.01)
        return answer(request, context)

    rows = [{"id": f"r{n}", "task": "t", "text": str(n % 4)} for n in range(12_000)]
    body = "".join(json.dumps(row) + "\n" for row in rows)
    with listening(slowly) as url:
        with api_process(tmp_path, url) as (client, process):
            batch = client.post("/v1/batches", content=body).json()["id"]
        seen = 0
        for _ in range(kills):
            with api_process(tmp_path, url) as (client, process):
                goal = seen + randomly.randrange(1, 9000 // kills)
                until(lambda goal=goal: shown(client, batch)["request_counts"]["completed"] >= goal, process)
                now = client.get(f"/v1/batches/{batch}/results").content.splitlines()
                assert now[: len(scored)] == scored and len(now) >= goal
                scored, seen = now, len(now)
                process.send_signal(signal.SIGKILL)
        with api_process(tmp_path, url) as (client, process):
            until(lambda: shown(client, batch)["status"] == "completed", process)
            results = client.get(f"/v1/batches/{batch}/results").content.splitlines()
    assert results[: len(scored)] == scored
    assert [(row["id"], row["level"]) for row in map(json.loads, results)] == [(f"r{n}", n % 4) for n in range(12_000)]


def test_upload_that_is_cut_off_or_never_ends_leaves_nothing(tmp_path: Path) -> None:
    with listening(answer) as url, api_process(tmp_path, url) as (client, process):
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
