"""The state and processor time of a server's processes, as psutil reports them."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

STUB = "triton_python_backend_stub"

_UNKNOWN = "unknown"
_ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
_IDLE_SHARE = 0.02
"""A stub that waits for work uses about 0.4 % of a core; one that computes uses nearly all of it."""


@dataclass(frozen=True)
class Process:
    """One moment of a process.

    A process whose state cannot be read, because this process has no file descriptor left, counts as alive and busy.

    Attributes:
        status: One of the constants `STATUS_…` of psutil.
        cpu_s: Processor time in seconds, user and system.
    """

    pid: int
    status: str
    cpu_s: float

    @property
    def alive(self) -> bool:
        return self.status not in _ENDED

    @property
    def stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        return bool(self.status == psutil.STATUS_STOPPED)

    @property
    def waits_for_disk(self) -> bool:
        return self.status in (psutil.STATUS_DISK_SLEEP, _UNKNOWN)


def look(pid: int) -> Process | None:
    """Return the process as it is now; None if there is none."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Process(pid, process.status(), times.user + times.system)
    except psutil.NoSuchProcess:
        return None
    except (psutil.Error, OSError):
        return Process(pid, _UNKNOWN, 0.0)


def waits_for_processor(pid: int) -> bool:
    """Whether a thread of the process could compute and only waits for its turn, as on an overloaded machine."""
    states = []
    with contextlib.suppress(OSError):  # the process has ended, or no file is left to read it
        for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):  # the thread has
                states.append(thread.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0])
    return "R" in states


def arguments(pid: int) -> list[str]:
    """Return the argument vector; empty for a process that has ended or belongs to somebody else. Raises OSError."""
    try:
        return list(psutil.Process(pid).cmdline())
    except psutil.Error:
        return []


def group(leader: int) -> list[int]:
    """Return the ids of the processes in a process group. Raises OSError."""
    return [pid for pid in psutil.pids() if _group_of(pid) == leader]


def living(leader: int) -> list[int]:
    """Return the ids of the processes in a process group that have not ended. Raises OSError."""
    return [pid for pid in group(leader) if (process := look(pid)) and process.alive]


def stubs(leader: int) -> dict[int, str]:
    """Return the Python backend's stubs in a process group: id → the model whose model.py it runs. Raises OSError."""
    words = {pid: arguments(pid) for pid in group(leader)}
    return {p: Path(w[1]).parents[1].name for p, w in words.items() if len(w) > 1 and Path(w[0]).name == STUB}


def listens(pid: int, ports: Collection[int]) -> bool:
    """Whether a process listens on all these TCP ports; True if that cannot be found out."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OSError):
        return True
    return set(ports) <= {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


class Idleness:
    """Tells whether processes compute, from the processor time they used in the last `over_s` seconds."""

    def __init__(self, over_s: float) -> None:
        self._over_s = over_s
        self._samples: deque[tuple[float, float]] = deque()

    def reset(self) -> None:
        """Forget all samples."""
        self._samples.clear()

    def add(self, states: Iterable[Process | None]) -> None:
        """Take the processes as they are now. One that waits for a disk or a network file system counts as busy."""
        now, present = time.monotonic(), [process for process in states if process]
        if any(process.waits_for_disk for process in present):
            self._samples.clear()
        self._samples.append((now, sum(process.cpu_s for process in present)))
        while len(self._samples) > 1 and self._samples[1][0] <= now - self._over_s:
            self._samples.popleft()

    @property
    def idle(self) -> bool:
        """Whether they used next to no processor time for `over_s`."""
        (first, before), (last, after) = self._samples[0], self._samples[-1]
        if last - first < self._over_s * 0.9:
            return False
        return after - before < _IDLE_SHARE * (last - first)


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None
