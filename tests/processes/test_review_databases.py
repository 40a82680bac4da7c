"""The review desk on SQLite and on a real PostgreSQL: raters at once, and all that a desk does."""

import hashlib
import json
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import pyarrow.parquet as pq
import pytest
from sqlalchemy import event, insert, select, text

import postgres
from batch_jobs import SCOREMUX, kill_and_finish
from desks import Work, check_counts, essays, make_programme, scored_rows, write_jsonl
from scoremux_client.audit_lines import beginning, text_digest
from scoremux_client.errors import InputError
from scoremux_desk import exports, figures
from scoremux_desk.database import log, reads, responses
from scoremux_desk.database.accounts import add_person
from scoremux_desk.database.connection import Database
from scoremux_desk.database.programme import Item, save_items
from scoremux_desk.database.schema import (
    api_rows,
    decisions,
    number_of,
    people,
    rows,
)
from scoremux_desk.database.verification import copy_database, verify
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.erasure import ErasureRequest, erase
from scoremux_desk.errors import BrokenRecordError, DatabaseError, LeaseLostError, ReviewError, TooLateError
from scoremux_desk.people_commands import created
from scoremux_desk.reading import conversations, decision_rows
from scoremux_desk.reading.conversations import IS_UNANSWERED
from scoremux_desk.reading.intake import add_scored
from scoremux_files.rows.readers import read_rows

