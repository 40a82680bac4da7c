"""Queues: who reads what next. A response that is being read is leased, so that nobody else gets it.

A lease ends with a decision, when its rater moves to another queue, or when its time is over.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, exists, insert, or_, select, update

from scoremux_review.database.schema import decisions as made
from scoremux_review.database.schema import queues, reads, rows, tasks, unindexed
from scoremux_review.desk_policy import Policy
from scoremux_review.reading import similar
from scoremux_review.reading.intake import share

ADJUDICATION = "ADJUDICATION"
"""The queue of responses that two raters disagree about; leaders read it."""

_MOST_ALIKE, _MOST_LOOKED_AT = 40, 200
_GROUPED = ("route", "all")


@dataclass(frozen=True)
class Queue:
    """What waits in one queue. left_s: reading time left for one person, None if nobody has read here yet."""

    task: str
    reason: str
    waiting: int
    done: int
    left_s: float | None
    paused: bool


@dataclass(frozen=True)
class Reader:
    """Who asks for work. adjudicates: whether the queue of disagreements is open to them."""

    id: int
    name: str
    adjudicates: bool = False


def listed(connection: Connection, adjudicates: bool) -> list[Queue]:
    """Return all queues, by task."""
    query = select(queues, tasks.c.paused).join(tasks, tasks.c.id == queues.c.task)
    found = connection.execute(query.order_by(queues.c.task, queues.c.reason)).all()
    return [
        Queue(q.task, q.reason, q.waiting, q.done, _left_s(q), q.paused)
        for q in found
        if adjudicates or q.reason != ADJUDICATION
    ]


def _left_s(queue: Any) -> float | None:
    return queue.waiting * queue.spent_s / queue.done if queue.done and queue.spent_s else None


def current(connection: Connection, person: int) -> Any | None:
    """Return the read that a person has the lease of."""
    mine = (reads.c.person == person) & (reads.c.state == "leased") & reads.c.lead.is_(None)
    return connection.execute(select(reads).where(mine).order_by(reads.c.leased_at.desc()).limit(1)).one_or_none()


def members(connection: Connection, read: int) -> list[Any]:
    """Return the reads leased as members of a read's group, with the responses' texts."""
    query = select(reads, rows.c.text).join(rows, rows.c.id == reads.c.row)
    return list(connection.execute(query.where(reads.c.lead == read, reads.c.state == "leased").order_by(reads.c.id)))


def take(
    connection: Connection,
    reader: Reader,
    task: str,
    reason: str,
    policy: Policy,
    now: float,
    draw: float | None = None,
) -> Any | None:
    """Return the read that a person has, or lease the next one. The connection must be the only writer.

    Args:
        connection: The transaction.
        reader: Who asks.
        task: A task's id, or empty for any.
        reason: A queue's reason, or empty for any.
        policy: Says how long a lease lasts, and how many validity papers there are.
        now: Seconds since the epoch.
        draw: A random number in 0…1 that decides whether a validity paper is next; drawn here if None.

    Returns:
        The read, with its lease's token; None if nothing is left for this person.
    """
    held = current(connection, reader.id)
    if held is not None and _in(held, task, reason) and not _paused(connection, held.task):
        until = now + policy.lease_s
        mine = or_(reads.c.id == held.id, reads.c.lead == held.id) & (reads.c.state == "leased")
        connection.execute(update(reads).where(mine, reads.c.person == reader.id).values(lease_until=until))
        return held
    if held is not None:
        release(connection, reader.id)
    _expire(connection, now)
    for queue_task, queue_reason in _candidates(connection, reader, task, reason):
        found = _next(connection, reader, queue_task, queue_reason)
        if found is None:
            continue
        drawn = secrets.randbelow(10**6) / 10**6 if draw is None else draw
        if found.kind == "first" and drawn < policy.validity:
            paper = _slip_in(connection, reader.id, queue_task, queue_reason)
            found = found if paper is None else paper
        _lease(connection, [found.id], reader.id, policy, now)
        if policy.groups and found.kind == "first":
            _lease_group(connection, found, reader.id, policy, now)
        return connection.execute(select(reads).where(reads.c.id == found.id)).one()
    return None


def release(connection: Connection, person: int) -> None:
    """Give back all that a person has the lease of."""
    mine = (reads.c.person == person) & (reads.c.state == "leased")
    _free(connection, mine)


def free(connection: Connection, read: int) -> None:
    """Give back one read, and the members of its group."""
    _free(connection, or_(reads.c.id == read, reads.c.lead == read) & (reads.c.state == "leased"))


def _expire(connection: Connection, now: float) -> None:
    _free(connection, (reads.c.state == "leased") & (reads.c.lease_until < now))


def _free(connection: Connection, chosen: ColumnElement[bool]) -> None:
    nobody = {"person": None, "token": None, "lead": None, "leased_at": None, "lease_until": None}
    connection.execute(update(reads).where(chosen, reads.c.kind != "validity").values(state="open", **nobody))
    connection.execute(update(reads).where(chosen).values(state="withdrawn", **nobody))


def _in(read: Any, task: str, reason: str) -> bool:
    return (not task or read.task == task) and (not reason or read.reason == reason)


def _paused(connection: Connection, task: str) -> bool:
    return bool(connection.execute(select(tasks.c.paused).where(tasks.c.id == task)).scalar_one())


def _candidates(connection: Connection, reader: Reader, task: str, reason: str) -> list[tuple[str, str]]:
    query = select(queues.c.task, queues.c.reason).join(tasks, tasks.c.id == queues.c.task)
    query = query.where(queues.c.waiting > 0, tasks.c.paused.is_(False))
    if task:
        query = query.where(queues.c.task == task)
    if reason:
        query = query.where(queues.c.reason == reason)
    if not reader.adjudicates:
        query = query.where(queues.c.reason != ADJUDICATION)
    return [(q.task, q.reason) for q in connection.execute(query.order_by(queues.c.task, queues.c.reason))]


def _next(connection: Connection, reader: Reader, task: str, reason: str) -> Any | None:
    query = (
        select(reads.c.id, reads.c.row, reads.c.kind, reads.c.task, reads.c.reason)
        .where(reads.c.task == task, reads.c.reason == reason, reads.c.state == "open")
        .where(or_(reads.c.not_for.is_(None), reads.c.not_for != reader.id))
        .where(or_(reads.c.only_for.is_(None), reads.c.only_for == reader.id))
    )
    if reason == ADJUDICATION:
        theirs = (made.c.row == reads.c.row) & (made.c.person + 0 == reader.id) & made.c.undone.is_(False)
        query = query.where(~exists(select(made.c.id).where(theirs)))
    return connection.execute(query.order_by(reads.c.priority, reads.c.id).limit(1)).one_or_none()


def _slip_in(connection: Connection, person: int, task: str, reason: str) -> Any | None:
    """Create the read of a validity paper that this person has not read; None if there is none."""
    read = select(reads.c.row).where(reads.c.person == person, reads.c.state == "done", reads.c.kind == "validity")
    had = set(connection.execute(read).scalars())
    known = select(rows.c.id, rows.c.priority).where(rows.c.state == "validity", rows.c.task == task)
    found = [paper for paper in connection.execute(known) if paper.id not in had]
    if not found:
        return None
    paper = min(found, key=lambda row: share(f"{person} {row.id}"))
    values = {"row": paper.id, "kind": "validity", "task": task, "reason": reason, "priority": paper.priority}
    created = connection.execute(insert(reads).values(state="open", round=1, **values)).inserted_primary_key
    assert created is not None  # an INSERT of one row has a key
    return connection.execute(select(reads).where(reads.c.id == created[0])).one()


def _lease(
    connection: Connection, chosen: Sequence[int], person: int, policy: Policy, now: float, lead: int | None = None
) -> None:
    """Lease reads, each with a token of its own."""
    lease = {"state": "leased", "person": person, "lead": lead, "leased_at": now, "lease_until": now + policy.lease_s}
    change = update(reads).where(reads.c.id == bindparam("chosen")).values(token=bindparam("new_token"), **lease)
    if chosen:
        connection.execute(change, [{"chosen": read, "new_token": secrets.token_urlsafe(16)} for read in chosen])


def _lease_group(connection: Connection, read: Any, person: int, policy: Policy, now: float) -> None:
    """Lease the open duplicates of a response along with it: the same ones first, then the nearly same."""
    own = connection.execute(select(rows).where(rows.c.id == read.row)).one()
    if own.chosen_by not in _GROUPED:
        return
    bands = [(rows.c[name], getattr(own, name)) for name in ("near_a", "near_b", "near_c")]
    near = similar.near_to(own.text)
    found: dict[int, None] = {}
    for column, key in ((rows.c.exact_key, own.exact_key), *bands):
        if key is None or len(found) >= _MOST_ALIKE:
            break
        query = (
            select(rows.c.id, rows.c.text)
            .where(column == key, rows.c.id != own.id, rows.c.chosen_by.in_(_GROUPED))
            .where(unindexed(rows.c.state) == "waiting", unindexed(rows.c.task) == own.task)
            .limit(_MOST_LOOKED_AT)
        )
        for other in connection.execute(query):
            if other.id not in found and near(other.text):
                found[other.id] = None
    free_reads = (
        select(reads.c.id)
        .where(reads.c.row.in_(found), unindexed(reads.c.state) == "open", unindexed(reads.c.kind) == "first")
        .where(reads.c.not_for.is_(None), reads.c.only_for.is_(None))
        .order_by(reads.c.id)
    )
    chosen = connection.execute(free_reads).scalars().all()[:_MOST_ALIKE] if found else []
    _lease(connection, chosen, person, policy, now, lead=read.id)


def time_left(left_s: float | None) -> str:
    """Return a reading time as people say it.

    >>> time_left(4000), time_left(90), time_left(None)
    ('1 h 7 min', '2 min', '')
    """
    if left_s is None:
        return ""
    minutes = round(left_s / 60 + 0.4)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
