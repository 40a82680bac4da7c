"""Reads: who reads which response when. A read is open, leased to one person, put aside by one, done or withdrawn.

A lease ends with a decision, when its rater moves to another queue, or when its time is over. `queues` counts the reads
of each task and reason. The connection must be the only writer (`Database.write`) wherever something is changed.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, exists, func, insert, literal, or_, select, update

from scoremux_review.database.schema import PAPERS, decisions, inserted, people, queues, reads, rows, tasks, unindexed

_NOBODY = {"person": None, "token": None, "lead": None, "leased_at": None, "lease_until": None, "shown_at": None}
_MOST_LOOKED_AT = 200
_CLOCK_S = 300.0  # how far the clocks of two desks may differ
_WITH_SOMEONE = ("leased", "aside")


def all_queues(connection: Connection) -> Sequence[Any]:
    """Return all queues, by task: task, reason, waiting, done, paused, and left_s.

    left_s is the reading time left for one person. A queue that nobody has read takes the pace of its task, or of all
    tasks; None before anybody has read anything.
    """
    paces = [queues.c.spent_s / func.nullif(queues.c.done, 0)]
    for by in (queues.c.task, None):
        spent_s, done = (func.sum(column).over(partition_by=by) for column in (queues.c.spent_s, queues.c.done))
        paces.append(spent_s / func.nullif(done, 0))
    left_s = queues.c.waiting * func.coalesce(*paces)
    query = select(queues, tasks.c.paused, left_s.label("left_s")).join(tasks, tasks.c.id == queues.c.task)
    return connection.execute(query.order_by(queues.c.task, queues.c.reason)).all()


def count_waiting(connection: Connection, task: str, reason: str, number: int) -> None:
    """Change the number of waiting reads of a queue."""
    this = (queues.c.task == task) & (queues.c.reason == reason)
    changed = connection.execute(update(queues).where(this).values(waiting=queues.c.waiting + number))
    if not changed.rowcount:
        connection.execute(insert(queues).values(task=task, reason=reason, waiting=number, done=0, spent_s=0.0))


def add_first_reads(connection: Connection, first: int) -> int:
    """Add the first read of each waiting row from id `first` on; return how many."""
    waiting = (rows.c.id >= first) & (unindexed(rows.c.state) == "waiting")
    columns = ["row", "kind", "round", "task", "reason", "priority", "state"]
    chosen = select(
        rows.c.id, literal("first"), rows.c.round, rows.c.task, rows.c.reason, rows.c.priority, literal("open")
    ).where(waiting)
    connection.execute(insert(reads).from_select(columns, chosen))
    counted = select(rows.c.task, rows.c.reason, func.count().label("n")).where(waiting)
    groups = connection.execute(counted.group_by(rows.c.task, rows.c.reason)).all()
    for task, reason, n in groups:
        count_waiting(connection, task, reason, n)
    return sum(group.n for group in groups)


def add_read(connection: Connection, row: Any, kind: str, reason: str, **values: Any) -> Any:
    """Add an open read of a row, and return it. It is counted, unless it is of a paper with a known level.

    Args:
        connection: The transaction.
        row: The row, with its round.
        kind: first, second, adjudication, or one of `PAPERS`.
        reason: Its queue.
        values: Other columns, such as priority and not_for.
    """
    columns = {"row": row.id, "kind": kind, "round": row.round, "task": row.task, "reason": reason}
    created = inserted(connection, reads, state="open", **columns, **values)
    if kind not in PAPERS:
        count_waiting(connection, row.task, reason, 1)
    return read_by_id(connection, created)


def current_read(connection: Connection, person: int) -> Any | None:
    """Return the read that a person has the lease of."""
    mine = (reads.c.person == person) & (reads.c.state == "leased") & reads.c.lead.is_(None)
    return connection.execute(select(reads).where(mine).order_by(reads.c.leased_at.desc()).limit(1)).one_or_none()


def reads_aside(connection: Connection, person: int) -> Sequence[Any]:
    """Return the reads that a person has put aside."""
    mine = (reads.c.person == person) & (reads.c.state == "aside")
    return connection.execute(select(reads).where(mine).order_by(reads.c.id)).all()


def read_of_token(connection: Connection, token: str) -> Any | None:
    """Return the read whose lease has this token."""
    return connection.execute(select(reads).where(reads.c.token == token)).one_or_none()


def read_by_id(connection: Connection, read: int) -> Any:
    """Return a read."""
    return connection.execute(select(reads).where(reads.c.id == read)).one()


def group_members(connection: Connection, read: int) -> list[Any]:
    """Return the reads leased as members of a read's group, with the responses' texts."""
    query = select(reads, rows.c.text).join(rows, rows.c.id == reads.c.row)
    return list(connection.execute(query.where(reads.c.lead == read, reads.c.state == "leased").order_by(reads.c.id)))


def next_queues(connection: Connection, task: str, reason: str, without: str) -> list[tuple[str, str, int]]:
    """Return task, reason and number of waiting reads of the queues with any, those of paused tasks left out.

    Args:
        connection: The transaction.
        task: Of this task alone, or empty for all.
        reason: For this reason alone, or empty for all.
        without: A reason to leave out, or empty.
    """
    query = select(queues.c.task, queues.c.reason, queues.c.waiting).join(tasks, tasks.c.id == queues.c.task)
    query = query.where(queues.c.waiting > 0, tasks.c.paused.is_(False), queues.c.reason != without)
    if task:
        query = query.where(queues.c.task == task)
    if reason:
        query = query.where(queues.c.reason == reason)
    return [(q.task, q.reason, q.waiting) for q in connection.execute(query.order_by(queues.c.task, queues.c.reason))]


def next_open(connection: Connection, person: int, task: str, reason: str) -> Any | None:
    """Return the open read that comes next for a person: of a response that they have not decided."""
    theirs = (decisions.c.row == reads.c.row) & (decisions.c.person + 0 == person) & decisions.c.undone.is_(False)
    query = (
        select(reads)
        .where(reads.c.task == task, reads.c.reason == reason, reads.c.state == "open")
        .where(or_(reads.c.not_for.is_(None), reads.c.not_for != person))
        .where(or_(reads.c.only_for.is_(None), reads.c.only_for == person))
        .where(~exists(select(decisions.c.id).where(theirs)))
    )
    return connection.execute(query.order_by(reads.c.priority, reads.c.id).limit(1)).one_or_none()


def unread_papers(connection: Connection, person: int, task: str) -> list[int]:
    """Return the ids of the validity papers of a task that a person has neither read nor put aside."""
    query = select(reads.c.row).where(reads.c.person == person, reads.c.state.in_(("done", "aside")))
    query = query.where(reads.c.kind == "validity")
    papers_read = set(connection.execute(query).scalars())
    papers = connection.execute(select(rows.c.id).where(rows.c.state == "validity", rows.c.task == task))
    return [paper for paper in papers.scalars() if paper not in papers_read]


def duplicate_reads(
    connection: Connection, row: Any, chosen_by: Sequence[str], across: bool, most: int
) -> Sequence[int]:
    """Return the open first reads of the responses that are the same as a row's after folding.

    Args:
        connection: The transaction.
        row: The row.
        chosen_by: Only of rows chosen in one of these ways.
        across: Of other administrations, too.
        most: How many at most.
    """
    same = (
        select(rows.c.id)
        .where(rows.c.folded_key == row.folded_key, rows.c.id != row.id, rows.c.chosen_by.in_(chosen_by))
        .where(unindexed(rows.c.state) == "waiting", unindexed(rows.c.task) == row.task)
        .limit(_MOST_LOOKED_AT)
    )
    if not across:
        same = same.where(rows.c.administration == row.administration)
    ids = connection.execute(same).scalars().all()
    query = (
        select(reads.c.id)
        .where(reads.c.row.in_(ids), unindexed(reads.c.state) == "open", unindexed(reads.c.kind) == "first")
        .where(reads.c.not_for.is_(None), reads.c.only_for.is_(None))
        .order_by(reads.c.id)
        .limit(most)
    )
    return connection.execute(query).scalars().all() if ids else ()


def lease(
    connection: Connection, chosen: Sequence[int], person: int, now: float, lease_s: float, lead: int | None = None
) -> None:
    """Lease reads, each with a token of its own.

    Args:
        connection: The transaction.
        chosen: The reads.
        person: To whom.
        now: Seconds since the epoch.
        lease_s: For how long.
        lead: The read whose group they are members of.
    """
    values = {"state": "leased", "person": person, "lead": lead}
    values |= {"leased_at": now, "shown_at": now, "lease_until": now + lease_s}
    change = update(reads).where(reads.c.id == bindparam("chosen")).values(token=bindparam("new_token"), **values)
    if chosen:
        connection.execute(change, [{"chosen": read, "new_token": secrets.token_urlsafe(16)} for read in chosen])


def extend_lease(connection: Connection, read: Any, now: float, lease_s: float) -> None:
    """Note that a read is shown again, and let its lease, and those of its group, end later."""
    group = or_(reads.c.id == read.id, reads.c.lead == read.id) & (reads.c.state == "leased")
    times = {"shown_at": now, "lease_until": now + lease_s}
    connection.execute(update(reads).where(group, reads.c.person == read.person).values(**times))


def put_aside(connection: Connection, read: Any, until: float) -> None:
    """Keep a leased read for its rater until a time, without a lease; the members of its group are given back."""
    _free(connection, (reads.c.lead == read.id) & (reads.c.state == "leased"))
    connection.execute(update(reads).where(reads.c.id == read.id).values(state="aside", lease_until=until))


def release(connection: Connection, person: int) -> None:
    """Give back all that a person has the lease of."""
    _free(connection, (reads.c.person == person) & (reads.c.state == "leased"))


def release_task(connection: Connection, person: int, task: str) -> None:
    """Give back all that a person has the lease of, or has put aside, of one task."""
    _free(connection, (reads.c.person == person) & (reads.c.task == task) & reads.c.state.in_(_WITH_SOMEONE))


def free(connection: Connection, read: int) -> None:
    """Give back one read, and the members of its group."""
    _free(connection, or_(reads.c.id == read, reads.c.lead == read) & reads.c.state.in_(_WITH_SOMEONE))


def expire(connection: Connection, now: float) -> None:
    """Give back what was leased, or put aside, for longer than its time, or before the clock was set back."""
    over = (reads.c.lease_until < now) | (reads.c.leased_at > now + _CLOCK_S)
    _free(connection, reads.c.state.in_(_WITH_SOMEONE) & over)


def finish(connection: Connection, read: Any, spent_s: float) -> bool:
    """End a lease with a decision; return whether there was one to end."""
    change = update(reads).where(reads.c.id == read.id, reads.c.state == "leased").values(state="done", lead=None)
    ended = connection.execute(change).rowcount == 1
    if ended and read.kind not in PAPERS:
        _count_done(connection, read, 1, spent_s)
    return ended


def take_back(connection: Connection, decision: Any, now: float, lease_s: float, lead: int | None) -> None:
    """Lease the read of an undone decision to the same person again."""
    read = read_by_id(connection, decision.read)
    lease(connection, [read.id], decision.person, now, lease_s, lead)
    if read.kind not in PAPERS:
        _count_done(connection, read, -1, -decision.spent_s)


def pending_read(connection: Connection, row: int, kind: str = "") -> Any | None:
    """Return the read of a row that nobody has decided yet; of one kind, or of any."""
    query = select(reads).where(reads.c.row == row, unindexed(reads.c.state).in_(("open", *_WITH_SOMEONE)))
    query = query.where(reads.c.kind == kind) if kind else query.order_by(reads.c.id)
    return connection.execute(query.limit(1)).one_or_none()


def withdraw(connection: Connection, read: Any) -> None:
    """Withdraw a pending read: nobody needs it any more."""
    connection.execute(update(reads).where(reads.c.id == read.id).values(state="withdrawn", **_NOBODY))
    count_waiting(connection, read.task, read.reason, -1)


def withdraw_reads(connection: Connection, chosen: Sequence[int]) -> None:
    """Withdraw the pending reads of some rows. Groups with a member among them are given back."""
    pending = select(reads).where(reads.c.row.in_(chosen))
    for read in connection.execute(pending.where(reads.c.state.in_(_WITH_SOMEONE))).all():
        free(connection, read.lead or read.id)
    for read in connection.execute(pending.where(reads.c.state == "open")).all():
        withdraw(connection, read)


def reserve(connection: Connection, read: Any, person: int | None) -> str | None:
    """Give a pending read to one person, or to anyone; return the person's name. The lease of another person ends."""
    free(connection, read.lead or read.id)
    connection.execute(update(reads).where(reads.c.id == read.id).values(only_for=person))
    return connection.execute(select(people.c.name).where(people.c.id == person)).scalar_one_or_none()


