"""The diagnosis of a server: which of its processes ended, and how many canaries in a row it failed."""

import contextlib
import time
from dataclasses import dataclass

from scoremux_engine.backend.audit_log import UNWRITABLE
from scoremux_server.triton import processes
from scoremux_server.triton.canary import Answer, CanaryVerdict
from scoremux_server.triton.server import TritonServer

MOST_FAILED = 3
"""A server that fails this many canaries in a row is restarted."""
_ZOMBIE_S = 0.5
"""How long a stub that Triton ends while models load may stay a zombie."""


@dataclass(frozen=True)
class Timing:
    """The times of canaries. Users need no other values than the defaults; tests do.

    A server that hangs is restarted after ``MOST_FAILED * (canary_limit_s + canary_every_s)`` at most, 93 s. This is
    the one place that says so. An overloaded machine is not restarted: a canary waits for the micro-batches that are
    being computed and for no others, and those take some seconds even there. A suspended machine fails one canary.

    Attributes:
        canary_every_s: From the end of a canary to the next one.
        canary_limit_s: A canary without an answer for this long has failed.
    """

    canary_every_s: float = 1.0
    canary_limit_s: float = 30.0


DEFAULT_TIMING = Timing()


class Diagnosis:
    """Looks at one server again and again: `look_at_start` while its models load, and `look` after `begin`."""

    def __init__(self, server: TritonServer, timing: Timing = DEFAULT_TIMING) -> None:
        self._server = server
        self._timing = timing
        self.begin_start()

    def begin_start(self) -> None:
        """Expect models to load from now on."""
        self._stubs = dict[int, str]()
        self._zombie_since: float | None = None

    def look_at_start(self) -> str:
        """Return which stub died while models loaded, or nothing.

        Stubs come and go then. Triton waits for one that it ended itself; one that was killed stays a zombie.
        """
        self._find_stubs()
        zombies = [pid for pid in self._stubs if processes.is_zombie(pid)]
        now = time.monotonic()
        self._zombie_since = (self._zombie_since or now) if zombies else None
        if self._zombie_since is None or now - self._zombie_since < _ZOMBIE_S:
            return ""
        return f"the stub of {self._stubs[zombies[0]]} died before its first canary"

    def begin(self) -> None:
        """Take the current stubs for those that must live, after a good canary."""
        self.begin_start()
        self._find_stubs()
        self._next_canary = self._failed = 0.0

    def look(self) -> tuple[str, Answer | None]:
        """Return why the server must be restarted, or nothing; and the outcome of a canary, if one has ended."""
        status = self._server.process.exit_status
        if status is not None:
            return f"Triton ended with status {status}", None
        for pid, model in self._stubs.items():
            if not processes.alive(pid):
                return f"the stub of {model} is dead", None
        return self._look_at_canary()

    def _find_stubs(self) -> None:
        with contextlib.suppress(OSError):  # this process has no file descriptor left
            self._stubs.update(processes.stubs(self._server.process.pid))

    def _look_at_canary(self) -> tuple[str, Answer | None]:
        now, canary, timing = time.monotonic(), self._server.canary, self._timing
        if now >= self._next_canary:
            canary.send()
        answer = canary.answer(limit_s=timing.canary_limit_s)
        if answer is None:
            return "", None
        self._next_canary = now + timing.canary_every_s
        if answer.good:
            self._failed = 0.0
        elif answer.verdict is CanaryVerdict.BUSY:
            # It lives, and a restart would lose what waits; but one that is full for so long takes nothing any more.
            self._failed += timing.canary_every_s / timing.canary_limit_s
        elif UNWRITABLE not in answer.cause and answer.cause != answer.store_cause:
            self._failed += 1  # a new scorer would have no more room on the disk, and no better store
        return answer.cause if self._failed >= MOST_FAILED else "", answer
