"""Decisions: a level or a code for a response, undoing it, and looking at the machine's score afterwards.

Each function is one transaction's work; the connection must be the only writer (`Database.write`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from scoremux_client.contract import CONDITION_CODES
from scoremux_review.database import log, programme, reads, responses
from scoremux_review.database.schema import ERASED, PAPERS
from scoremux_review.desk_policy import DeskPolicy
from scoremux_review.errors import LeaseLostError, ReviewError, TooLateError, TooSoonError
from scoremux_review.reading import decision_rows, leases
from scoremux_review.reading.settling import settle
from scoremux_review.reading.task_access import QUOTA, Reader, TaskAccess

_LONGEST_S = 600.0
_MOST_NOTE = 2000
_LOST = "this response went to someone else in the meantime; nothing was saved for it"


@dataclass(frozen=True)
class Rating:
    """A rater's answer to a response.

    Attributes:
        code: A condition code, empty with a level.
        also: Lease tokens of the group's ticked members.
        after_s: How long the response had been on the screen when the key or button went down, as the page measures it;
            None from a page without scripts.
    """

    level: int | None = None
    code: str = ""
    note: str = ""
    also: Collection[str] = ()
    after_s: float | None = None


def decide(connection: Connection, reader: Reader, token: str, rating: Rating, now: float) -> TaskAccess:
    """Decide the response that a lease's token names, and the ticked members of its group.

    A token that the same rater has used is a repetition of a request, and changes nothing.

    Returns:
        What the rater may read now.

    Raises:
        LeaseLostError: this rater does not have the response any more.
        TooSoonError: it has not been shown for as long as the policy wants.
        ReviewError: the level or the code is unknown to the task.
    """
    read = leases.read_of_token(connection, token)
    if read is None or read.person != reader.id:
        raise LeaseLostError(_LOST)
    ticked = [member for member in leases.group_members(connection, read.id) if member.token in rating.also]
    policy, item = programme.load_policy(connection), programme.item_of(connection, read.task)
    if read.state != "done":
        shown_s = _check(read, rating, item, policy, now)
        spent_s = min(_LONGEST_S, max(0.0, read.shown_at - read.leased_at + shown_s))
        _save_group(connection, reader, [read, *ticked], rating, policy, now, spent_s)
        reads.give_back_group(connection, read.id)  # what was not ticked
    access = TaskAccess(connection, reader, now, policy)
    if access.obstacle(read.task) == QUOTA:
        access.end_reservations()
    return access


def undo(connection: Connection, access: TaskAccess) -> int:
    """Take back a rater's last decision, with those made along with it, and lease the response to them again.

    Returns:
        The read.

    Raises:
        TooLateError: nothing can be undone: it is too long ago, the machine's score was looked at, the row was
            reopened, or the qualification set is complete.
    """
    policy = access.policy
    last = decision_rows.last_decision(connection, access.reader.id)
    if last is None:
        raise TooLateError("there is nothing to undo")
    if access.now - last.at > policy.undo_s:
        raise TooLateError("the last decision is too long ago to undo; a leader can reopen the response")
    group = decision_rows.decided_together(connection, last)
    if any(decision.compared for decision in group):
        raise TooLateError("the machine's score was looked at; a leader can reopen the response")
    standing = access.standings.get(last.task)
    if last.kind == "qualification" and standing is not None and standing.since >= last.id:
        raise TooLateError("the qualification set is complete")
    rows = [responses.row_of(connection, decision.row) for decision in group]
    if any(decision.round != row.round for decision, row in zip(group, rows, strict=True)):
        raise TooLateError("a leader has reopened the response in the meantime")
    if any(row.state == ERASED for row in rows):
        raise TooLateError("the response was erased in the meantime")
    leases.release(connection, access.reader.id)
    first = group[0]
    for decision in group:
        decision_rows.mark(connection, decision.id, undone=True)
        lead = None if decision is first else first.read
        leases.take_back(connection, decision, access.now, policy.lease_s, lead)
        body = {"decision": decision.id, "level": decision.level, "code": decision.code}
        body |= settle(connection, decision, policy)
        log.append(connection, access.now, access.reader.name, "undone", body, row=decision.row)
    return int(first.read)


def compare(connection: Connection, reader: Reader, now: float) -> None:
    """Note that a rater looks at the machine's score of their last response; that decision stands from then on.

    Raises:
        ReviewError: they have decided nothing.
    """
    last = decision_rows.last_decision(connection, reader.id)
    if last is None:
        raise ReviewError("this response has no decision to compare")
    if not last.compared:
        decision_rows.mark(connection, last.id, compared=True)
        log.append(connection, now, reader.name, "compared", {"decision": last.id}, row=last.row)


def _check(read: Any, rating: Rating, item: programme.Item, policy: DeskPolicy, now: float) -> float:
    """Return how long a leased response has been shown, in seconds. Raises as `decide` does."""
    if read.state != "leased" or read.lead is not None:
        raise LeaseLostError("this response was withdrawn in the meantime; nothing was saved for it")
    shown_s: float = min(now - read.shown_at, _LONGEST_S if rating.after_s is None else rating.after_s)
    if shown_s < policy.guard_s:
        raise TooSoonError(f"a decision counts {policy.guard_s:g} s after a response appears; nothing was saved")
    if (rating.level is None) == (rating.code == "") or (rating.code and rating.code not in CONDITION_CODES):
        raise ReviewError("choose one level or one code, not both")
    if rating.level is not None and not 0 <= rating.level < len(item.levels):
        raise ReviewError(f"task {item.id} has no level {rating.level}")
    return shown_s


def _save_group(
    connection: Connection,
    reader: Reader,
    group: list[Any],
    rating: Rating,
    policy: DeskPolicy,
    now: float,
    spent_s: float,
) -> None:
    """Save one rating for all reads of a group; the first decision is the lead of the others."""
    values = {"at": now, "spent_s": round(spent_s / len(group), 3), "fast": spent_s < policy.fast_s, "size": len(group)}
    lead: int | None = None
    for read in group:
        decision = _save(connection, reader, read, rating, policy, {**values, "lead": lead})
        lead = lead or decision


def _save(
    connection: Connection, reader: Reader, read: Any, rating: Rating, policy: DeskPolicy, values: dict[str, Any]
) -> int:
    """End the lease of a read with a decision, settle its row, and record both; return the decision's id."""
    if not leases.finish(connection, read, values["spent_s"]):
        raise LeaseLostError(_LOST)
    columns = {name: getattr(read, name) for name in ("task", "kind", "round")} | values
    saw = "scores" if read.kind == "adjudication" else "machine" if policy.machine == "before" else "blind"
    columns |= {"read": read.id, "person": reader.id, "level": rating.level, "code": rating.code, "saw": saw}
    before = responses.row_of(connection, read.row)
    decision = decision_rows.add_decision(connection, row=read.row, **columns)
    body = {**columns, "decision": decision.id, **settle(connection, decision, policy)}
    if read.kind not in PAPERS:
        level = before.level if before.final_level is None else before.final_level
        body["old"] = {"level": level, "state": before.state}
    remark = rating.note[:_MOST_NOTE]
    log.append(connection, values["at"], reader.name, "decided", body, row=read.row, remark=remark)
    return int(decision.id)
