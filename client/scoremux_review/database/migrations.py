"""Migrations: each brings the tables from one format to the next, in the transaction that opens the database."""

from __future__ import annotations

from sqlalchemy import Connection, Table, text

from scoremux_review.database import schema
from scoremux_review.database.schema import FORMAT

_STEPS: dict[int, tuple[list[Table], str]] = {
    # Entries hold digests of remarks, whose text is in a table. Entries of format 1 keep the text they have.
    1: ([schema.remarks], "ALTER TABLE decisions DROP COLUMN note"),
    2: ([schema.messages], ""),  # raters ask, and leaders answer
    3: ([schema.assignments, schema.standings], ""),  # leaders say who reads what, and who has qualified
    # Raters share assignments in pools.
    4: ([schema.pools, schema.pool_members], "ALTER TABLE people ADD COLUMN leader BIGINT"),
    # Rows say who wrote the response. Digests are as before where it is not known, and where no columns were kept.
    5: ([], "ALTER TABLE rows ADD COLUMN student TEXT NOT NULL DEFAULT ''"),
    6: ([], "ALTER TABLE people DROP COLUMN leader"),  # all leaders see all raters
    7: ([], "ALTER TABLE rows ADD COLUMN kept TEXT NOT NULL DEFAULT ''"),  # columns that a job kept
    # `scoremux api`
    8: ([schema.api_rows, schema.webhooks, schema.deliveries, schema.idempotency, schema.batches], ""),
}
"""Format → what makes the next one of it: tables that are new, and a statement."""


def migrate(connection: Connection, stored: str) -> bool:
    """Bring the tables of a stored format up to ours; return whether that is possible."""
    if not stored.isdecimal() or not min(_STEPS) <= int(stored) <= FORMAT:
        return False
    for number in range(int(stored), FORMAT):
        tables, statement = _STEPS[number]
        for table in tables:
            table.create(connection)
        if statement:
            connection.execute(text(statement))
    return True
