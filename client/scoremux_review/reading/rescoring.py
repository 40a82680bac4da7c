"""Rows that come again with another score: after a rollback, from a new version, or with a share of read-behind.

A new score replaces the old one where people ask for that. Rows that nobody has read are chosen anew. A row that people
have read keeps its decision. If it was certain to be read (`route`, `all`), it still stands for itself alone; if not,
the choice of the new version counts, whose read-behind is a sample of all that it keeps. Read-behind must therefore
pick what it picked before: the same key, and the same share or a greater one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import isclose
from typing import Any

from scoremux_assess.agreement.weights import ALL, READ_BEHIND, ROUTE, SAMPLE
from scoremux_client.contract import NOBODY_CAN
from scoremux_client.errors import InputError
from scoremux_review.database import leases, log, responses
from scoremux_review.database.connection import Connection
from scoremux_review.database.schema import PAPERS

_SCORE = (
    "status", "level", "probabilities", "confidence", "level_low", "level_high", "condition", "route", "version",
)  # fmt: skip
_COMPARED = ("status", "level", "route", "version", "chosen_by", "read_behind")

Rescored = tuple[Any, dict[str, Any]]
"""A known row, and the columns that its new score changes; `state` is among them if nobody has read the row."""


def find_rescored(connection: Connection, chunk: Sequence[Mapping[str, Any]], file: str) -> list[Rescored]:
    """Return the known rows that come with another score or route. Raises InputError for another text or level."""
    rescored, known = [], responses.rows_at(connection, chunk)
    for row in chunk:
        before = known.get((row["source"], row["line"], row["name"]))
        if before is None:
            continue
        if (before.task, before.text) != (row["task"], row["text"]):
            raise InputError(
                f"{file}: line {row['line']} of {row['source']} has another text or task than when "
                f"{before.administration} brought it; if these are two files of one name, rename the new one "
                "(responses: and score them again)"
            )
        if before.known_level != row["known_level"]:
            raise InputError(
                f"{file}: the paper in line {row['line']} has the known level {before.known_level} here, which raters "
                "were compared with; give the corrected paper another id, or put it in a file of another name"
            )
        if before.state not in PAPERS and row["status"] not in NOBODY_CAN:
            columns = _changed(before, row)
            if any(not _equal(getattr(before, name), columns.get(name, getattr(before, name))) for name in _COMPARED):
                rescored.append((before, columns))
    return rescored


def replace_scores(connection: Connection, rescored: Iterable[Rescored], file: str, by: str, now: float) -> int:
    """Give known rows their new scores; return how many more are to be read.

    Args:
        connection: The transaction.
        rescored: From `find_rescored`.
        file: Which brings the scores.
        by: Who adds it, for the record.
        now: Seconds since the epoch.

    Raises:
        InputError: A row that people have read comes on another scale, or is picked for read-behind no longer.
    """
    to_read = 0
    for before, columns in rescored:
        after = {**before._mapping, **columns}
        if "state" not in columns:
            _require_comparable(before, after, file)
        digest = responses.row_digest(after)
        responses.set_row(connection, before.id, **columns, digest=digest)
        old = {name: getattr(before, name) for name in _COMPARED}
        body = {"file": file, "digests": [before.digest, digest], "old": old}
        if "state" in columns:
            body |= {"state": after["state"], "round": before.round, "final": [None, "", None]}
            if before.reason != after["reason"]:
                leases.withdraw_reads(connection, [before.id])
                if after["reason"]:
                    row = responses.row_of(connection, before.id)
                    leases.add_read(connection, row, "first", row.reason, priority=row.priority)
                to_read += bool(after["reason"]) - bool(before.reason)
        log.append(connection, now, by, log.RESCORED, body, row=before.id)
    return to_read


def _changed(before: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    columns = {name: row[name] for name in _SCORE}
    choice = {name: row[name] for name in ("chosen_by", "reason", "read_behind")}
    if before.state in ("machine", "waiting") and before.round == 1:
        return columns | choice | {"state": row["state"]}
    keeps_choice = before.chosen_by in (ROUTE, ALL, SAMPLE) and row["chosen_by"] != ALL
    return columns if keeps_choice else columns | choice


def _require_comparable(before: Any, after: Mapping[str, Any], file: str) -> None:
    was, comes = (len(json.loads(probabilities)) for probabilities in (before.probabilities, after["probabilities"]))
    if was and comes and was != comes:
        raise InputError(
            f"{file}: task {before.task} has {comes} levels, and had {was} when people read line {before.line} of "
            f"{before.source}; scores on another scale need a new database"
        )
    if before.chosen_by == READ_BEHIND and not after["chosen_by"]:
        raise InputError(
            f"{file}: line {before.line} of {before.source} was picked and read as read-behind, and is not picked now; "
            "score again with the same --key-file and the same --read-behind or a greater one"
        )


def _equal(one: Any, other: Any) -> bool:
    both_numbers = isinstance(one, float) and isinstance(other, float)
    return isclose(one, other, rel_tol=1e-6) if both_numbers else bool(one == other)
