"""`scoremux api` as processes on SQLite and a real PostgreSQL: side by side, killed, cut off, without a database."""

import json
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import select

import postgres
from apis import api_process, routed_process, row, score
from peers import answer, listening
from scoremux_desk.database import reads
from scoremux_desk.database.connection import Database
from scoremux_desk.database.schema import api_rows, rows
from scoremux_desk.database.verification import verify
from waiting import side_by_side, until


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)])
def database_name(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with postgres.database_name(request.param, tmp_path) as name:
        yield name


def sent(client: httpx.Client, rows: list[dict[str, Any]]) -> str:
    body = "".join(json.dumps(row) + "\n" for row in rows)
    return str(client.post("/v1/batches", content=body).raise_for_status().json()["id"])


def shown(client: httpx.Client, batch: str) -> dict[str, Any]:
    return dict(client.get(f"/v1/batches/{batch}").json())


def read(client: httpx.Client, batch: str, what: str = "results") -> list[dict[str, Any]]:
    return [json.loads(line) for line in client.get(f"/v1/batches/{batch}/{what}").text.splitlines()]


def names_in(database_name: str) -> list[str]:
    with closing(Database(database_name)) as database, database.read() as connection:
        verify(connection)
        names = sorted(connection.scalars(select(rows.c.name)))
        assert sorted(connection.scalars(select(api_rows.c.name))) == names
        assert sum(queue.waiting for queue in reads.all_queues(connection)) == len(names)
    return names


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.nightly)])
def test_killed_process_resumes_its_batches(tmp_path: Path, kills: int) -> None:
    scored, randomly, count = list[dict[str, Any]](), random.Random(7), 6_000 * kills

    def slowly(request: Any, context: Any) -> Any:
        time.sleep(0.01)
        return answer(request, context)

    with listening(slowly) as url:
        with api_process(tmp_path, "--url", url) as (client, process):
            batch = sent(client, [row(f"r{n}", str(n % 4), "t") for n in range(count)])
        for _ in range(kills):
            with api_process(tmp_path, "--url", url) as (client, process):
                goal = min(len(scored) + randomly.randrange(1, 3000), count)  # a busy test may find all of them done
                until(lambda goal=goal: shown(client, batch)["request_counts"]["completed"] >= goal, process)
                now = read(client, batch)
                assert now[: len(scored)] == scored and len(now) >= goal
                scored = now
                process.send_signal(signal.SIGKILL)
        with api_process(tmp_path, "--url", url) as (client, process):
            until(lambda: shown(client, batch)["status"] == "completed", process)
            results = read(client, batch)
    assert results[: len(scored)] == scored
    assert [(row["id"], row["level"]) for row in results] == [(f"r{n}", n % 4) for n in range(count)]


def test_upload_that_is_cut_off_or_never_ends_leaves_nothing(tmp_path: Path) -> None:
    with listening(answer) as url, api_process(tmp_path, "--url", url) as (client, process):
        head, address = b"POST /v1/batches HTTP/1.1\r\nHost: a\r\n", (client.base_url.host, client.base_url.port or 0)
        with socket.create_connection(address) as cut:
            cut.sendall(head + b'Content-Length: 1000\r\n\r\n{"id": "a"')
            until(lambda: list(tmp_path.glob("batch_*")))
        until(lambda: not list(tmp_path.glob("batch_*")), process)
        block, bytes_sent = b"10000\r\n" + b"x" * 65_536 + b"\r\n", 0
        with socket.create_connection(address) as endless:
            endless.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            with pytest.raises(OSError):
                while bytes_sent < 1 << 30:
                    endless.sendall(block)
                    bytes_sent += len(block)
        memory = int(Path(f"/proc/{process.pid}/status").read_text().split("VmHWM:")[1].split()[0])
        assert bytes_sent < 400 << 20 and memory < 400 << 10
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


