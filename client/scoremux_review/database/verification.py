"""Verification: whether the database is what its record says.

The record is read once, from the first entry on. What it says of accounts, tasks, rows, decisions and alerts is then
compared with the tables, column by column. README.md says what this proves, and against whom.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, select

from scoremux_files.errors import parsing
from scoremux_review.database import log, programme, responses
from scoremux_review.database.accounts import password_digest
from scoremux_review.database.schema import (
    ERASED,
    FORMAT,
    PAPERS,
    alert_views,
    alerts,
    anchors,
    assignments,
    decisions,
    messages,
    people,
    pool_members,
    pools,
    remarks,
    rows,
    settings,
    standings,
    tasks,
)
from scoremux_review.database.schema_check import check_schema
from scoremux_review.errors import BrokenRecordError

NOT_COVERED = {
    "reads": "who reads what now; no score comes from it, and each decision has its own entry",
    "queues": "counts for the pages, made from the reads",
    "sessions": "who is signed in now; what they do has entries under their name",
    "attempts": "failed sign-ins of the last five minutes",
}
"""Tables that are not compared with the record, and why."""

_DECISION = (
    "read", "row", "person", "task", "kind", "round", "level", "code", "saw", "at", "spent_s", "lead", "size", "fast",
)  # fmt: skip
_BLOCK_ROWS = 10_000
_UNSETTLED = {"state": "", "round": 1, "final_level": None, "final_code": "", "final_decision": None}


@dataclass
class RecordedState:
    """What the record says that the tables hold.

    Attributes:
        policy: The policy; empty without one.
        people: Account → name, role, active, and the digest of the password's hash.
        tasks: Task → digest of its levels and texts.
        paused: Tasks that nobody reads.
        anchors: Task → digest of its anchor papers.
        chunks: First and last id, and digest, of each chunk of rows.
        rescored: Row → its first and its newest digest; of records that an earlier version wrote.
        rows: Row → state, round and final score, where it is not as it came in.
        decisions: Decision → its columns, with `undone` and `compared`.
        alerts: Alert → its columns.
        messages: Entry → the reading and the rater that a message is about, and who wrote it when.
        views: Alert and person → when they saw it.
        assignments: Person → patterns of tasks, each with its quota.
        pools: Pool → name, assignments and members.
        standings: Person and task → where they stand.
        remarks: Entry → the row that a remark is about, and its salted digest.
        erased: The rows of each erasure, and the digest over what was left of them.
    """

    policy: dict[str, Any] = field(default_factory=dict)
    people: dict[int, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    anchors: dict[str, str] = field(default_factory=dict)
    chunks: list[tuple[int, int, str]] = field(default_factory=list)
    rescored: dict[int, tuple[str, str]] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    decisions: dict[int, dict[str, Any]] = field(default_factory=dict)
    alerts: dict[int, dict[str, Any]] = field(default_factory=dict)
    messages: dict[int, dict[str, Any]] = field(default_factory=dict)
    views: dict[tuple[int, int], float] = field(default_factory=dict)
    assignments: dict[int, list[list[Any]]] = field(default_factory=dict)
    pools: dict[int, dict[str, Any]] = field(default_factory=dict)
    standings: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    remarks: dict[int, tuple[int, str]] = field(default_factory=dict)
    erased: list[tuple[list[int], str]] = field(default_factory=list)

    def add(self, entry: log.LogEntry) -> None:
        """Take in one entry."""
        body, row = entry.body, entry.body["row"]
        if entry.action == "policy":
            self.policy = {name: value for name, value in body.items() if name != "row"}
        elif entry.action in ("person added", "person changed"):
            account = self.people.setdefault(body["person"], {})
            account |= {name: body[name] for name in ("name", "role", "active", "password") if name in body}
        elif entry.action == "task":
            self.tasks[body["task"]] = body["digest"]
        elif entry.action in ("paused", "resumed"):
            chosen = {body["task"]} if body["task"] else set(self.tasks)
            self.paused = self.paused | chosen if entry.action == "paused" else self.paused - chosen
        elif entry.action == "anchors":
            self.anchors[body["task"]] = body["digest"]
        elif entry.action == "rows added":
            self.chunks.append((body["first"], body["last"], body["digest"]))
        elif entry.action == log.RESCORED:
            first, newest = body["digests"]
            self.rescored[row] = (self.rescored.get(row, (first,))[0], newest)
        elif entry.action == "decided":
            marks = {"undone": False, "compared": False}
            self.decisions[body["decision"]] = {name: body[name] for name in _DECISION} | marks
        elif entry.action in ("undone", "compared"):
            self.decisions[body["decision"]][entry.action] = True
        elif entry.action == "alert":
            handled = {"handled_by": None, "handled_at": None}
            columns = {name: body[name] for name in ("row", "person", "task", "probability", "at")}
            self.alerts[body["alert"]] = columns | handled
        elif entry.action in ("asked", "answered"):
            self.messages[entry.number] = {name: body[name] for name in ("read", "rater", "person", "at")}
        elif entry.action == "work assigned":
            self.assignments[body["person"]] = body["assignments"]
        elif entry.action == "pool":
            self.pools = {number: pool for number, pool in self.pools.items() if pool["name"] != body["name"]}
            if body["assignments"] or body["members"]:
                columns = {name: body[name] for name in ("name", "members")}
                self.pools[body["pool"]] = columns | {"assignments": json.dumps(body["assignments"])}
        elif entry.action == "standing":
            columns = {name: body[name] for name in ("state", "since", "exact", "papers")}
            self.standings[body["person"], body["task"]] = columns
        elif entry.action == "alert seen":
            self.views[body["alert"], body["person"]] = body["at"]
        elif entry.action == "alert handled":
            self.alerts[body["alert"]] |= {"handled_by": body["person"], "handled_at": body["at"]}
        elif entry.action == log.ROWS_ERASED:
            self.erased.append((body["rows"], body["digest"]))
            for number in body["rows"]:
                self.rows[number] = self.rows.get(number, _UNSETTLED) | {"state": ERASED}
        if "remark" in body:
            self.remarks[entry.number] = (row, body["remark"])
        if "final" in body:
            level, code, decision = body["final"]
            settled = {"final_level": level, "final_code": code, "final_decision": decision}
            self.rows[row] = {"state": body["state"], "round": body["round"], **settled}


@parsing("the database has values of other types than were written", BrokenRecordError)
def verify(connection: Connection, expected: tuple[int, str] | None = None) -> tuple[int, str]:
    """Check the schema, the record's chain, and every table but those of `NOT_COVERED` against what it says.

    Args:
        connection: A connection that sees one state.
        expected: Number and digest of an entry that was noted earlier; it must be in the record.

    Returns:
        Number and digest of the newest entry.

    Raises:
        BrokenRecordError: names the first entry, or the first thing, that is wrong.
    """
    check_schema(connection)
    recorded, head = RecordedState(), log.head(connection)
    for entry in log.read_entries(connection, expected):
        try:
            recorded.add(entry)
        except (KeyError, ValueError, TypeError) as error:
            raise BrokenRecordError(f"entry {entry.number} of the record cannot be understood") from error
    _check_programme(connection, recorded)
    _compare("account", recorded.people, _accounts(connection))
    _compare("decision", recorded.decisions, _columns(connection, decisions))
    _compare("alert", recorded.alerts, _columns(connection, alerts))
    views = {(view.alert, view.person): view.at for view in connection.execute(select(alert_views))}
    _compare("view of alert", recorded.views, views.items())
    erased = {row for chosen, _ in recorded.erased for row in chosen}
    remaining = {entry: remark for entry, remark in recorded.remarks.items() if remark[0] not in erased}
    _compare("remark", remaining, _remarks(connection))
    _compare("assignment", {k: v for k, v in recorded.assignments.items() if v}, _assignments(connection).items())
    _compare("pool", recorded.pools, _pools(connection))
    _compare("standing", recorded.standings, _standings(connection))
    _compare("message", recorded.messages, _messages(connection))
    _check_rows(connection, recorded)
    return head


def _check_programme(connection: Connection, recorded: RecordedState) -> None:
    stored = {row.key: row.value for row in connection.execute(select(settings))}
    try:
        policy = json.loads(stored.pop(programme.POLICY, "{}"))
    except ValueError:
        policy = None
    if policy != recorded.policy or stored != {"format": str(FORMAT)}:
        raise BrokenRecordError("the policy or the format is not what the record says")
    stored_tasks = {
        task.id: {"digest": programme.digest_of(task.levels, task.texts), "paused": task.paused}
        for task in connection.execute(select(tasks))
    }
    recorded_tasks = {
        task: {"digest": digest, "paused": task in recorded.paused} for task, digest in recorded.tasks.items()
    }
    _compare("task", recorded_tasks, stored_tasks.items())
    named = connection.execute(select(anchors.c.task).distinct()).scalars().all()
    papers = {task: programme.anchors_digest(programme.anchors_of(connection, task)) for task in named}
    if papers != recorded.anchors:
        raise BrokenRecordError("the anchor papers are not what the record says")


def _check_rows(connection: Connection, recorded: RecordedState) -> None:
    """Check each row's digest, the digests of the chunks, and each row's state and final score."""
    chunks = iter(sorted(recorded.chunks))
    first, last, digest = next(chunks, (0, 0, ""))
    digests: list[tuple[int, str]] = []
    left = {row: "" for chosen, _ in recorded.erased for row in chosen}
    for row in _stream(connection, rows):
        while row["id"] > last:
            _check_chunk(first, last, digest, digests)
            digests = []
            first, last, digest = next(chunks, (row["id"], row["id"], ""))
        added, newest = recorded.rescored.get(row["id"], (row["digest"], row["digest"]))
        if row["digest"] != newest:
            raise BrokenRecordError(f"row {row['id']} is not what was scored last")
        if row["id"] in left:
            left[row["id"]] = responses.row_digest(row)
        elif responses.row_digest(row) != row["digest"]:
            raise BrokenRecordError(f"row {row['id']} is not what was added")
        digests.append((row["id"], added))
        state = row["chosen_by"] if row["chosen_by"] in PAPERS else "waiting" if row["reason"] else "machine"
        expected = recorded.rows.get(row["id"], _UNSETTLED | {"state": state})
        _compare("row", {row["id"]: expected}, [(row["id"], {name: row[name] for name in expected})])
        _check_final(row, recorded.decisions.get(row["final_decision"]))
    _check_chunk(first, last, digest, digests)
    for first, last, digest in chunks:
        _check_chunk(first, last, digest, [])
    for chosen, digest in recorded.erased:
        if digest != responses.chunk_digest((row, left[row]) for row in chosen):
            raise BrokenRecordError(f"what an erasure left of rows {chosen[0]} to {chosen[-1]} was changed")


def _check_chunk(first: int, last: int, digest: str, digests: list[tuple[int, str]]) -> None:
    if digest != (responses.chunk_digest(digests) if last else ""):
        raise BrokenRecordError(f"rows {first} to {last} are not those that were added")


def _check_final(row: Any, decision: dict[str, Any] | None) -> None:
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
    """Compare what the record says of some things with what the tables have. Raises BrokenRecordError."""
    missing = dict(expected)
    for name, columns in stored:
        if missing.pop(name, None) != columns:
            raise BrokenRecordError(f"{what} {name} is not what the record says")
    if missing:
        raise BrokenRecordError(f"{what} {next(iter(missing))} is in the record and not in the database")


def _accounts(connection: Connection) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, account in _columns(connection, people):
        yield number, {**account, "password": password_digest(account["password"])}


def _remarks(connection: Connection) -> Iterator[tuple[int, tuple[int, str]]]:
    query = select(remarks, rows.c.salt).join(rows, rows.c.id == remarks.c.row)
    for remark in connection.execute(query.execution_options(yield_per=_BLOCK_ROWS)):
        yield remark.entry, (remark.row, log.remark_digest(remark.salt, remark.text))


def _messages(connection: Connection) -> Iterator[tuple[int, dict[str, Any]]]:
    for message in connection.execute(select(messages)):
        yield message.entry, {"read": message.read, "rater": message.rater, "person": message.person, "at": message.at}


def _assignments(connection: Connection) -> dict[int, list[list[Any]]]:
    stored: dict[int, list[list[Any]]] = {}
    for assignment in connection.execute(select(assignments).order_by(assignments.c.id)):
        stored.setdefault(assignment.person, []).append([assignment.id, assignment.tasks, assignment.quota])
    return stored


def _pools(connection: Connection) -> Iterator[tuple[int, dict[str, Any]]]:
    members: dict[int, list[int]] = {}
    for member in connection.execute(select(pool_members).order_by(pool_members.c.person)):
        members.setdefault(member.pool, []).append(member.person)
    for number, pool in _columns(connection, pools):
        yield number, {**pool, "members": members.pop(number, [])}
    yield from ((number, {"members": people}) for number, people in members.items())  # of no pool


def _standings(connection: Connection) -> Iterator[tuple[tuple[int, str], dict[str, Any]]]:
    for row in connection.execute(select(standings)):
        columns = {"state": row.state, "since": row.since, "exact": row.exact, "papers": row.papers}
        yield (row.person, row.task), columns


def _columns(connection: Connection, table: Table) -> Iterator[tuple[int, dict[str, Any]]]:
    for row in _stream(connection, table):
        yield row["id"], {name: value for name, value in row.items() if name != "id"}


def _stream(connection: Connection, table: Table) -> Iterator[Any]:
    query = select(table).order_by(table.c.id).execution_options(yield_per=_BLOCK_ROWS)
    for row in connection.execute(query):
        yield dict(row._mapping)
