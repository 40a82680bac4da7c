"""Decisions: a level or a code for a response, undoing it, alerts, and looking at the machine's score afterwards.

Each function is one transaction's work; the connection must be the only writer (`Database.write`).
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from scoremux_review.database import log
from scoremux_review.database.schema import alerts, decisions, reads, rows, unindexed
from scoremux_review.desk_policy import CODES, Policy
from scoremux_review.errors import LeaseLostError, ReviewError, TooLateError
from scoremux_review.reading.intake import add_waiting
from scoremux_review.reading.items import item_of
from scoremux_review.reading.queues import Reader, free, members
from scoremux_review.reading.settling import count_done, set_row, settle

_LONGEST_S = 600.0
_MOST_NOTE = 2000


@dataclass(frozen=True)
class Judgement:
    """What a rater says of a response. also: lease tokens of the group's ticked members."""

    level: int | None = None
    code: str = ""
    note: str = ""
    also: Collection[str] = field(default=())


def decide(
    connection: Connection, reader: Reader, token: str, said: Judgement, policy: Policy, now: float
) -> tuple[int, ...]:
    """Decide the response that a lease's token names, and the ticked members of its group.

    A token that has been used by the same rater is a repetition of a request, and changes nothing.

    Args:
        connection: The transaction.
        reader: Who decides.
        token: Of the lease.
        said: The level or code, and the note.
        policy: Says what follows.
        now: Seconds since the epoch.

    Returns:
        Ids of the decisions; none for a repetition.

    Raises:
        LeaseLostError: the response is no longer this rater's.
        ReviewError: the level or code is none of the task's.
    """
    read = connection.execute(select(reads).where(reads.c.token == token)).one_or_none()
    if read is None or read.person != reader.id:
        raise LeaseLostError("this response went to someone else in the meantime; nothing was saved for it")
    if read.state == "done":
        return ()
    if read.state != "leased" or read.lead is not None:
        raise LeaseLostError("this response was withdrawn in the meantime; nothing was saved for it")
    if (said.level is None) == (said.code == "") or (said.code and said.code not in CODES):
        raise ReviewError("a decision is one level or one code")
    if said.level is not None and not 0 <= said.level < len(item_of(connection, read.task).levels):
        raise ReviewError(f"task {read.task} has no level {said.level}")
    ticked = [member for member in members(connection, read.id) if member.token in said.also]
    lead: int | None = None
    made = []
    for one in (read, *ticked):
        decision = _save(connection, reader, one, said, policy, now, lead, 1 + len(ticked))
        lead = lead or decision
        made.append(decision)
    free(connection, read.id)  # what was not ticked
    return tuple(made)


def undo(connection: Connection, reader: Reader, policy: Policy, now: float) -> int:
    """Take back a rater's last decision, with those made along with it, and lease the response to them again.

    Returns:
        The read.

    Raises:
        TooLateError: nothing can be undone: it is too long ago, the machine's score was looked at, or someone else
            has begun to read the response.
    """
    last = last_decision(connection, reader.id)
    if last is None:
        raise TooLateError("there is nothing to undo")
    lead = last.lead or last.id
    group = connection.execute(
        select(decisions).where((decisions.c.id == lead) | (decisions.c.lead == lead), decisions.c.undone.is_(False))
    ).all()
    for decision in group:
        _check_undo(connection, decision, policy, now)
    free_current = select(reads.c.id).where(
        reads.c.person == reader.id, reads.c.state == "leased", reads.c.lead.is_(None)
    )
    for held in connection.execute(free_current).scalars().all():
        free(connection, held)
    first = min(group, key=lambda decision: decision.id)
    for decision in group:
        _take_back(connection, decision, None if decision is first else first.read, policy, now)
    body = {"decisions": sorted(d.id for d in group), "level": last.level, "code": last.code}
    log.append(connection, now, reader.name, "undone", body, row=first.row)
    return int(first.read)


def last_decision(connection: Connection, person: int) -> Any | None:
    """Return the newest decision of a person that counts."""
    mine = (decisions.c.person == person) & decisions.c.undone.is_(False)
    return connection.execute(select(decisions).where(mine).order_by(decisions.c.id.desc()).limit(1)).one_or_none()


def compare(connection: Connection, reader: Reader, decision: int, now: float) -> None:
    """Note that a rater looks at the machine's score of a response they have decided; it cannot be undone then."""
    mine = (decisions.c.id == decision) & (decisions.c.person == reader.id) & decisions.c.compared.is_(False)
    if connection.execute(update(decisions).where(mine).values(compared=True)).rowcount:
        row = connection.execute(select(decisions.c.row).where(decisions.c.id == decision)).scalar_one()
        log.append(connection, now, reader.name, "compared", {"decision": decision}, row=row)


