"""What the kernel says about the processes of a server: state, processor time, memory."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
STUB = "triton_python_backend_stub"
SERVER = "tritonserver"
PROXY = "haproxy"
NAME_BYTES = 15
"""What the kernel keeps of a program's name."""

_GONE = (errno.ENOENT, errno.ESRCH)
_UNKNOWN = "?"
_HAS_NO_ARGUMENTS = (*_GONE, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Process:
    """One moment of a process. ticks: processor time in clock ticks, user and system.

    One that the kernel did not tell of, because this process has no file left to ask with, passes for alive and busy.
    """

    pid: int
    state: str
    ticks: int

    @property
    def alive(self) -> bool:
        return self.state not in "ZX"

    @property
    def stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        return self.state == "T"

    @property
    def waits_for_disk(self) -> bool:
        return self.state in ("D", _UNKNOWN)


def look(pid: int) -> Process | None:
    """Return the process as it is now; None where there is none."""
    try:
        fields = _stat(pid)
    except OSError as error:
        return None if error.errno in _GONE else Process(pid, _UNKNOWN, 0)
    return Process(pid, fields[0], int(fields[11]) + int(fields[12]))


def name(pid: int) -> str:
    """Return the program's name, cut to NAME_BYTES, which a process keeps until it is gone; "" for none."""
    try:
        return (_PROC / str(pid) / "comm").read_text("utf-8", "replace").removesuffix("\n")
    except OSError:
        return ""


def has_ended(pid: int) -> bool:
    """Whether a process holds no file and no port any more.

    A killed one loses its memory, and with it its arguments, before its files; and it is a zombie while threads of it
    still hold them.
    """
    seen = look(pid)
    if seen is None:
        return True
    try:
        threads = sum(1 for _ in (_PROC / str(pid) / "task").iterdir())
    except OSError as error:
        return error.errno in _GONE
    return not seen.alive and threads <= 1


def arguments(pid: int) -> list[str]:
    """Return the argument vector; empty for a process that is gone, a zombie, or somebody else's secret.

    Raises OSError where the kernel cannot be asked.
    """
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
    except OSError as error:
        if error.errno in _HAS_NO_ARGUMENTS:
            return []
        raise


def every() -> list[int]:
    """Return the ids of all processes. Raises OSError where the kernel cannot be asked."""
    return [int(path.name) for path in _PROC.iterdir() if path.name.isdigit()]


def group(leader: int) -> list[int]:
    """Return the ids of the processes in a process group."""
    return [pid for pid in every() if _group_of(pid) == leader]


def living(leader: int) -> list[int]:
    """Return the ids of the processes in a process group that have not ended."""
    return [pid for pid in group(leader) if (seen := look(pid)) and seen.alive]


def stubs(leader: int) -> dict[int, str]:
    """Return the Python backend's stubs in a process group: id → the model whose model.py it runs."""
    found = {}
    for pid in group(leader):
        words = arguments(pid)
        if len(words) > 1 and Path(words[0]).name == STUB:
            found[pid] = Path(words[1]).parents[1].name
    return found


def memory_bytes(leader: int) -> int:
    """Return the proportional set size of a process group: shared pages count once."""
    total_kib = 0
    for pid in group(leader):
        try:
            rollup = (_PROC / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue  # it has just ended, or is somebody else's
        total_kib += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total_kib * 1024


def hide(pid: int, secret: str) -> bool:
    """Overwrite `secret` in a running child's argument vector, which every user can read; return whether it is gone.

    A container may forbid it (it needs the right to trace the child); the secret stays readable there.
    """
    try:
        fields = _stat(pid)
        start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end
        with (_PROC / str(pid) / "mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            words = memory.read(end - start)
            memory.seek(start)
            memory.write(words.replace(secret.encode(), b"x" * len(secret)))
        return not any(secret in word for word in arguments(pid))
    except (OSError, ValueError):
        return False


def _stat(pid: int) -> list[str]:
    # The program's name, in brackets, may itself hold spaces, brackets, and bytes that are no text.
    return (_PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None
