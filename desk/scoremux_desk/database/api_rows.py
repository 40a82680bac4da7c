"""The API's data about responses, beside the desk's rows: who owns them, deliveries about them, stored answers."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select

from scoremux_desk.database import schema
from scoremux_desk.database.schema import (
    ALERT,
    API_ROW,
    DELIVERY,
    IS_OPEN,
    REQUEST,
    ROW,
    WEBHOOK,
    all_where,
    api_rows,
    as_dict,
    deleted,
    deliveries,
    idempotency,
    row_subject,
    rows,
    time_of,
)
from scoremux_files.row_files import chunks

_CHUNK_ANSWERS = 20
_MOST_NAMES = 5_000


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


def erase(connection: Connection, chosen: Sequence[int]) -> None:
    """Delete who owns some rows, and what was delivered, or waits to be, about them."""
    these = API_ROW.row.in_(chosen)
    for row in all_where(connection, api_rows, these):
        subject = row_subject(row.task, row.name)
        owner = select(WEBHOOK.id).where(WEBHOOK.token == row.token)
        deleted(connection, deliveries, DELIVERY.subject == subject, DELIVERY.webhook.in_(owner))
    deleted(connection, api_rows, these)


def rows_with_names(connection: Connection, names: Iterable[str]) -> Iterator[Any]:
    """Yield the rows with these ids that are not erased, with the `token` that each came with; empty: from a file."""
    token = func.coalesce(API_ROW.token, "").label("token")
    query = select(rows, token).outerjoin(api_rows, API_ROW.row == ROW.id)
    query = query.where(ROW.state != schema.ERASED)
    for some in chunks(names, _MOST_NAMES):
        yield from connection.execute(query.where(ROW.name.in_(some))).all()


def batches_of(connection: Connection) -> dict[str, str]:
    """Return the token of each batch."""
    return as_dict(connection, select(schema.BATCH.id, schema.BATCH.token))


def answered(connection: Connection, names: Collection[str]) -> Iterator[tuple[str, str, set[str]]]:
    """Yield token and key of the stored answers that have one of these ids, and which they have."""
    stored = select(idempotency).where(REQUEST.answer.is_not(None))
    stored = stored.execution_options(yield_per=_CHUNK_ANSWERS)
    for row in connection.execute(stored) if names else ():
        if found := {*names} & _ids_in(row.answer):
            yield row.token, row.key, found


def answers_with(
    connection: Connection, names: set[str], before: datetime | None, token: str | None = None
) -> set[tuple[str, str]]:
    """Return token and key of the stored answers that are older, or have one of these ids, of a token or of all."""
    limit = before.timestamp() if before else 0.0
    old = connection.execute(select(REQUEST.token, REQUEST.key).where(REQUEST.at < limit))
    chosen = {(row.token, row.key) for row in old}
    for owner, key, _ in answered(connection, names):
        if token in (None, owner):
            chosen.add((owner, key))
    return chosen


def delete_answers(connection: Connection, chosen: Iterable[tuple[str, str]]) -> int:
    """Delete stored answers by token and key; return how many there were."""
    these = ((REQUEST.token == token) & (REQUEST.key == key) for token, key in chosen)
    return sum(deleted(connection, idempotency, this) for this in these)


def expire_answers(connection: Connection, before: float) -> int:
    """Delete stored answers, and deliveries that do not wait, from before a time; return how many."""
    old = DELIVERY.created_at < before
    sent = deleted(connection, deliveries, old, DELIVERY.state != schema.WAITING)
    return sent + deleted(connection, idempotency, REQUEST.at < before)


def expired_rows(connection: Connection, before: float) -> Sequence[int]:
    """Return the rows from before a time that nobody reads any more, and that have no open alert."""
    is_open = select(ALERT.row).where(IS_OPEN)
    query = select(API_ROW.row).join(rows).where(API_ROW.at < before, ROW.state.in_(("done", "machine")))
    return connection.scalars(query.where(API_ROW.row.not_in(is_open)).order_by(API_ROW.row)).all()


def _ids_in(answer: bytes) -> set[str]:
    """Return every `id` of the objects in JSON."""
    ids: list[Any] = []
    json.loads(answer, object_hook=lambda members: ids.append(members.get("id")))
    return {name for name in ids if isinstance(name, str)}
