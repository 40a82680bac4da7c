"""The watcher's metrics: what Triton cannot say of itself once it is dead."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scoremux_server.watch.health import Health


class _HealthCollector(Collector):
    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        health = self._health
        text = "Whether rows sent now get scores: 1 while /readyz answers 200."
        yield GaugeMetricFamily("scoremux_ready", text, value=float(health.ready))
        if health.canary_age_s is not None:
            text = "Seconds since the last canary that was scored as it must be."
            yield GaugeMetricFamily("scoremux_canary_age_seconds", text, value=health.canary_age_s)
        text = "Whether the store could be read at the last canary; tasks in memory are scored all the same."
        yield GaugeMetricFamily("scoremux_store_readable", text, value=float(not health.store_cause))
        if health.selftest != "none":
            text = "Whether the self-test passed at the start: 0 if it is switched off."
            yield GaugeMetricFamily("scoremux_selftest", text, value=float(health.selftest == "short"))
        text = "Times that Triton was restarted."
        yield CounterMetricFamily("scoremux_restarts_total", text, value=health.restarts)
        state = GaugeMetricFamily("scoremux_state", "1 for what the watcher is doing now.", labels=("state",))
        for each in type(health.state):
            state.add_metric((each.value,), float(each is health.state))
        yield state
        known = {name: health.versions.get(name, "") for name in ("scoremux", "triton", "runner")}
        info = GaugeMetricFamily("scoremux_watcher_info", "1; the labels say what is watched.", labels=tuple(known))
        info.add_metric(tuple(known.values()), 1.0)
        yield info


def exposition(health: Health) -> bytes:
    """Return everything the watcher knows of its server, in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(_HealthCollector(health))
    return generate_latest(health.registry) + generate_latest(registry)
