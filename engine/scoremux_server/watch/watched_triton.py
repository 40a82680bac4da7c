"""Triton as the watcher keeps it running: its diagnosis, its health, and a store that may be unreadable for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable

from scoremux_engine.triton.audit_log import UNWRITABLE
from scoremux_server.errors import InterruptedStartError
from scoremux_server.triton.canary import Answer
from scoremux_server.triton.server import TritonServer
from scoremux_server.watch.diagnosis import DEFAULT_TIMING, Diagnosis, Timing
from scoremux_server.watch.health import Health, WatchState

_STORE_S = 0.5


class WatchedTriton:
    """A `Program` around one Triton. Whatever dies or hangs, Triton or its stub, Triton is restarted on its ports.

    Attributes:
        health: What is known of the server at every moment.
    """

    name = "Triton"

    def __init__(
        self,
        server: TritonServer,
        report: Callable[[str], None] = lambda _: None,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        profile = server.profile
        selftest = "none" if profile.runner == "triton" else profile.selftest  # the scorer cannot test another model
        self.health = Health(server.versions(), profile.drain_s, selftest)
        self._server = server
        self._report = report
        self._diagnosis = Diagnosis(server, timing)

    def start(self, stop: threading.Event) -> None:
        """Start Triton and wait for a good canary. Raises SetupError or StartError."""
        self._start(self._server.launch, stop)

    def look(self) -> str:
        """Return why Triton must be restarted, or nothing."""
        self.health.beat()
        cause, answer = self._diagnosis.look()
        self.health.canary_waiting_s = self._server.canary.waiting_s
        if answer:
            self._note(answer)
        if cause:
            self.health.state, self.health.cause = WatchState.HEALING, cause
        return cause

    def wait(self) -> None:
        """Record that the watcher still works."""
        self.health.beat()

    def restart(self, stop: threading.Event) -> None:
        """Start Triton again as soon as the store can be read. Raises SetupError or StartError."""
        # A dead scorer's requests get no answer before Triton ends, and the wait for the store may be long.
        self._server.kill()
        self._wait_for_store(stop)
        if stop.is_set():
            return
        self.health.restarts += 1
        self._start(self._server.restart, stop)

    def kill(self) -> None:
        """End Triton at once, since it cannot be kept running."""
        self.health.state = WatchState.FAILED
        self._server.kill()

    def stop(self) -> None:
        """Let rows in flight finish, then remove everything."""
        self.health.beat()
        if self.health.state is not WatchState.FAILED:
            self.health.state = WatchState.DRAINING
        self._server.stop()
        if self.health.state is WatchState.DRAINING:
            self.health.state = WatchState.STOPPED

    def _start(self, begin: Callable[[], None], stop: threading.Event) -> None:
        """Begin a start and wait for a good canary."""
        try:
            begin()
            self._diagnosis.begin_start()
            if answer := self._server.wait_until_ready(stop, self._look_at_start):
                self.health.arithmetic = self._server.arithmetic
                self._note(answer)
                self._diagnosis.begin()
                self.health.state = WatchState.SERVING
        except Exception as error:
            self.health.cause = str(error).partition("\n")[0].rstrip(":")
            raise

    def _look_at_start(self, cause: str) -> None:
        """Raise InterruptedStartError if a server that loads models will never score."""
        self.health.beat()
        if UNWRITABLE in cause and cause != self.health.cause:
            self._report(f"{cause}; waiting for room, for {self._server.profile.start_timeout_s:g} s at most")
            self.health.cause = cause
        if fault := self._diagnosis.look_at_start():
            raise InterruptedStartError(f"{fault}:\n{self._server.process.log_tail()}")

    def _note(self, answer: Answer) -> None:
        if answer.store_cause != self.health.store_cause:
            scored = "; tasks already in memory are scored" if answer.good else ""
            self._report(f"{answer.store_cause}{scored}" if answer.store_cause else "the store can be read again")
        self.health.note(answer)

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
