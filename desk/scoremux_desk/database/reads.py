"""Reads: which responses people are to read. `queues` counts them by task and reason.

A read is open, leased to one person, put aside by one, done or withdrawn. A lease ends with a decision, when its rater
moves to another queue, or when its time is over. The connection must be the only writer (`Database.write`) wherever
something is changed.
"""

import secrets
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, literal, or_, select

from scoremux_desk.database.schema import (
    PAPERS,
    PERSON,
    QUEUE,
    READ,
    ROW,
    TASK,
    all_where,
    as_dict,
    changed,
    inserted,
    queues,
    reads,
    rows,
    tasks,
    unindexed,
)
from scoremux_desk.errors import LeaseLostError

ADJUDICATION, REOPENED = "ADJUDICATION", "REOPENED"
"""Queues of responses that two raters disagree about, which leaders read, and that the machine had settled."""

PENDING = ("open", "leased", "aside")
"""States of a read that waits for a decision."""

_FREE = dict.fromkeys(("person", "token", "lead", "leased_at", "lease_until", "shown_at"))


def all_queues(connection: Connection) -> Sequence[Any]:
    """Return all queues, by task: task, reason, waiting, done, paused, and left_s.

    left_s is the reading time left for one person. A queue without a decision takes the pace of its task, or of all
    tasks; None before the first decision.
    """
    paces = [QUEUE.spent_s / func.nullif(QUEUE.done, 0)]
    for by in (QUEUE.task, None):
        spent_s, done = (func.sum(column).over(partition_by=by) for column in (QUEUE.spent_s, QUEUE.done))
        paces.append(spent_s / func.nullif(done, 0))
    left_s = QUEUE.waiting * func.coalesce(*paces)
    query = select(queues, TASK.paused, left_s.label("left_s")).join(tasks, TASK.id == QUEUE.task)
    return connection.execute(query.order_by(QUEUE.task, QUEUE.reason)).all()


def reading_now(connection: Connection) -> dict[str, str]:
    """Return the task that each person reads now, by name."""
    query = (
        select(PERSON.name, READ.task)
        .join(reads, READ.person == PERSON.id)
        .where(READ.state == "leased", READ.lead.is_(None))
    )
    return as_dict(connection, query)


def read_where(connection: Connection, *conditions: ColumnElement[bool]) -> Any | None:
    """Return the first read that meets conditions."""
    return connection.execute(select(reads).where(*conditions).order_by(READ.id).limit(1)).one_or_none()


def current_read(connection: Connection, person: int) -> Any | None:
    return next(iter(reads_of(connection, person, "leased")), None)


def reads_of(connection: Connection, person: int, state: str) -> Sequence[Any]:
    """Return the reads that a person has leased or put aside, without the members of groups."""
    return all_where(connection, reads, READ.person == person, READ.state == state, READ.lead.is_(None))


def group_members(connection: Connection, read: int) -> Sequence[Any]:
    """Return the reads leased as members of a read's group, with the responses' texts."""
    query = select(reads, ROW.text).join(rows, ROW.id == READ.row)
    return connection.execute(query.where(READ.lead == read, READ.state == "leased").order_by(READ.id)).all()


def read_of_token(
    connection: Connection, token: str, person: int, states: Collection[str] = ("leased", "aside", "done")
) -> Any:
    """Return the read of a person's lease by its token. Raises LeaseLostError."""
    read = read_where(
        connection, READ.token == token, READ.person == person, READ.lead.is_(None), READ.state.in_(states)
    )
    if read is None:
        raise LeaseLostError(
            "this response went to someone else in the meantime; nothing was saved, and no alert was raised"
        )
    return read


def lease(
    connection: Connection, chosen: Sequence[int], person: int, now: float, lease_s: float, lead: int | None = None
) -> None:
    """Lease reads to a person, each with a token of its own; `lead`: the read whose group they are members of."""
    for read in chosen:
        changed(
            connection,
            reads,
            READ.id == read,
            state="leased",
            person=person,
            lead=lead,
            token=secrets.token_urlsafe(16),
            leased_at=now,
            shown_at=now,
            lease_until=now + lease_s,
        )


def release(connection: Connection, person: int) -> None:
    """Give back all that a person has the lease of."""
    give_back(connection, READ.person == person, READ.state == "leased")


