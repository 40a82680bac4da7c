"""Child processes, their start, their log and their end; and the processes of a server, as psutil reports them."""

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import psutil

from scoremux_server.errors import SetupError

STUB = "triton_python_backend_stub"

_ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
_QUIET_S = 2.0
"""For how long no row may wait before a stop goes on: the scorer counts rows a moment after Triton has taken them."""
_GONE_S = 5.0
_ENDS_S = 2.5
"""What tritonserver needs to end by itself once its stubs are gone; it looks once a second."""
_TAIL_BYTES = 4096
_LAUNCH = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)  # the parent died before the kernel was asked
os.execv(sys.argv[2], sys.argv[2:])
"""
_INHERITED = {"/dev/stdout": 1, "/dev/stderr": 2}


def tied(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a program that gets SIGTERM when the thread that starts it ends, however that ends.

    Not by `preexec_fn`: that would run Python in a fork of a process with threads.
    """
    return [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *arguments]


class ChildProcess:
    """A running program in a process group of its own, tied to the thread that starts it.

    One that ended stays a zombie until `kill`, so that no other process gets its id, or its group's, while signals are
    sent to it.
    """

    def __init__(self, arguments: list[str], variables: Mapping[str, str], log: Path) -> None:
        """Start it; its output is appended to `log`. Raises SetupError."""
        self._log = log
        self._log_start = _size(log)
        self._gone = False
        try:
            with open_log(log) as output:
                self._process = subprocess.Popen(
                    tied(arguments),
                    env=dict(variables),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on
                )
        except OSError as error:
            raise SetupError(f"{Path(arguments[0]).name} cannot be started: {error}") from error

    @property
    def pid(self) -> int:
        """The program's id, and its process group's."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Its exit status, a signal's number below zero; None while it runs."""
        if self._gone:
            return self._process.returncode
        try:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # this process ignores SIGCHLD, as its parent did: the kernel keeps no zombies
            return self._process.poll()
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def kill(self) -> None:
        """End it and all it started at once. A second call does nothing: another process may have its id."""
        if self._gone:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + _GONE_S
        with contextlib.suppress(OSError):
            while living(self.pid) and time.monotonic() < deadline:
                time.sleep(0.01)  # what it started are not this process's children: they cannot be waited for otherwise
        self._process.wait()
        self._gone = True

    def log_tail(self) -> str:
        """Return the last lines of its output; an empty string if the log is not a regular file."""
        try:
            if not _is_regular(self._log):
                return ""
            size = _size(self._log)
            start = max(self._log_start if self._log_start <= size else 0, size - _TAIL_BYTES)
            with self._log.open("rb") as file:
                file.seek(start)
                return file.read(_TAIL_BYTES).decode("utf-8", "replace")
        except OSError:
            return ""


class TritonProcess(ChildProcess):
    """A running tritonserver with its stubs."""

    def stop(self, patience_s: float, refuse_rows: Callable[[], bool], rows_wait: Callable[[], bool]) -> None:
        """Let requests in flight finish, and ask it to stop; it may still run after that, as one that hangs does.

        Args:
            patience_s: The most that requests in flight and the stop may take together.
            refuse_rows: Has Triton refuse new rows, and returns whether that worked.
        """
        if self.exit_status is not None:
            return
        deadline = time.monotonic() + patience_s
        # Triton looks once a second whether its models have ended: it stops sooner if they have before.
        if not refuse_rows():
            os.kill(self.pid, signal.SIGTERM)
        self._wait_for_rows(rows_wait, deadline)
        os.kill(self.pid, signal.SIGTERM)
        # One that ends by itself removes its folder in /tmp; and no other process knows its name.
        self._wait(lambda: False, min(deadline, time.monotonic() + _ENDS_S))

    def _wait_for_rows(self, rows_wait: Callable[[], bool], deadline: float) -> None:
        # Triton finishes the rows it has, and ends the stubs. Models that something still refers to (a malformed
        # request) keep it waiting until its own timeout: that is not worth waiting for.
        quiet_since: float | None = None

        def finished() -> bool:
            nonlocal quiet_since
            with contextlib.suppress(OSError):
                if not stubs(self.pid):
                    return True
            now = time.monotonic()
            quiet_since = None if rows_wait() else quiet_since or now
            return quiet_since is not None and now - quiet_since > _QUIET_S

        self._wait(finished, deadline)

    def _wait(self, until: Callable[[], bool], deadline: float) -> None:
        while self.exit_status is None and time.monotonic() < deadline and not until():
            time.sleep(0.05)


def open_log(path: Path) -> BinaryIO:
    """Open a log to append to, with its folder. Raises SetupError if it cannot be written."""
    try:
        if str(path) in _INHERITED:
            # Opened again, it would have a position of its own in the file, and overwrite what others write.
            return os.fdopen(os.dup(_INHERITED[str(path)]), "ab")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Do not wait for a pipe without a reader.
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)
        os.set_blocking(file, True)
        return os.fdopen(file, "ab")
    except OSError as error:
        cause = "the pipe has no reader" if error.errno == errno.ENXIO else error.strerror
        raise SetupError(f"the log {path} cannot be written: {cause}; give another with --log FILE") from error


def _is_regular(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size if _is_regular(path) else 0
    except OSError:
        return 0


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
        with contextlib.suppress(OSError):
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