def test_two_processes_share_batches_and_one_goes_on_alone(database_name: str, tmp_path: Path) -> None:
    bodies = [[row(f"{n}-{k}", "sure" if k % 100 else "unsure") for k in range(3000)] for n in range(4)]
    taken = row("2-7", "unsure, and another text than in the batch")
    with routed_process(database_name, tmp_path) as (one, process), routed_process(database_name, tmp_path) as (two, _):
        assert score(two, taken).status_code == 200
        batches = [sent((one, two)[n % 2], body) for n, body in enumerate(bodies)]
        until(lambda: any(shown(one, batch)["request_counts"]["completed"] for batch in batches), process)
        process.kill()
        for batch, body in zip(batches, bodies, strict=True):
            until(lambda batch=batch: shown(two, batch)["status"] == "completed", shown=lambda: shown(two, batches[0]))
            errors = [number for number, row in enumerate(body, start=1) if row["id"] == taken["id"]]
            assert [error["line"] for error in read(two, batch, "errors")] == errors
            assert [scored["id"] for scored in read(two, batch)] == [
                row["id"] for row in body if row["id"] != taken["id"]
            ]
            counts = {"total": 3000, "completed": 3000 - len(errors), "failed": len(errors)}
            assert shown(two, batch)["request_counts"] == counts
    assert names_in(database_name) == sorted(
        [taken["id"], *(f"{n}-{k}" for n in range(4) for k in range(0, 3000, 100))]
    )


def test_two_apis_that_get_the_same_rows_at_once_store_each_once(database_name: str, tmp_path: Path) -> None:
    statuses, first = Counter[int](), Counter[int]()
    with ExitStack() as stack:
        clients = [stack.enter_context(routed_process(database_name, tmp_path))[0] for _ in range(2)]

        def send(n: int) -> None:
            for number in range(20):
                same = [row(name) for name in (*(f"{number}-{k}" for k in range(8)), "all")]
                statuses[score(clients[n % 2], *same).status_code] += 1

        def send_another_text(n: int) -> None:
            first[score(clients[n % 2], row("x", f"unsure {n}")).status_code] += 1

        side_by_side(send, range(6))
        side_by_side(send_another_text, range(6))  # one of them wins
    assert (statuses, first) == ({200: 120}, {200: 1, 409: 5})
    assert names_in(database_name) == sorted([f"{a}-{b}" for a in range(20) for b in range(8)] + ["all", "x"])


def test_api_killed_between_commit_and_answer_answers_the_same_rows_later(database_name: str, tmp_path: Path) -> None:
    die = [row(name, "unsure DIE") for name in ("a2", "b")]
    with routed_process(database_name, tmp_path, "dies") as (client, process):
        assert score(client, row("a")).status_code == 200
        with pytest.raises(httpx.TransportError):
            score(client, *die)
        assert process.wait(60) == -9
    assert names_in(database_name) == ["a", "a2", "b"]
    with routed_process(database_name, tmp_path) as (client, _):
        assert [scored["route"] for scored in score(client, *die).json()["rows"]] == ["human:LOW_CONFIDENCE"] * 2
        assert client.get("/v1/rows/t-1/b").json()["state"] == "pending"
    assert names_in(database_name) == ["a", "a2", "b"]


@pytest.mark.nightly
def test_postgresql_that_is_away_is_a_problem_to_retry(tmp_path: Path) -> None:
    if postgres.programs() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")

    def check_problem(answer: httpx.Response) -> None:
        assert (answer.status_code, answer.json()["retryable"], "retry-after" in answer.headers) == (503, True, True)
        assert "rows" not in answer.json()

    with postgres.running() as url, routed_process(url, tmp_path) as (client, _):
        assert score(client, row("a")).status_code == 200
        postgres.stop(url)
        for text in ("unsure", "sure"):  # whether the row is for people is not all that the answer depends on
            check_problem(score(client, row("b", text)))
        check_problem(client.get("/v1/rows/t-1/a"))
        postgres.start(url)
        assert score(client, row("b")).status_code == 200
        server = psutil.Process(postgres.pid_of(url))
        frozen = [server, *server.children()]
        for process in frozen:
            process.suspend()
        try:
            check_problem(score(client, row("c")))
        finally:
            for process in frozen:
                process.resume()
        until(lambda: score(client, row("c")).status_code == 200)
        assert names_in(url) == ["a", "b", "c"]