def put_aside(connection: Connection, read: Any, until: float) -> None:
    """Keep a leased read for its rater until a time, without a lease; the members of its group are given back."""
    give_back(connection, READ.lead == read.id, READ.state == "leased")
    changed(connection, reads, READ.id == read.id, state="aside", lease_until=until)


def finish(connection: Connection, read: Any, spent_s: float) -> None:
    """End a lease with a decision."""
    changed(connection, reads, READ.id == read.id, state="done", lead=None)
    _count(connection, read, -1, 1, spent_s)


def take_back(connection: Connection, decision: Any, now: float, lease_s: float, lead: int | None) -> None:
    """Lease the read of an undone decision to the same person again."""
    lease(connection, [decision.read], decision.person, now, lease_s, lead)
    _count(connection, read_where(connection, READ.id == decision.read), 1, -1, -decision.spent_s)


def add_first_reads(connection: Connection, first: int) -> int:
    """Add the first read of each waiting row from id `first` on; return how many."""
    waiting = (ROW.id >= first) & (unindexed(ROW.state) == "waiting")
    columns = ["row", "kind", "round", "task", "reason", "priority", "state"]
    chosen = select(ROW.id, literal("first"), ROW.round, ROW.task, ROW.reason, ROW.priority, literal("open")).where(
        waiting
    )
    connection.execute(insert(reads).from_select(columns, chosen))
    counted = select(literal("first").label("kind"), ROW.task, ROW.reason, func.count().label("n")).where(waiting)
    queues_of_rows = connection.execute(counted.group_by(ROW.task, ROW.reason)).all()
    for queue in queues_of_rows:
        _count(connection, queue, queue.n)
    return sum(queue.n for queue in queues_of_rows)


def add_read(connection: Connection, row: Any, kind: str, reason: str, **values: Any) -> Any:
    """Add an open read of a row, and return it. It is counted, unless it is of a paper with a known level.

    Args:
        row: All columns, with the round.
        kind: first, second, adjudication, or one of `PAPERS`.
        values: Other columns, such as priority and not_for.
    """
    created = inserted(
        connection, reads, row=row.id, kind=kind, round=row.round, task=row.task, reason=reason, state="open", **values
    )
    read = read_where(connection, READ.id == created)
    _count(connection, read, 1)
    return read


def pending_read(connection: Connection, row: int, kind: str = "") -> Any | None:
    """Return the read of a row that waits for a decision; of one kind, or of any."""
    kinds = [READ.kind == kind] if kind else []
    return read_where(connection, READ.row == row, unindexed(READ.state).in_(PENDING), *kinds)


def give_back(connection: Connection, *conditions: ColumnElement[bool]) -> None:
    """End the leases of the reads that meet conditions, and give back those put aside. Papers are withdrawn."""
    with_someone = READ.state.in_(("leased", "aside"))
    for chosen, state in ((READ.kind.not_in(PAPERS), "open"), (READ.kind.in_(PAPERS), "withdrawn")):
        changed(connection, reads, *conditions, with_someone, chosen, state=state, **_FREE)


def give_back_group(connection: Connection, read: int) -> None:
    """Give back one read, and the members of its group."""
    give_back(connection, or_(READ.id == read, READ.lead == read))


def withdraw(connection: Connection, read: Any) -> None:
    """Withdraw a pending read, which is needed no more."""
    changed(connection, reads, READ.id == read.id, state="withdrawn", **_FREE)
    _count(connection, read, -1)


def withdraw_reads(connection: Connection, chosen: Sequence[int]) -> None:
    """Withdraw the pending reads of some rows. Groups with a member among them are given back."""
    of_rows = READ.row.in_(chosen)
    for read in all_where(connection, reads, of_rows, READ.state.in_(PENDING[1:])):
        give_back_group(connection, read.lead or read.id)
    for read in all_where(connection, reads, of_rows, READ.state == "open"):
        withdraw(connection, read)


def _count(connection: Connection, read: Any, waiting: int, done: int = 0, spent_s: float = 0.0) -> None:
    """Add to the numbers of a read's queue; those of papers are not counted."""
    if read.kind in PAPERS:
        return
    added = {"waiting": waiting, "done": done, "spent_s": spent_s}
    sums = {name: QUEUE[name] + number for name, number in added.items()}
    this = (QUEUE.task == read.task) & (QUEUE.reason == read.reason)
    if not changed(connection, queues, this, **sums):
        inserted(connection, queues, task=read.task, reason=read.reason, **added)
