"""The watcher: the loop that keeps one Triton running, and waits while its store cannot be read."""

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from scoremux_engine.backend.audit_log import UNWRITABLE, log_alarm
from scoremux_engine.errors import AuditError
from scoremux_server.errors import CrashLoopError, InterruptedStartError
from scoremux_server.supervision.health import Health, WatchState
from scoremux_server.triton import processes
from scoremux_server.triton.canary import Answer, CanaryVerdict
from scoremux_server.triton.server import TritonServer

MOST_FAILED = 3
"""A server that fails this many canaries in a row is restarted."""

_TICK_S = 0.1
_BEAT_S = 1.0
_STORE_S = 0.5
_ZOMBIE_S = 0.5
"""How long a stub that Triton ends while models load may stay a zombie."""


@dataclass(frozen=True)
class Timing:
    """The times and counts of a watcher. Users need no other values than the defaults; tests do.

    A server that hangs is restarted after ``MOST_FAILED * (canary_limit_s + canary_every_s)`` at most, 93 s. This is
    the one place that says so. An overloaded machine is not restarted: a canary waits for the micro-batches that are
    being computed and for no others, and those take some seconds even there. A suspended machine fails one canary.

    Attributes:
        canary_every_s: From the end of a canary to the next one.
        canary_limit_s: A canary without an answer for this long has failed.
        backoff_s: Pause before the second restart in a row; it doubles from one to the next, up to `backoff_most_s`.
        crash_loop_deaths: Number of deaths in a row, without a successful start between them, that ends the watching.
    """

    canary_every_s: float = 1.0
    canary_limit_s: float = 30.0
    backoff_s: float = 0.5
    backoff_most_s: float = 30.0
    crash_loop_deaths: int = 5


DEFAULT_TIMING = Timing()


