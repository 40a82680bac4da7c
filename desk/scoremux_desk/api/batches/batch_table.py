"""Batches in the database: whose they are, their states, and how many rows are done."""

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import Connection, Row, select

from scoremux_desk.api.problems import Described, not_found
from scoremux_desk.database.schema import BATCH, all_where, batches, changed, time_of
from scoremux_desk.reading import outbox

ID = re.compile("batch_[0-9a-f]{28}")
BatchState = Literal[
    "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"
]
"""The states of OpenAI's Batch API."""

UNDER_WAY: tuple[BatchState, ...] = ("validating", "in_progress", "finalizing", "cancelling")
ENDED: tuple[BatchState, ...] = ("completed", "failed", "cancelled")
"""Nothing is computed any more, but the results are there."""


class RequestCounts(Described):
    """Rows of a batch."""

    total: int = 0
    """Lines of the file that are not blank; 0 until it is validated."""
    completed: int = 0
    """Rows whose outcome is in the results."""
    failed: int = 0
    """Lines that get no outcome; they are in the errors."""


class BatchError(BaseModel):
    """Why a batch failed."""

    code: str
    message: str


class Batch(BaseModel):
    """A batch. Times are in seconds since 1970."""

    id: str
    object: Literal["batch"] = "batch"
    status: BatchState
    request_counts: RequestCounts
    errors: list[BatchError] | None = None
    created_at: int
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None


class BatchList(Described):
    """Batches, the newest first."""

    object: Literal["list"] = "list"
    data: list[Batch]
    has_more: bool
    """Whether there are older ones; ask for them with `after`, the id of the last."""


def batch_of(row: Row[Any]) -> Batch:
    """Return a row of the table as the API shows it."""
    times: dict[str, Any] = {f"{state}_at": int(at) for state, at in json.loads(row.times).items()}
    return Batch(
        id=row.id,
        status=row.state,
        request_counts=json.loads(row.counts),
        errors=json.loads(row.errors) or None,
        created_at=int(row.created_at),
        **times,
    )


def row_of(connection: Connection, batch: str, token: str | None = None) -> Row[Any]:
    """Return a batch, or only that of a token. Raises ApiProblem (404)."""
    query = select(batches).where(BATCH.id == batch)
    query = query if token is None else query.where(BATCH.token == token)
    row = connection.execute(query).one_or_none() if ID.fullmatch(batch) else None
    if row is None:
        raise not_found("this batch")
    return row


def rows_in(connection: Connection, states: Sequence[BatchState]) -> Sequence[Row[Any]]:
    """Return the batches in some states, the oldest first."""
    return all_where(connection, batches, BATCH.state.in_(states))


def move(connection: Connection, batch: str, before: Sequence[BatchState], after: BatchState, **values: Any) -> bool:
    """Bring a batch from one of some states into another, with new values; return whether it was in one of them.

    Webhooks get an event when the batch ends, and when it expires.
    """
    row = row_of(connection, batch)
    if row.state not in before:
        return False
    now = time_of(connection)
    times = json.dumps(json.loads(row.times) | {after: now})
    changed(
        connection,
        batches,
        BATCH.id == batch,
        state=after,
        times=times,
        changed_at=now,
        **values,
    )
    if after in (*ENDED, "expired"):
        body = batch_of(row_of(connection, batch)).model_dump(mode="json")
        outbox.add_event(connection, row.token, batch, outbox.BATCH_COMPLETED, body)
    return True


def count(connection: Connection, batch: str, **done: int) -> None:
    """Note how many rows are `completed` and `failed`."""
    row = row_of(connection, batch)
    counts = RequestCounts.model_validate_json(row.counts).model_copy(update=done)
    changed(connection, batches, BATCH.id == batch, counts=counts.model_dump_json())
