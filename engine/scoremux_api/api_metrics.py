"""What the API counts, and the headers that every answer has."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scoremux_client.contract import MAX_BATCH_ROWS
from scoremux_client.rows import Scored

LIMITS = f"rows={MAX_BATCH_ROWS}"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class ApiMetrics:
    """Counters of one API."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "scoremux_api_request_seconds",
            "Requests by route and status",
            ["route", "status"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._rows = Counter("scoremux_api_rows", "Rows answered by status", ["status"], registry=self.registry)

    def count_rows(self, scored: Iterable[Scored]) -> None:
        """Count the rows of an answer."""
        for status, count in Tally(row.status.value for row in scored).items():
            self._rows.labels(status).inc(count)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._seconds.labels(route, status).observe(seconds)

    def exposed(self) -> tuple[bytes, str]:
        """Return the text for Prometheus, and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class CountedRequests:
    """Middleware: counts requests, and says the limits in every answer."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["scoremux-limits"] = LIMITS
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.count_request(route, status, time.perf_counter() - started)
