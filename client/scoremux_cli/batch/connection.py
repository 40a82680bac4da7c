"""How a job reaches its servers; may be sent to another process, which opens a client of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

from scoremux_client.retries import Retries
from scoremux_client.security import Tls, headers_with

from scoremux_cli.batch.latency import Latencies, TimedTransport
from scoremux_client.client import ScoringClient
from scoremux_client.transports.transport import connect


@dataclass(frozen=True)
class Connection:
    """urls: servers of the same tasks. token: sent as bearer. patience_s: how long a dead server is waited for.

    tls: certificates for grpcs and https; None takes the system's roots.
    """

    urls: tuple[str, ...]
    token: str | None = field(default=None, repr=False)
    patience_s: float = 300.0
    tls: Tls | None = None

    def open(self, latencies: Latencies) -> ScoringClient:
        """Return a client that notes how long its requests take. Raises InputError for an address."""
        headers = headers_with(None, self.token)
        transports = [TimedTransport(connect(url, self.tls, headers), latencies) for url in self.urls]
        return ScoringClient(transports, retries=Retries(patience_s=self.patience_s))
