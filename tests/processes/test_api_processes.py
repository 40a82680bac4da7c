"""`scoremux api` as processes on SQLite and a real PostgreSQL: side by side, killed, cut off, without a database."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import select

import postgres
from apis import routed_process, row, score
from scoremux_desk.database import reads
from scoremux_desk.database.connection import Database
from scoremux_desk.database.schema import api_rows, rows
from scoremux_desk.database.verification import verify
from waiting import side_by_side, until


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)])
def database_name(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with postgres.database_name(request.param, tmp_path) as name:
        yield name


def names_in(database_name: str) -> list[str]:
    with closing(Database(database_name)) as database, database.read() as connection:
        verify(connection)
        names = sorted(connection.scalars(select(rows.c.name)))
        assert sorted(connection.scalars(select(api_rows.c.name))) == names
        assert sum(queue.waiting for queue in reads.all_queues(connection)) == len(names)
    return names


def test_two_apis_that_get_the_same_rows_at_once_store_each_once(database_name: str) -> None:
    statuses, first = Counter[int](), Counter[int]()
    with ExitStack() as stack:
        clients = [stack.enter_context(routed_process(database_name))[0] for _ in range(2)]

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


def test_api_killed_between_commit_and_answer_answers_the_same_rows_later(database_name: str) -> None:
    die = [row(name, "unsure DIE") for name in ("a2", "b")]
    with routed_process(database_name, "dies") as (client, process):
        assert score(client, row("a")).status_code == 200
        with pytest.raises(httpx.TransportError):
            score(client, *die)
        assert process.wait(60) == -9
    assert names_in(database_name) == ["a", "a2", "b"]
    with routed_process(database_name) as (client, _):
        assert [scored["route"] for scored in score(client, *die).json()["rows"]] == ["human:LOW_CONFIDENCE"] * 2
        assert client.get("/v1/rows/t-1/b").json()["state"] == "pending"
    assert names_in(database_name) == ["a", "a2", "b"]


@pytest.mark.nightly
def test_postgresql_that_is_away_is_a_problem_to_retry() -> None:
    if postgres.programs() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")

    def check_problem(answer: httpx.Response) -> None:
        assert (answer.status_code, answer.json()["retryable"], "retry-after" in answer.headers) == (503, True, True)
        assert "rows" not in answer.json()

    with postgres.running() as url, routed_process(url) as (client, _):
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
