"""`Idempotency-Key`: the same request with the same key is answered once, and then from what was stored.

Only answers of status 2xx are stored. Any other outcome frees the key, so that the request can be sent again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Header, Request, Response
from sqlalchemy import ColumnElement, delete, insert, select, update

from scoremux_api.callers import Caller
from scoremux_api.problems import ApiProblem
from scoremux_review.database.connection import Connection, Database
from scoremux_review.database.schema import idempotency

KeyHeader = Annotated[
    str | None,
    Header(
        alias="idempotency-key", min_length=1, max_length=255, description="The same key and body get the same answer."
    ),
]
_ABANDONED_S = 300.0
"""No request takes longer: the front door gives up first. A key that runs longer belongs to a process that died."""


async def answered_once(
    database: Database,
    caller: Caller,
    key: str | None,
    request: Request,
    body: bytes,
    work: Callable[[], Awaitable[Response]],
) -> Response:
    """Return the stored answer to a request with this key, or do the work and store its answer.

    Args:
        body: Of the request, or a digest of it: with another body the key is refused.
        work: Answers the request; a request without a key does nothing else.

    Raises:
        ApiProblem: 422 where the key came with another request, 409 while that request runs.
    """
    if key is None:
        return await work()
    digest = hashlib.sha256(b"\n".join((request.method.encode(), request.url.path.encode(), body))).hexdigest()

    def end(response: Response | None) -> None:
        with database.write() as connection:
            if response is None:
                connection.execute(delete(idempotency).where(_of(caller.token, key)))
            else:
                keep(connection, caller, key, response)

    if (stored := await asyncio.to_thread(_begin, database, caller.token, key, digest)) is not None:
        return Response(stored[1], stored[0], {"idempotent-replayed": "true"}, "application/json")
    response = None
    try:
        response = await work()
    finally:
        await asyncio.shield(asyncio.to_thread(end, response))
    return response


def keep(connection: Connection, caller: Caller, key: str | None, response: Response) -> None:
    """Store the answer to a key. Work that ends in one transaction does so in it: a crash then has it done once."""
    stored = {"status": response.status_code, "answer": bytes(response.body)}
    connection.execute(update(idempotency).where(_of(caller.token, key)).values(stored))


def _begin(database: Database, token: str, key: str, digest: str) -> tuple[int, bytes] | None:
    """Return the stored answer; None where the request is to be worked on now. Raises ApiProblem."""
    where, now = _of(token, key), database.now()
    with database.write() as connection:
        row = connection.execute(select(idempotency).where(where)).one_or_none()
        if row is None:
            connection.execute(insert(idempotency).values(token=token, key=key, digest=digest, at=now))
            return None
        if row.digest != digest:
            raise ApiProblem(422, "Idempotency key reused", "this key came with another request before; use a new key")
        if row.status is not None:
            return row.status, row.answer
        if now - row.at < _ABANDONED_S:
            raise ApiProblem(409, "Request in progress", "the request with this key is still running", 1)
        connection.execute(update(idempotency).where(where).values(at=now))
    return None


def _of(token: str, key: str | None) -> ColumnElement[bool]:
    return (idempotency.c.token == token) & (idempotency.c.key == key)
