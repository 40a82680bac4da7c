"""What the watcher knows of its server."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from scoremux_server.triton.canary import Answer

_SILENT_S = 10.0
"""A watcher whose loop has not run for so long sees nothing: a store on a file server that hangs may block it."""
_STUCK_S = 60.0
_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class State(str, Enum):
    """What the watcher is doing."""

    STARTING = "starting"
    SERVING = "serving"
    HEALING = "healing"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


class Health:
    """What the watcher knows of its server. Written by the watcher's thread alone, read by any.

    versions: of what is running, by name; restarts: how often Triton was restarted; cause: why, the last time;
    store_cause: why the store cannot be read now, while tasks in memory are scored; stop_s: seconds that a stop may
    take; selftest: `short`, `off`, or `none` where there is none; registry: metrics of the canaries.
    """

    def __init__(self, versions: Mapping[str, str] | None = None, stop_s: float = 0.0, selftest: str = "short") -> None:
        self.state = State.STARTING
        self.cause = ""
        self.store_cause = ""
        self.restarts = 0
        self.selftest = selftest
        self.versions = dict(versions or {})
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "scoremux_canary_seconds",
            "Seconds from sending a canary to its good answer, through the public endpoint.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._canaries = Counter(
            "scoremux_canaries_total", "Canaries by their outcome.", ("verdict",), registry=self.registry
        )
        self._stop_s = stop_s
        self._good_at: float | None = None
        self._last_good = False
        self._noticing = False
        self._beat_at = time.monotonic()

    def beat(self) -> None:
        """Record that the watcher's loop runs."""
        self._beat_at = time.monotonic()

    def count(self, answer: Answer) -> None:
        """Count one canary."""
        self._canaries.labels(answer.verdict.name.lower()).inc()
        if answer.good:
            self._seconds.observe(answer.took_s)

    def note(self, answer: Answer) -> None:
        """Keep what a canary showed."""
        self._last_good = answer.good
        self.store_cause = answer.store_cause
        self.count(answer)
        if answer.good:
            self._good_at = time.monotonic()
            if answer.version:
                self.versions["canary"] = answer.version
        else:
            self.cause = answer.cause

    @contextlib.contextmanager
    def notice(self) -> Iterator[None]:
        """Announce a stop while the server still serves: whoever asks `ready` can send rows elsewhere meanwhile."""
        self._noticing = self.state is State.SERVING  # before it changes: `serves` must not blink
        self.state = State.DRAINING
        try:
            yield
        finally:
            self._noticing = False

    @property
    def ready(self) -> bool:
        """Whether rows should be sent here: they get scores, as the last canary showed, and no stop is near."""
        silent = time.monotonic() - self._beat_at > _SILENT_S
        return self.state is State.SERVING and self._last_good and not silent

    @property
    def serves(self) -> bool:
        """Whether rows sent now get scores, the notice of a stop included."""
        return self.ready or (self._noticing and self._last_good)

    @property
    def alive(self) -> bool:
        """Whether the watcher does its work; False asks whoever supervises it to restart it."""
        stuck_s = _STUCK_S + (self._stop_s if self.state is State.DRAINING else 0.0)
        stuck = time.monotonic() - self._beat_at > stuck_s
        return self.state is not State.FAILED and not (stuck and self.state is not State.STOPPED)

    @property
    def canary_age_s(self) -> float | None:
        """Seconds since the last good canary; None before the first."""
        return None if self._good_at is None else time.monotonic() - self._good_at

    def body(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        age = None if self.canary_age_s is None else round(self.canary_age_s, 3)
        return {
            "ready": self.ready,
            "state": self.state.value,
            "canary_age_s": age,
            "restarts": self.restarts,
            "cause": self.cause,
            "store_cause": self.store_cause,
            "selftest": self.selftest,
            "versions": dict(self.versions),
        }
