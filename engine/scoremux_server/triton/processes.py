"""A server's processes, as psutil reports them."""

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import psutil

STUB = "triton_python_backend_stub"

_ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def alive(pid: int) -> bool:
    """Whether a process runs or could; True if that cannot be read, as without a free file descriptor."""
    try:
        return psutil.Process(pid).status() not in _ENDED
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OSError):
        return True


def is_zombie(pid: int) -> bool:
    """Whether a process has ended, and its parent has not waited for it yet."""
    return not alive(pid) and psutil.pid_exists(pid)


def arguments(pid: int) -> list[str]:
    """Return the argument vector; empty for a process that has ended or belongs to somebody else. Raises OSError."""
    try:
        return list(psutil.Process(pid).cmdline())
    except psutil.Error:
        return []


def group(leader: int) -> list[int]:
    """Return the ids of the processes in a process group. Raises OSError."""
    members = []
    for pid in psutil.pids():
        with suppress(OSError):
            if os.getpgid(pid) == leader:
                members.append(pid)
    return members


def living(leader: int) -> list[int]:
    """Return the ids of the processes in a process group that have not ended. Raises OSError."""
    return list(filter(alive, group(leader)))


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
