"""Backups: all tables copied from one database to a new one, SQLite or PostgreSQL, and verified there."""

from __future__ import annotations

from sqlalchemy import BigInteger, func, insert, select, text

from scoremux_client.errors import InputError
from scoremux_files.rows.readers import chunks
from scoremux_review.database.connection import Database
from scoremux_review.database.schema import attempts, metadata, people, sessions, settings
from scoremux_review.database.verification import verify

_LEFT_OUT = (sessions.name, attempts.name)
"""Who is signed in now is of no use later, and what a stolen backup must not have."""
_CHUNK_ROWS = 1_000


def copy_database(source: Database, target: Database) -> tuple[int, str]:
    """Copy one state of a database into an empty one, and verify the copy.

    Returns:
        Number and digest of the copy's newest entry, which are those of the source.

    Raises:
        InputError: the target has accounts or rows.
        BrokenRecordError: the copy is not what its record says; then neither is the source.
    """
    with source.read() as reading, target.write() as writing:
        if writing.execute(select(func.count()).select_from(people)).scalar_one():
            raise InputError("there is a desk in the target already; name an empty database")
        writing.execute(settings.delete())
        for table in metadata.sorted_tables:
            stored = reading.execution_options(yield_per=_CHUNK_ROWS).execute(select(table))
            rows = (dict(row._mapping) for row in stored) if table.name not in _LEFT_OUT else iter(())
            for chunk in chunks(rows, _CHUNK_ROWS):
                writing.execute(insert(table), chunk)
            if not target.is_sqlite and isinstance(getattr(table.c.get("id"), "type", None), BigInteger):
                top = f"(SELECT max(id) FROM {table.name})"
                writing.execute(text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {top})"))
        return verify(writing)
