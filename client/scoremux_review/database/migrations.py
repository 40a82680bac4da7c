"""Named migrations: each brings the tables from one format to the next, in the transaction that opens the database."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, text

from scoremux_review.database.schema import assignments, messages, pool_members, pools, remarks, standings


def move_remarks_out_of_the_record(connection: Connection) -> None:
    """1 → 2: entries hold digests of remarks, whose text is in a table. Entries of format 1 keep the text they have."""
    remarks.create(connection)
    connection.execute(text("ALTER TABLE decisions DROP COLUMN note"))


def add_conversations(connection: Connection) -> None:
    """2 → 3: raters ask, and leaders answer."""
    messages.create(connection)


def add_assignments(connection: Connection) -> None:
    """3 → 4: leaders say who reads what, and who has qualified."""
    for table in (assignments, standings):
        table.create(connection)


def add_pools(connection: Connection) -> None:
    """4 → 5: raters share assignments in pools, and may have a leader of their own."""
    for table in (pools, pool_members):
        table.create(connection)
    connection.execute(text("ALTER TABLE people ADD COLUMN leader BIGINT"))


def add_students(connection: Connection) -> None:
    """5 → 6: rows say who wrote the response. Digests are as before where it is not known."""
    connection.execute(text("ALTER TABLE rows ADD COLUMN student TEXT NOT NULL DEFAULT ''"))


def drop_leaders(connection: Connection) -> None:
    """6 → 7: all leaders see all raters."""
    connection.execute(text("ALTER TABLE people DROP COLUMN leader"))


def add_kept_columns(connection: Connection) -> None:
    """7 → 8: rows have columns that a job kept. Digests are as before where there are none."""
    connection.execute(text("ALTER TABLE rows ADD COLUMN kept TEXT NOT NULL DEFAULT ''"))


MIGRATIONS: dict[int, Callable[[Connection], None]] = {
    1: move_remarks_out_of_the_record,
    2: add_conversations,
    3: add_assignments,
    4: add_pools,
    5: add_students,
    6: drop_leaders,
    7: add_kept_columns,
}
"""Format → what makes the next one of it."""
