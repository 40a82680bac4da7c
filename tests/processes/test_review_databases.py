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
from desks import Work, make_programme
from scoremux_client.errors import InputError
from scoremux_review import exports, figures
from scoremux_review.database import decision_rows, leases
from scoremux_review.database.connection import Database
from scoremux_review.database.schema import decisions, rows
from scoremux_review.database.verification import verify
from scoremux_review.desk_policy import DeskPolicy
from scoremux_review.errors import DatabaseError

RATERS = tuple(f"rater{n}" for n in range(6))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_name(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "reviews.db")
        return
    if postgres.programs() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with postgres.running() as url:
        yield url


def read_all(work: Work, who: str, errors: list[BaseException]) -> None:
    try:
        while (read := work.take(who, draw=None)) is not None:
            work.decide(who, read.token, read.id % 3)
    except BaseException as error:
        errors.append(error)
        raise


def test_raters_at_once_read_every_row_once(database_name: str, tmp_path: Path) -> None:
    policy = DeskPolicy(groups=False, second_reads=0.3, validity=0.1, adjudicate="never")
    programme = make_programme(tmp_path, 120, policy, name=database_name, raters=RATERS)
    work, errors = Work(programme, policy), list[BaseException]()
    threads = [threading.Thread(target=read_all, args=(work, who, errors)) for who in RATERS]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        work.verify()  # sees one state, whoever writes meanwhile
    assert not errors
    with programme.database.read() as connection:
        saved = connection.execute(select(decisions).where(decisions.c.kind != "validity")).all()
        assert max(Counter((d.row, d.kind) for d in saved).values()) == 1
        assert max(Counter((d.row, d.person) for d in saved).values()) == 1
        assert not [queue for queue in leases.all_queues(connection) if queue.waiting]
        verify(connection)
        levels = decision_rows.blind_levels(connection)
        assert all(figures.agreement(figures.pairs(levels, kind, "task"), "task") for kind in figures.KINDS)
        assert figures.curve(levels).policy is not None
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
    ("name", "message"),
    [("mysql://x@y/z", "a file .SQLite. or a postgresql:// URL"),
     ("/no/such/folder/x.db", "cannot be written: No such file"),
     ("postgresql://u:secret@127.0.0.1:1/x", "cannot be opened")],
)  # fmt: skip
def test_database_that_cannot_be_opened_is_named_without_password(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        Database(name)
    assert "secret" not in str(refused.value)


def test_no_statement_of_a_key_press_scans_all_rows(tmp_path: Path) -> None:
    policy = DeskPolicy(second_reads=0.5, validity=0.2)
    programme = make_programme(tmp_path, 60, policy)
    database, plans = programme.database, {}

    @event.listens_for(database.engine, "before_cursor_execute")
    def explain(_: object, __: object, statement: str, values: tuple[object, ...], *___: object) -> None:
        if statement.startswith(("SELECT", "UPDATE")) and not isinstance(values, list):
            with sqlite3.connect(str(tmp_path / "reviews.db")) as apart:
                plan = [row[3] for row in apart.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            bound = values[statement.partition("WHERE")[0].count("?") :]
            many = {"open", "waiting", "done", "machine"} & {str(value) for value in bound}
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
