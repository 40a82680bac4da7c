"""The processes that are started here, Triton and HAProxy: their start and their end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from scoremux_server import processes
from scoremux_server.errors import SetupError
from scoremux_server.idleness import Idleness
from scoremux_server.log_file import LogFile
from scoremux_server.python_environment import PythonEnvironment

_FINISHED_S = 2.0
_GONE_S = 5.0
_ENDS_S = 2.5
"""What tritonserver needs to end by itself once its stubs are gone; it looks once a second."""

_LOGGED = re.compile(rb"^[IWE]\d{4} ", re.MULTILINE)


class ChildProcess:
    """A running program in a process group of its own, its output in `log`.

    Start it from a thread that lives as long as it should: the kernel ends it with the thread. Raises SetupError.
    One that ended stays a zombie until `kill`, so that its id, its group's too, is nobody else's when signals are sent.
    """

    def __init__(self, arguments: list[str], variables: Mapping[str, str], log: LogFile) -> None:
        self._log = log
        self._gone = False
        launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py")), str(os.getpid())]
        try:
            with self._log.begin() as output:
                self._process = subprocess.Popen(
                    [*launcher, *arguments],
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
        """What it ended with, a signal's number below zero; None while it runs."""
        if self._gone:
            return self._process.returncode
        try:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # whoever started this ignores SIGCHLD: the kernel keeps no zombies
            return self._process.poll()
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def kill(self) -> None:
        """End it and all it started at once; do nothing once it is gone: its id may be another's by then."""
        if self._gone:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + _GONE_S
        with contextlib.suppress(OSError):
            while processes.living(self.pid) and time.monotonic() < deadline:
                time.sleep(0.01)  # what it started are not this process's children: they cannot be waited for otherwise
        self._process.wait()
        self._gone = True

    def log_tail(self) -> str:
        """Return the last lines of its output."""
        return self._log.tail().decode("utf-8", "replace")

    def bound_log(self, most_bytes: int) -> None:
        """Begin its log anew once it is larger."""
        self._log.bound(most_bytes)


class TritonProcess(ChildProcess):
    """A running tritonserver with its stubs."""

    def __init__(self, arguments: list[str], variables: Mapping[str, str], log: LogFile) -> None:
        self._environment = PythonEnvironment()
        super().__init__(arguments, variables, log)

    def has_loaded(self) -> None:
        """Hear that its models are loaded."""
        self._environment.look()

    def kill(self) -> None:
        """See `ChildProcess.kill`."""
        if not self._gone:
            super().kill()
            self._environment.remove()

    @property
    def has_read_its_arguments(self) -> bool:
        """Whether Triton's own logging has begun; never where nothing keeps the log."""
        return _LOGGED.search(self._log.head()) is not None

    def stop(self, patience_s: float) -> None:
        """Ask to stop, let requests in flight finish, then kill whatever of the group is left."""
        try:
            if self.exit_status is None and self._can_drain():
                os.kill(self.pid, signal.SIGTERM)
                self._wait_for_rows(time.monotonic() + patience_s)
        finally:
            self.kill()

    def _can_drain(self) -> bool:
        with contextlib.suppress(OSError):
            seen = [processes.look(pid) for pid in (self.pid, *processes.stubs(self.pid))]
            return all(process is not None and process.alive and not process.stopped for process in seen)
        return True

    def _wait_for_rows(self, deadline: float) -> None:
        # Triton refuses new rows now, finishes those it has, and ends the stubs. Then it waits, until its own timeout,
        # for models that something still refers to (a stub that died, a malformed request): not worth waiting for.
        idleness = Idleness(_FINISHED_S)
        while self.exit_status is None and time.monotonic() < deadline:
            time.sleep(0.05)
            with contextlib.suppress(OSError):
                idleness.add(map(processes.look, processes.group(self.pid)))
                if idleness.idle or not processes.stubs(self.pid):
                    break
        if self._environment.unclear:
            self._wait_for_end(min(deadline, time.monotonic() + _ENDS_S))

    def _wait_for_end(self, deadline: float) -> None:
        # Triton removes its folder itself; nobody else knows which one it is.
        while self.exit_status is None and time.monotonic() < deadline:
            time.sleep(0.05)
