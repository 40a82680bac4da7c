"""The watcher: the loop that keeps Triton running."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from scoremux_server.errors import CrashLoopError, InterruptedStartError

_TICK_S = 0.1
_BEAT_S = 1.0


class Program(Protocol):
    """What a watcher keeps running."""

    name: str

    def start(self, stop: threading.Event, /) -> None:
        """Start, and return when it works or `stop` is set. Raises ServerError."""

    def look(self) -> str:
        """Return why it must be restarted, or nothing. Called many times a second."""

    def wait(self) -> None:
        """Called once a second at least during a pause before a restart."""

    def restart(self, stop: threading.Event, /) -> None:
        """End it and start it again; return when it works or `stop` is set. An error means that it did not start."""

    def kill(self) -> None:
        """End it at once."""

    def stop(self) -> None:
        """Let what is in flight finish, end it, and remove everything."""


class Watcher:
    """Keeps one program running until it is asked to stop."""

    def __init__(
        self,
        program: Program,
        report: Callable[[str], None] = lambda _: None,
        *,
        backoff_s: float = 0.5,
        backoff_most_s: float = 30.0,
        crash_loop_deaths: int = 5,
    ) -> None:
        """Users need no other values than the defaults; tests do.

        Args:
            report: Called with a sentence for each thing that happens.
            backoff_s: Pause before the second restart in a row; it doubles from one to the next.
            backoff_most_s: Longest pause between two restarts.
            crash_loop_deaths: Number of deaths in a row, without a successful start between them, that ends the
                watching.
        """
        self._program = program
        self._report = report
        self._backoff_s, self._backoff_most_s = backoff_s, backoff_most_s
        self._crash_loop_deaths = crash_loop_deaths

    def run(self, stop: threading.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Start the program, call `ready`, and watch it until `stop` is set; then let it finish and remove everything.

        Raises:
            ServerError: The first start failed, and not by an interruption.
            CrashLoopError: The program died again and again.
        """
        try:
            try:
                self._program.start(stop)
            except InterruptedStartError as error:
                self._restart(str(error), stop)
            if not stop.is_set():
                ready()
            while not stop.wait(_TICK_S):
                if cause := self._program.look():
                    self._restart(cause, stop)
        except BaseException:
            self._program.kill()
            raise
        finally:
            self._program.stop()

    def _restart(self, message: str, stop: threading.Event) -> None:
        """Restart the program until it works; `message` begins with the cause. Raises CrashLoopError."""
        died_at, deaths, pause_s = time.monotonic(), 1, 0.0
        while deaths != self._crash_loop_deaths:
            cause = message.partition("\n")[0].rstrip(":")
            self._report(f"{cause}; restarting {self._program.name}" + (f" in {pause_s:g} s" if pause_s else ""))
            self._pause(pause_s, stop)
            if stop.is_set():
                return
            try:
                self._program.restart(stop)
            except Exception as error:
                deaths += 1
                pause_s = min(max(2 * pause_s, self._backoff_s), self._backoff_most_s)
                message = str(error) or type(error).__name__
            else:
                if not stop.is_set():
                    self._report(f"{self._program.name} works again after {time.monotonic() - died_at:.1f} s")
                return
        raise CrashLoopError(f"{self._program.name} died {deaths} times in a row; the last cause: {message}")

    def _pause(self, pause_s: float, stop: threading.Event) -> None:
        while pause_s > 0 and not stop.wait(min(pause_s, _BEAT_S)):
            self._program.wait()
            pause_s -= _BEAT_S
