"""What `review verify` finds: every column of the database is changed by SQL, one at a time."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Boolean, Column, Float, Integer, create_engine, inspect

from desks import Browser, Programme, Work, make_programme, scored_rows, write_alerts, write_jsonl
from making import ROOT
from scoremux_client.errors import InputError
from scoremux_desk.database import log
from scoremux_desk.database.accounts import change_person, listed
from scoremux_desk.database.connection import Database
from scoremux_desk.database.guards import SQLITE_GUARDS
from scoremux_desk.database.schema import FORMAT, metadata
from scoremux_desk.database.verification import verify
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.errors import BrokenRecordError
from scoremux_desk.exports import export_final
from scoremux_desk.pages.desk_app import Desk, create_app
from scoremux_desk.reading.alerts import add_alerts, handle_alert, listed_alerts, raise_alert, see_alerts
from scoremux_desk.reading.intake import add_papers, add_scored
from scoremux_files.rows.readers import read_rows

NOT_COVERED = {
    "reads": "who reads what now; no score comes from it, and each decision has its own entry",
    "queues": "counts for the pages, made from the reads",
    "sessions": "who is signed in now; what they do has entries under their name",
    "attempts": "failed sign-ins of the last five minutes",
    "api_rows": "which token sent a row; `rows` has what it sent",
}
"""Tables that are not compared with the record, and why."""
TABLES = [table.name for table in metadata.sorted_tables if table.name not in NOT_COVERED]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the database of a desk where everything has happened once."""
    folder = tmp_path_factory.mktemp("finished")
    policy = DeskPolicy(groups=True, second_reads=0.5, validity=0.2)
    rows = [{**row, "student": f"s{n % 9}", "gender": "fm"[n % 2]} for n, row in enumerate(scored_rows(60))]
    rows += [{**rows[2], "id": f"copy{n}", "line": 900 + n} for n in range(3)]
    work = Work(make_programme(folder, policy=policy, rows=rows, keep=["gender"]), policy)
    for n, name in enumerate(("anna", "ben", "lee", "anna", "ben", "dana")):
        while (read := work.take(name, draw=n / 5)) is not None:
            members = [member.token for member in work.members(read)]
            work.decide(name, read.token, None if read.id % 7 == 0 else read.id % 3, code="R" * (read.id % 7 == 0),
                        note="a note", also=members)  # fmt: skip
    work.undo("anna")
    read = work.take("anna")
    work.act(raise_alert, "anna", read.token)
    with work.database.read() as connection:
        raised = listed_alerts(connection, 9)
    work.act(see_alerts, "lee", raised)
    work.act(handle_alert, "lee", 1)
    work.put_aside("anna", read.token, "Is “eats” the same as “absorbs”?")
    work.answer("lee", read.id, "anna", "It is.")
    write_jsonl(folder / "set.jsonl", [{"task": "geo-2", "level": n, "text": f"paper {n}"} for n in (0, 1)])
    add_papers(work.database, folder / "set.jsonl", "qualification")
    for _ in range(2):
        work.decide("ben", work.take("ben", "geo-2").token, 0)
    work.take("ben", "geo-2")
    work.assign_work("lee", "anna", "bio-* 300\nphy-3")
    work.change_pool("earth", "geo-*", "ben")
    work.change_pool("biology", "bio-* 20\nbio-7", "anna", "ben")
    work.change_pool("chemistry", "chem-*", "anna")
    work.change_pool("earth", "geo-*", "anna")
    work.change_pool("chemistry", "")
    write_alerts(folder / "scored.jsonl.alerts", rows[:2])
    assert add_alerts(work.database, folder / "scored.jsonl", "test") == (2, 0)
    (settled,) = work.execute("SELECT min(id) AS id FROM rows WHERE state = 'done'")
    work.reopen("dana", settled.id)
    change_person(work.database, "ben", "dana", active=False)
    work.verify()
    work.database.close()
    yield folder / "reviews.db"


