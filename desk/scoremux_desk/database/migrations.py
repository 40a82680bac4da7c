"""Migrations: each brings the tables from one format to the next, in the transaction that opens the database."""

import json
from pathlib import Path

from sqlalchemy import Connection, Table, inspect, text

from scoremux_desk.database import schema
from scoremux_desk.database.schema import FORMAT, time_of
from scoremux_files import replacing, writing

_REMOVED = 10
"""The next format has neither webhooks nor batches nor stored answers of `scoremux api`."""

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
    8: ([schema.api_rows], ""),
    9: ([], ""),
    _REMOVED: ([], "".join(f"DROP TABLE IF EXISTS {t};" for t in ("deliveries", "webhooks", "idempotency", "batches"))),
}
"""Format → what makes the next one of it: tables that are new, and statements."""

_WAITS = {
    "deliveries": "SELECT deliveries.*, webhooks.token, webhooks.url FROM deliveries JOIN webhooks "
    "ON webhooks.id = deliveries.webhook WHERE deliveries.state <> 'delivered' ORDER BY deliveries.number",
    "batches": "SELECT * FROM batches WHERE state <> 'expired' ORDER BY id",
}
"""By table, what may still be of use when it is dropped."""


def migrate(connection: Connection, stored: str, beside: Path) -> str | None:
    """Bring the tables of a stored format up to ours.

    Args:
        beside: How the file that keeps what waits in dropped tables begins: the database, or its name.

    Returns:
        What was dropped and where it is now, empty if it was nothing; None where the format is not known.
    """
    if not stored.isdecimal() or not min(_STEPS) <= int(stored) <= FORMAT:
        return None
    kept = _keep_waiting(connection, beside) if int(stored) <= _REMOVED else ""
    for number in range(int(stored), FORMAT):
        tables, statements = _STEPS[number]
        for table in tables:
            table.create(connection)
        for statement in filter(None, statements.split(";")):
            connection.execute(text(statement))
    return kept


def _keep_waiting(connection: Connection, beside: Path) -> str:
    """Write what waits in tables that are dropped to a file; return a sentence about it, empty without any."""
    there = set(inspect(connection).get_table_names())
    found = {
        table: [dict(row._mapping) for row in connection.execute(text(query))]
        for table, query in _WAITS.items()
        if table in there
    }
    if not any(found.values()):
        return ""
    path = beside.with_name(f"{beside.name}.removed-{time_of(connection):.0f}.jsonl")
    lines = [json.dumps({"table": table, **row}) + "\n" for table, rows in found.items() for row in rows]
    with writing(path), replacing(path, 0o600) as aside:
        aside.write_text("".join(lines), encoding="utf-8")
    counts = " and ".join(f"{len(rows):,} {table}" for table, rows in found.items() if rows)
    return (
        f"webhooks and batches of `scoremux api` are gone: {counts} that waited are in {path}. Read decisions from "
        "GET /v1/changes; results of batches stay in the folder that was --folder"
    )
