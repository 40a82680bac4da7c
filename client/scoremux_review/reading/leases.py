"""Leases: which response a rater reads next, and how long it is theirs.

A lease ends with a decision, when its rater moves to another queue, or when its time is over. The connection must be
the only writer (`Database.write`) wherever something is changed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, exists, or_, select, update

from scoremux_review.database import programme, responses
from scoremux_review.database.reads import ADJUDICATION, add_read, count_done, give_back, read_where
from scoremux_review.database.schema import decisions, queues, reads, rows, tasks, unindexed
from scoremux_review.reading.intake import share
from scoremux_review.reading.task_access import QUALIFY, TaskAccess

RANDOM = secrets.SystemRandom().random

_MOST_MEMBERS = 40
_MOST_LOOKED_AT = 200
_CLOCK_S = 300.0  # how far the clocks of two desks may differ
_GROUPED = ("route", "all")


def take(
    connection: Connection, access: TaskAccess, task: str, reason: str, draw: Callable[[], float] = RANDOM
) -> Any | None:
    """Return the read that a person has, or lease the next one.

    Args:
        task: A task's id, or empty for any.
        reason: A queue's reason, or empty for any.
        draw: Returns random numbers in 0…1, which decide what is next and whether it is a validity paper.

    Returns:
        The read, with its lease's token; None if nothing is left for this person.
    """
    person, lease_s = access.reader.id, access.policy.lease_s
    current = current_read(connection, person)
    if current is not None:
        fits = task in ("", current.task) and reason in ("", current.reason)
        if fits and not programme.item_of(connection, current.task).paused:
            group = or_(reads.c.id == current.id, reads.c.lead == current.id) & (reads.c.state == "leased")
            times = {"shown_at": access.now, "lease_until": access.now + lease_s}
            connection.execute(update(reads).where(group, reads.c.person == person).values(**times))
            return current_read(connection, person)
        release(connection, person)
    over = (reads.c.lease_until < access.now) | (reads.c.leased_at > access.now + _CLOCK_S)  # the clock was set back
    give_back(connection, over)
    for queue_task, queue_reason in _queues_in_order(connection, access, task, reason, draw):
        read = access.next_paper(queue_task) if access.obstacle(queue_task) == QUALIFY else None
        if read is None and access.may_read(queue_task):
            read = _next_open(connection, person, queue_task, queue_reason)
        if read is None:
            continue
        if read.kind == "first" and draw() < access.policy.validity:
            read = _validity_read(connection, person, read) or read
        lease(connection, [read.id], person, access.now, lease_s)
        if access.policy.groups and read.kind == "first":
            members = _duplicates(connection, read, access.policy.across_administrations)
            lease(connection, members, person, access.now, lease_s, lead=read.id)
        return current_read(connection, person)
    return None


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


def group_members(connection: Connection, read: int) -> list[Any]:
    """Return the reads leased as members of a read's group, with the responses' texts."""
    query = select(reads, rows.c.text).join(rows, rows.c.id == reads.c.row)
    return list(connection.execute(query.where(reads.c.lead == read, reads.c.state == "leased").order_by(reads.c.id)))


def lease(
    connection: Connection, chosen: Sequence[int], person: int, now: float, lease_s: float, lead: int | None = None
) -> None:
    """Lease reads to a person, each with a token of its own; `lead`: the read whose group they are members of."""
    values = {"state": "leased", "person": person, "lead": lead}
    values |= {"leased_at": now, "shown_at": now, "lease_until": now + lease_s}
    change = update(reads).where(reads.c.id == bindparam("chosen")).values(token=bindparam("new_token"), **values)
    if chosen:
        connection.execute(change, [{"chosen": read, "new_token": secrets.token_urlsafe(16)} for read in chosen])


def release(connection: Connection, person: int) -> None:
    """Give back all that a person has the lease of."""
    give_back(connection, reads.c.person == person, reads.c.state == "leased")


def put_aside(connection: Connection, read: Any, until: float) -> None:
    """Keep a leased read for its rater until a time, without a lease; the members of its group are given back."""
    give_back(connection, reads.c.lead == read.id, reads.c.state == "leased")
    connection.execute(update(reads).where(reads.c.id == read.id).values(state="aside", lease_until=until))


def finish(connection: Connection, read: Any, spent_s: float) -> bool:
    """End a lease with a decision; return whether there was one to end."""
    change = update(reads).where(reads.c.id == read.id, reads.c.state == "leased").values(state="done", lead=None)
    ended = connection.execute(change).rowcount == 1
    if ended:
        count_done(connection, read, 1, spent_s)
    return ended


def take_back(connection: Connection, decision: Any, now: float, lease_s: float, lead: int | None) -> None:
    """Lease the read of an undone decision to the same person again."""
    lease(connection, [decision.read], decision.person, now, lease_s, lead)
    count_done(connection, read_where(connection, reads.c.id == decision.read), -1, -decision.spent_s)


def _queues_in_order(
    connection: Connection, access: TaskAccess, task: str, reason: str, draw: Callable[[], float]
) -> list[tuple[str, str]]:
    """Return task and reason of the queues to look for the next read in.

    Within a task they come at random, so that the order does not tell a rater why a response is read.
    """
    query = select(queues.c.task, queues.c.reason, queues.c.waiting).join(tasks, tasks.c.id == queues.c.task)
    query = query.where(queues.c.waiting > 0, tasks.c.paused.is_(False))
    query = query if access.reader.adjudicates else query.where(queues.c.reason != ADJUDICATION)
    query = query.where(queues.c.task == task) if task else query
    query = query.where(queues.c.reason == reason) if reason else query
    waiting = connection.execute(query.order_by(queues.c.task, queues.c.reason))
    order = sorted(waiting, key=lambda queue: (queue.task, -(draw() ** (1 / queue.waiting))))
    # People qualify before any response is there.
    sets = select(tasks.c.id).where(tasks.c.id == task, tasks.c.paused.is_(False), tasks.c.id.in_(access.sets))
    first = [(qualifying, "") for qualifying in connection.execute(sets).scalars()]
    return [*first, *((queue.task, queue.reason) for queue in order)]


def _next_open(connection: Connection, person: int, task: str, reason: str) -> Any | None:
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


def _validity_read(connection: Connection, person: int, instead_of: Any) -> Any | None:
    """Add the read of a validity paper that this person has neither read nor put aside; None if there is none."""
    query = select(reads.c.row).where(reads.c.person == person, reads.c.state.in_(("done", "aside")))
    papers_read = set(connection.execute(query.where(reads.c.kind == "validity")).scalars())
    of_task = select(rows.c.id).where(rows.c.state == "validity", rows.c.task == instead_of.task)
    papers = [paper for paper in connection.execute(of_task).scalars() if paper not in papers_read]
    if not papers:
        return None
    paper = responses.row_of(connection, min(papers, key=lambda row: share(f"{person} {row}")))
    return add_read(connection, paper, "validity", instead_of.reason, priority=paper.priority)


def _duplicates(connection: Connection, read: Any, across_administrations: bool) -> Sequence[int]:
    """Return the open first reads of the responses that are the same as a read's after folding."""
    row = responses.row_of(connection, read.row)
    same = (
        select(rows.c.id)
        .where(rows.c.folded_key == row.folded_key, rows.c.id != row.id, rows.c.chosen_by.in_(_GROUPED))
        .where(unindexed(rows.c.state) == "waiting", unindexed(rows.c.task) == row.task)
        .limit(_MOST_LOOKED_AT)
    )
    if not across_administrations:
        same = same.where(rows.c.administration == row.administration)
    ids = connection.execute(same).scalars().all() if row.chosen_by in _GROUPED else ()
    query = (
        select(reads.c.id)
        .where(reads.c.row.in_(ids), unindexed(reads.c.state) == "open", unindexed(reads.c.kind) == "first")
        .where(reads.c.not_for.is_(None), reads.c.only_for.is_(None))
        .order_by(reads.c.id)
        .limit(_MOST_MEMBERS)
    )
    return connection.execute(query).scalars().all() if ids else ()
