"""Migrations: each brings the tables from one format to the next, in the transaction that opens the database."""

from sqlalchemy import Connection, Table, text

from scoremux_desk.database import schema
from scoremux_desk.database.schema import FORMAT

_API = 8
"""The next format has the tables of `scoremux api`."""

_SINCE_10 = {
    "webhooks ADD COLUMN issued TEXT": "''",
    "webhooks ADD COLUMN failures INTEGER": "0",
    "webhooks ADD COLUMN due_at FLOAT": "0",
    "idempotency ADD COLUMN holder TEXT": "''",
    "batches ADD COLUMN size BIGINT": "0",
}

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
    _API: (
        [
            schema.api_rows,
            schema.webhooks,
            schema.deliveries,
            schema.idempotency,
            schema.batches,
        ],
        "",
    ),
    9: ([], "".join(f"ALTER TABLE {column} NOT NULL DEFAULT {value};" for column, value in _SINCE_10.items())),
}
"""Format → what makes the next one of it: tables that are new, and statements."""


def migrate(connection: Connection, stored: str) -> bool:
    """Bring the tables of a stored format up to ours; return whether that is possible."""
    if not stored.isdecimal() or not min(_STEPS) <= int(stored) <= FORMAT:
        return False
    for number in range(int(stored), FORMAT):
        tables, statements = _STEPS[number]
        for table in tables:
            table.create(connection)
        for statement in filter(None, statements.split(";")):
            if number < _API or int(stored) > _API:  # else the tables have just been made, with all columns
                connection.execute(text(statement))
    return True
