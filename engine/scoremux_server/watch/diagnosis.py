"""The diagnosis of a running server, from its processes and its canary."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from scoremux_engine.triton.audit_log import UNWRITABLE
from scoremux_server.triton import processes
from scoremux_server.triton.canary import Answer, CanaryVerdict
from scoremux_server.triton.server import UNHEALTHY, TritonServer

_BAD_IN_A_ROW = 3
_ZOMBIE_S = 0.5
_SUSPENDED_S = 2.0
"""If two looks are further apart than this, the watcher itself did not run, and perhaps nothing else on the machine
did. One look takes 1 s at most."""


@dataclass(frozen=True)
class Timing:
    """When a server counts as hung. Users need no other values than the defaults; tests do.

    Attributes:
        canary_every_s: From a canary's answer to the next canary.
        hang_s: A canary without an answer for this long, while nothing computes, is a hang.
        busy_s: A canary without an answer for this long is a hang, whatever computes.
        stopped_s: How long SIGSTOP may hold a process before it counts as hung.
        start_idle_s: A start in which nothing computes for this long hangs.
    """

    canary_every_s: float = 1.0
    hang_s: float = 3.0
    busy_s: float = 300.0
    stopped_s: float = 1.0
    start_idle_s: float = 30.0


DEFAULT_TIMING = Timing()


@dataclass(frozen=True)
class Trouble:
    """What is wrong, and the canary's answer that showed it."""

    cause: str
    canary: Answer | None = None


class Diagnosis:
    """Looks at one server again and again: `look_at_start` after `begin_start`, and `look` after `begin`.

    A canary that waits behind a large batch is not a hang: a hang is a canary without an answer while nothing computes,
    nor would if an overloaded machine let it.
    Nor is a canary that is refused because the queue is full, while something computes.
    What cannot be read, because this process has no file descriptor left, counts as healthy.
    """

    def __init__(self, server: TritonServer, timing: Timing = DEFAULT_TIMING) -> None:
        self._server = server
        self._timing = timing
        self._stubs: dict[int, str] = {}
        self._bad_since: dict[int, float] = {}
        self._idleness = processes.Idleness(timing.hang_s)
        self._start_idleness = processes.Idleness(timing.start_idle_s)
        self._next_canary = 0.0
        self._bad_in_a_row = 0
        self._looked_at = time.monotonic()

    def begin(self) -> None:
        """Take the current processes for the healthy ones."""
        self._stubs = {}
        self._find_stubs()
        self._bad_in_a_row = 0
        self._begin_waiting()

    def begin_start(self) -> None:
        """Expect models to load from now on."""
        self._stubs = {}
        self._begin_waiting()

    def look_at_start(self) -> str:
        """Return what keeps a server that loads models from ever scoring, or nothing; its own end is not looked for.

        Stubs come and go while models load. Triton waits for one that it ended itself; one that was killed stays a
        zombie.
        """
        if time.monotonic() - self._looked_at > _SUSPENDED_S:
            self._begin_waiting()
        now = self._looked_at = time.monotonic()
        self._find_stubs()
        leader = self._server.process.pid
        states = {pid: processes.look(pid) for pid in (leader, *self._stubs)}
        for pid, process in states.items():
            dead = pid != leader and process is not None and not process.alive
            stopped = process is not None and process.stopped
            if self._lasts(pid, dead or stopped, now, _ZOMBIE_S if dead else self._timing.stopped_s):
                return f"{self._name(pid)} {'died' if dead else 'was stopped'} before its first canary"
        self._start_idleness.add(states.values())
        if self._start_idleness.idle and not self._want_processor():
            return f"Triton made no progress for {self._timing.start_idle_s:g} s before its first canary"
        return ""

    def look(self) -> Trouble | Answer | None:
        """Return what is wrong, or the answer to a canary that came in, or None for nothing new."""
        before = self._looked_at
        status = self._server.process.exit_status
        ended = None if status is None else Trouble(f"Triton ended with status {status}")
        finding = ended or self._look_at_processes() or self._look_at_canary()
        self._looked_at = time.monotonic()
        if self._looked_at - before <= _SUSPENDED_S:
            return finding
        self._begin_waiting()
        # What is really wrong is still wrong at the next look.
        return None if isinstance(finding, Trouble) else finding

    def _begin_waiting(self) -> None:
        """Measure all waiting from now on: time in which this watcher did not look does not count."""
        self._bad_since.clear()
        self._idleness.reset()
        self._start_idleness.reset()
        self._server.canary.restart_waiting()
        self._looked_at = time.monotonic()

    def _find_stubs(self) -> None:
        with contextlib.suppress(OSError):
            self._stubs.update(processes.stubs(self._server.process.pid))

    def _name(self, pid: int) -> str:
        return f"the stub of {self._stubs[pid]}" if pid in self._stubs else "Triton"

    def _lasts(self, pid: int, bad: bool, now: float, over_s: float) -> bool:
        """Whether a process has been in a bad state for `over_s`."""
        if not bad:
            self._bad_since.pop(pid, None)
            return False
        return now - self._bad_since.setdefault(pid, now) >= over_s

    def _look_at_processes(self) -> Trouble | None:
        now, leader = time.monotonic(), self._server.process.pid
        states = {pid: processes.look(pid) for pid in (leader, *self._stubs)}
        for pid, process in states.items():
            if process is None or not process.alive:
                # Triton's exit status says more, and comes when the last of its threads has ended.
                if pid == leader and not self._lasts(pid, True, now, _ZOMBIE_S):
                    return None
                return Trouble(f"{self._name(pid)} is dead")
            if self._lasts(pid, process.stopped, now, self._timing.stopped_s):
                return Trouble(f"{self._name(pid)} is stopped")
        # The server's own time counts where it computes: with the backbone in a backend of its own, not in a stub.
        computing = self._server.profile.runner == "triton"
        self._idleness.add(process for pid, process in states.items() if pid != leader or computing)
        return None

    def _want_processor(self) -> bool:
        return any(map(processes.waits_for_processor, (self._server.process.pid, *self._stubs)))

    def _look_at_canary(self) -> Trouble | Answer | None:
        now, canary, timing = time.monotonic(), self._server.canary, self._timing
        if not canary.in_flight and now >= self._next_canary:
            canary.send()
        answer = canary.answer()
        if answer is None:
            hangs = canary.waiting_s > timing.hang_s and self._idleness.idle
            if (hangs and not self._want_processor()) or canary.waiting_s > timing.busy_s:
                cause = f"a canary has no answer after {canary.waiting_s:.1f} s"
                return Trouble(cause, Answer(CanaryVerdict.UNREACHED, cause))
            return None
        self._next_canary = now + timing.canary_every_s
        if answer.good:
            self._bad_in_a_row = 0
            return answer
        if UNWRITABLE in answer.cause or answer.cause == answer.store_cause:
            return answer  # a new scorer would have no more room on the disk, and no better store
        if answer.verdict is CanaryVerdict.BUSY and not self._idleness.idle:
            return answer  # it lives, and a restart would lose what waits
        self._bad_in_a_row += 1
        if UNHEALTHY in answer.cause or self._bad_in_a_row >= _BAD_IN_A_ROW:
            return Trouble(answer.cause, answer)
        return answer
