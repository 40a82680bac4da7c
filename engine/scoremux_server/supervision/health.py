"""The health of a watched server, as JSON and as metrics."""

import time
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scoremux_server.triton.canary import Answer
from scoremux_server.triton.run_files import shared_memory_free_bytes

_SILENT_S = 10.0
"""A watcher whose loop has not run for this long sees nothing: a store on a file server that hangs may block it."""
_STUCK_S = 60.0
_WAITS_S = 10.0
"""A canary is next whatever waits: where it has waited for this long, other rows would too."""
_SHARED_MEMORY_BYTES = 2 << 20
"""With less shared memory free, larger requests than a canary are refused."""

_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class WatchState(str, Enum):
    """The state of the watcher."""

    STARTING = "starting"
    SERVING = "serving"
    HEALING = "healing"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


class Health(Collector):
    """The watcher's knowledge of its server. Written by the watcher's thread alone, read by any.

    Attributes:
        cause: Why Triton was last restarted, or why its last bad canary failed.
        store_cause: Why the store cannot be read now; tasks in memory are scored.
        canary_waiting_s: Seconds that the canary in flight has waited for its answer; 0 without one.
    """

    def __init__(
        self,
        versions: Mapping[str, str] | None = None,
        stop_s: float = 0.0,
        selftest: str = "short",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin in state STARTING. A stop may take `stop_s`; `selftest` is `none` where the scorer has none."""
        self.state = WatchState.STARTING
        self.cause = ""
        self.store_cause = ""
        self.restarts = 0
        self.canary_waiting_s = 0.0
        self.versions = dict(versions or {})
        self.arithmetic = ""
        self._selftest = selftest
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "scoremux_canary_seconds",
            "Seconds from sending a canary to its good answer, through the public endpoint.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._canaries = Counter(
            "scoremux_canaries_total", "Canaries by their outcome.", ("verdict",), registry=self._registry
        )
        self._clock = clock
        self._stop_s = stop_s
        self._good_at: float | None = None
        self._last_good = False
        self._beat_at = clock()
        self._registry.register(self)

    def beat(self) -> None:
        """Record that the watcher's loop runs."""
        self._beat_at = self._clock()

    def count(self, answer: Answer) -> None:
        self._canaries.labels(answer.verdict.name.lower()).inc()
        if answer.good:
            self._seconds.observe(answer.took_s)

    def note(self, answer: Answer) -> None:
        """Keep the outcome of a canary."""
        self._last_good = answer.good
        self.store_cause = answer.store_cause
        self.count(answer)
        if answer.good:
            self._good_at = self._clock()
            if answer.version:
                self.versions["canary"] = answer.version
        else:
            self.cause = answer.cause

    @property
    def ready(self) -> bool:
        """Whether rows should be sent here: they get scores, as the last canary showed, and no stop is near."""
        return not self.unready_cause

    @property
    def unready_cause(self) -> str:
        """Why rows should not be sent here now; empty while it is ready."""
        if self.state in (WatchState.DRAINING, WatchState.STOPPED):
            return f"the server is {self.state.value}"
        if self.state is not WatchState.SERVING:
            return self.cause or f"the server is {self.state.value}"
        silent_s, free_bytes = self._clock() - self._beat_at, shared_memory_free_bytes()
        if silent_s > _SILENT_S:
            return f"the watcher has seen nothing for {silent_s:.0f} s: does a file server hang?"
        if not self._last_good:
            return self.cause or "no canary was scored yet"
        if free_bytes < _SHARED_MEMORY_BYTES:
            return f"{free_bytes:,} bytes of shared memory are free, and requests need {_SHARED_MEMORY_BYTES:,}"
        return f"a canary has waited for {self.canary_waiting_s:.0f} s" if self.canary_waiting_s > _WAITS_S else ""

    @property
    def alive(self) -> bool:
        """Whether the watcher does its work; False asks its supervisor to restart it."""
        stuck_s = _STUCK_S + (self._stop_s if self.state is WatchState.DRAINING else 0.0)
        stuck = self._clock() - self._beat_at > stuck_s
        return self.state is not WatchState.FAILED and not (stuck and self.state is not WatchState.STOPPED)

    @property
    def canary_age_s(self) -> float | None:
        """Seconds since the last good canary; None before the first."""
        return None if self._good_at is None else self._clock() - self._good_at

    def body(self) -> dict[str, Any]:
        age, cause = None if self.canary_age_s is None else round(self.canary_age_s, 3), self.unready_cause
        return {
            "ready": not cause,
            "state": self.state.value,
            "canary_age_s": age,
            "canary_waiting_s": round(self.canary_waiting_s, 3),
            "restarts": self.restarts,
            "cause": cause,
            "last_cause": self.cause,
            "store_cause": self.store_cause,
            "shared_memory_free_bytes": shared_memory_free_bytes(),
            "selftest": self._selftest,
            "arithmetic": self.arithmetic,
            "versions": dict(self.versions),
        }

    def exposition(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that are computed when they are read."""
        tested = None if self._selftest == "none" else self._selftest == "short"
        gauges = (
            ("scoremux_ready", "Whether rows sent now get scores: 1 while /readyz answers 200.", self.ready),
            (
                "scoremux_canary_age_seconds",
                "Seconds since the last canary that was scored correctly.",
                self.canary_age_s,
            ),
            (
                "scoremux_store_readable",
                "Whether the store could be read at the last canary; tasks in memory are scored all the same.",
                not self.store_cause,
            ),
            ("scoremux_selftest", "Whether the self-test passed at the start: 0 if it is switched off.", tested),
        )
        for name, text, value in gauges:
            if value is not None:
                yield GaugeMetricFamily(name, text, value=float(value))
        yield CounterMetricFamily("scoremux_restarts_total", "Times that Triton was restarted.", value=self.restarts)
        state = GaugeMetricFamily("scoremux_state", "1 for what the watcher is doing now.", labels=("state",))
        for each in WatchState:
            state.add_metric((each.value,), float(each is self.state))
        yield state