def raise_alert(connection: Connection, reader: Reader, token: str, now: float) -> None:
    """Note that a response suggests danger to its writer or others. Raises LeaseLostError."""
    row = connection.execute(
        select(reads.c.row).where(reads.c.token == token, reads.c.person == reader.id)
    ).scalar_one_or_none()
    if row is None:
        raise LeaseLostError("this response went to someone else in the meantime; raise the alert there, or by its id")
    waiting = select(func.count()).where(alerts.c.row == row, alerts.c.handled_at.is_(None))
    if not connection.execute(waiting).scalar_one():
        connection.execute(insert(alerts).values(row=row, person=reader.id, at=now))
        log.append(connection, now, reader.name, "alert", {}, row=row)


def _save(
    connection: Connection,
    reader: Reader,
    read: Any,
    said: Judgement,
    policy: Policy,
    now: float,
    lead: int | None,
    size: int,
) -> int:
    saw = "scores" if read.kind == "adjudication" else "machine" if policy.machine == "before" else "blind"
    changed = connection.execute(
        update(reads).where(reads.c.id == read.id, reads.c.state == "leased").values(state="done", lead=None)
    )
    if changed.rowcount != 1:
        raise LeaseLostError("this response went to someone else in the meantime; nothing was saved for it")
    spent_s = round(min(_LONGEST_S, max(0.0, now - read.leased_at)) / size, 3)
    values = {
        "level": said.level, "code": said.code, "saw": saw, "note": said.note[:_MOST_NOTE], "lead": lead, "size": size
    }  # fmt: skip
    created = connection.execute(
        insert(decisions).values(
            read=read.id,
            row=read.row,
            person=reader.id,
            task=read.task,
            kind=read.kind,
            at=now,
            spent_s=spent_s,
            **values,
        )
    ).inserted_primary_key
    assert created is not None  # an INSERT of one row has a key
    row = connection.execute(select(rows).where(rows.c.id == read.row)).one()
    body = {**values, "decision": created[0], "kind": read.kind, "spent_s": spent_s}
    if read.kind != "validity":
        body["old"] = {"level": row.final_level if row.final_level is not None else row.level, "state": row.state}
        count_done(connection, read, 1, spent_s)
        settle(connection, row, read, created[0], said.level, said.code, policy)
    log.append(connection, now, reader.name, "decided", body, row=read.row)
    return int(created[0])


def _check_undo(connection: Connection, decision: Any, policy: Policy, now: float) -> None:
    if now - decision.at > policy.undo_s:
        raise TooLateError("the last decision is too long ago to undo; a leader can reopen the response")
    if decision.compared:
        raise TooLateError("the machine's score was looked at; a leader can reopen the response")
    if decision.kind == "validity":
        return
    read = connection.execute(select(reads).where(reads.c.id == decision.read)).one()
    later = connection.execute(
        select(reads.c.state).where(
            reads.c.row == decision.row, reads.c.id > read.id, unindexed(reads.c.state) != "withdrawn"
        )
    ).scalars()
    if any(state != "open" for state in later):
        raise TooLateError("someone else reads the response already; a leader can reopen it")


def _take_back(connection: Connection, decision: Any, lead: int | None, policy: Policy, now: float) -> None:
    read = connection.execute(select(reads).where(reads.c.id == decision.read)).one()
    connection.execute(update(decisions).where(decisions.c.id == decision.id).values(undone=True))
    following = (reads.c.row == read.row) & (reads.c.id > read.id) & (unindexed(reads.c.state) == "open")
    for other in connection.execute(select(reads).where(following)).all() if decision.kind != "validity" else ():
        connection.execute(update(reads).where(reads.c.id == other.id).values(state="withdrawn"))
        add_waiting(connection, other.task, other.reason, -1)
    lease = {"token": secrets.token_urlsafe(16), "leased_at": now, "lease_until": now + policy.lease_s, "lead": lead}
    connection.execute(update(reads).where(reads.c.id == read.id).values(state="leased", **lease))
    if decision.kind != "validity":
        count_done(connection, read, -1, -decision.spent_s)
        state = {"first": "waiting", "second": "second", "adjudication": "adjudication"}[decision.kind]
        set_row(connection, read.row, state=state, final_level=None, final_code="", final_decision=None)
