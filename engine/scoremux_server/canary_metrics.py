"""Metrics of the canaries."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from scoremux_server.canary import Answer

_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class CanaryMetrics:
    """Counts canaries by verdict, and how long good ones took."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "scoremux_canary_seconds",
            "Seconds from sending a canary to its good answer, through the public endpoint.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._canaries = Counter(
            "scoremux_canaries_total", "Canaries by what came of them.", ("verdict",), registry=self.registry
        )

    def count(self, answer: Answer) -> None:
        """Count one canary."""
        self._canaries.labels(answer.verdict.name.lower()).inc()
        if answer.good:
            self._seconds.observe(answer.took_s)
