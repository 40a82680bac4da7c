"""Leases: which response a rater reads next. The connection must be the only writer (`Database.write`)."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, exists, or_, select

from scoremux_desk.database import programme, responses
from scoremux_desk.database.reads import ADJUDICATION, add_read, current_read, give_back, lease, release
from scoremux_desk.database.schema import COUNTS, DECISION, QUEUE, READ, ROW, TASK, changed, reads, tasks, unindexed
from scoremux_desk.reading.intake import share
from scoremux_desk.reading.task_access import QUALIFY, TaskAccess

Draw = Callable[[], float]
"""Returns random numbers in 0…1."""

RANDOM = secrets.SystemRandom().random

_MOST_MEMBERS = 40
_MOST_LOOKED_AT = 200
_CLOCK_S = 300.0  # how far the clocks of two desks may differ
_GROUPED = ("route", "all")


def take(access: TaskAccess, task: str, reason: str, draw: Draw = RANDOM) -> Any | None:
    """Return the read that a person has, or lease the next one.

    Args:
        task: A task's id, or empty for any.
        reason: A queue's reason, or empty for any.
        draw: Returns random numbers in 0…1, which decide what is next and whether it is a validity paper.

    Returns:
        The read, with its lease's token; None if nothing is left for this person.
    """
    if (current := _renewed(access, task, reason)) is not None:
        return current
    for queue in _queues_in_order(access, task, reason, draw):
        if (read := _next_read(access, *queue, draw)) is not None:
            return _leased(access, read)
    return None


def _renewed(access: TaskAccess, task: str, reason: str) -> Any | None:
    """Return the read that this person has, with a new lease, if it is of the queue; else give it back.

    Also give back all reads whose lease has ended.
    """
    connection = access.connection
    now = access.now
    current = current_read(access.connection, access.person)
    if current is not None:
        item = responses.item_of_trait(responses.row_of(connection, current.row))
        of_item = item and task.rpartition(".")[0] == item
        fits = (of_item or task in ("", current.task)) and reason in ("", current.reason)
        if fits and not programme.item_of(connection, current.task).paused:
            changed(
                connection,
                reads,
                READ.state == "leased",
                READ.person == current.person,
                shown_at=now,
                lease_until=now + access.policy.lease_s,
            )
            return current_read(connection, current.person)
        release(connection, current.person)
    # A lease that begins later than now was taken before the clock was set back.
    give_back(connection, (READ.lease_until < now) | (READ.leased_at > now + _CLOCK_S))
    return None


def _queues_in_order(access: TaskAccess, task: str, reason: str, draw: Draw) -> list[tuple[str, str]]:
    """Return task and reason of the queues to look for the next read in.

    Within a task they come at random, so that the order does not tell a rater why a response is read.
    """
    query = select(QUEUE.task, QUEUE.reason, QUEUE.waiting).join(tasks, TASK.id == QUEUE.task)
    query = query.where(QUEUE.waiting > 0, TASK.paused.is_(False))
    query = query if access.adjudicates else query.where(QUEUE.reason != ADJUDICATION)
    query = query.where(QUEUE.task == task) if task else query
    query = query.where(QUEUE.reason == reason) if reason else query
    waiting = access.connection.execute(query.order_by(QUEUE.task, QUEUE.reason))
    order = sorted(waiting, key=lambda queue: (queue.task, -(draw() ** (1 / queue.waiting))))
    # People qualify before any response is there.
    sets = select(TASK.id).where(TASK.id == task, TASK.paused.is_(False), TASK.id.in_(access.sets))
    first = [(qualifying, "") for qualifying in access.connection.scalars(sets)]
    return [*first, *((queue.task, queue.reason) for queue in order)]


def _next_read(access: TaskAccess, task: str, reason: str, draw: Draw) -> Any | None:
    """Return the next read of a queue: a paper of the qualification set, an open read, or a validity paper."""
    read = access.next_paper(task) if access.obstacle(task) == QUALIFY else None
    if read is None and access.may_read(task):
        read = _next_open(access.connection, access.person, task, reason)
    if read is not None and read.kind == "first" and draw() < access.policy.validity:
        return _validity_read(access.connection, access.person, read) or read
    return read


def _leased(access: TaskAccess, read: Any) -> Any:
    """Lease a read and those of the other traits of its response, each with its duplicates that are decided together.

    The traits are read one after the other, in the order of their ids.
    """
    connection = access.connection
    person = access.person
    times = (access.now, access.policy.lease_s)
    for each in (read, *other_traits(access, read)):
        lease(connection, [each.id], person, *times)
        if access.policy.groups and each.kind == "first":
            members = _duplicates(connection, each, access.policy.across_administrations)
            lease(connection, members, person, *times, lead=each.id)
    return current_read(connection, person)


def other_traits(access: TaskAccess, read: Any) -> list[Any]:
    """Return the open reads of the same kind and reason of the other traits of a response, that a person may read."""
    connection = access.connection
    traits = responses.rows_of_traits(connection, responses.row_of(connection, read.row))
    readable = (row for row in traits if row.id != read.row and access.may_read(row.task))
    found = (_next_open(connection, access.person, row.task, read.reason, row.id) for row in readable)
    return [other for other in found if other is not None and other.kind == read.kind]


def _next_open(connection: Connection, person: int, task: str, reason: str, row: int | None = None) -> Any | None:
    """Return the open read that comes next for a person, of one row or of any: of a response they have not decided."""
    query = (
        select(reads)
        .where(READ.task == task, READ.reason == reason, READ.state == "open")
        .where(or_(READ.not_for.is_(None), READ.not_for != person))
        .where(~exists(select(DECISION.id).where(DECISION.row == READ.row, DECISION.person + 0 == person, COUNTS)))
    )
    query = query if row is None else query.where(READ.row == row)
    return connection.execute(query.order_by(READ.priority, READ.id).limit(1)).one_or_none()


def _validity_read(connection: Connection, person: int, instead_of: Any) -> Any | None:
    """Add the read of a validity paper that this person has neither read nor put aside; None if there is none."""
    query = select(READ.row).where(READ.person == person, READ.state.in_(("done", "aside")))
    papers_read = set(connection.scalars(query.where(READ.kind == "validity")))
    of_task = select(ROW.id).where(ROW.state == "validity", ROW.task == instead_of.task)
    papers = [paper for paper in connection.scalars(of_task) if paper not in papers_read]
    if not papers:
        return None
    paper = responses.row_of(connection, min(papers, key=lambda row: share(f"{person} {row}")))
    return add_read(connection, paper, "validity", instead_of.reason, priority=paper.priority)


def _duplicates(connection: Connection, read: Any, across_administrations: bool) -> Sequence[int]:
    """Return the open first reads of the responses that are the same as a read's after folding."""
    row = responses.row_of(connection, read.row)
    same = (
        select(ROW.id)
        .where(ROW.folded_key == row.folded_key, ROW.id != row.id, ROW.chosen_by.in_(_GROUPED))
        .where(unindexed(ROW.state) == "waiting", unindexed(ROW.task) == row.task)
        .limit(_MOST_LOOKED_AT)
    )
    if not across_administrations:
        same = same.where(ROW.administration == row.administration)
    ids = connection.scalars(same).all() if row.chosen_by in _GROUPED else ()
    query = (
        select(READ.id)
        .where(READ.row.in_(ids), unindexed(READ.state) == "open", unindexed(READ.kind) == "first")
        .where(READ.not_for.is_(None))
        .order_by(READ.id)
        .limit(_MOST_MEMBERS)
    )
    return connection.scalars(query).all() if ids else ()
