"""What is wrong with a running server, told from its processes and its canary."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from dataclasses import dataclass

from scoremux_engine.audit.log import UNWRITABLE
from scoremux_server import processes
from scoremux_server.canary import Answer, Verdict
from scoremux_server.idleness import Idleness
from scoremux_server.server import UNHEALTHY, Server

_BAD_IN_A_ROW = 3
_ZOMBIE_S = 0.5
_HELD_S = 2.0
"""A watcher whose looks are so far apart was held itself, with all the machine perhaps. One look takes 1 s at most."""


@dataclass(frozen=True)
class Trouble:
    """What is wrong. models: those whose stubs are to blame; none: the server itself; canary: the one that told."""

    cause: str
    models: tuple[str, ...] = ()
    canary: Answer | None = None


class Diagnosis:
    """Looks at one server again and again: `look_at_start` after `begin_start`, and `look` after `begin`.

    A canary that waits behind a large batch is not a hang: a hang is a canary without an answer while nothing computes.
    What the kernel does not tell, this process having no file left to ask with, is taken to be well.
    stopped_s: how long SIGSTOP may hold a process before it counts as hung.
    """

    def __init__(self, server: Server, stopped_s: float = 1.0) -> None:
        self._server = server
        self._stopped_s = stopped_s
        self._stubs: dict[int, str] = {}
        self._old: frozenset[int] = frozenset()
        self._bad_since: dict[int, float] = {}
        self._idleness = Idleness(server.profile.hang_s)
        self._next_canary = 0.0
        self._bad_in_a_row = 0
        self._looked_at = time.monotonic()

    def begin(self) -> None:
        """Take the processes of now for the healthy ones."""
        self._stubs = {}
        self._find_stubs()
        self._bad_in_a_row = 0
        self._begin_waiting()

    def begin_start(self, old: Collection[int] = ()) -> None:
        """Hear that models load from now on. old: stubs that were killed for it."""
        self._stubs, self._old = {}, frozenset(old)
        self._begin_waiting()

    def look_at_start(self) -> str:
        """Return what keeps a server that loads models from ever scoring, or nothing; its own end is not looked for.

        Stubs come and go while models load. Triton waits for one that it ended itself; one that was killed stays a
        zombie.
        """
        if time.monotonic() - self._looked_at > _HELD_S:
            self._begin_waiting()
        now = self._looked_at = time.monotonic()
        self._find_stubs()
        leader = self._server.process.pid
        for pid in (leader, *self._stubs):
            seen = processes.look(pid)
            dead = pid != leader and seen is not None and not seen.alive
            stopped = seen is not None and seen.stopped
            if self._lasts(pid, dead or stopped, now, _ZOMBIE_S if dead else self._stopped_s):
                what = "Triton" if pid == leader else f"the stub of {self._stubs[pid]}"
                return f"{what} {'died' if dead else 'was stopped'} before its first canary"
        return ""

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
        self._bad_since.clear()
        self._idleness.forget()
        self._server.canary.wait_anew()
        self._looked_at = time.monotonic()

    def _find_stubs(self) -> None:
        with contextlib.suppress(OSError):
            found = processes.stubs(self._server.process.pid)
            self._stubs.update((pid, model) for pid, model in found.items() if pid not in self._old)

    def _lasts(self, pid: int, bad: bool, now: float, over_s: float) -> bool:
        """Whether a process has been in a bad way for `over_s`."""
        if not bad:
            self._bad_since.pop(pid, None)
            return False
        return now - self._bad_since.setdefault(pid, now) >= over_s

    def _look_at_processes(self) -> Trouble | None:
        now, leader = time.monotonic(), self._server.process.pid
        seen = {pid: processes.look(pid) for pid in (leader, *self._stubs)}
        for pid, process in seen.items():
            models = (self._stubs[pid],) if pid in self._stubs else ()
            what = f"the stub of {models[0]}" if models else "Triton"
            if process is None or not process.alive:
                return Trouble(f"{what} is dead", models)
            if self._lasts(pid, process.stopped, now, self._stopped_s):
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
        unhealthy = UNHEALTHY in answer.cause
        if unhealthy or self._bad_in_a_row >= _BAD_IN_A_ROW:
            blamed = unhealthy or answer.verdict is not Verdict.UNREACHED
            return Trouble(answer.cause, tuple(self._stubs.values()) if blamed else (), answer)
        return answer

    def _hang(self, waited_s: float) -> Trouble:
        cause = f"a canary has no answer after {waited_s:.1f} s"
        canary = Answer(Verdict.UNREACHED, cause)
        if self._server.control.is_live(1.0):
            return Trouble(cause, tuple(self._stubs.values()), canary)
        return Trouble(f"{cause}, and Triton does not answer", canary=canary)
