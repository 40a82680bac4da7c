"""APIs in processes of their own, on SQLite and on a real PostgreSQL: side by side, killed, without a database."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import select

import postgres
from routed import api_process
from scoremux_review.database import reads
from scoremux_review.database.connection import Database
from scoremux_review.database.schema import api_rows, rows
from scoremux_review.database.verification import verify
from waiting import side_by_side, until


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)])
def database_name(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with postgres.database_name(request.param, tmp_path) as name:
        yield name


def score(client: httpx.Client, *ids: str, text: str = "unsure") -> httpx.Response:
    return client.post("/v1/score", json={"rows": [{"id": name, "task": "t-1", "text": text} for name in ids]})


def names_in(database_name: str) -> list[str]:
    with closing(Database(database_name)) as database, database.read() as connection:
        verify(connection)
        names = list(connection.scalars(select(rows.c.name)))
        assert sorted(connection.scalars(select(api_rows.c.name))) == sorted(names)
        assert sum(queue.waiting for queue in reads.all_queues(connection)) == len(names)
    return names


def test_two_apis_that_get_the_same_rows_at_once_store_each_once(database_name: str, tmp_path: Path) -> None:
    answers: list[httpx.Response] = []
    first: list[httpx.Response] = []
    with ExitStack() as stack:
        clients = [stack.enter_context(api_process(database_name, tmp_path))[0] for _ in range(2)]

        def send(n: int) -> None:
            for number in range(20):
                answers.append(score(clients[n % 2], *(f"{number}-{k}" for k in range(8)), "all"))

        side_by_side(send, range(6))
        # One id with six texts at once: one wins.
        side_by_side(lambda n: first.append(score(clients[n % 2], "x", text=f"unsure {n}")), range(6))
    assert Counter(answer.status_code for answer in answers) == {200: 120}
    assert Counter(answer.status_code for answer in first) == {200: 1, 409: 5}
    assert sorted(names_in(database_name)) == sorted([f"{a}-{b}" for a in range(20) for b in range(8)] + ["all", "x"])


def test_api_killed_between_commit_and_answer_answers_the_same_rows_later(database_name: str, tmp_path: Path) -> None:
    with api_process(database_name, tmp_path, "dies") as (client, process):
        assert score(client, "a").status_code == 200
        with pytest.raises(httpx.TransportError):
            score(client, "a2", "b", text="unsure DIE")
        assert process.wait(60) == -9
    assert names_in(database_name) == ["a", "a2", "b"]
    with api_process(database_name, tmp_path) as (client, _):
        answer = score(client, "a2", "b", text="unsure DIE")
        assert [scored["route"] for scored in answer.json()["rows"]] == ["human:LOW_CONFIDENCE"] * 2
        assert client.get("/v1/rows/t-1/b").json()["state"] == "pending"
    assert names_in(database_name) == ["a", "a2", "b"]


@pytest.mark.nightly
def test_postgresql_that_is_away_is_a_problem_to_retry(tmp_path: Path) -> None:
    if postgres.programs() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")

    def check_problem(answer: httpx.Response) -> None:
        assert (answer.status_code, answer.json()["retryable"], "retry-after" in answer.headers) == (503, True, True)
        assert "rows" not in answer.json()

    with postgres.running() as url, api_process(url, tmp_path) as (client, _):
        assert score(client, "a").status_code == 200
        postgres.stop(url)
        for text in ("unsure", "sure"):  # whether the row is for people is not all that the answer depends on
            check_problem(score(client, "b", text=text))
        check_problem(client.get("/v1/rows/t-1/a"))
        postgres.start(url)
        assert score(client, "b").status_code == 200
        server = psutil.Process(postgres.pid_of(url))
        frozen = [server, *server.children()]
        for process in frozen:
            process.suspend()
        try:
            check_problem(score(client, "c"))
        finally:
            for process in frozen:
                process.resume()
        until(lambda: score(client, "c").status_code == 200)
        assert sorted(names_in(url)) == ["a", "b", "c"]
