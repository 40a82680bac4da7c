"""`Idempotency-Key`: the same request with the same key is answered once, and then from the stored answer.

Only answers of status 2xx are stored. Any other outcome frees the key, so that the request can be sent again.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated

from fastapi import Depends, Header, Request, Response

from scoremux_desk.api.problems import ApiProblem
from scoremux_desk.api.services import CallerOf, ServicesOf
from scoremux_desk.database.connection import Connection, Database
from scoremux_desk.database.schema import REQUEST, changed, deleted, found, idempotency, inserted
from scoremux_desk.errors import DatabaseError

_RENEW_S, _ABANDONED_S = 2.0, 10.0
"""How often a request that runs says so, and when one that does not has died with its process."""
_SAID = "The same key and body get the same answer."


class Once:
    """Answers a request, and stores the answer if the request has a key."""

    def __init__(self, database: Database, token: str, key: str | None, request: Request) -> None:
        self._database = database
        self._token = token
        self._key = key
        self._place = f"{request.method}\n{request.url.path}\n".encode()
        self._this = (REQUEST.token == token) & (REQUEST.key == key)
        self._holder = secrets.token_hex(8)

    async def answer(self, body: bytes, work: Callable[[], Awaitable[Response]]) -> Response:
        """Return the stored answer, or do the work and store its answer.

        Args:
            body: Body of the request, or a digest of it; with another body the key is refused.

        Raises:
            ApiProblem: 422 where the key came with another request, 409 while that request runs.
        """
        if self._key is None:
            return await work()
        stored = await asyncio.to_thread(self._begin, hashlib.sha256(self._place + body).hexdigest())
        if stored is not None:
            return Response(stored[1], stored[0], {"idempotent-replayed": "true"}, "application/json")
        response = None
        renewing = asyncio.create_task(self._renew())
        try:
            response = await work()
        finally:
            renewing.cancel()
            await asyncio.shield(asyncio.to_thread(self._end, response))
        return response

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            with suppress(DatabaseError):
                await asyncio.to_thread(self._note_running)

    def _note_running(self) -> None:
        with self._database.write() as connection:
            changed(connection, idempotency, self._this, at=self._database.now())

    def keep(self, connection: Connection, response: Response) -> None:
        """Store the answer, in the transaction of the work, if this request still has the key. Raises ApiProblem."""
        answer = bytes(response.body)
        kept = changed(connection, idempotency, self._this, status=response.status_code, answer=answer)
        if self._key is not None and not kept:
            raise ApiProblem(409, "Request in progress", "another request has this key now", 1)

    def _begin(self, digest: str) -> tuple[int, bytes] | None:
        """Return the stored answer; None where the request is to be worked on now. Raises ApiProblem."""
        now = self._database.now()
        with self._database.write() as connection:
            row = found(connection, idempotency, self._this)
            if row is None:
                mine = {"token": self._token, "key": self._key, "holder": self._holder}
                inserted(connection, idempotency, digest=digest, at=now, **mine)
            elif row.digest != digest:
                detail = "this key came with another request before; use a new key"
                raise ApiProblem(422, "Idempotency key reused", detail)
            elif row.status is not None:
                return row.status, row.answer
            elif abs(now - row.at) < _ABANDONED_S:
                raise ApiProblem(409, "Request in progress", "the request with this key is still running", 1)
            else:
                changed(connection, idempotency, self._this, at=now, holder=self._holder)
        self._this &= REQUEST.holder == self._holder  # not a later request's that has the key
        return None

    def _end(self, response: Response | None) -> None:
        with self._database.write() as connection:
            if response is None:
                deleted(connection, idempotency, self._this, REQUEST.status.is_(None))
            else:
                self.keep(connection, response)


async def _once(
    request: Request,
    services: ServicesOf,
    caller: CallerOf,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255, description=_SAID)] = None,
) -> Once:
    return Once(services.database, caller.token, idempotency_key, request)


OnceOf = Annotated[Once, Depends(_once)]
