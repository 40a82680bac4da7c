"""Migrations: an older format becomes today's, in the transaction that opens the database.

Formats 9 (0.1) and 10 have tables of webhooks, batches and stored answers of `scoremux api`, which are dropped.
"""

import json
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from scoremux_desk.database.schema import FORMAT, time_of
from scoremux_files import replacing, writing

_OLDEST = 9
_REMOVED = ("deliveries", "webhooks", "idempotency", "batches")

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
    if not stored.isdecimal() or not _OLDEST <= int(stored) <= FORMAT:
        return None
    if int(stored) == FORMAT:
        return ""
    kept = _keep_waiting(connection, beside)
    for table in _REMOVED:
        connection.execute(text(f"DROP TABLE IF EXISTS {table}"))
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
