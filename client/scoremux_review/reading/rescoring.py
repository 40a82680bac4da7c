"""Rows that come again with another score: after a rollback, or from a new version.

They take the new score where people ask for that and nobody has begun to read the task's rows of that administration.
The new version then chooses which of all these rows people read, and weights are those of its choice alone. Where
people have begun, the scores stay: rows that one version chose stand for nothing that another one chose.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose
from typing import Any

from scoremux_client.contract import NOBODY_CAN
from scoremux_client.errors import InputError
from scoremux_review.database import leases, log, responses
from scoremux_review.database.connection import Connection
from scoremux_review.database.schema import PAPERS

_TAKEN = (
    "status", "level", "probabilities", "confidence", "level_low", "level_high", "condition", "route", "version",
    "chosen_by", "reason", "read_behind", "priority", "state",
)  # fmt: skip
_COMPARED = ("status", "level", "route", "version", "chosen_by", "read_behind")

Rescored = tuple[Any, dict[str, Any]]
"""A known row, and the columns of its new score."""


@dataclass
class Replaced:
    """What became of rows with another score.

    Attributes:
        rows: How many took it.
        to_read: How many more people read than before, or fewer.
        kept: Tasks whose rows keep their scores.
    """

    rows: int = 0
    to_read: int = 0
    kept: set[str] = field(default_factory=set)


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
        differs = any(not _equal(getattr(before, name), row[name]) for name in _COMPARED)
        if differs and before.state not in PAPERS and row["status"] not in NOBODY_CAN:
            rescored.append((before, {name: row[name] for name in _TAKEN}))
    return rescored


def replace_scores(
    connection: Connection,
    rescored: Iterable[Rescored],
    in_reading: Collection[tuple[str, str]],
    replaced: Replaced,
    entry: tuple[str, str, float],
) -> None:
    """Give known rows their new scores, and queue them by these.

    Args:
        connection: The transaction, in which nobody else reads or decides.
        rescored: From `find_rescored`.
        in_reading: Task and administration of rows that keep theirs, from `leases.tasks_in_reading`.
        replaced: Counts what becomes of the rows.
        entry: For the record: the file that brings the scores, who adds it, and seconds since the epoch.
    """
    file, by, now = entry
    for before, columns in rescored:
        if (before.task, before.administration) in in_reading:
            replaced.kept.add(before.task)
            continue
        digest = responses.row_digest({**before._mapping, **columns})
        responses.set_row(connection, before.id, **columns, digest=digest)
        leases.withdraw_reads(connection, [before.id])
        if columns["reason"]:
            row = responses.row_of(connection, before.id)
            leases.add_read(connection, row, "first", row.reason, priority=row.priority)
        old = {name: getattr(before, name) for name in _COMPARED}
        body = {"file": file, "digests": [before.digest, digest], "old": old, "state": columns["state"],
                "round": before.round, "final": [None, "", None]}  # fmt: skip
        log.append(connection, now, by, log.RESCORED, body, row=before.id)
        replaced.rows += 1
        replaced.to_read += bool(columns["reason"]) - bool(before.reason)


def _equal(one: Any, other: Any) -> bool:
    both_numbers = isinstance(one, float) and isinstance(other, float)
    return isclose(one, other, rel_tol=1e-6) if both_numbers else bool(one == other)
