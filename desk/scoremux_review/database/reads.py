"""Reads: which responses people are to read. `queues` counts them by task and reason.

A read is open, leased to one person, put aside by one, done or withdrawn. A lease ends with a decision, when its rater
moves to another queue, or when its time is over. The connection must be the only writer (`Database.write`) wherever
something is changed.
"""

import secrets
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, literal, or_, select, update

from scoremux_review.database.schema import (
    PAPERS,
    PERSON,
    QUEUE,
    READ,
    ROW,
    TASK,
    inserted,
    queues,
    reads,
    rows,
    tasks,
    unindexed,
)
from scoremux_review.errors import LeaseLostError

ADJUDICATION, REOPENED = "ADJUDICATION", "REOPENED"
"""Queues of responses that two raters disagree about, which leaders read, and that the machine had settled."""

PENDING = ("open", "leased", "aside")
"""States of a read that waits for a decision."""

_FREE = {
    "person": None,
    "token": None,
    "lead": None,
    "leased_at": None,
    "lease_until": None,
    "shown_at": None,
}


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
    query = select(
        queues,
        TASK.paused,
        left_s.label("left_s"),
    ).join(tasks, TASK.id == QUEUE.task)
    return connection.execute(query.order_by(QUEUE.task, QUEUE.reason)).all()


def reading_now(connection: Connection) -> dict[str, str]:
    """Return the task that each person reads now, by name."""
    query = (
        select(PERSON.name, READ.task)
        .join(reads, READ.person == PERSON.id)
        .where(READ.state == "leased", READ.lead.is_(None))
    )
    return {row.name: row.task for row in connection.execute(query)}


def read_where(connection: Connection, *conditions: ColumnElement[bool]) -> Any | None:
    """Return the first read that meets conditions."""
    return connection.execute(select(reads).where(*conditions).order_by(READ.id).limit(1)).one_or_none()


def current_read(connection: Connection, person: int) -> Any | None:
    return read_where(
        connection,
        READ.person == person,
        READ.state == "leased",
        READ.lead.is_(None),
    )


def reads_aside(connection: Connection, person: int) -> Sequence[Any]:
    return connection.execute(select(reads).where(READ.person == person, READ.state == "aside").order_by(READ.id)).all()


def group_members(connection: Connection, read: int) -> Sequence[Any]:
    """Return the reads leased as members of a read's group, with the responses' texts."""
    query = select(reads, ROW.text).join(rows, ROW.id == READ.row)
    return connection.execute(query.where(READ.lead == read, READ.state == "leased").order_by(READ.id)).all()


def read_of_token(
    connection: Connection, token: str, person: int, lost: str, states: Collection[str] = ("leased", "aside", "done")
) -> Any:
    """Return the read of a person's lease by its token. Raises LeaseLostError; `lost`: the end of its message."""
    mine = (READ.person == person) & READ.lead.is_(None)
    read = read_where(
        connection,
        READ.token == token,
        mine,
        READ.state.in_(states),
    )
    if read is None:
        raise LeaseLostError(f"this response went to someone else in the meantime; {lost}")
    return read


def lease(
    connection: Connection, chosen: Sequence[int], person: int, now: float, lease_s: float, lead: int | None = None
) -> None:
    """Lease reads to a person, each with a token of its own; `lead`: the read whose group they are members of."""
    values = {"state": "leased", "person": person, "lead": lead}
    values |= {"leased_at": now, "shown_at": now, "lease_until": now + lease_s}
    change = update(reads).where(READ.id == bindparam("chosen")).values(token=bindparam("new_token"), **values)
    if chosen:
        connection.execute(change, [{"chosen": read, "new_token": secrets.token_urlsafe(16)} for read in chosen])


def release(connection: Connection, person: int) -> None:
    """Give back all that a person has the lease of."""
    give_back(connection, READ.person == person, READ.state == "leased")


def put_aside(connection: Connection, read: Any, until: float) -> None:
    """Keep a leased read for its rater until a time, without a lease; the members of its group are given back."""
    give_back(connection, READ.lead == read.id, READ.state == "leased")
    connection.execute(update(reads).where(READ.id == read.id).values(state="aside", lease_until=until))


def finish(connection: Connection, read: Any, spent_s: float) -> None:
    """End a lease with a decision."""
    connection.execute(update(reads).where(READ.id == read.id).values(state="done", lead=None))
    _count_done(connection, read, 1, spent_s)


def take_back(connection: Connection, decision: Any, now: float, lease_s: float, lead: int | None) -> None:
    """Lease the read of an undone decision to the same person again."""
    lease(connection, [decision.read], decision.person, now, lease_s, lead)
    _count_done(
        connection,
        read_where(connection, READ.id == decision.read),
        -1,
        -decision.spent_s,
    )


