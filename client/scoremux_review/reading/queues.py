"""Queues: which response a rater reads next. The connection must be the only writer (`Database.write`)."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from secrets import SystemRandom
from typing import Any

from scoremux_review.database import leases, programme, responses
from scoremux_review.database.connection import Connection
from scoremux_review.desk_policy import DeskPolicy
from scoremux_review.reading.intake import share
from scoremux_review.reading.supervision import QUALIFY, Reader, TaskAccess

ADJUDICATION, REOPENED = "ADJUDICATION", "REOPENED"
"""Queues of responses that two raters disagree about, which leaders read, and that the machine had settled."""

RANDOM = SystemRandom().random

_MOST_MEMBERS = 40
_GROUPED = ("route", "all")


def take(
    connection: Connection,
    reader: Reader,
    task: str,
    reason: str,
    policy: DeskPolicy,
    now: float,
    draw: Callable[[], float] = RANDOM,
) -> Any | None:
    """Return the read that a person has, or lease the next one.

    Args:
        connection: The transaction.
        reader: Who asks.
        task: A task's id, or empty for any.
        reason: A queue's reason, or empty for any.
        policy: Says how long a lease lasts, and how many validity papers there are.
        now: Seconds since the epoch.
        draw: Returns random numbers in 0…1, which decide what is next and whether it is a validity paper.

    Returns:
        The read, with its lease's token; None if nothing is left for this person.
    """
    current = leases.current_read(connection, reader.id)
    if current is not None:
        fits = (not task or current.task == task) and (not reason or current.reason == reason)
        if fits and not programme.item_of(connection, current.task).paused:
            leases.extend_lease(connection, current, now, policy.lease_s)
            return leases.current_read(connection, reader.id)
        leases.release(connection, reader.id)
    leases.expire(connection, now)
    waiting = leases.next_queues(connection, task, reason, "" if reader.adjudicates else ADJUDICATION)
    access = TaskAccess(connection, reader)
    # Within a task at random, so that nobody can tell from the order why a response is read.
    order = sorted(waiting, key=lambda queue: (queue[0], -(draw() ** (1 / queue[2]))))
    if task in access.sets and not programme.item_of(connection, task).paused:
        order.insert(0, (task, "", 0))  # people qualify before any response is there
    for queue_task, queue_reason, _ in order:
        read = None
        if access.obstacle(queue_task) == QUALIFY:
            read = access.next_paper(queue_task, policy, now)
        if read is None and access.may_read(queue_task, policy, now):
            read = leases.next_open(connection, reader.id, queue_task, queue_reason)
        if read is None:
            continue
        if read.kind == "first" and draw() < policy.validity:
            read = _validity_read(connection, reader.id, read) or read
        leases.lease(connection, [read.id], reader.id, now, policy.lease_s)
        if policy.groups and read.kind == "first":
            _lease_group(connection, read, reader.id, policy, now)
        return leases.current_read(connection, reader.id)
    return None


def time_left(left_s: float | None) -> str:
    """Return a reading time as people say it.

    >>> time_left(4000), time_left(6), time_left(None)
    ('1 h 7 min', '1 min', '')
    """
    if left_s is None:
        return ""
    minutes = ceil(left_s / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _validity_read(connection: Connection, person: int, instead_of: Any) -> Any | None:
    """Add the read of a validity paper that this person has not read; None if there is none."""
    papers = leases.unread_papers(connection, person, instead_of.task)
    if not papers:
        return None
    paper = responses.row_of(connection, min(papers, key=lambda row: share(f"{person} {row}")))
    return leases.add_read(connection, paper, "validity", instead_of.reason, priority=paper.priority)


def _lease_group(connection: Connection, read: Any, person: int, policy: DeskPolicy, now: float) -> None:
    """Lease the open duplicates of a response along with it."""
    row = responses.row_of(connection, read.row)
    if row.chosen_by in _GROUPED:
        across = policy.across_administrations
        members = leases.duplicate_reads(connection, row, _GROUPED, across, _MOST_MEMBERS)
        leases.lease(connection, members, person, now, policy.lease_s, lead=read.id)