@pytest.fixture(scope="module")
def forge(finished: Path) -> Iterator[Callable[..., None]]:
    """Give what changes a desk, as someone does who may do everything with it, verifies it, and takes that back."""
    connection = create_engine("sqlite://").connect()
    driver: Any = connection.connection.driver_connection
    with sqlite3.connect(finished) as stored:
        stored.backup(driver)
    stored.close()
    driver.isolation_level = None

    def change(*statements: str, guarded: bool = True) -> None:
        guards = [*SQLITE_GUARDS.values()] if guarded else []
        connection.exec_driver_sql("BEGIN")
        try:
            for name in SQLITE_GUARDS if guarded else ():
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
            for statement in statements:
                assert connection.exec_driver_sql(statement).rowcount == 1 or not guarded, statement
            for guard in guards:
                connection.exec_driver_sql(guard)
            verify(connection)
        finally:
            connection.exec_driver_sql("ROLLBACK")

    change()
    yield change
    connection.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE TRIGGER kind AFTER INSERT ON decisions BEGIN UPDATE decisions SET level = 2 WHERE id = new.id; END",
         "a trigger or rule kind"),
        ("DROP TRIGGER record_UPDATE", "the trigger record_UPDATE, which protects the record"),
        ("DROP INDEX one_decision_a_read", "the index one_decision_a_read of the table decisions is missing"),
        ("ALTER TABLE decisions ADD COLUMN level_before INTEGER", "the table decisions .* has other columns"),
        ("ALTER TABLE anchors RENAME TO old", "the table anchors is missing"),
    ],
)  # fmt: skip
def test_changed_schema_is_found(forge: Callable[..., None], statement: str, message: str) -> None:
    with pytest.raises(BrokenRecordError, match=message):
        forge(statement, guarded=False)


def another(column: Column[Any]) -> str:
    name = f'"{column.name}"'
    if isinstance(column.type, Boolean):
        return f"NOT {name}"
    if isinstance(column.type, (Integer, Float)):
        return f"COALESCE({name}, 0) + {1000003 if column.primary_key or column.foreign_keys else 1}"
    return f"COALESCE({name}, '') || 'x'"


def test_tables_that_are_not_compared_are_listed() -> None:
    page = (ROOT / "desk/scoremux_desk/README.md").read_text()
    assert [table for table in NOT_COVERED if f"`{table}`" not in page] == []


@pytest.mark.parametrize("name", TABLES)
def test_changed_column_or_removed_row_is_found(forge: Callable[..., None], name: str) -> None:
    for last in ("min", "max"):
        where = f"rowid = (SELECT {last}(rowid) FROM {name})"
        for column in metadata.tables[name].columns:
            with pytest.raises(BrokenRecordError):
                forge(f'UPDATE {name} SET "{column.name}" = {another(column)} WHERE {where}')
        if (name, last) != ("record", "max"):  # a record that was cut at its end is found by what was noted
            with pytest.raises(BrokenRecordError):
                forge(f"DELETE FROM {name} WHERE {where}")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE rows SET final_level = 2 - final_level WHERE id = (SELECT min(id) FROM rows WHERE final_level = 0)",
        "UPDATE rows SET state = 'done', final_level = 2 WHERE id = (SELECT min(id) FROM rows WHERE state = 'machine')",
        "UPDATE rows SET state = 'machine' WHERE id = (SELECT max(id) FROM rows WHERE state = 'done')",
        "UPDATE rows SET text = 'It absorbs red.', salt = 'x' WHERE id = 3",
        "UPDATE rows SET known_level = 2 WHERE state = 'validity'",
        "UPDATE rows SET student = '' WHERE id = 3",
        "UPDATE rows SET student = 's4' WHERE id = 3",
        "UPDATE rows SET student = 0 WHERE state = 'validity'",
        "UPDATE rows SET kept = '' WHERE id = 3",
        "UPDATE rows SET kept = REPLACE(kept, 'f', 'm') WHERE id = 3",
        "UPDATE rows SET student = kept, kept = '' WHERE id = 3",
        "UPDATE rows SET kept = student, student = '' WHERE id = 3",
        "UPDATE decisions SET person = (SELECT id FROM people WHERE name = 'lee') WHERE id = 1",
        "UPDATE people SET role = 'director' WHERE name = 'anna'",
        "UPDATE rows SET task = CAST(task AS BLOB) WHERE id = 3",
        "UPDATE people SET password = CAST('x' AS BLOB) WHERE id = 1",
        "UPDATE record SET entry = CAST(entry AS BLOB) WHERE number = 3",
        "UPDATE remarks SET text = CAST(text AS BLOB) WHERE rowid = (SELECT min(rowid) FROM remarks)",
        "UPDATE anchors SET text = CAST(text AS BLOB) WHERE rowid = (SELECT min(rowid) FROM anchors)",
        "INSERT INTO people (name, role, active) VALUES ('eve', 'director', 1)",
        "INSERT INTO settings VALUES ('x', 'y')",
        """INSERT INTO decisions (read, row, person, task, kind, round, level, code, saw, at, spent_s, size,
           fast, compared, undone) SELECT read, row, person, task, kind, round, 0, code, saw, at, spent_s, size,
           fast, compared, 1 FROM decisions WHERE id = 2""",
    ],
)
def test_forgery_is_found(forge: Callable[..., None], statement: str) -> None:
    with pytest.raises(BrokenRecordError):
        forge(statement)