class Watcher:
    """Keeps one Triton running until a stop: if Triton or its stub dies or hangs, Triton is restarted on its ports."""

    def __init__(
        self, server: TritonServer, report: Callable[[str], None] = lambda _: None, timing: Timing = DEFAULT_TIMING
    ) -> None:
        profile = server.profile
        selftest = "none" if profile.runner == "triton" else profile.selftest  # the scorer cannot test another model
        self.health = Health(server.versions(), profile.drain_s, selftest)
        self._server = server
        self._report = report
        self._timing = timing
        self._stubs = dict[int, str]()

    def run(self, stop: threading.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Start Triton, call `ready`, and watch it until `stop` is set; then let it finish and remove everything.

        Raises:
            ServerError: The first start failed, and not by an interruption.
            CrashLoopError: Triton died again and again.
        """
        try:
            try:
                self._start(self._server.launch, stop)
            except InterruptedStartError as error:
                self._restart(str(error), stop)
            if not stop.is_set():
                ready()
            while not stop.wait(_TICK_S):
                if cause := self._look():
                    self._restart(cause, stop)
        except BaseException:
            self.health.state = WatchState.FAILED
            self._server.kill()
            raise
        finally:
            self._stop()

    def _start(self, begin: Callable[[], None], stop: threading.Event) -> None:
        """Begin a start, and wait for a good canary or for `stop`."""
        try:
            begin()
            self._stubs, self._zombie_since = {}, math.inf
            if answer := self._server.wait_until_ready(stop, self._look_at_start):
                self.health.arithmetic = self._server.arithmetic
                self._note(answer)
                # The stubs of now must live from now on.
                self._stubs = {}
                self._find_stubs()
                self._next_canary = self._failed = 0.0
                self.health.state = WatchState.SERVING
        except Exception as error:
            self.health.cause = _first_line(str(error))
            raise

    def _look_at_start(self, cause: str) -> None:
        """Raise InterruptedStartError if a server that loads models will never score."""
        self.health.beat()
        if UNWRITABLE in cause and cause != self.health.cause:
            self._report(f"{cause}; waiting for room, for {self._server.profile.start_timeout_s:g} s at most")
            self.health.cause = cause
        # Stubs come and go then. Triton waits for one that it ended itself; one that was killed stays a zombie.
        self._find_stubs()
        zombies = [pid for pid in self._stubs if processes.is_zombie(pid)]
        now = time.monotonic()
        self._zombie_since = min(self._zombie_since, now) if zombies else math.inf
        if now - self._zombie_since >= _ZOMBIE_S:
            fault = f"the stub of {self._stubs[zombies[0]]} died before its first canary"
            raise InterruptedStartError(f"{fault}; {self._server.log_says}")

    def _find_stubs(self) -> None:
        with contextlib.suppress(OSError):  # this process has no file descriptor left
            self._stubs.update(processes.stubs(self._server.process.pid))

    def _look(self) -> str:
        """Return why Triton must be restarted, or nothing."""
        self.health.beat()
        cause = self._dead_process() or self._look_at_canary()
        self.health.canary_waiting_s = self._server.canary.waiting_s
        if cause:
            self.health.state, self.health.cause = WatchState.HEALING, cause
        return cause

    def _dead_process(self) -> str:
        """Return which process of the server ended, or nothing."""
        status = self._server.process.exit_status
        if status is not None:
            return f"Triton ended with status {status}"
        dead = (model for pid, model in self._stubs.items() if not processes.alive(pid))
        return next((f"the stub of {model} is dead" for model in dead), "")

    def _look_at_canary(self) -> str:
        """Send canaries and count their answers; return why too many failed, or nothing."""
        now, canary, timing = time.monotonic(), self._server.canary, self._timing
        if now >= self._next_canary:
            canary.send()
        answer = canary.answer(limit_s=timing.canary_limit_s)
        if answer is None:
            return ""
        self._note(answer)
        self._next_canary = now + timing.canary_every_s
        if answer.good:
            self._failed = 0.0
        elif answer.verdict is CanaryVerdict.BUSY:
            # It lives, and a restart would lose what waits; but one that is full for so long takes nothing any more.
            self._failed += timing.canary_every_s / timing.canary_limit_s
        elif UNWRITABLE not in answer.cause and answer.cause != answer.store_cause:
            self._failed += 1  # a new scorer would have no more room on the disk, and no better store
        return answer.cause if self._failed >= MOST_FAILED else ""

    def _alarm(self, sentence: str) -> None:
        """Report an alarm, and log it where there is an audit log."""
        self._report(sentence)
        self._log(sentence)

    def _log(self, cause: str) -> None:
        if log := self._server.profile.audit_log:
            try:
                log_alarm(log, cause, arithmetic=self.health.arithmetic)
            except AuditError as error:
                self._report(str(error))

    def _note(self, answer: Answer) -> None:
        if answer.verdict is CanaryVerdict.WRONG:
            self._alarm(answer.cause)
        if answer.store_cause != self.health.store_cause:
            scored = "; tasks already in memory are scored" if answer.good else ""
            self._report(f"{answer.store_cause}{scored}" if answer.store_cause else "the store can be read again")
        self.health.note(answer)

    def _restart(self, message: str, stop: threading.Event) -> None:
        """Restart Triton until it works; `message` begins with the cause. Raises CrashLoopError."""
        died_at, deaths, pause_s = time.monotonic(), 1, 0.0
        while deaths != self._timing.crash_loop_deaths:
            self._alarm(f"{_first_line(message)}; restarting Triton" + (f" in {pause_s:g} s" if pause_s else ""))
            self._pause(pause_s, stop)
            if stop.is_set():
                return
            try:
                self._restart_once(stop)
            except Exception as error:
                deaths += 1
                pause_s = min(max(2 * pause_s, self._timing.backoff_s), self._timing.backoff_most_s)
                message = str(error) or type(error).__name__
            else:
                if not stop.is_set():
                    self._report(f"Triton works again after {time.monotonic() - died_at:.1f} s")
                return
        self._log(f"Triton died {deaths} times in a row; the last cause: {_first_line(message)}")
        raise CrashLoopError(f"Triton died {deaths} times in a row; the last cause: {message}")

    def _pause(self, pause_s: float, stop: threading.Event) -> None:
        while pause_s > 0 and not stop.wait(min(pause_s, _BEAT_S)):
            self.health.beat()
            pause_s -= _BEAT_S

    def _restart_once(self, stop: threading.Event) -> None:
        """Start Triton again as soon as the store can be read."""
        # A dead scorer's requests get no answer before Triton ends, and the wait for the store may be long.
        self._server.kill()
        self._wait_for_store(stop)
        if not stop.is_set():
            self.health.restarts += 1
            self._start(self._server.restart, stop)

    def _wait_for_store(self, stop: threading.Event) -> None:
        """Wait until the store can be read: a Triton started before would not load its scorer."""
        reported = ""
        while not stop.is_set() and (cause := self._server.canary.look_at_store()):
            if cause != reported:
                self._report(f"{cause}; waiting until it can be read")
            reported = self.health.cause = self.health.store_cause = cause
            self.health.beat()
            stop.wait(_STORE_S)

    def _stop(self) -> None:
        """Let rows in flight finish, then remove everything."""
        self.health.beat()
        if self.health.state is not WatchState.FAILED:
            self.health.state = WatchState.DRAINING
        self._server.stop()
        if self.health.state is WatchState.DRAINING:
            self.health.state = WatchState.STOPPED


def _first_line(message: str) -> str:
    return message.partition("\n")[0].rstrip(":")