def reserved_tasks(connection: Connection, person: int) -> Sequence[str]:
    """Return the tasks of the pending reads that are for one person only."""
    return connection.execute(select(reads.c.task).where(_reserved_for(person)).distinct()).scalars().all()


def end_reservations(connection: Connection, person: int, task: str = "") -> Sequence[int]:
    """Leave to anyone the pending reads that were for one person only, of a task or of all; return their rows."""
    chosen = _reserved_for(person, task)
    affected = connection.execute(select(reads.c.row).where(chosen).order_by(reads.c.id)).scalars().all()
    if affected:
        connection.execute(update(reads).where(chosen).values(only_for=None))
    return affected


def reading_now(connection: Connection) -> dict[str, str]:
    """Return the task that each person reads now, by name."""
    query = (
        select(people.c.name, reads.c.task)
        .join(reads, reads.c.person == people.c.id)
        .where(reads.c.state == "leased", reads.c.lead.is_(None))
    )
    return {row.name: row.task for row in connection.execute(query)}


def _reserved_for(person: int, task: str = "") -> ColumnElement[bool]:
    theirs = (reads.c.only_for == person) & reads.c.state.in_(("open", *_WITH_SOMEONE))
    return theirs & (reads.c.task == task) if task else theirs


def _free(connection: Connection, chosen: ColumnElement[bool]) -> None:
    connection.execute(update(reads).where(chosen, reads.c.kind.not_in(PAPERS)).values(state="open", **_NOBODY))
    connection.execute(update(reads).where(chosen).values(state="withdrawn", **_NOBODY))


def _count_done(connection: Connection, read: Any, number: int, spent_s: float) -> None:
    this = (queues.c.task == read.task) & (queues.c.reason == read.reason)
    counts = {
        "waiting": queues.c.waiting - number,
        "done": queues.c.done + number,
        "spent_s": queues.c.spent_s + spent_s,
    }
    connection.execute(update(queues).where(this).values(**counts))
