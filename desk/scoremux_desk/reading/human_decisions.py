"""Decisions: a level or a code for a response, undoing it, and looking at the machine's score afterwards.

The connection must be the only writer (`Database.write`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from scoremux_client.contract import CONDITION_CODES
from scoremux_desk.database import programme, reads, responses
from scoremux_desk.database.schema import DECISION, ERASED, PAPERS, READ, Columns, changed, decisions, inserted
from scoremux_desk.errors import LeaseLostError, ReviewError, TooLateError, TooSoonError
from scoremux_desk.reading import decision_rows, leases
from scoremux_desk.reading.settling import settle
from scoremux_desk.reading.task_access import TaskAccess

_LONGEST_S = 600.0
_MOST_NOTE = 2000


@dataclass(frozen=True)
class Rating:
    """A rater's answer to a response: a level or a code.

    Attributes:
        code: A condition code, empty with a level.
        also: Lease tokens of the group's ticked members.
        after_s: How long the response had been on the screen when the key or button went down, as the page measures it;
            None from a page without scripts.
    """

    token: str
    level: int | None = None
    code: str = ""
    note: str = ""
    also: Collection[str] = ()
    after_s: float | None = None


def decide(access: TaskAccess, rating: Rating) -> None:
    """Decide the response that a lease's token names, and the ticked members of its group.

    A token that the same rater has used is a repetition of a request, and changes nothing.

    Raises:
        LeaseLostError: this rater does not have the response any more.
        TooSoonError: it has not been shown for as long as the policy wants.
        ReviewError: the level or the code is unknown to the task.
    """
    connection = access.connection
    read = reads.read_of_token(connection, rating.token, access.person)
    members = reads.group_members(connection, read.id)
    if read.state != "done":
        read_s = _check(access, read, rating, programme.item_of(connection, read.task))
        ticked = [member for member in members if member.token in rating.also]
        _save_group(access, [read, *ticked], rating, read_s)


def continues(access: TaskAccess, read: Any) -> bool:
    """Return whether a person has decided another trait of the same response since they got it."""
    last = decision_rows.last_decision(access.connection, access.person)
    return last is not None and last.at > read.leased_at


def undo(access: TaskAccess) -> int:
    """Take back a rater's last decision and those made along with it, and lease the response again; return the read.

    Raises:
        TooLateError: nothing can be undone: it is too long ago, the machine's score was looked at, the row was
            reopened, or the qualification set is complete.
    """
    connection = access.connection
    group = _to_undo(access)
    reads.release(connection, access.person)
    for decision in group:
        changed(connection, decisions, DECISION.id == decision.id, undone=True)
        lead = None if decision is group[0] else group[0].read
        reads.take_back(connection, decision, access.now, access.policy.lease_s, lead)
        body = {"decision": decision.id, "level": decision.level, "code": decision.code}
        access.log("undone", body | settle(access, decision.kind, decision.row), row=decision.row)
    first = reads.read_where(connection, READ.id == group[0].read)
    traits = [read.id for read in leases.other_traits(access, first)]
    reads.lease(connection, traits, access.person, access.now, access.policy.lease_s)
    return int(group[0].read)


def compare(access: TaskAccess) -> Any:
    """Note that a rater looks at the machine's score of their last response; return their decision, which they can no
    longer undo.

    Raises ReviewError if they have decided nothing.
    """
    last = decision_rows.last_decision(access.connection, access.person)
    if last is None:
        raise ReviewError("this response has no decision to compare")
    if not last.compared:
        changed(access.connection, decisions, DECISION.id == last.id, compared=True)
        access.log("compared", {"decision": last.id}, row=last.row)
    return last


def _check(access: TaskAccess, read: Any, rating: Rating, item: programme.Item) -> float:
    """Return how long a leased response was read, in seconds, its traits together. Raises as `decide` does."""
    guard_s = 0.0 if continues(access, read) else access.policy.guard_s
    if read.state != "leased":
        raise LeaseLostError("this response was withdrawn in the meantime; nothing was saved for it")
    shown_s: float = min(access.now - read.shown_at, _LONGEST_S if rating.after_s is None else rating.after_s)
    if shown_s < guard_s:
        raise TooSoonError("too soon: read the response first; nothing was saved")
    if (rating.level is None) == (rating.code == "") or (rating.code and rating.code not in CONDITION_CODES):
        raise ReviewError("choose one level or one code, not both")
    if rating.level is not None and not 0 <= rating.level < len(item.levels):
        raise ReviewError("task {task} has no level {level}", task=item.id, level=rating.level)
    return float(min(_LONGEST_S, max(0.0, read.shown_at - read.leased_at + shown_s)))


def _save_group(access: TaskAccess, group: Sequence[Any], rating: Rating, read_s: float) -> None:
    """Save one rating for all reads of a group; the first decision is the lead of the others."""
    spent_s = read_s - (group[0].shown_at - group[0].leased_at if continues(access, group[0]) else 0.0)
    values: Columns = {"at": access.now, "spent_s": round(spent_s / len(group), 3), "size": len(group)}
    values |= {"fast": read_s < access.policy.fast_s, "level": rating.level, "code": rating.code}
    lead: int | None = None
    for read in group:
        decision = _save(access, read, rating.note[:_MOST_NOTE], {**values, "lead": lead})
        lead = lead or decision
    reads.give_back_group(access.connection, group[0].id)  # what was not ticked


def _save(access: TaskAccess, read: Any, note: str, values: Columns) -> int:
    """End the lease of a read with a decision, settle its row, and record both; return the decision's id."""
    connection = access.connection
    reads.finish(connection, read, values["spent_s"])
    columns = {name: getattr(read, name) for name in ("task", "kind", "round")} | values
    saw = "scores" if read.kind == "adjudication" else "machine" if access.policy.machine == "before" else "blind"
    columns |= {"read": read.id, "person": access.person, "saw": saw}
    before = responses.row_of(connection, read.row)
    decision: int = inserted(connection, decisions, row=read.row, **columns)
    body = {**columns, "decision": decision, **settle(access, read.kind, read.row)}
    if read.kind not in PAPERS:
        level = before.level if before.final_level is None else before.final_level
        body["old"] = {"level": level, "state": before.state}
    access.log("decided", body, row=read.row, remark=note)
    return decision


def _to_undo(access: TaskAccess) -> Sequence[Any]:
    """Return a rater's last decision and those made along with it. Raises as `undo` does."""
    last = decision_rows.last_decision(access.connection, access.person)
    if last is None:
        raise TooLateError("there is nothing to undo")
    if access.now - last.at > access.policy.undo_s:
        raise TooLateError("the last decision is too long ago to undo; a leader can reopen the response")
    group = decision_rows.decided_together(access.connection, last)
    if any(decision.compared for decision in group):
        raise TooLateError("the machine's score was looked at; a leader can reopen the response")
    standing = access.standings.get(last.task)
    if last.kind == "qualification" and standing is not None and standing.since >= last.id:
        raise TooLateError("the qualification set is complete")
    rows = [responses.row_of(access.connection, decision.row) for decision in group]
    if any(decision.round != row.round for decision, row in zip(group, rows, strict=True)):
        raise TooLateError("a leader has reopened the response in the meantime")
    if any(row.state == ERASED for row in rows):
        raise TooLateError("the response was erased in the meantime")
    return group
