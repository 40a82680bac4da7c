"""Bodies of requests: a deadline for each, and so many of so many bytes under way by token and in all.

A body of one token that comes slowly holds neither memory nor a place of another token's. README.md lists the limits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

import anyio
from fastapi import Request

from scoremux_desk.api.problems import ApiProblem

BODY_S, LEAST_BYTES_PER_S = 30.0, 32_768
"""How long a body may take, and a second more for so many bytes that have come."""
MOST_BODIES, MOST_BODIES_IN_ALL = 128, 1024
"""Requests under way whose body has come or comes: of a token, and in all."""
MOST_BYTES, MOST_BYTES_IN_ALL = 32 << 20, 256 << 20
"""Bytes of these bodies."""
_LARGE_BYTES = 1 << 20
_LOG_EVERY_S = 60.0

_log = logging.getLogger(__name__)


class Bodies:
    """The bodies under way, by token."""

    def __init__(self) -> None:
        self.number = Counter[str]()
        self.bytes = Counter[str]()
        self.turns = WeakValueDictionary[str, asyncio.Lock]()  # of tokens: large bodies are worked on one at a time
        self._logged = dict[str, float]()

    @contextmanager
    def taking(self, token: str) -> Iterator[Body]:
        """Count a body as long as the block lasts.

        Raises ApiProblem (429) where the token has too many, (503) where all have.
        """
        self.check(token, "requests under way", self.number[token] + 1, MOST_BODIES)
        self.check("", "requests under way", self.number.total() + 1, MOST_BODIES_IN_ALL)
        body = Body(self, token)
        self.number[token] += 1
        try:
            yield body
        finally:
            if body.turn is not None:
                body.turn.release()
            self.number -= Counter([token])
            self.bytes -= Counter({token: body.size})

    def check(self, token: str, what: str, number: int, most: int) -> None:
        """Raise ApiProblem where a token, or all of them if it is empty, has too much; log it once a minute."""
        if number <= most:
            return
        whose = f"the token {token} has" if token else "all tokens together have"
        reached = f"{whose} {most:,} {what}, which is the most"
        if time.monotonic() - self._logged.get(reached, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged = {reached: time.monotonic(), **dict(list(self._logged.items())[:1000])}
            _log.warning("limit: %s", reached)
        raise ApiProblem(429 if token else 503, "Too much under way", f"{reached}; send again later", 1)


@dataclass
class Body:
    """One body of a token."""

    bodies: Bodies
    token: str
    size: int = 0
    turn: asyncio.Lock | None = None

    async def _blocks(self, request: Request, most_bytes: int) -> AsyncIterator[bytes]:
        """Yield the body, which is never read beyond its most bytes. Raises ApiProblem (408, 413, 429, 503)."""
        began = time.monotonic()
        stream = aiter(request.stream())
        while True:
            try:
                with anyio.fail_after(began + BODY_S + self.size / LEAST_BYTES_PER_S - time.monotonic()):
                    block = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                detail = f"a body has {BODY_S:g} s, and a second more for each {LEAST_BYTES_PER_S:,} bytes"
                raise ApiProblem(408, "Body too slow", f"{detail}; send it faster, or fewer rows", 1) from None
            self.size += len(block)
            self.bodies.bytes[self.token] += len(block)
            if self.size > most_bytes:
                detail = f"the body has more than {most_bytes} bytes; send fewer rows"
                raise ApiProblem(413, "Request too large", detail)
            self.bodies.check(self.token, "bytes of requests", self.bodies.bytes[self.token], MOST_BYTES)
            self.bodies.check("", "bytes of requests", self.bodies.bytes.total(), MOST_BYTES_IN_ALL)
            yield block

    async def read(self, request: Request, most_bytes: int) -> bytes:
        """Return the body; a large one waits while another of its token is worked on. Raises ApiProblem."""
        body = b"".join([block async for block in self._blocks(request, most_bytes)])
        if self.size > _LARGE_BYTES:
            turn = self.bodies.turns.setdefault(self.token, asyncio.Lock())
            await turn.acquire()
            self.turn = turn
        return body
