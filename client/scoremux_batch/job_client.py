"""How a job reaches its servers, and how long its requests take."""

from __future__ import annotations

import time
from array import array
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeAlias

from scoremux_client.calls.servers import Retries
from scoremux_client.client import ScoringClient
from scoremux_client.rows import Columns
from scoremux_client.transports.connect import connect_all, headers_with
from scoremux_client.transports.transport import Tls, Transport

Latencies: TypeAlias = "array[float]"
"""Seconds of each request; an array of 4 bytes a request, to which any thread may append."""


class TimedTransport:
    """A transport that notes how long its answered requests took."""

    def __init__(self, transport: Transport, latencies: Latencies) -> None:
        self._transport, self._latencies = transport, latencies

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
        """Send one request."""
        started = time.perf_counter()
        future = self._transport.submit(inputs, timeout_s)

        def ended(done: Future[Columns]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._latencies.append(time.perf_counter() - started)

        future.add_done_callback(ended)
        return future

    def close(self) -> None:
        self._transport.close()


@dataclass(frozen=True)
class Connection:
    """The options of a client. They may be sent to another process, which opens a client of its own."""

    urls: tuple[str, ...]
    token: str | None = field(default=None, repr=False)
    patience_s: float = 300.0
    tls: Tls | None = None
    insecure: bool = False
    mixed_arithmetic: bool = False

    def open(self, latencies: Latencies) -> ScoringClient:
        """Return a client that notes how long its requests take. Raises InputError for an address."""
        headers = headers_with(None, self.token)
        transports = connect_all(self.urls, self.tls, headers, insecure=self.insecure, batch=True)
        timed = [TimedTransport(transport, latencies) for transport in transports]
        return ScoringClient(timed, retries=Retries(patience_s=self.patience_s), mixed_arithmetic=self.mixed_arithmetic)