_FROM_1_TO_9 = """
ALTER TABLE decisions DROP COLUMN note;
ALTER TABLE rows ADD COLUMN student TEXT NOT NULL DEFAULT '';
ALTER TABLE rows ADD COLUMN kept TEXT NOT NULL DEFAULT '';
UPDATE settings SET value = '9' WHERE key = 'format';
"""


def test_desk_of_format_1_that_0_1_migrated_is_worked_at(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/upgrade/format-1/desk/reviews.db", tmp_path / "reviews.db")
    with pytest.raises(InputError, match="made by another version"):
        Database(str(tmp_path / "reviews.db"))
    with closing(sqlite3.connect(tmp_path / "reviews.db")) as connection:  # as 0.1 migrates it
        connection.executescript(_FROM_1_TO_9)
    new = ("remarks", "messages", "assignments", "standings", "pools", "pool_members", "api_rows")
    metadata.create_all(create_engine(f"sqlite:///{tmp_path}/reviews.db"), [metadata.tables[name] for name in new])
    database = Database(str(tmp_path / "reviews.db"), clock=lambda: 1.9e9)
    with database.read() as connection:
        noted = verify(connection)
        assert noted == (44, "f3e2d0cfa362bb368e12e5cf400a1508562bfd51981345e624f25b5e9f2c9b12")
        people = {person.name: person.id for person in listed(connection)}
        decided = [entry for entry in log.entries(connection) if entry.action == "decided"]
    assert {entry.remark for entry in decided} == {"a note"}
    programme = Programme(tmp_path, database, create_app(Desk(database)), people)
    work = Work(programme, DeskPolicy(groups=False))
    write_jsonl(tmp_path / "new.jsonl", [row | {"source": "new", "gender": "f"} for row in scored_rows(2)])
    add_scored(database, tmp_path / "new.jsonl", columns=["keep=gender"])
    with database.read() as connection:
        noted = verify(connection, noted)
    read = work.take("lee")
    work.programme.clock[0] = 1.9e9
    database.now = lambda: 1.9e9 + 60
    work.decide("lee", read.token, 1, note="another note")
    with database.read() as connection:
        assert verify(connection, noted)[0] == noted[0] + 1
        assert log.entries(connection, most=1)[0].remark == "another note"
    export_final(database, tmp_path / "final.jsonl")
    finals = list(read_rows(tmp_path / "final.jsonl"))
    assert [row["gender"] for row in finals] == [*[None] * (len(finals) - 2), "f", "f"]
    with sqlite3.connect(tmp_path / "reviews.db") as connection:
        connection.execute(f"UPDATE settings SET value = '{FORMAT + 1}' WHERE key = 'format'")
    connection.close()
    reasons: list[str] = []  # an older desk that goes on beside a newer one writes nothing and stops
    browser = Browser(create_app(Desk(database, stop=reasons.append, answer_s=0.0)))
    browser.get("/login")
    answer = browser.post("/login", {"name": "lee", "password": "x"})
    assert (answer.status_code, len(reasons)) == (503, 1)
    assert f"format {FORMAT + 1} by now, and this version of scoremux knows {FORMAT}" in reasons[0]
    database.close()
    with pytest.raises(InputError, match="made by another version of scoremux"):
        Database(str(tmp_path / "reviews.db"))


def test_record_is_append_only_and_a_cut_end_is_found_by_what_was_noted(at_work: Any) -> None:
    work = at_work()
    for _ in range(3):
        work.decide("anna", work.take("anna").token, 1, note="a note")
    number, digest = work.verify()
    for forbidden in ("UPDATE record SET entry = ''", "DELETE FROM record"):
        with pytest.raises(Exception, match="append-only"):
            work.execute(forbidden)
    work.execute("DROP TRIGGER record_DELETE")
    (last,) = work.execute("SELECT max(id) AS id, read, row FROM decisions")
    work.execute("DELETE FROM record WHERE number = :number", number=number)
    work.execute(SQLITE_GUARDS["record_DELETE"])
    work.execute("DELETE FROM remarks WHERE entry = :number", number=number)
    work.execute("DELETE FROM decisions WHERE id = :id", id=last.id)
    work.execute(
        "UPDATE rows SET state = 'waiting', final_level = NULL, final_decision = NULL WHERE id = :id", id=last.row
    )
    assert work.verify()[0] == number - 1  # a record cut at its end is intact in itself
    with work.database.read() as connection, pytest.raises(BrokenRecordError, match=f"entry {number} was noted"):
        verify(connection, (number, digest))
    work.execute("UPDATE reads SET state = 'open', person = NULL, token = NULL WHERE id = :id", id=last.read)
    work.execute(
        "UPDATE queues SET waiting = waiting + 1, done = done - 1 WHERE task = 'bio-7' AND reason = 'LOW_CONFIDENCE'"
    )


_OF_FORMAT_10 = """
CREATE TABLE webhooks (id TEXT PRIMARY KEY, token TEXT, url TEXT, secrets TEXT);
CREATE TABLE deliveries (number INTEGER PRIMARY KEY, id TEXT, webhook TEXT, type TEXT, body TEXT, state TEXT);
CREATE TABLE idempotency (token TEXT, key TEXT);
CREATE TABLE batches (id TEXT PRIMARY KEY, token TEXT, state TEXT);
INSERT INTO webhooks VALUES ('wh_1', 'lms', 'https://lms.example/', '["a secret"]');
INSERT INTO deliveries VALUES (1, 'msg_1', 'wh_1', 'row.final', '{"id": "r1"}', 'delivered'),
  (2, 'msg_2', 'wh_1', 'row.final', '{"id": "r2"}', 'waiting'),
  (3, 'msg_3', 'wh_1', 'row.final', '{"id": "r3"}', 'dead');
INSERT INTO batches VALUES ('batch_1', 'lms', 'in_progress'), ('batch_2', 'lms', 'expired');
UPDATE settings SET value = '10' WHERE key = 'format';
"""


def test_what_waits_in_tables_that_are_gone_is_kept_beside_the_database(tmp_path: Path) -> None:
    name = str(tmp_path / "reviews.db")
    Database(name, create=True).close()
    with closing(sqlite3.connect(name)) as connection:
        connection.executescript(_OF_FORMAT_10)
    with closing(Database(name)) as database, database.read() as connection:
        verify(connection)
        assert "2 deliveries and 1 batches" in database.removed
        assert not {"webhooks", "deliveries", "idempotency", "batches"} & {*inspect(connection).get_table_names()}
    [kept] = tmp_path.glob("reviews.db.removed-*.jsonl")
    assert str(kept) in database.removed and kept.stat().st_mode & 0o077 == 0
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [(line["table"], line["id"]) for line in lines] == [
        ("deliveries", "msg_2"), ("deliveries", "msg_3"), ("batches", "batch_1"),
    ]  # fmt: skip
    assert lines[0]["url"] == "https://lms.example/" and "secret" not in kept.read_text()
    with closing(Database(name)) as database:
        assert database.removed == ""
