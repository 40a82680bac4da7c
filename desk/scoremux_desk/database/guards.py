"""Triggers that protect the record, and a check that the schema is the one of this version.

A trigger that someone added would change what is written later.
"""

from typing import Any

from sqlalchemy import Connection, inspect, text

from scoremux_desk.database.schema import metadata
from scoremux_desk.errors import BrokenRecordError

SQLITE_GUARDS = {
    f"record_{verb}": f"""CREATE TRIGGER record_{verb} BEFORE {verb} ON record
BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END"""
    for verb in ("UPDATE", "DELETE")
}
"""All triggers of the database."""

_BODY = " BEGIN RAISE EXCEPTION 'the record is append-only'; END "
_CREATE_POSTGRESQL = (
    f"CREATE FUNCTION record_only_grows() RETURNS trigger LANGUAGE plpgsql AS $${_BODY}$$",
    "CREATE TRIGGER record_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON record "
    "EXECUTE FUNCTION record_only_grows()",
)
POSTGRESQL_GUARD = {"record_only_grows": f"record 58 O {_BODY}"}
"""Its table, `tgtype` (2 before, 8 delete, 16 update, 32 truncate), `tgenabled` and what it runs."""

_SQLITE = "SELECT name, sql AS rule FROM sqlite_master WHERE type = 'trigger'"
_POSTGRESQL = """
SELECT tgname AS name, relname || ' ' || tgtype || ' ' || tgenabled::text || ' ' || prosrc AS rule FROM pg_trigger
JOIN pg_proc ON pg_proc.oid = tgfoid JOIN pg_class ON pg_class.oid = tgrelid
WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace AND relname = ANY(:tables)
UNION ALL SELECT rulename, definition FROM pg_rules WHERE schemaname = current_schema() AND tablename = ANY(:tables)
"""


def create_guards(connection: Connection) -> None:
    """Create the triggers of new tables."""
    is_sqlite = connection.dialect.name == "sqlite"
    for statement in SQLITE_GUARDS.values() if is_sqlite else _CREATE_POSTGRESQL:
        connection.exec_driver_sql(statement)


def check_schema(connection: Connection) -> None:
    """Check triggers and rules, and that tables, columns and indexes are there. Raises BrokenRecordError."""
    is_sqlite = connection.dialect.name == "sqlite"
    expected = SQLITE_GUARDS if is_sqlite else POSTGRESQL_GUARD
    # A schema of PostgreSQL may have tables of other programs.
    rules = connection.execute(text(_SQLITE if is_sqlite else _POSTGRESQL), {"tables": list(metadata.tables)})
    stored = {row.name: row.rule for row in rules}
    for name in sorted(stored.keys() - expected.keys()):
        raise BrokenRecordError(f"the database has a trigger or rule {name}, which is not of this desk")
    for name in expected:
        if stored.get(name) != expected[name]:
            raise BrokenRecordError(f"the trigger {name}, which protects the record, is missing or was changed")
    schema: Any = inspect(connection)
    for table in metadata.sorted_tables:
        there = schema.has_table(table.name) and table.name not in schema.get_view_names()
        columns = {column["name"] for column in schema.get_columns(table.name)} if there else set()
        if columns != set(table.columns.keys()):
            raise BrokenRecordError(f"the table {table.name} is missing, or has other columns than this version makes")
        missing = {str(index.name) for index in table.indexes} - {i["name"] for i in schema.get_indexes(table.name)}
        if missing:
            raise BrokenRecordError(f"the index {min(missing)} of the table {table.name} is missing")
