"""HAProxy kept running: pinged, and started again when it dies or hangs."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum

from scoremux_server.front_door.master import Master

_PING_EVERY_S, _PING_S = 1.0, 3.0
_MISSES = 2
"""Pings without an answer, one after the other, that make a hang: a start again ends draining workers too."""

_BACKOFF_S, _BACKOFF_MOST_S = 0.5, 30.0


class Condition(Enum):
    """How HAProxy is."""

    UP = "up"
    SILENT = "silent"
    """It missed a ping: whatever it is asked now would wait for nothing."""
    DOWN = "down"


class Supervisor:
    """Keeps one HAProxy running. `look_after` does what is due and waits for nothing but a ping or a start.

    prepare: writes what a start reads; report: called with a sentence for each start. restarts: how many there were.
    """

    def __init__(self, master: Master, prepare: Callable[[], None], report: Callable[[str], None]) -> None:
        self._master = master
        self._prepare = prepare
        self._report = report
        self._pinged = 0.0
        self._misses = 0
        self._cause = ""
        self._pause_s, self._due = 0.0, 0.0
        self.restarts = 0

    def look_after(self) -> Condition:
        """Ping, or try once to start it again, if it is time for that."""
        if not self._cause:
            self._cause = self._trouble()
        if self._cause:
            return self._start_again() if time.monotonic() >= self._due else Condition.DOWN
        return Condition.SILENT if self._misses else Condition.UP

    def hurry(self) -> None:
        """Start at the next look what did not start: its files are others now."""
        self._pause_s = self._due = 0.0

    def _trouble(self) -> str:
        """Return why HAProxy must be started again, if it must."""
        status = self._master.process.exit_status
        if status is not None:
            return f"HAProxy ended with status {status}"
        if self._misses or time.monotonic() - self._pinged > _PING_EVERY_S:
            self._misses = 0 if self._master.answers(_PING_S) else self._misses + 1
            self._pinged = time.monotonic()
        return "HAProxy does not answer" if self._misses >= _MISSES else ""

    def _start_again(self) -> Condition:
        self._report(f"{self._cause}; starting it again" + (f" after {self._pause_s:g} s" if self._pause_s else ""))
        self.restarts += 1
        self._master.process.kill()
        try:
            self._prepare()
            self._master.start()
        except Exception as error:
            self._cause = str(error) or type(error).__name__
            self._master.process.kill()
            self._pause_s = min(max(2 * self._pause_s, _BACKOFF_S), _BACKOFF_MOST_S)
            self._due = time.monotonic() + self._pause_s
            return Condition.DOWN
        self._cause, self._misses, self._pause_s, self._due = "", 0, 0.0, 0.0
        return Condition.UP
