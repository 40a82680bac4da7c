"""The watcher: starts a server, scores a canary every second, and restarts a server that is dead or hung."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from scoremux_server.errors import CrashLoopError, SetupError, StartError
from scoremux_server.triton.canary import Answer
from scoremux_server.triton.server import Server
from scoremux_server.watch.diagnosis import DEFAULT_TIMING, Diagnosis, Timing, Trouble
from scoremux_server.watch.health import Health, State

_TICK_S = 0.1
_STORE_S = 0.5
_BEAT_S = 1.0


class Watcher:
    """Keeps one server scoring until it is asked to stop.

    Whatever dies or hangs, Triton or its stub, Triton is restarted on its ports, after a pause that doubles. `health`
    always says how things are; `report` is called with a sentence for each thing that happens.
    """

    def __init__(
        self,
        server: Server,
        report: Callable[[str], None] = lambda _: None,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        profile = server.profile
        selftest = "none" if profile.runner == "triton" else profile.selftest  # the scorer cannot test another model
        self.health = Health(server.versions(), profile.notice_s + profile.drain_s, selftest)
        self._server = server
        self._report = report
        self._timing = timing
        self._diagnosis = Diagnosis(server, timing)
        self._deaths: deque[float] = deque()
        self._starting_s = 0.0
        self._pause_s = 0.0

    def run(self, stop: threading.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Start, call `ready`, watch and restart until `stop` is set; then drain and remove everything.

        Raises:
            SetupError, StartError: the first start failed.
            CrashLoopError: the server died again and again.
        """
        try:
            self._server.launch()
            self._diagnosis.begin_start()
            answer = self._server.wait_until_ready(stop, self._look_at_start)
            if answer:
                self._note(answer)
                self._serve()
                ready()
                self._watch(stop)
            self.health.beat()
            with self.health.notice():
                time.sleep(self._server.profile.notice_s if answer else 0.0)
        except BaseException:
            self.health.state = State.FAILED
            self._server.kill()
            raise
        finally:
            self._server.stop()
        self.health.state = State.STOPPED

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(_TICK_S):
            self.health.beat()
            seen = self._diagnosis.look()
            if isinstance(seen, Trouble):
                self._heal(seen, stop)
            elif seen is not None:
                self._note(seen)

    def _note(self, answer: Answer) -> None:
        if answer.store_cause != self.health.store_cause:
            scored = "; tasks already in memory are scored" if answer.good else ""
            self._report(f"{answer.store_cause}{scored}" if answer.store_cause else "the store can be read again")
        self.health.note(answer)
        if answer.good:
            self._deaths.clear()
            self._pause_s = 0.0

    def _serve(self) -> None:
        self._diagnosis.begin()
        self.health.state = State.SERVING

    def _heal(self, trouble: Trouble, stop: threading.Event) -> None:
        started = time.monotonic()
        self.health.state, self.health.cause = State.HEALING, trouble.cause
        if trouble.canary:
            self.health.count(trouble.canary)
        self._count_death(trouble.cause)
        self._restart(trouble.cause, stop)
        if not stop.is_set():
            self._serve()
            self._report(f"healed after {time.monotonic() - started:.1f} s")

    def _restart(self, cause: str, stop: threading.Event) -> None:
        """Start Triton again until it scores. Raises CrashLoopError after too many deaths."""
        while not stop.is_set():
            self._wait_for_store(stop)
            if not stop.is_set():
                self._report(f"{cause}; restarting Triton" + (f" in {self._pause_s:g} s" if self._pause_s else ""))
                self._pause(stop)
            if stop.is_set():
                return
            self.health.restarts += 1
            try:
                with self._start():
                    self._server.restart()
                    self._diagnosis.begin_start()
                    answer = self._server.wait_until_ready(stop, self._look_at_start)
                if answer:
                    self._note(answer)
                return
            except (StartError, SetupError, OSError) as error:
                self.health.cause = cause = _first_line(error)
                self._count_death(cause)

    def _look_at_start(self) -> None:
        """Raise StartError if a server that loads models will never score."""
        self.health.beat()
        if cause := self._diagnosis.look_at_start():
            raise StartError(f"{cause}:\n{self._server.process.log_tail()}")

    @contextlib.contextmanager
    def _start(self) -> Iterator[None]:
        """Do not count the time of a start: slow ones that fail are a crash loop like quick ones."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._starting_s += time.monotonic() - began

    def _pause(self, stop: threading.Event) -> None:
        until = time.monotonic() + self._pause_s
        while (left := until - time.monotonic()) > 0 and not stop.wait(min(left, _BEAT_S)):
            self.health.beat()
        self._pause_s = min(max(2 * self._pause_s, self._timing.backoff_s), self._timing.backoff_most_s)

    def _wait_for_store(self, stop: threading.Event) -> None:
        """Wait until the store can be read. Triton is ended meanwhile.

        A Triton started before would not load its scorer: no restart repairs a store.
        """
        reported = ""
        while not stop.is_set() and (cause := self._server.canary.look_at_store()):
            if cause != reported:
                self._server.kill()
                self._report(f"{cause}; waiting until it can be read")
            reported = self.health.cause = self.health.store_cause = cause
            self.health.beat()
            stop.wait(_STORE_S)

    def _count_death(self, cause: str) -> None:
        now = time.monotonic() - self._starting_s
        self._deaths.append(now)
        while self._deaths[0] < now - self._timing.crash_loop_s:
            self._deaths.popleft()
        if len(self._deaths) >= self._timing.crash_loop_deaths:
            raise CrashLoopError(
                f"Triton died {len(self._deaths)} times without scoring a canary in between; the last cause: {cause}:\n"
                f"{self._server.process.log_tail()}"
            )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(":")