def add_first_reads(connection: Connection, first: int) -> int:
    """Add the first read of each waiting row from id `first` on; return how many."""
    waiting = (ROW.id >= first) & (unindexed(ROW.state) == "waiting")
    columns = ["row", "kind", "round", "task", "reason", "priority", "state"]
    chosen = select(
        ROW.id,
        literal("first"),
        ROW.round,
        ROW.task,
        ROW.reason,
        ROW.priority,
        literal("open"),
    ).where(waiting)
    connection.execute(insert(reads).from_select(columns, chosen))
    counted = select(ROW.task, ROW.reason, func.count().label("n")).where(waiting)
    groups = connection.execute(counted.group_by(ROW.task, ROW.reason)).all()
    for task, reason, n in groups:
        _count(connection, task, reason, n)
    return sum(group.n for group in groups)


def add_read(connection: Connection, row: Any, kind: str, reason: str, **values: Any) -> Any:
    """Add an open read of a row, and return it. It is counted, unless it is of a paper with a known level.

    Args:
        row: All columns, with the round.
        kind: first, second, adjudication, or one of `PAPERS`.
        values: Other columns, such as priority and not_for.
    """
    columns = {
        "row": row.id,
        "kind": kind,
        "round": row.round,
        "task": row.task,
        "reason": reason,
    }
    created = inserted(connection, reads, state="open", **columns, **values)
    if kind not in PAPERS:
        _count(connection, row.task, reason, 1)
    return read_where(connection, READ.id == created)


def pending_read(connection: Connection, row: int, kind: str = "") -> Any | None:
    """Return the read of a row that waits for a decision; of one kind, or of any."""
    kinds = [READ.kind == kind] if kind else []
    return read_where(
        connection,
        READ.row == row,
        unindexed(READ.state).in_(PENDING),
        *kinds,
    )


def give_back(connection: Connection, *conditions: ColumnElement[bool]) -> None:
    """End the leases of the reads that meet conditions, and give back those put aside. Papers are withdrawn."""
    with_someone = READ.state.in_(("leased", "aside"))
    for chosen, state in ((READ.kind.not_in(PAPERS), "open"), (READ.kind.in_(PAPERS), "withdrawn")):
        change = update(reads).where(*conditions, with_someone, chosen)
        connection.execute(change.values(state=state, **_FREE))


def give_back_group(connection: Connection, read: int) -> None:
    """Give back one read, and the members of its group."""
    give_back(connection, or_(READ.id == read, READ.lead == read))


def end_reservations(connection: Connection, person: int, may_read: Callable[[str], bool]) -> Sequence[int]:
    """Leave to anyone what only a person was to read, unless they may read its task; return the rows."""
    reserved = connection.execute(
        select(reads)
        .where(READ.only_for == person, READ.state.in_(PENDING))
        .order_by(
            READ.task,
            READ.id,
        )
    ).all()
    ended = [read for read in reserved if not may_read(read.task)]
    connection.execute(update(reads).where(READ.id.in_([read.id for read in ended])).values(only_for=None))
    return [read.row for read in ended]


def withdraw(connection: Connection, read: Any) -> None:
    """Withdraw a pending read, which is needed no more."""
    connection.execute(update(reads).where(READ.id == read.id).values(state="withdrawn", **_FREE))
    _count(connection, read.task, read.reason, -1)


def withdraw_reads(connection: Connection, chosen: Sequence[int]) -> None:
    """Withdraw the pending reads of some rows. Groups with a member among them are given back."""
    pending = select(reads).where(READ.row.in_(chosen))
    for read in connection.execute(pending.where(READ.state.in_(PENDING[1:]))).all():
        give_back_group(connection, read.lead or read.id)
    for read in connection.execute(pending.where(READ.state == "open")).all():
        withdraw(connection, read)


def _count_done(connection: Connection, read: Any, number: int, spent_s: float) -> None:
    """Move a number of reads of a queue from waiting to done, or back; those of papers are not counted."""
    if read.kind not in PAPERS:
        this = (QUEUE.task == read.task) & (QUEUE.reason == read.reason)
        counts = {"waiting": QUEUE.waiting - number, "done": QUEUE.done + number}
        connection.execute(
            update(queues)
            .where(this)
            .values(
                spent_s=QUEUE.spent_s + spent_s,
                **counts,
            )
        )


def _count(connection: Connection, task: str, reason: str, number: int) -> None:
    """Change the number of waiting reads of a queue."""
    changed = connection.execute(
        update(queues).where(QUEUE.task == task, QUEUE.reason == reason).values(waiting=QUEUE.waiting + number)
    )
    if not changed.rowcount:
        connection.execute(
            insert(queues).values(
                task=task,
                reason=reason,
                waiting=number,
                done=0,
                spent_s=0.0,
            )
        )
