"""The watcher: starts a server, scores a canary every second, and heals what dies or hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from scoremux_server import processes
from scoremux_server.canary import Answer
from scoremux_server.diagnosis import Diagnosis, Trouble
from scoremux_server.errors import ControlError, CrashLoopError, SetupError, StartError
from scoremux_server.health import Health, State
from scoremux_server.server import Server

_TICK_S = 0.1
_STORE_S = 0.5
_BEAT_S = 1.0


class Watcher:
    """Keeps one server scoring until it is told to stop.

    A dead or hung stub's model is loaded again; a dead or hung server is started again on its ports, after a pause that
    doubles. `health` always says how things are; `report` is called with a sentence for each thing that happens.
    """

    def __init__(self, server: Server, report: Callable[[str], None] = lambda _: None) -> None:
        stop_s = server.profile.notice_s + server.profile.drain_s
        self.health = Health(server.versions(), stop_s)
        self._server = server
        self._profile = server.profile
        self._report = report
        self._diagnosis = Diagnosis(server)
        self._deaths: deque[float] = deque()
        self._starting_s = 0.0
        self._pause_s = 0.0

    def run(self, stop: threading.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Start, call `ready`, watch and heal until `stop` is set; then drain and remove everything.

        Raises SetupError or StartError if the first start fails, CrashLoopError if the server cannot be healed.
        """
        try:
            self._server.launch()
            self._diagnosis.begin_start()
            answer = self._server.wait_until_ready(stop, self._look_at_start)
            if answer:
                self._note(answer)
                self._healed()
                ready()
                self._watch(stop)
            self.health.beat()
            with self.health.notice():
                time.sleep(self._profile.notice_s if answer else 0.0)
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
                self._server.process.bound_log(self._profile.log_bytes)

    def _note(self, answer: Answer) -> None:
        if answer.store_cause != self.health.store_cause:
            scored = "; tasks already in memory are scored" if answer.good else ""
            self._report(f"{answer.store_cause}{scored}" if answer.store_cause else "the store can be read again")
        self.health.note(answer)
        if answer.good:
            self._deaths.clear()
            self._pause_s = 0.0

    def _healed(self) -> None:
        self._diagnosis.begin()
        self.health.state = State.SERVING

    def _heal(self, trouble: Trouble, stop: threading.Event) -> None:
        started = time.monotonic()
        self.health.state, self.health.cause = State.HEALING, trouble.cause
        if trouble.canary:
            self.health.canaries.count(trouble.canary)
        self._count_death(trouble.cause)
        waited = self._wait_for_store(stop)
        if waited or not (trouble.models and self._reload(trouble, stop)):
            self._restart(trouble.cause, stop)
        if not stop.is_set():
            self._healed()
            self._report(f"healed after {time.monotonic() - started:.1f} s")

    def _reload(self, trouble: Trouble, stop: threading.Event) -> bool:
        """Kill the stubs to blame and load their models again; return whether a canary was scored after it."""
        self._report(f"{trouble.cause}; loading {', '.join(trouble.models)} again")
        self.health.reloads += 1
        try:
            with self._start():
                self._kill_stubs(trouble.models)
                self._server.canary.forget()
                with ThreadPoolExecutor(1) as pool:
                    loading = pool.submit(self._load, trouble.models)
                    self._wait_for(loading, stop)
                return self._scores_again(stop)
        except (ControlError, StartError, OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
            self._report(_first_line(error))
            return False

    def _kill_stubs(self, models: tuple[str, ...]) -> None:
        old = [pid for pid, model in processes.stubs(self._server.process.pid).items() if model in models]
        for pid in old:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._diagnosis.begin_start(old)

    def _load(self, models: tuple[str, ...]) -> None:
        for model in self._server.models:
            if model in models:
                self._server.reload(model)

    def _wait_for(self, loading: Future[None], stop: threading.Event) -> None:
        """Wait for a load; a server that dies or hangs meanwhile, or its stub, is killed, which ends the load."""
        while not loading.done():
            try:
                self._look_at_start()
                if stop.is_set() or self._server.process.exit_status is not None:
                    self._server.kill()
            except StartError:
                self._server.kill()
                raise
            time.sleep(_TICK_S / 2)
        loading.result()

    def _look_at_start(self) -> None:
        """Raise StartError where a server that loads models will never score."""
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

    def _scores_again(self, stop: threading.Event) -> bool:
        deadline = time.monotonic() + self._profile.start_timeout_s
        while time.monotonic() < deadline and self._server.process.exit_status is None and not stop.is_set():
            self._look_at_start()
            self._server.canary.send()
            answer = self._server.canary.answer(_TICK_S)
            if answer is not None:
                self._note(answer)
                return answer.good
        return False

    def _restart(self, cause: str, stop: threading.Event) -> None:
        """Start Triton again until it scores. Raises CrashLoopError after too many deaths."""
        while not stop.is_set():
            self._wait_for_store(stop)
            if not stop.is_set():
                self._report(f"{cause}; starting Triton again" + (f" in {self._pause_s:g} s" if self._pause_s else ""))
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

    def _pause(self, stop: threading.Event) -> None:
        until = time.monotonic() + self._pause_s
        while (left := until - time.monotonic()) > 0 and not stop.wait(min(left, _BEAT_S)):
            self.health.beat()
        self._pause_s = min(max(2 * self._pause_s, self._profile.backoff_s), self._profile.backoff_most_s)

    def _wait_for_store(self, stop: threading.Event) -> bool:
        """Wait until the store can be read, and return whether that took any time: Triton is ended then.

        What is started before would not load, no restart heals a store, and what is in trouble must not go on.
        """
        told = ""
        while not stop.is_set() and (cause := self._server.canary.look_at_store()):
            if cause != told:
                self._server.kill()
                self._report(f"{cause}; waiting until it can be read")
            told = self.health.cause = self.health.store_cause = cause
            self.health.beat()
            stop.wait(_STORE_S)
        return bool(told)

    def _count_death(self, cause: str) -> None:
        now = time.monotonic() - self._starting_s
        self._deaths.append(now)
        while self._deaths[0] < now - self._profile.crash_loop_s:
            self._deaths.popleft()
        if len(self._deaths) >= self._profile.crash_loop_deaths:
            raise CrashLoopError(
                f"Triton died {len(self._deaths)} times without scoring a canary between, at last because {cause}:\n"
                f"{self._server.process.log_tail()}"
            )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(":")
