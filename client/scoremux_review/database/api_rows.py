"""What the API has of responses beside the desk's rows: who owns them, deliveries about them, stored answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from scoremux_review.database.schema import api_rows, deliveries, idempotency, row_subject, webhooks

_CHUNK_ANSWERS = 20


def erase(connection: Connection, chosen: Sequence[int]) -> None:
    """Delete who owns some rows, and what was delivered, or waits to be, about them."""
    these = api_rows.c.row.in_(chosen)
    for row in connection.execute(select(api_rows).where(these)).all():
        owner = select(webhooks.c.id).where(webhooks.c.token == row.token)
        about = (deliveries.c.subject == row_subject(row.task, row.name)) & deliveries.c.webhook.in_(owner)
        connection.execute(delete(deliveries).where(about))
    connection.execute(delete(api_rows).where(these))


def erase_answers(connection: Connection, names: set[str], before: datetime | None) -> int:
    """Delete stored answers that have one of these ids, or that are older; return how many."""
    limit, found = before.timestamp() if before else 0.0, []
    for row in connection.execute(select(idempotency).execution_options(yield_per=_CHUNK_ANSWERS)):
        if row.at < limit or (row.answer and names & _ids_in(row.answer)):
            found.append((idempotency.c.token == row.token) & (idempotency.c.key == row.key))
    for this in found:
        connection.execute(delete(idempotency).where(this))
    return len(found)


def _ids_in(answer: bytes) -> set[str]:
    """Return every `id` of the objects in JSON."""
    ids: list[Any] = []
    json.loads(answer, object_hook=lambda members: ids.append(members.get("id")))
    return {name for name in ids if isinstance(name, str)}
