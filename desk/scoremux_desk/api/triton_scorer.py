"""Rows go to Triton with the grant of the caller who sent them."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, Protocol

from scoremux_client import (
    NO_RETRIES,
    AsyncScoringClient,
    BusyError,
    RejectedError,
    Response,
    Retries,
    Scored,
    ScoringClient,
    Transport,
    served_tasks,
)
from scoremux_client.contract import GRANT_HEADER
from scoremux_desk.api.callers import Caller

_GRANTS = 1024
"""Most grants whose clients are kept."""
_RETRIES = Retries(patience_s=10.0, contact_s=10.0)
_TIMEOUT_S = 60.0
_PROBE_S = 5.0
_TASKS_S = 10.0
_TASKS_KEPT_S = 1.0
_MOST_ASKING = 16
_ASKED = 64
_PROBE = "Who decides about this?"


class SharedTransport(Protocol):
    """A way to Triton whose connections serve requests of many callers, each with headers of its own."""

    def sharing(self, headers: Mapping[str, str], *, tasks: bool = False) -> Transport:
        """Return a transport on the same connections, which it must not close. tasks: for `served_tasks` alone."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class TritonScorer:
    """Scores rows on Triton. All grants share the connections of the transports; only the header differs."""

    def __init__(self, transports: Sequence[SharedTransport], retries: Retries = _RETRIES) -> None:
        self._transports = transports
        self._retries = retries
        self._client_of = lru_cache(_GRANTS)(self._client)
        self._asking = ThreadPoolExecutor(_MOST_ASKING, "tasks")
        self._asked: dict[str | None, tuple[float, Future[list[Any]]]] = {}  # until when each answer counts

    async def score(self, caller: Caller, responses: Sequence[Response]) -> list[Scored]:
        """Return one outcome for each row, in order. Raises TransportError where Triton gives none."""
        return await self._client_of(caller.grant).score(responses)

    async def check(self) -> None:
        """Return if Triton answers, with a refusal too. Raises TransportError."""
        client = AsyncScoringClient(self._sharing(None), timeout_s=_PROBE_S, retries=NO_RETRIES)
        with suppress(RejectedError):
            await client.score([Response("", "")])

    async def tasks(self, caller: Caller) -> list[Any]:
        """Return the tasks of `ask_tasks`. Raises TransportError."""
        return await asyncio.shield(asyncio.wrap_future(self.ask_tasks(caller)))

    def ask_tasks(self, caller: Caller) -> Future[list[Any]]:
        """Ask for the tasks of `served_tasks` that the caller may score, of a second ago at most. Raises BusyError."""
        now = time.monotonic()
        asked = self._asked.get(caller.grant)
        if asked is None or (asked[0] < now and asked[1].done()):
            self._asked = {grant: of for grant, of in self._asked.items() if of[0] >= now or not of[1].done()}
            if len(self._asked) >= _GRANTS:
                raise BusyError("too many callers ask for tasks")
            found = self._asking.submit(served_tasks, self._sharing(caller.grant, tasks=True)[0], timeout_s=_TASKS_S)
            self._asked[caller.grant] = asked = (now + _TASKS_KEPT_S, found)
        return asked[1]

    def uncalibrated(self, caller: Caller) -> list[str]:
        """Return tasks, of the first 64, that the machine decides without a calibration. Raises TransportError."""
        served = served_tasks(self._sharing(caller.grant, tasks=True)[0], timeout_s=_PROBE_S)
        tasks = [task.id for task in served[:_ASKED]]
        client = ScoringClient(self._sharing(caller.grant), timeout_s=_PROBE_S, retries=NO_RETRIES)
        scored = client.score([Response(task, _PROBE) for task in tasks])
        return [row.task for row in scored if row.ok and not row.to_human and row.confidence is None]

    def close(self) -> None:
        """Close the connections."""
        self._asking.shutdown(wait=False, cancel_futures=True)
        for transport in self._transports:
            transport.close()

    def _client(self, grant: str | None) -> AsyncScoringClient:
        served = partial(served_tasks, self._sharing(grant, tasks=True)[0], timeout_s=_TASKS_S)
        return AsyncScoringClient(
            self._sharing(grant), timeout_s=_TIMEOUT_S, retries=self._retries, deduplicate=False, served=served
        )

    def _sharing(self, grant: str | None, *, tasks: bool = False) -> list[Transport]:
        headers = {} if grant is None else {GRANT_HEADER: grant}
        return [transport.sharing(headers, tasks=tasks) for transport in self._transports]
