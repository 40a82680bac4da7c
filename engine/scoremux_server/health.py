"""What the watcher knows of its server."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from scoremux_server.canary import Answer
from scoremux_server.canary_metrics import CanaryMetrics

_SILENT_S = 10.0
"""A loop that has not come round for so long watches nothing: a store on a file server that hangs may hold it."""
_STUCK_S = 60.0


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

    versions: of what is running, by name; restarts, reloads: how often the server was started, and a model loaded,
    again; cause: why, the last time; store_cause: why the store cannot be read now, while tasks in memory are scored;
    stop_s: seconds that a stop may take.
    """

    def __init__(self, versions: Mapping[str, str] | None = None, stop_s: float = 0.0) -> None:
        self.state = State.STARTING
        self.cause = ""
        self.store_cause = ""
        self.restarts = 0
        self.reloads = 0
        self.versions = dict(versions or {})
        self.canaries = CanaryMetrics()
        self._stop_s = stop_s
        self._good_at: float | None = None
        self._last_good = False
        self._noticing = False
        self._beat_at = time.monotonic()

    def beat(self) -> None:
        """Say that the watcher's loop is alive."""
        self._beat_at = time.monotonic()

    def note(self, answer: Answer) -> None:
        """Keep what a canary said."""
        self._last_good = answer.good
        self.store_cause = answer.store_cause
        self.canaries.count(answer)
        if answer.good:
            self._good_at = time.monotonic()
            if answer.version:
                self.versions["canary"] = answer.version
        else:
            self.cause = answer.cause

    @contextlib.contextmanager
    def notice(self) -> Iterator[None]:
        """Say that the server stops, while it serves on: whoever asks `ready` can send rows elsewhere meanwhile."""
        self._noticing = self.state is State.SERVING  # before it changes: `serves` must not blink
        self.state = State.DRAINING
        try:
            yield
        finally:
            self._noticing = False

    @property
    def ready(self) -> bool:
        """Whether rows should be sent here: they get scores, as the last canary says, and no stop is near."""
        silent = time.monotonic() - self._beat_at > _SILENT_S
        return self.state is State.SERVING and self._last_good and not silent

    @property
    def serves(self) -> bool:
        """Whether rows sent now get scores, the notice of a stop included."""
        return self.ready or (self._noticing and self._last_good)

    @property
    def alive(self) -> bool:
        """Whether the watcher does its work; False asks whoever supervises it to start it again."""
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
            "reloads": self.reloads,
            "cause": self.cause,
            "store_cause": self.store_cause,
            "versions": dict(self.versions),
        }
