"""The change feed: what people decided about the rows of a token, in the order in which it was committed.

The order is that of the record. All who write take turns (`Database.write`), and a turn ends after the commit: a change
that a reader does not see yet has a larger number than every change that it sees. An entry's digest is made of all
entries before it, so the digest in a cursor says which history the follower has seen.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from scoremux_decide.total import Total
from scoremux_desk.database import log, programme, responses
from scoremux_desk.database.schema import (
    API_ROW,
    ENTRY,
    ERASED,
    ROW,
    Columns,
    api_rows,
    as_dict,
    record,
    rows,
    unindexed,
)
from scoremux_desk.errors import LostCursorError

MOST_CHANGES = 500
"""Of a page."""

CURSOR = r"^[0-9]{1,18}-[0-9a-f]{32}$"
_MOST_ENTRIES = 20_000
"""Most entries of the record that a page looks at."""

_DIGITS = 32
_DONE = ENTRY.entry.contains('"state":"done"', autoescape=True)
"""A condition that the entries of all changes meet, and few others (`_settles`)."""


@dataclass(frozen=True)
class ChangePage:
    """Changes of one token's rows.

    Attributes:
        number: The entry of the record up to which the page has all changes.
        cursor: What names this entry.
        is_last: Whether the record ended there.
    """

    changes: list[Columns]
    number: int
    cursor: str
    is_last: bool


def changes_after(connection: Connection, token: str, cursor: str | None) -> ChangePage:
    """Return the next changes of a token's rows after a cursor, at most `MOST_CHANGES`; without one, the first.

    The record is read in pieces: a page may have no change, and not be the last.

    Raises LostCursorError where the record does not have the cursor's entry.
    """
    start = _entry_of(connection, cursor)
    last, _ = log.head(connection)
    until = min(last, start + _MOST_ENTRIES)
    # By number: a token may have a million rows, and a follower is near the record's end.
    query = (
        select(record, API_ROW.name, API_ROW.task, ROW.reason, ROW.level, ROW.state)
        .join(api_rows, API_ROW.row == ENTRY.row)
        .join(rows, ROW.id == ENTRY.row)
        .where(ENTRY.number > start, ENTRY.number <= until, unindexed(API_ROW.token) == token, _DONE)
    )
    found = connection.execute(query.order_by(ENTRY.number).limit(MOST_CHANGES)).all()
    settled = [(row, body) for row in found if (body := json.loads(row.entry)) and _settles(body)]
    first = _first_settled(connection, {row.row for row, _ in settled})
    totals = _totals(connection, first)
    items = {task: programme.item_of(connection, task) for task in {row.task for row, _ in settled}}
    changes = [
        {**_change(row, entry, items[row.task], row.number > first[row.row]), "total": totals.get(row.row)}
        for row, entry in settled
    ]
    if len(found) == MOST_CHANGES:
        until = found[-1].number
    return ChangePage(changes, until, _cursor_of(connection, until), until == last)


def tokens_changed(connection: Connection, after: int) -> tuple[int, dict[str, int]]:
    """Return the newest entry's number, and of each token with changes after an entry the newest change's number."""
    last, _ = log.head(connection)
    newest = select(API_ROW.token, func.max(ENTRY.number)).join(api_rows, API_ROW.row == ENTRY.row)
    newest = newest.where(ENTRY.number > after, ENTRY.number <= last, _DONE).group_by(API_ROW.token)
    return last, as_dict(connection, newest) if last > after else {}


def _entry_of(connection: Connection, cursor: str | None) -> int:
    if cursor is None:
        return 0
    number = int(cursor.partition("-")[0])
    if _cursor_of(connection, number) != cursor:
        raise LostCursorError(
            "this database does not have the change of this cursor: a backup was restored. Ask without `after`, and "
            "take what comes in place of what came before"
        )
    return number


def _cursor_of(connection: Connection, number: int) -> str:
    digest = connection.scalar(select(ENTRY.digest).where(ENTRY.number == number)) if number else log.NOTHING
    return f"{number}-{(digest or '')[:_DIGITS]}"


def _settles(entry: Columns) -> bool:
    """Whether an entry gives a row its final score."""
    return "final" in entry["body"] and entry["body"]["state"] == "done"


def _first_settled(connection: Connection, chosen: Collection[int]) -> dict[int, int]:
    """Return the entry that settled each of some rows first."""
    first: dict[int, int] = {}
    for row in connection.execute(select(record).where(ENTRY.row.in_(chosen), _DONE).order_by(ENTRY.number)):
        if _settles(json.loads(row.entry)):
            first.setdefault(row.row, row.number)
    return first


def _totals(connection: Connection, chosen: Collection[int]) -> dict[int, float]:
    """Return the totals, by the levels that count now, of the responses whose traits some rows are."""
    totals: dict[int, float] = {}
    for row in responses.rows_of(connection, chosen):
        if row.id not in totals and (rule := programme.item_of(connection, row.task).total):
            points = {}
            traits = responses.rows_of_traits(connection, row)
            for trait in traits:
                item = programme.item_of(connection, trait.task)
                points[trait.task.rpartition(".")[2]] = item.worth(responses.final_level(trait))
            total = Total.model_validate_json(rule).of(points)
            totals |= {trait.id: total for trait in traits if total is not None}
    return totals


def _change(row: Any, entry: Columns, item: programme.Item, is_again: bool) -> Columns:
    """Return one change, as `FeedChange` of the API describes it; of an erased row only that there was one."""
    change = {"cursor": f"{row.number}-{row.digest[:_DIGITS]}", "type": "erased", "task": row.task}
    decided = dict.fromkeys(("id", "level", "score", "condition", "reason", "machine_level"))
    if row.state != ERASED:
        body = entry["body"]
        level, code, _ = body["final"]
        change["type"] = "corrected" if is_again or body["round"] > 1 else "final"
        decided = {
            "id": row.name,
            "level": level,
            "score": item.worth(level),
            "condition": code or None,
            "reason": row.reason or None,
            "machine_level": row.level if row.level >= 0 else None,
        }
    return {**change, **decided, "at": entry["at"]}
