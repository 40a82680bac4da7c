"""Settling: a row's final score, or who reads it next; and reopening, which begins a new round. The connection
must be the only writer (`Database.write`).
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from scoremux_desk.database import reads, responses
from scoremux_desk.database.reads import ADJUDICATION, REOPENED
from scoremux_desk.database.schema import PAPERS, ROW, Columns, changed, rows
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.errors import ReviewError
from scoremux_desk.reading import decision_rows
from scoremux_desk.reading.intake import share
from scoremux_desk.reading.task_access import TaskAccess


def settle(access: TaskAccess, kind_of_read: str, number: int) -> Columns:
    """Compute the state of a decided row from the decisions that count; add and withdraw reads as it takes.

    Returns:
        State, round and final score of the row, for the record; nothing for a paper with a known level, which has none.
    """
    if kind_of_read in PAPERS:
        return {}
    connection = access.connection
    row = responses.row_of(connection, number)
    by_kind = decision_rows.row_ratings(connection, row.id, row.round)
    drawn = responses.item_of_trait(row) or row.task
    twice = share(f"second {drawn} {row.name} {row.line}") < access.policy.second_reads
    state, counts = outcome(by_kind, twice, access.policy)
    final = {
        "final_level": counts and counts.level,
        "final_code": counts.code if counts else "",
        "final_decision": counts and counts.id,
    }
    changed(connection, rows, ROW.id == row.id, state=state, **final)
    if state == "second":
        _add_second_reads(connection, number)
    for kind in ("second", "adjudication"):
        pending = reads.pending_read(connection, row.id, kind)
        if state == kind == "adjudication" and pending is None:
            reads.add_read(connection, row, kind, ADJUDICATION, priority=row.priority)
        elif pending is not None and state != kind and (kind, state) != ("second", "waiting"):
            reads.withdraw(connection, pending)
    return {"state": state, "round": row.round, "final": list(final.values())}


def _add_second_reads(connection: Connection, number: int) -> None:
    """Add second reads of all traits of a response, once each has a first one: a second person reads it once, too."""
    traits = responses.rows_of_traits(connection, responses.row_of(connection, number))
    if any(row.state == "waiting" for row in traits):
        return
    for row in traits:
        if row.state == "second" and reads.pending_read(connection, row.id, "second") is None:
            first = decision_rows.row_ratings(connection, row.id, row.round)["first"]
            reason = row.reason or REOPENED
            reads.add_read(connection, row, "second", reason, priority=row.priority, not_for=first.person)


def outcome(by_kind: Mapping[str, Any], twice: bool, policy: DeskPolicy) -> tuple[str, Any | None]:
    """Return the state that follows from the ratings of a round, and the rating that counts; twice: read by two."""
    first, second, third = (by_kind.get(kind) for kind in ("first", "second", "adjudication"))
    if first is None:
        return "waiting", None
    if third is not None:
        return "done", third
    if second is None:
        return ("second", None) if twice else ("done", first)
    return ("adjudication", None) if _differ(first, second, policy) else ("done", first)


def reopen(access: TaskAccess, row: int, why: str) -> None:
    """Have a row read again, by someone who has not decided it. Raises ReviewError if it is not settled."""
    connection = access.connection
    before = responses.row_of(connection, row)
    if before is None or before.state not in ("done", "machine"):
        raise ReviewError(f"row {row} is not settled; only a settled row can be reopened")
    unsettled = {"final_level": None, "final_code": "", "final_decision": None}
    now = {"state": "waiting", "round": before.round + 1}
    changed(connection, rows, ROW.id == row, **now, **unsettled)
    again = responses.row_of(connection, row)
    not_for = decision_rows.last_rater(connection, row)
    reads.add_read(connection, again, "first", before.reason or REOPENED, priority=-1.0, not_for=not_for)
    body = {"old_level": before.final_level, "old_code": before.final_code, "final": list(unsettled.values()), **now}
    access.log("reopened", body, row=row, remark=why)


def _differ(first: Any, second: Any, policy: DeskPolicy) -> bool:
    if policy.adjudicate == "never" or (first.level, first.code) == (second.level, second.code):
        return False
    if policy.adjudicate == "non-exact" or first.level is None or second.level is None:
        return True
    return abs(int(first.level) - int(second.level)) > 1
