"""The review desk on SQLite and on a real PostgreSQL: raters at once, and all that a desk does."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, insert, select, text

import postgres
from desks import Programme, make_programme
from scoremux_client.errors import InputError
from scoremux_review import exports, figures
from scoremux_review.database import log
from scoremux_review.database.connection import Database
from scoremux_review.database.schema import decisions, rows
from scoremux_review.desk_policy import Policy
from scoremux_review.errors import DatabaseError
from scoremux_review.reading import human_decisions as deciding
from scoremux_review.reading import queues as leasing
from scoremux_review.reading.queues import Reader

RATERS = tuple(f"rater{n}" for n in range(6))


@pytest.fixture(params=["sqlite", "postgresql"])
def name(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "reviews.db")
        return
    if postgres.programs() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with postgres.running() as url:
        yield url


def work(programme: Programme, who: str, policy: Policy, wrong: list[BaseException]) -> None:
    reader = Reader(programme.people[who], who)
    database = programme.database
    try:
        while True:
            with database.write() as connection:
                read = leasing.take(connection, reader, "", "", policy, database.now())
                if read is None:
                    return
            with database.write() as connection:
                said = deciding.Judgement(read.id % 3)
                deciding.decide(connection, reader, read.token, said, policy, database.now())
    except BaseException as error:
        wrong.append(error)
        raise


def test_raters_at_once_read_every_row_once_and_the_chain_holds(name: str, tmp_path: Path) -> None:
    policy = Policy(groups=False, second_reads=0.3, validity=0.1, adjudicate="never")
    programme = make_programme(tmp_path, 120, policy, name=name, raters=RATERS)
    wrong: list[BaseException] = []
    threads = [threading.Thread(target=work, args=(programme, who, policy, wrong)) for who in RATERS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    with programme.database.read() as connection:
        made = connection.execute(select(decisions).where(decisions.c.kind != "validity")).all()
        assert max(Counter((one.row, one.kind) for one in made).values()) == 1
        assert max(Counter((one.row, one.person) for one in made).values()) == 1
        assert not [q for q in leasing.listed(connection, True) if q.waiting]
        log.verify(connection)
        assert figures.agreement(figures.pairs(connection, "machine", "task"), "task")
        assert figures.curve(connection).policy is not None
    assert exports.export_labelled(programme.database, tmp_path / "labelled.parquet") > 50
    with pytest.raises(Exception, match="append-only"), programme.database.write() as connection:
        connection.execute(text("DELETE FROM record"))
    with pytest.raises(DatabaseError) as refused, programme.database.write() as connection:
        connection.execute(insert(rows).values(id=1, text="a student's words"))
    assert "student" not in str(refused.value)
    browser = programme.client("dana")
    for path in ("/", "/progress", "/agreement?by=week", "/record", "/rows/1", "/export/final.csv"):
        assert browser.get(path).status_code == 200
    programme.database.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("mysql://x@y/z", "a file .SQLite. or a postgresql:// URL"), ("/no/such/folder/x.db", "cannot be opened"),
     ("postgresql://u:secret@127.0.0.1:1/x", "cannot be opened")],
)  # fmt: skip
def test_a_database_that_cannot_be_opened_is_named_without_its_password(wrong: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        Database(wrong)
    assert "secret" not in str(refused.value)


def test_no_statement_of_a_key_press_looks_at_all_rows(tmp_path: Path) -> None:
    policy = Policy(second_reads=0.5, validity=0.2)
    programme = make_programme(tmp_path, 60, policy)
    database, plans = programme.database, {}

    @event.listens_for(database.engine, "before_cursor_execute")
    def explain(_: object, __: object, statement: str, values: tuple[object, ...], *___: object) -> None:
        if statement.startswith(("SELECT", "UPDATE")) and not isinstance(values, list):
            with sqlite3.connect(str(tmp_path / "reviews.db")) as apart:
                plan = [row[3] for row in apart.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            asked = values[statement.partition("WHERE")[0].count("?") :]
            many = {"open", "waiting", "done", "machine"} & {str(value) for value in asked}
            plans[statement] = (plan, bool(many))

    leader = programme.client("lee")
    leader.get("/")
    leader.post("/start")
    for n in range(12):
        leader.post("/decide", {"level": str(n % 2)}, headers={"X-Desk": "1"})
    leader.post("/undo")
    assert len(plans) > 20
    for statement, (plan, many) in plans.items():
        for line in plan:
            assert not re.match(r"SCAN (rows|reads|decisions)\b(?!.*USING (COVERING )?INDEX)", line), statement
            assert not (many and re.search(r"(reads_by_lease|rows_by_state) \(state=\?\)", line)), statement
    database.close()


def test_a_database_from_before_a_column_gets_it_and_keeps_its_rows(name: str, tmp_path: Path) -> None:
    programme = make_programme(tmp_path, 6, name=name)
    with programme.database.write() as connection:
        connection.execute(text("ALTER TABLE rows DROP COLUMN level_low"))
        connection.execute(text("ALTER TABLE rows DROP COLUMN level_high"))
    programme.database.close()
    again = Database(name)
    with again.write() as connection:
        assert {row.level_low for row in connection.execute(select(rows))} == {None}
        assert connection.execute(rows.update().values(level_low=1, level_high=2)).rowcount >= 6
    again.close()
