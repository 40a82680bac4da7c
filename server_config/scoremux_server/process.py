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

_FINISHED_S = 2.0
_GONE_S = 5.0
_LOGGED = re.compile(rb"^[IWE]\d{4} ", re.MULTILINE)


class ChildProcess:
    """A running program in a process group of its own, its output in `log`.

    Start it from a thread that lives as long as it should: the kernel ends it with the thread. Raises SetupError.
    """

    def __init__(self, arguments: list[str], variables: Mapping[str, str], log: LogFile) -> None:
        self._log = log
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
        return self._process.poll()

    def kill(self) -> None:
        """End it and all it started at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + _GONE_S
        while processes.living(self.pid) and time.monotonic() < deadline:
            time.sleep(0.01)  # what it started are not this process's children: they cannot be waited for otherwise

    def log_tail(self) -> str:
        """Return the last lines of its output."""
        return self._log.tail().decode("utf-8", "replace")

    def bound_log(self, most_bytes: int) -> None:
        """Begin its log anew once it is larger."""
        self._log.bound(most_bytes)


class TritonProcess(ChildProcess):
    """A running tritonserver with its stubs."""

    @property
    def has_read_its_arguments(self) -> bool:
        """Whether Triton's own logging has begun; never where nothing keeps the log."""
        return _LOGGED.search(self._log.head()) is not None

    def stop(self, patience_s: float) -> None:
        """Ask to stop, let requests in flight finish, then kill whatever of the group is left."""
        try:
            if self._process.poll() is None and self._can_drain():
                self._process.terminate()
                self._wait_for_rows(time.monotonic() + patience_s)
        finally:
            self.kill()

    def _can_drain(self) -> bool:
        seen = [processes.look(pid) for pid in (self.pid, *processes.stubs(self.pid))]
        return all(process is not None and process.alive and not process.stopped for process in seen)

    def _wait_for_rows(self, deadline: float) -> None:
        # Triton refuses new rows now, finishes those it has, and ends the stubs. Then it waits, until its own timeout,
        # for models that something still refers to (a stub that died, a malformed request): not worth waiting for.
        idleness = Idleness(_FINISHED_S)
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
            idleness.add(map(processes.look, processes.group(self.pid)))
            if idleness.idle or not processes.stubs(self.pid):
                return
