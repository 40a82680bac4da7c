"""What the database has for `scoremux api` beside the desk's rows: who owns them, and whether it is a sandbox's."""

import json
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Text, cast, func, insert, select, tuple_

from scoremux_desk.database.connection import Database
from scoremux_desk.database.schema import (
    ALERT,
    API_ROW,
    ERASED,
    IDENTITY,
    IS_OPEN,
    ROW,
    SETTING,
    api_rows,
    changed,
    inserted,
    rows,
    settings,
    time_of,
)
from scoremux_files.row_files import chunks

_MOST_NAMES = 5_000
_SANDBOX = "sandbox-"


def owned(connection: Connection, token: str, names: Iterable[str]) -> dict[tuple[str, str], Any]:
    """Return a token's rows that have one of these ids, by task and id, with `at`: when they came."""
    query = select(rows, API_ROW.at).join(api_rows, API_ROW.row == ROW.id).where(API_ROW.token == token)
    found = (connection.execute(query.where(API_ROW.name.in_(some))) for some in chunks(names, _MOST_NAMES))
    return {(row.task, row.name): row for some in found for row in some}


def own(connection: Connection, token: str, new: Mapping[tuple[str, str], int]) -> None:
    """Note that new rows, by task and id, came with a token."""
    arrived = {"token": token, "at": time_of(connection)}
    values = [{"row": row, "task": task, "name": name, **arrived} for (task, name), row in new.items()]
    connection.execute(insert(api_rows), values)


def kept_names(database: Database) -> dict[str, set[str]]:
    """Return the names of the columns that rows keep, by the token that they came with."""
    query = select(API_ROW.token, ROW.kept).join(rows, API_ROW.row == ROW.id).where(ROW.kept != "").distinct()
    names: dict[str, set[str]] = {}
    with database.read() as connection:
        for token, kept in connection.execute(query):
            names.setdefault(token, set()).update(json.loads(kept))
    return names


def numbers_of(connection: Connection, keys: Collection[tuple[str, str]]) -> Sequence[int]:
    """Return the numbers of the rows that have these tasks and ids, of whatever token."""
    return connection.scalars(select(API_ROW.row).where(tuple_(API_ROW.task, API_ROW.name).in_(keys))).all()


def erase(connection: Connection, chosen: Sequence[int]) -> None:
    """Take the ids of some rows away; whose they were stays, so that their changes stay in the feed."""
    # No id has a control character, so that the same id may come again.
    changed(connection, api_rows, API_ROW.row.in_(chosen), name="\x1f" + cast(API_ROW.row, Text))


def rows_with_names(connection: Connection, names: Iterable[str]) -> Iterator[Any]:
    """Yield the rows with these ids that are not erased, with the `token` that each came with; empty: from a file."""
    token = func.coalesce(API_ROW.token, "").label("token")
    query = select(rows, token).outerjoin(api_rows, API_ROW.row == ROW.id)
    query = query.where(ROW.state != ERASED)
    for some in chunks(names, _MOST_NAMES):
        yield from connection.execute(query.where(ROW.name.in_(some))).all()


def expired_rows(connection: Connection, before: float) -> Sequence[int]:
    """Return the rows from before a time that nobody reads any more, and that have no open alert."""
    is_open = select(ALERT.row).where(IS_OPEN)
    query = select(API_ROW.row).join(rows).where(API_ROW.at < before, ROW.state.in_(("done", "machine")))
    return connection.scalars(query.where(API_ROW.row.not_in(is_open)).order_by(API_ROW.row)).all()


def is_for(connection: Connection, *, sandbox: bool, is_new: bool) -> bool:
    """Whether a database may be opened with `--sandbox`, or without it; a new one is marked as the sandbox's."""
    identity = connection.scalar(select(SETTING.value).where(SETTING.key == IDENTITY)) or ""
    if sandbox and is_new and not identity:
        identity = _SANDBOX + secrets.token_hex(16)
        inserted(connection, settings, key=IDENTITY, value=identity)
    return sandbox == identity.startswith(_SANDBOX)
