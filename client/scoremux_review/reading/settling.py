"""Settling: a row's final score, or who reads it next; and reopening, which begins anew.

Each function is a part of one transaction; the connection must be the only writer (`Database.write`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select, update

from scoremux_review.database import log
from scoremux_review.database.schema import decisions, people, queues, reads, rows, unindexed
from scoremux_review.desk_policy import Policy
from scoremux_review.errors import ReviewError
from scoremux_review.reading.intake import add_waiting, share
from scoremux_review.reading.queues import ADJUDICATION, Reader, free


def settle(
    connection: Connection, row: Any, read: Any, decision: int, level: int | None, code: str, policy: Policy
) -> None:
    """Make the decision final, or ask for another one."""
    if read.kind == "first" and share(f"second {row.task} {row.name} {row.line}") < policy.second_reads:
        set_row(connection, row.id, state="second")
        _new_read(connection, row, "second", row.reason, row.round, row.priority, read.person)
        return
    if read.kind == "second":
        first = connection.execute(
            select(decisions)
            .join(reads, reads.c.id == decisions.c.read)
            .where(decisions.c.row == row.id, decisions.c.kind == "first", decisions.c.undone.is_(False))
            .where(reads.c.round == row.round)
        ).one()
        if _differ(first, level, code, policy):
            set_row(connection, row.id, state="adjudication")
            _new_read(connection, row, "adjudication", ADJUDICATION, row.round, row.priority, None)
            return
        decision, level, code = first.id, first.level, first.code
    set_row(connection, row.id, state="done", final_level=level, final_code=code, final_decision=decision)


def count_done(connection: Connection, read: Any, number: int, spent_s: float) -> None:
    """Move so many reads of a queue from waiting to done."""
    this = (queues.c.task == read.task) & (queues.c.reason == read.reason)
    connection.execute(
        update(queues)
        .where(this)
        .values(waiting=queues.c.waiting - number, done=queues.c.done + number, spent_s=queues.c.spent_s + spent_s)
    )


def set_row(connection: Connection, row: int, **values: Any) -> None:
    """Change columns of a row."""
    connection.execute(update(rows).where(rows.c.id == row).values(**values))


def reopen(connection: Connection, by: Reader, row: int, why: str, now: float) -> None:
    """Send a row to be read anew, by someone who has not decided it. Raises ReviewError if it is being read already."""
    found = connection.execute(select(rows).where(rows.c.id == row)).one_or_none()
    if found is None or found.state not in ("done", "machine"):
        raise ReviewError(f"row {row} is not settled; only a settled row can be reopened")
    last = connection.execute(
        select(decisions.c.person).where(decisions.c.row == row).order_by(decisions.c.id.desc()).limit(1)
    ).scalar_one_or_none()
    reason, number = found.reason or "REOPENED", found.round + 1
    chosen_by = found.chosen_by or "route"
    nothing = {"final_level": None, "final_code": "", "final_decision": None}
    values = {"state": "waiting", "round": number, "reason": reason, "chosen_by": chosen_by}
    connection.execute(update(rows).where(rows.c.id == row).values(**values, **nothing))
    _new_read(connection, found, "first", reason, number, -1.0, last)
    body = {"why": why, "old_level": found.final_level, "old_code": found.final_code}
    log.append(connection, now, by.name, "reopened", body, row=row)


def reopen_all(connection: Connection, by: Reader, person: int, task: str, since: float, why: str, now: float) -> int:
    """Send all settled rows whose final score is one person's to be read anew.

    Args:
        connection: The transaction.
        by: Who reopens them.
        person: Whose decisions.
        task: Of this task alone, or empty for all.
        since: Only decisions from then on, in seconds since the epoch.
        why: For the record.
        now: Seconds since the epoch.

    Returns:
        How many.
    """
    query = (
        select(rows.c.id)
        .join(decisions, decisions.c.id == rows.c.final_decision)
        .where(rows.c.state == "done", decisions.c.person == person, decisions.c.at >= since)
    )
    chosen = connection.execute(query.where(rows.c.task == task) if task else query).scalars().all()
    for row in chosen:
        reopen(connection, by, row, why, now)
    return len(chosen)


def assign(connection: Connection, by: Reader, row: int, person: int | None, now: float) -> None:
    """Give the waiting read of a row to one person, or to anyone; a lease of another person ends.

    Raises:
        ReviewError: the row has no waiting read, or it may not be this person's.
    """
    read = connection.execute(
        select(reads).where(reads.c.row == row, unindexed(reads.c.state).in_(("open", "leased"))).limit(1)
    ).one_or_none()
    if read is None or read.kind == "validity":
        raise ReviewError(f"row {row} is not waiting to be read")
    if person is not None and read.not_for == person:
        raise ReviewError("this person has read the response already")
    free(connection, read.lead or read.id)
    connection.execute(update(reads).where(reads.c.id == read.id).values(only_for=person))
    name = connection.execute(select(people.c.name).where(people.c.id == person)).scalar_one_or_none()
    log.append(connection, now, by.name, "assigned", {"to": name}, row=row)


def _differ(first: Any, level: int | None, code: str, policy: Policy) -> bool:
    if policy.adjudicate == "never" or (first.level, first.code) == (level, code):
        return False
    if policy.adjudicate == "non-exact" or first.level is None or level is None:
        return True
    return abs(int(first.level) - level) > 1


def _new_read(
    connection: Connection, row: Any, kind: str, reason: str, number: int, priority: float, not_for: int | None
) -> None:
    values = {"row": row.id, "kind": kind, "round": number, "task": row.task, "reason": reason, "priority": priority}
    connection.execute(insert(reads).values(state="open", not_for=not_for, **values))
    add_waiting(connection, row.task, reason)
