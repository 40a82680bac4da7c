"""HAProxy's master process and the worker of now: started, asked, ended."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from scoremux_server.errors import ControlError, SetupError, StartError
from scoremux_server.front_door.haproxy import Haproxy
from scoremux_server.front_door.rendering import CONFIG
from scoremux_server.front_door.runtime_api import ask, workers
from scoremux_server.process import ChildProcess

_START_S = 10.0
_ASK_AGAIN_S = 0.5


class Master:
    """HAProxy with the configuration in `folder`, where its sockets lie too; log: its output.

    Start it from a thread that lives as long as it should: the kernel ends it with the thread.
    """

    def __init__(self, program: Haproxy, folder: Path, log: Path) -> None:
        self.folder = folder
        self._program = program
        self._log = log
        self._process: ChildProcess | None = None

    @property
    def socket(self) -> Path:
        """Where the master takes commands."""
        return self.folder / "master.sock"

    @property
    def worker(self) -> Path:
        """Where the worker of now takes commands."""
        return self.folder / "worker.sock"

    @property
    def process(self) -> ChildProcess:
        """The process of now. Raises SetupError before the start."""
        if self._process is None:
            raise SetupError("this front door was not started")
        return self._process

    def start(self) -> None:
        """Start, and wait until it answers. Raises SetupError or StartError."""
        arguments = self._program.arguments(self.folder / CONFIG, self.socket)
        self._process = ChildProcess(arguments, os.environ, self._log)
        deadline = time.monotonic() + _START_S
        while not self.answers(0.5):
            if self._process.exit_status is not None or time.monotonic() > deadline:
                tail = self._process.log_tail().replace(f"{self.folder}/", "")
                raise StartError(f"HAProxy did not start:\n{tail}")
            time.sleep(0.02)

    def answers(self, timeout_s: float) -> bool:
        """Whether the worker does, and the master: without that one no token could be revoked any more."""
        try:
            return "Uptime" in ask(self.worker, "show info", timeout_s) and bool(workers(self.socket, timeout_s))
        except ControlError:
            return False

    def end(self, patience_s: float) -> None:
        """Let requests in flight finish, then kill whatever is left."""
        if self._process is None:
            return
        deadline = time.monotonic() + patience_s
        asked = -_ASK_AGAIN_S
        while self._process.exit_status is None and time.monotonic() < deadline:
            # Again and again: a master that has just started or reloaded executes itself anew and may miss one.
            if time.monotonic() - asked >= _ASK_AGAIN_S:
                os.kill(self._process.pid, signal.SIGUSR1)
                asked = time.monotonic()
            time.sleep(0.02)
        self._process.kill()