RATERS = tuple(f"rater{n}" for n in range(6))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)])
def database_name(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with postgres.database_name(request.param, tmp_path) as name:
        yield name


def read_all(work: Work, who: str, errors: list[BaseException]) -> None:
    try:
        while (read := work.take(who, draw=0.0)) is not None:  # a validity paper as soon as there is one
            work.decide(who, read.token, read.id % 3)
    except BaseException as error:
        errors.append(error)
        raise


@pytest.mark.parametrize("database_name", ["sqlite", "postgresql"], indirect=True)
def test_raters_at_once_read_every_row_once(database_name: str, tmp_path: Path) -> None:
    policy = DeskPolicy(groups=False, second_reads=0.3, validity=0.1, adjudicate="never")
    programme = make_programme(tmp_path, 60, policy, name=database_name, raters=RATERS)
    work, errors = Work(programme, policy), list[BaseException]()
    other = Database(database_name, clock=programme.database.now)  # a second desk on the same database
    desks = [work, Work(replace(programme, database=other), policy)]
    threads = [threading.Thread(target=read_all, args=(desks[n % 2], who, errors)) for n, who in enumerate(RATERS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        work.verify()  # sees one state, whoever writes meanwhile
        time.sleep(0.02)
    for who in RATERS:  # a response that was in the last hands when others found nothing may need a second reading
        read_all(work, who, errors)
    assert not errors
    with programme.database.read() as connection:
        saved = connection.execute(select(decisions).where(decisions.c.kind != "validity")).all()
        assert max(Counter((d.row, d.kind) for d in saved).values()) == 1
        assert max(Counter((d.row, d.person) for d in saved).values()) == 1
        assert not [queue for queue in reads.all_queues(connection) if queue.waiting]
        verify(connection)
        levels = decision_rows.blind_levels(connection)
        assert all(figures.agreement(figures.pairs(levels, kind, "task"), "task") for kind in figures.KINDS)
    assert exports.export_labelled(programme.database, tmp_path / "labelled.parquet") > 25
    with pytest.raises(Exception, match="append-only"), programme.database.write() as connection:
        connection.execute(text("DELETE FROM record"))
    with pytest.raises(DatabaseError) as refused, programme.database.write() as connection:
        connection.execute(insert(rows).values(id=1, text="a student's words"))
    assert "student" not in str(refused.value)
    browser = programme.client("dana")
    for path in ("/", "/progress", "/agreement?by=rater", "/record", "/rows/1", "/export/final.csv"):
        assert browser.get(path).status_code == 200
    copy = Database(str(tmp_path / "backup.db"), create=True)
    head = copy_database(programme.database, copy)
    assert head == work.verify()
    if not programme.database.is_sqlite:
        with programme.database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("CREATE DATABASE restored"))
        restored = Database(database_name.replace("/postgres?", "/restored?"), create=True)
        assert copy_database(copy, restored) == head
        add_person(restored, "new", "rater", None, "test")  # numbers go on where they were
        with restored.read() as connection:
            assert verify(connection)[0] == head[0] + 1
        restored.close()
    with pytest.raises(InputError, match="a desk in the target already"):
        copy_database(programme.database, copy)
    copy.close()
    other.close()
    programme.database.close()


_DIES = """
import os, signal
from scoremux_desk.reading import intake

def insert_and_die(connection, chunk, *words, insert=intake.insert_rows):
    made = insert(connection, chunk, *words)
    if len(chunk) < intake.CHUNK_ROWS:  # the last one, before its commit
        os.kill(os.getpid(), signal.SIGKILL)
    return made

intake.CHUNK_ROWS, intake.insert_rows = 20, insert_and_die
from scoremux.app import main
main()
"""


def test_essays_of_a_killed_intake_are_read_whole_by_raters_at_once(
    database_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "BLOCK_ROWS", 7)  # the rows of an essay come in two blocks
    policy, worth = DeskPolicy(groups=False, second_reads=0.3, adjudicate="never"), (1, 1.5, 2)
    programme = make_programme(tmp_path, 0, policy, name=database_name, raters=RATERS)
    work, errors = Work(programme, policy), list[BaseException]()
    total = '{"sum": ["cohesion", "grammar", "syntax"]}'
    with work.database.write() as connection:
        items = [Item(f"essay-1.{trait}", worth, total=total) for trait in ("cohesion", "grammar", "syntax")]
        save_items(connection, items, "test")
    write_jsonl(tmp_path / "essays.jsonl", essays(12))
    command = ["review", "add", str(tmp_path / "essays.jsonl"), "--database", database_name]
    killed = subprocess.run([sys.executable, "-c", _DIES, *command], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    added = add_scored(work.database, tmp_path / "essays.jsonl")  # the seventh essay was added in part
    assert (added.rows, added.already_there, added.to_read) == (36, 20, 16)
    for _ in range(2):
        work.decide("rater0", work.take("rater0").token, 0)
    work.undo("rater0")
    with ThreadPoolExecutor(len(RATERS)) as pool:
        list(pool.map(lambda who: read_all(work, who, errors), RATERS))
    for who in RATERS:
        read_all(work, who, errors)
    assert not errors
    work.verify()
    check_counts(programme)
    readers = work.execute(
        "SELECT rows.name, rows.line, decisions.kind, COUNT(*), COUNT(DISTINCT decisions.person) FROM decisions "
        "JOIN rows ON rows.id = decisions.row WHERE NOT undone AND rows.state = 'done' GROUP BY 1, 2, 3"
    )
    assert {row[3:] for row in readers} == {(3, 1)} and len(readers) > 12
    exports.export_final(work.database, tmp_path / "final.parquet")
    final = list(read_rows(tmp_path / "final.parquet"))
    by_essay = {name: [row for row in final if row["id"] == name] for name in {row["id"] for row in final}}
    assert len(by_essay) == 12
    for rows_of_essay in by_essay.values():
        for of, column in (("total", "level"), ("machine_total", "machine_level"), ("first_total", "first_level")):
            expected = sum(worth[row[column]] for row in rows_of_essay)
            assert [row[of] for row in rows_of_essay] == [expected] * 3
    work.database.close()


def test_one_response_at_two_desks_is_decided_once(database_name: str, tmp_path: Path) -> None:
    policy = DeskPolicy(groups=False)
    programme = make_programme(tmp_path, 60, policy, name=database_name)
    other = Database(database_name, clock=programme.database.now)
    desks = [Work(programme, policy), Work(replace(programme, database=other), policy)]
    for turn in range(12):
        read = desks[turn % 2].take("anna")
        actions = [
            partial(desks[0].decide, "anna", read.token, 0),
            partial(desks[1].decide, "anna", read.token, 1),
            partial(desks[1].take, "ben"),
        ]
        with ThreadPoolExecutor(len(actions)) as pool:
            outcomes = [pool.submit(action) for action in actions]
        unexpected = [error for error in (one.exception() for one in outcomes) if error]
        assert all(isinstance(error, ReviewError) for error in unexpected), unexpected
        saved = [one.result() for one in outcomes[:2] if not one.exception()]
        assert sum(map(len, saved)) <= 1
        row = desks[0].row(read.row)
        if row.state == "done":
            with ThreadPoolExecutor(2) as pool:
                again = [pool.submit(desk.reopen, "dana", row.id) for desk in desks]
            assert sum(one.exception() is None for one in again) == 1
        desks[turn % 2].verify()
    check_counts(programme)
    other.close()
    programme.database.close()


def search(work: Work, folder: Path, database_name: str) -> set[str]:
    """Return all ids, beginnings of texts and digests in the bytes of some files and of the database's."""
    if work.database.is_sqlite:
        places = [folder]
    else:
        with work.database.engine.connect() as connection:
            connection.execute(text("CHECKPOINT"))
        places = [folder, Path(unquote(database_name.partition("host=")[2])) / "data" / "base"]
    traces: set[str] = set()
    for path in (path for place in places for path in place.rglob("*") if path.is_file()):
        if path.name not in ("scored.jsonl", "responses.jsonl"):  # the programme's own
            # Another process reads: where this one closes a file of SQLite, it loses its locks on it, and the next
            # process that opens the database cuts the memory that this one has mapped.
            content = subprocess.run(["cat", path], stdout=subprocess.PIPE, check=True).stdout
            if path.suffix == ".parquet":  # its bytes are compressed
                content += str(pq.read_table(path).to_pylist()).encode()
            found = re.findall(rb"(?:student|pupil|school)-\d{5}|only \d{5} wrote|[0-9a-f]{64}", content)
            traces |= {trace.decode() for trace in found}
    return traces


def test_nothing_is_found_of_erased_students(database_name: str, tmp_path: Path) -> None:
    students, others = 400, 100
    rows = [
        {
            **row,
            "id": f"student-{n:05}",
            "text": f"words that only {n:05} wrote, and some more of them",
            "line": n,
            "student": f"pupil-{n:05}",
            "school": f"school-{n:05}",
        }
        for n, row in enumerate(scored_rows(students + others))
    ]
    policy = DeskPolicy(groups=False, second_reads=0.5)
    work = Work(make_programme(tmp_path, policy=policy, rows=rows, name=database_name, keep=["school"]), policy)
    for n in range(150):
        name = ("anna", "ben", "lee")[n % 3]
        read = work.take(name)
        work.decide(name, read.token, n % 3, note=f"see student-{read.row:05}")
    work.reopen("dana", next(row for row in range(1, students) if work.row(row).state == "done"))
    asked = work.take("anna")
    work.put_aside("anna", asked.token, f"is student-{asked.row:05} right?")
    reading = read = work.take("ben")
    while read.row == reading.row or read.row > students:
        read = work.take("lee")
        work.decide("lee", read.token, 1)
    lines = [beginning(datetime.now(timezone.utc), text_digest(row["text"].encode(), None)) for row in rows]
    (tmp_path / "audit.jsonl").write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    ids = [f"student-{n:05}" for n in range(students)]
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    noted = work.verify()
    traces = [*ids, *(f"only {n:05} wrote" for n in range(students))]
    traces += [f"{name}-{n:05}" for name in ("pupil", "school") for n in range(students)]
    hashes = [hashlib.sha256(row["text"].encode()).hexdigest() for row in rows]
    assert len(search(work, tmp_path, database_name) & {*traces, *hashes}) == 5 * students + others
    command = ["erase", "--database", database_name, "--ids", tmp_path / "ids.txt",
               "--audit-log", tmp_path / "audit.jsonl", "--by", "dana"]  # fmt: skip
    assert kill_and_finish([SCOREMUX, "review", *map(str, command)], tmp_path, 2, 2, random.Random(7)) > 0
    (tmp_path / "ids.txt").unlink()
    left = search(work, tmp_path, database_name)
    assert left & {*traces, *hashes[:students]} == set()
    assert left >= set(hashes[students:])
    with work.database.read() as connection:
        verify(connection, noted)
        assert all(queue.waiting >= 0 for queue in reads.all_queues(connection))
        erasures = list(log.entries_of(connection, log.ERASURE))
        erased = [row for entry in log.entries_of(connection, log.ROWS_ERASED) for row in entry.body["rows"]]
    assert erasures[-1].by == "dana"
    assert sorted(erased) == list(range(1, students + 1))
    check_counts(work.programme)
    with pytest.raises(LeaseLostError):
        work.decide("ben", reading.token)
    if asked.row <= students:
        with work.database.read() as connection:
            assert number_of(connection, IS_UNANSWERED) == 0
        with pytest.raises(ReviewError, match="erased"):
            work.act(conversations.answer, "lee", asked.id, asked.person, "yes")
    with pytest.raises(TooLateError, match="erased"):
        work.undo("lee")
    assert exports.export_final(work.database, tmp_path / "final.jsonl") == others
    assert not {row["id"] for row in read_rows(tmp_path / "final.jsonl")} & set(ids)
    for path in ("/rows/1", "/progress", "/agreement", "/record", "/rows?id=student-00007"):
        assert not re.search("only 00[0-3]", work.programme.client("dana").get(path).text)
    work.execute("UPDATE rows SET level = 1 - level WHERE id = 5")
    with pytest.raises(BrokenRecordError, match="what an erasure left of rows"):
        work.verify()
    work.database.close()


def keep_api_rows(work: Work, rows: dict[int, str]) -> None:
    """Own rows as the API does, by number and id."""
    with work.database.write() as connection:
        for row, name in rows.items():
            own = {"row": row, "token": "lms", "task": "bio-7", "name": name, "at": 1.0}
            connection.execute(insert(api_rows).values(**own))


def test_backup_copies_the_rows_of_the_api(database_name: str, tmp_path: Path) -> None:
    work = Work(make_programme(tmp_path, 8, name=database_name), DeskPolicy())
    noted = work.verify()
    keep_api_rows(work, {1: "r0", 3: "r2"})
    copy = Database(str(tmp_path / "backup.db"), create=True)
    places = [copy]
    if not work.database.is_sqlite:  # and from there to another PostgreSQL
        with work.database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("CREATE DATABASE restored"))
        places.append(Database(database_name.replace("/postgres?", "/restored?"), create=True))
    source = work.database
    for target in places:
        assert copy_database(source, target) == noted
        with source.read() as before, target.read() as after:
            assert after.execute(select(api_rows)).all() == before.execute(select(api_rows)).all() != []
        source = target
    for database in (*places, work.database):
        database.close()


def test_what_waited_before_is_kept(database_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    database = Database(database_name, create=True)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE batches (id TEXT PRIMARY KEY, state TEXT)"))
        connection.execute(text("INSERT INTO batches VALUES ('batch_1', 'completed')"))
        connection.execute(text("UPDATE settings SET value = '9' WHERE key = 'format'"))
    database.close()
    database = Database(database_name)
    [kept] = tmp_path.glob("*.removed-*.jsonl")
    assert json.loads(kept.read_text()) == {"table": "batches", "id": "batch_1", "state": "completed"}
    database.close()


def test_erasure_takes_ids_out_of_what_the_api_has(database_name: str, tmp_path: Path) -> None:
    work = Work(make_programme(tmp_path, 12, name=database_name), DeskPolicy())
    keep_api_rows(work, {1: "r0", 3: "r2", 5: "r4"})
    assert erase(work.database, ErasureRequest(["r0", "decided-by-the-machine"]), "dana").rows == 1
    names = work.programme.select(select(api_rows.c.name).order_by(api_rows.c.row))
    assert names == ["\x1f1", "r2", "r4"]
    work.verify()
    work.database.close()


def test_second_writer_keeps_an_erased_database_from_being_rewritten(database_name: str) -> None:
    database = Database(database_name, create=True)
    if database.is_sqlite:
        with database.engine.connect() as connection:  # the only one of the pool
            connection.execute(text("PRAGMA busy_timeout = 100"))
    else:
        with database.write() as connection:
            connection.execute(text("ALTER DATABASE postgres SET lock_timeout = 100"))
        database.engine.dispose()
    other = Database(database_name)
    with other.write() as connection:
        connection.execute(text("UPDATE rows SET level = 0"))
        with pytest.raises(DatabaseError, match=r"the rows are erased, but .*; run this again \(.*lock"):
            database.compact()
    assert database.compact() == []
    other.close()
    database.close()


def test_trigger_of_somebody_else_is_found(database_name: str, tmp_path: Path) -> None:
    work = Work(make_programme(tmp_path, 8, name=database_name), DeskPolicy())
    work.verify()
    change = "UPDATE decisions SET level = 2 WHERE id = new.id"
    trigger = f"BEGIN {change}; END"
    if not work.database.is_sqlite:
        body = f"$$BEGIN {change}; RETURN new; END$$"
        work.execute(f"CREATE FUNCTION kind() RETURNS trigger LANGUAGE plpgsql AS {body}")
        trigger = "FOR EACH ROW EXECUTE FUNCTION kind()"
    work.execute(f"CREATE TRIGGER kind AFTER INSERT ON decisions {trigger}")
    with pytest.raises(BrokenRecordError, match="a trigger or rule kind"):
        work.verify()
    work.execute("DROP TRIGGER kind" + ("" if work.database.is_sqlite else " ON decisions"))
    work.verify()
    if not work.database.is_sqlite:
        for change in ("ALTER TABLE record DISABLE TRIGGER record_only_grows",
                       "CREATE RULE kind AS ON UPDATE TO decisions DO INSTEAD NOTHING"):  # fmt: skip
            work.execute(change)
            with pytest.raises(BrokenRecordError, match=r"kind|record_only_grows"):
                work.verify()
            work.execute("ALTER TABLE record ENABLE TRIGGER record_only_grows")
        work.execute("DROP RULE kind ON decisions")
        work.execute("CREATE TABLE of_another_program (x integer)")
        work.execute("CREATE TRIGGER theirs AFTER INSERT ON of_another_program FOR EACH ROW EXECUTE FUNCTION kind()")
        work.execute("CREATE RULE theirs AS ON UPDATE TO of_another_program DO INSTEAD NOTHING")
        work.verify()
    work.database.close()


def test_new_database_is_kept_once_another_process_has_added_people(database_name: str) -> None:
    with pytest.raises(InputError, match="refused"), created(database_name):
        other = Database(database_name, create=True)
        add_person(other, "dana", "director", "a long password", "test")
        raise InputError("refused")
    other.close()
    again = Database(database_name)
    with again.read() as connection:
        assert connection.execute(select(people.c.name)).scalars().all() == ["dana"]
    again.close()


def test_who_waits_while_a_new_database_is_removed_loses_nothing_that_it_wrote(database_name: str) -> None:
    """It creates the tables again, or is told that the file is gone."""
    added, waiting = list[Future[None]](), ThreadPoolExecutor(1)

    def add() -> None:
        other = Database(database_name, create=True)
        add_person(other, "dana", "director", "a long password", "test")
        other.close()

    def add_meanwhile(statement: str) -> None:
        if statement.lstrip().startswith("DROP TABLE") and not added:
            added.append(waiting.submit(add))
            time.sleep(0.3)

    with pytest.raises(InputError, match="refused"), created(database_name) as database:
        event.listen(database.engine, "before_cursor_execute", lambda *arguments: add_meanwhile(arguments[2]))
        raise InputError("refused")
    if error := added[0].exception():
        assert isinstance(error, InputError) and "run this again" in str(error)
        add()
    again = Database(database_name)
    with again.read() as connection:
        assert connection.execute(select(people.c.name)).scalars().all() == ["dana"]
    again.close()


def test_who_has_a_removed_database_open_does_not_write_to_it(database_name: str) -> None:
    with pytest.raises(InputError, match="refused"), created(database_name):
        other = Database(database_name)
        raise InputError("refused")
    with pytest.raises(DatabaseError, match="settings"):
        add_person(other, "dana", "director", "a long password", "test")
    other.close()


def test_database_that_is_not_a_desk_is_left_as_it_is(database_name: str) -> None:
    for _ in range(2):
        database = Database(database_name, create=True)
        assert database.is_new
        database.remove_new()
    if "://" in database_name:
        with pytest.raises(InputError, match="holds no desk"):
            Database(database_name)


@pytest.mark.parametrize(
    ("name", "message"),
    [("mysql://x@y/z", "a file .SQLite. or a postgresql:// URL"),
     ("/no/such/folder/x.db", "cannot be written: No such file"),
     ("postgresql://u:secret@127.0.0.1:1/x", "cannot be opened")],
)  # fmt: skip
def test_database_that_cannot_be_opened_is_named_without_password(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        Database(name, create=True)
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
