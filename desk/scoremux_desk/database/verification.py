"""Verification: whether the database is what its record says; and backups, which are verified copies.

The record is read once, from the first entry on. Its accounts, tasks, rows, decisions and alerts are then
compared with the tables, column by column. README.md says what this proves, and against whom.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Table, insert, select, text

from scoremux_desk.database import log, programme, responses, schema
from scoremux_desk.database.accounts import password_digest
from scoremux_desk.database.connection import Database
from scoremux_desk.database.guards import check_schema
from scoremux_desk.database.recorded_state import UNSETTLED, RecordedState
from scoremux_desk.database.schema import Columns
from scoremux_desk.errors import BrokenRecordError
from scoremux_files import InputError, parsing
from scoremux_files.row_files import chunks

_COMPARED = {
    "decisions": "decision",
    "alerts": "alert",
    "alert_views": "view of alert",
    "assignments": "assignment",
    "pools": "pool",
    "standings": "standing",
    "messages": "message",
}
"""Tables of which the record has all columns, and the name of a row of each."""

_BLOCK_ROWS = 1_000
_LEFT_OUT = (schema.sessions.name, schema.attempts.name)
"""Who is signed in now is of no use later, and what a stolen backup must not have."""


@parsing("the database has values of other types than were written", BrokenRecordError)
def verify(connection: Connection, expected: tuple[int, str] | None = None) -> tuple[int, str]:
    """Check the schema, the record's chain, and the tables whose rows it has against what it says.

    Args:
        expected: As for `log.read_entries`.

    Returns:
        Number and digest of the newest entry.

    Raises:
        BrokenRecordError: names the first entry, or the first thing, that is wrong.
    """
    check_schema(connection)
    recorded = RecordedState()
    head = log.head(connection)
    for entry in log.read_entries(connection, expected):
        with parsing(f"entry {entry.number} of the record cannot be understood", BrokenRecordError):
            recorded.add(entry)
    _check_programme(connection, recorded)
    _compare("account", recorded.tables["people"], _accounts(connection))
    for name, what in _COMPARED.items():
        _compare(what, recorded.tables[name], _columns(connection, schema.metadata.tables[name]))
    _compare("member of pool", {key: {} for key in recorded.members}, _columns(connection, schema.pool_members))
    erased = {row for chosen, _ in recorded.erased for row in chosen}
    remaining = {entry: remark for entry, remark in recorded.remarks.items() if remark[0] not in erased}
    _compare("remark", remaining, _remarks(connection))
    _check_rows(connection, recorded)
    return head


def copy_database(source: Database, target: Database) -> tuple[int, str]:
    """Copy one state of a database into an empty one, and verify the copy; return its newest entry as `verify` does.

    Raises:
        InputError: the target has accounts or rows.
        BrokenRecordError: the copy is not what its record says; then neither is the source.
    """
    with source.read() as reading, target.write() as writing:
        if schema.number_of(writing, schema.PERSON.id > 0):
            raise InputError("there is a desk in the target already; name an empty database")
        schema.deleted(writing, schema.settings)
        for table in schema.metadata.sorted_tables:
            rows = _stream(reading, table) if table.name not in _LEFT_OUT else ()
            for chunk in chunks(rows, _BLOCK_ROWS):
                writing.execute(insert(table), chunk)
            if not target.is_sqlite and (counted := table.autoincrement_column) is not None:
                sequence = f"pg_get_serial_sequence('{table.name}', '{counted.name}')"
                writing.execute(text(f"SELECT setval({sequence}, (SELECT max({counted.name}) FROM {table.name}))"))
        return verify(writing)


def _check_programme(connection: Connection, recorded: RecordedState) -> None:
    stored = schema.as_dict(connection, select(schema.settings))
    with parsing("the policy is not what the record says", BrokenRecordError):
        policy = json.loads(stored.pop(programme.POLICY, "{}"))
    stored.pop(schema.IDENTITY, None)
    if policy != recorded.policy or stored != {"format": str(schema.FORMAT)}:
        raise BrokenRecordError("the policy or the format is not what the record says")
    stored_tasks = (
        (task.id, {"paused": task.paused, "digest": programme.digest_of(task.levels, task.texts)})
        for task in schema.all_where(connection, schema.tasks)
    )
    _compare("task", recorded.tasks, stored_tasks)
    named = connection.scalars(select(schema.ANCHOR.task).distinct()).all()
    papers = {task: programme.anchors_digest(connection, task) for task in named}
    if papers != recorded.tables["anchors"]:
        raise BrokenRecordError("the anchor papers are not what the record says")


def _check_rows(connection: Connection, recorded: RecordedState) -> None:
    """Check the rows of each chunk that was added, and what erasures left of them."""
    chunks = sorted(recorded.chunks)
    firsts = [first for first, _, _ in chunks]
    left = {row: "" for chosen, _ in recorded.erased for row in chosen}
    rows = groupby(_stream(connection, schema.rows), lambda row: bisect_right(firsts, row["id"]))
    computed = {chunk: responses.chunk_digest(_digests(some, recorded, left)) for chunk, some in rows}
    for number, (first, last, digest) in enumerate(chunks, start=1):
        if computed.pop(number, "") != digest:
            raise BrokenRecordError(f"rows {first} to {last} are not those that were added")
    if computed:
        raise BrokenRecordError("the first row is not one that was added")
    for chosen, digest in recorded.erased:
        if digest != responses.chunk_digest((row, left[row]) for row in chosen):
            raise BrokenRecordError(f"what an erasure left of rows {chosen[0]} to {chosen[-1]} was changed")


def _digests(rows: Iterable[Columns], recorded: RecordedState, left: dict[int, str]) -> Iterator[tuple[int, str]]:
    """Check digest, state and final score of rows; yield their ids and the digests with which they were added.

    Args:
        left: Digests of what erasures left of rows; those of these rows are filled in.
    """
    for row in rows:
        number = row["id"]
        if number in left:
            left[number] = responses.row_digest(row)
        elif responses.row_digest(row) != row["digest"]:
            raise BrokenRecordError(f"row {number} is not what was added")
        state = row["chosen_by"] if row["chosen_by"] in schema.PAPERS else "waiting" if row["reason"] else "machine"
        expected = recorded.rows.get(number, UNSETTLED | {"state": state})
        _compare("row", {number: expected}, [(number, {name: row[name] for name in expected})])
        _check_final(row, recorded.tables["decisions"].get(row["final_decision"]))
        yield number, row["digest"]


def _check_final(row: Any, decision: Columns | None) -> None:
    """Check that a final score is that of a decision of the same row and round that counts."""
    final = (row["final_level"], row["final_code"])
    if decision is None:
        fits = row["final_decision"] is None and final == (None, "")
    else:
        fits = (decision["row"], decision["round"], decision["undone"]) == (row["id"], row["round"], False)
        fits = fits and final == (decision["level"], decision["code"])
    if not fits:
        raise BrokenRecordError(f"the final score of row {row['id']} is not that of its decision")


def _compare(what: str, expected: dict[Any, Any], stored: Iterable[tuple[Any, Any]]) -> None:
    """Compare entries of the record with rows of the tables. Raises BrokenRecordError."""
    missing = dict(expected)
    for name, columns in stored:
        if missing.pop(name, None) != columns:
            raise BrokenRecordError(f"{what} {name} is not what the record says")
    if missing:
        raise BrokenRecordError(f"{what} {next(iter(missing))} is in the record and not in the database")


def _accounts(connection: Connection) -> Iterator[tuple[int, Columns]]:
    for number, account in _columns(connection, schema.people):
        yield number, {**account, "password": password_digest(account["password"])}


def _remarks(connection: Connection) -> Iterator[tuple[int, tuple[int, str]]]:
    remarks = schema.remarks
    rows = schema.rows
    query = select(remarks, rows.c.salt).join(rows, rows.c.id == remarks.c.row)
    for remark in connection.execute(query.execution_options(yield_per=_BLOCK_ROWS)):
        yield remark.entry, (remark.row, log.remark_digest(remark.salt, remark.text))


def _columns(connection: Connection, table: Table) -> Iterator[tuple[Any, Columns]]:
    """Yield the key of each row of a table, a tuple where it has more than one column, and the other columns."""
    names = [column.name for column in table.primary_key]
    for row in _stream(connection, table):
        key = tuple(row.pop(name) for name in names)
        yield key if len(key) > 1 else key[0], row


def _stream(connection: Connection, table: Table) -> Iterator[Any]:
    query = select(table).order_by(*table.primary_key).execution_options(yield_per=_BLOCK_ROWS)
    for row in connection.execute(query):
        yield dict(row._mapping)
