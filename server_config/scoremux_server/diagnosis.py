"""What is wrong with a running server, told from its processes and its canary."""

from __future__ import annotations

import time
from dataclasses import dataclass

from scoremux_engine.audit.log import UNWRITABLE
from scoremux_server import processes
from scoremux_server.canary import Answer, Verdict
from scoremux_server.idleness import Idleness
from scoremux_server.server import Server

_BAD_IN_A_ROW = 3
_HELD_S = 2.0
"""A watcher whose looks are so far apart was held itself, with all the machine perhaps. One look takes 1 s at most."""


@dataclass(frozen=True)
class Trouble:
    """What is wrong. models: those whose stubs are to blame; none: the server itself."""

    cause: str
    models: tuple[str, ...] = ()


class Diagnosis:
    """Looks at one server again and again; `begin` after each start or reload.

    A canary that waits behind a large batch is not a hang: a hang is a canary without an answer while nothing computes.
    stopped_s: how long SIGSTOP may hold a process before it counts as hung.
    """

    def __init__(self, server: Server, stopped_s: float = 1.0) -> None:
        self._server = server
        self._stopped_s = stopped_s
        self._stubs: dict[int, str] = {}
        self._stopped_since: dict[int, float] = {}
        self._idleness = Idleness(server.profile.hang_s)
        self._next_canary = 0.0
        self._bad_in_a_row = 0
        self._looked_at = time.monotonic()

    def begin(self) -> None:
        """Take the processes of now for the healthy ones."""
        self._stubs = processes.stubs(self._server.process.pid)
        self._bad_in_a_row = 0
        self._begin_waiting()

    def look(self) -> Trouble | Answer | None:
        """Return what is wrong, or the answer to a canary that came in, or None for nothing new."""
        before = self._looked_at
        seen = self._see()
        self._looked_at = time.monotonic()
        if self._looked_at - before <= _HELD_S:
            return seen
        self._begin_waiting()
        # What is really wrong is still wrong at the next look.
        return None if isinstance(seen, Trouble) else seen

    def _see(self) -> Trouble | Answer | None:
        status = self._server.process.exit_status
        if status is not None:
            return Trouble(f"Triton ended with status {status}")
        return self._look_at_processes() or self._look_at_canary()

    def _begin_waiting(self) -> None:
        """Count all waiting from now on: nobody is to blame for time in which this watcher did not look."""
        self._stopped_since.clear()
        self._idleness.forget()
        self._server.canary.wait_anew()
        self._looked_at = time.monotonic()

    def _look_at_processes(self) -> Trouble | None:
        now, leader = time.monotonic(), self._server.process.pid
        seen = {pid: processes.look(pid) for pid in (leader, *self._stubs)}
        for pid, process in seen.items():
            models = (self._stubs[pid],) if pid in self._stubs else ()
            what = f"the stub of {models[0]}" if models else "Triton"
            if process is None or not process.alive:
                return Trouble(f"{what} is dead", models)
            since = self._stopped_since.setdefault(pid, now) if process.stopped else None
            if since is None:
                self._stopped_since.pop(pid, None)
            elif now - since >= self._stopped_s:
                return Trouble(f"{what} is stopped", models)
        # The server's own time counts where it computes: with the backbone in a backend of its own, not in a stub.
        computing = self._server.profile.runner == "triton"
        self._idleness.add(process for pid, process in seen.items() if pid != leader or computing)
        return None

    def _look_at_canary(self) -> Trouble | Answer | None:
        now, canary, profile = time.monotonic(), self._server.canary, self._server.profile
        if not canary.in_flight and now >= self._next_canary:
            canary.send()
        answer = canary.answer()
        if answer is None:
            if (canary.waiting_s > profile.hang_s and self._idleness.idle) or canary.waiting_s > profile.busy_s:
                return self._hang(canary.waiting_s)
            return None
        self._next_canary = now + profile.canary_every_s
        if answer.good:
            self._bad_in_a_row = 0
            return answer
        if UNWRITABLE in answer.cause or answer.cause == answer.store_cause:
            return answer  # the scorer is well: a new one would have no more room on the disk, and no better store
        self._bad_in_a_row += 1
        unhealthy = "is not healthy" in answer.cause  # Triton's word for a stub that does not answer
        if unhealthy or self._bad_in_a_row >= _BAD_IN_A_ROW:
            blamed = unhealthy or answer.verdict is not Verdict.UNREACHED
            return Trouble(answer.cause, tuple(self._stubs.values()) if blamed else ())
        return answer

    def _hang(self, waited_s: float) -> Trouble:
        cause = f"a canary has no answer after {waited_s:.1f} s"
        if self._server.control.is_live(1.0):
            return Trouble(cause, tuple(self._stubs.values()))
        return Trouble(f"{cause}, and Triton does not answer")
