"""What is wrong with a running server, told from its processes and its canary."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass

from scoremux_server import processes
from scoremux_server.canary import Answer, Verdict
from scoremux_server.server import Server

_STOPPED_S = 1.0
_BAD_IN_A_ROW = 3
_IDLE_SHARE = 0.02
"""A stub that waits for work takes about 0.4 % of a core; one that computes takes nearly all of it."""


@dataclass(frozen=True)
class Trouble:
    """What is wrong. models: those whose stubs are to blame; none: the server itself."""

    cause: str
    models: tuple[str, ...] = ()


class Diagnosis:
    """Looks at one server again and again; `begin` after each start or reload.

    A canary that waits behind a large batch is not a hang: a hang is a canary without an answer while nothing computes.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stubs: dict[int, str] = {}
        self._stopped_since: dict[int, float] = {}
        self._samples: deque[tuple[float, int]] = deque()
        self._next_canary = 0.0
        self._bad_in_a_row = 0

    def begin(self) -> None:
        """Take the processes of now for the healthy ones."""
        self._stubs = processes.stubs(self._server.process.pid)
        self._stopped_since.clear()
        self._samples.clear()
        self._bad_in_a_row = 0

    def look(self) -> Trouble | Answer | None:
        """Return what is wrong, or the answer to a canary that came in, or None for nothing new."""
        status = self._server.process.exit_status
        if status is not None:
            return Trouble(f"Triton ended with status {status}")
        return self._look_at_processes() or self._look_at_canary()

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
            elif now - since >= _STOPPED_S:
                return Trouble(f"{what} is stopped", models)
        alive = [process for process in seen.values() if process]
        # The server's own time counts where it computes: with the backbone in a backend of its own, not in a stub.
        counted = [p for p in alive if p.pid != leader or self._server.profile.runner == "triton"]
        busy = any(p.waits_for_disk for p in counted)
        self._samples.append((now, sum(p.ticks for p in counted)))
        if busy:
            self._samples.clear()
        while len(self._samples) > 1 and self._samples[1][0] <= now - self._server.profile.hang_s:
            self._samples.popleft()
        return None

    def _look_at_canary(self) -> Trouble | Answer | None:
        now, canary, profile = time.monotonic(), self._server.canary, self._server.profile
        if not canary.in_flight and now >= self._next_canary:
            canary.send()
        answer = canary.answer()
        if answer is None:
            if (canary.waiting_s > profile.hang_s and self._is_idle()) or canary.waiting_s > profile.busy_s:
                return self._hang(canary.waiting_s)
            return None
        self._next_canary = now + profile.canary_every_s
        if answer.good:
            self._bad_in_a_row = 0
            return answer
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= _BAD_IN_A_ROW or "is not healthy" in answer.cause:
            reached = answer.verdict is not Verdict.UNREACHED
            return Trouble(answer.cause, tuple(self._stubs.values()) if reached else ())
        return answer

    def _hang(self, waited_s: float) -> Trouble:
        cause = f"a canary has no answer after {waited_s:.1f} s"
        if self._server.control.is_live(1.0):
            return Trouble(cause, tuple(self._stubs.values()))
        return Trouble(f"{cause}, and Triton does not answer")

    def _is_idle(self) -> bool:
        """Whether the processes that compute took next to no processor time for `hang_s`."""
        (first, ticks), (last, more) = self._samples[0], self._samples[-1]
        if last - first < self._server.profile.hang_s * 0.9:
            return False
        return (more - ticks) / os.sysconf("SC_CLK_TCK") < _IDLE_SHARE * (last - first)
