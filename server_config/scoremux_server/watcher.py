"""The watcher: starts a server, scores a canary every second, and heals what dies or hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from scoremux_server import processes
from scoremux_server.canary import Answer
from scoremux_server.diagnosis import Diagnosis, Trouble
from scoremux_server.errors import ControlError, CrashLoopError, StartError
from scoremux_server.health import Health, State
from scoremux_server.server import Server

_TICK_S = 0.1
_STORE_S = 0.5


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
        self._pause_s = 0.0

    def run(self, stop: threading.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Start, call `ready`, watch and heal until `stop` is set; then drain and remove everything.

        Raises SetupError or StartError if the first start fails, CrashLoopError if the server cannot be healed.
        """
        try:
            self._server.launch()
            answer = self._server.wait_until_ready(stop, self.health.beat)
            if answer:
                self._note(answer)
                self._healed()
                ready()
                self._watch(stop)
            self.health.beat()
            self.health.state = State.DRAINING
            time.sleep(self._profile.notice_s)
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
        for pid, model in processes.stubs(self._server.process.pid).items():
            if model in trouble.models:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._server.canary.forget()
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(self._load, trouble.models)
            loaded = self._wait_for(loading, stop)
        return loaded and self._scores_again(stop)

    def _load(self, models: tuple[str, ...]) -> None:
        for model in self._server.models:
            if model in models:
                self._server.reload(model)

    def _wait_for(self, loading: Future[None], stop: threading.Event) -> bool:
        """Wait for a load; a server that dies or is stopped meanwhile is killed, which ends the load."""
        while not loading.done():
            self.health.beat()
            process = processes.look(self._server.process.pid)
            if stop.is_set() or process is None or not process.alive or process.stopped:
                self._server.process.kill()
            time.sleep(_TICK_S / 2)
        try:
            loading.result()
        except ControlError as error:
            self._report(str(error))
            return False
        return True

    def _scores_again(self, stop: threading.Event) -> bool:
        deadline = time.monotonic() + self._profile.start_timeout_s
        while time.monotonic() < deadline and self._server.process.exit_status is None and not stop.is_set():
            self.health.beat()
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
            self._report(f"{cause}; starting Triton again" + (f" in {self._pause_s:g} s" if self._pause_s else ""))
            self.health.restarts += 1
            stop.wait(self._pause_s)
            self._pause_s = min(max(2 * self._pause_s, self._profile.backoff_s), self._profile.backoff_most_s)
            self._server.restart()
            try:
                answer = self._server.wait_until_ready(stop, self.health.beat)
                if answer:
                    self._note(answer)
                return
            except StartError as error:
                cause = str(error).partition("\n")[0].rstrip(":")
                self.health.cause = cause
                self._count_death(cause)

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
        now = time.monotonic()
        self._deaths.append(now)
        while self._deaths[0] < now - self._profile.crash_loop_s:
            self._deaths.popleft()
        if len(self._deaths) >= self._profile.crash_loop_deaths:
            raise CrashLoopError(
                f"Triton died {len(self._deaths)} times in {now - self._deaths[0]:.0f} s without scoring a canary "
                f"between, at last because {cause}:\n{self._server.process.log_tail()}"
            )
