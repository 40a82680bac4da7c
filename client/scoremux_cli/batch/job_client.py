"""How a job reaches its servers, and how long its requests take."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from scoremux_client.client import ScoringClient
from scoremux_client.rows import Columns
from scoremux_client.servers import Retries
from scoremux_client.transports.transport import Tls, Transport, connect_all, headers_with

_PER_DOUBLING = 16


class Latencies:
    """A histogram of seconds whose bins are 4 % wide."""

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """Count one request; called by any thread."""
        with self._lock:
            self._bins[round(math.log2(max(seconds, 1e-6)) * _PER_DOUBLING)] += 1

    def drain(self) -> dict[int, int]:
        """Return the number of requests by bin, and start again from none."""
        with self._lock:
            bins, self._bins = dict(self._bins), Counter()
        return bins

    def merge(self, bins: Mapping[int | str, int]) -> None:
        """Add the bins that another `drain` returned, as they are or from JSON."""
        with self._lock:
            self._bins.update({int(number): requests for number, requests in bins.items()})

    def quantile_s(self, share: float) -> float:
        """Return the seconds that this share of the requests took at most; NaN if there were none."""
        rank, seen = share * self._bins.total(), 0
        for number, requests in sorted(self._bins.items()):
            seen += requests
            if seen >= rank:
                return float(2 ** (number / _PER_DOUBLING))
        return math.nan


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
                self._latencies.add(time.perf_counter() - started)

        future.add_done_callback(ended)
        return future

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


@dataclass(frozen=True)
class Connection:
    """The options of a client. They may be sent to another process, which opens a client of its own.

    urls: servers of the same tasks. token: sent as bearer. patience_s: how long a failed request is sent again. tls:
    certificates for grpcs and https; None takes the system's roots. insecure: send the token unencrypted, too.
    """

    urls: tuple[str, ...]
    token: str | None = field(default=None, repr=False)
    patience_s: float = 300.0
    tls: Tls | None = None
    insecure: bool = False

    def open(self, latencies: Latencies) -> ScoringClient:
        """Return a client that notes how long its requests take. Raises InputError for an address."""
        transports = connect_all(self.urls, self.tls, headers_with(None, self.token), insecure=self.insecure)
        timed = [TimedTransport(transport, latencies) for transport in transports]
        return ScoringClient(timed, retries=Retries(patience_s=self.patience_s))
