"""HAProxy: the program, its processes, and commands to them over its Runtime API."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from scoremux_server.errors import ControlError, SetupError, StartError
from scoremux_server.triton.process import ChildProcess
from scoremux_server.triton.processes import PROXY

NEEDED = (3, 0)
CONFIG, TOKENS_MAP = "haproxy.cfg", "tokens.map"
_INSTALL = "apt-get install haproxy (3.0 or newer; Debian 13 has it, older releases at haproxy.debian.net)"
_CHECK_S, _START_S, _RELOAD_S = 30.0, 10.0, 30.0
_PING_EVERY_S, _PING_S, _MISSED_PINGS = 1.0, 3.0, 2
_STOP_AGAIN_S = 0.5
_CHUNK_BYTES = 12 << 10
"""Most that one command carries: HAProxy reads a command into one buffer of 16 KiB and drops a larger one silently."""


def find_program(path: str | None = None) -> Path:
    """Return the program in the folders of `path`. Raises SetupError where it is missing or will not do."""
    # Debian puts it where only root's PATH leads.
    program = shutil.which(PROXY, path=path or os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    if program is None:
        raise SetupError(f"the front door needs HAProxy, which is not installed: {_INSTALL}")
    about = _run([program, "-vv"]).stdout
    version = re.search(r"version (\d+)\.(\d+)", about)
    if version is None or (int(version[1]), int(version[2])) < NEEDED:
        raise SetupError(f"{program} is {version[0] if version else 'of unknown version'}: {_INSTALL}")
    if missing := [feature for feature in ("OPENSSL", "LUA") if f"+{feature}" not in about]:
        raise SetupError(f"{program} was built without {missing[0]}: {_INSTALL}")
    return Path(program)


def ask(command_socket: Path, command: str, timeout_s: float = 3.0) -> str:
    """Return HAProxy's answer to a command. Raises ControlError."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(command_socket))
            connection.sendall(command.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)  # else a master waits for the next command
            parts = []
            while part := connection.recv(1 << 16):
                parts.append(part)
    except OSError as error:
        raise ControlError(f"HAProxy does not answer: {str(error) or type(error).__name__}") from error
    return b"".join(parts).decode("utf-8", "replace").strip()


class Haproxy:
    """HAProxy with the configuration in a folder. It ends with the thread that starts it."""

    def __init__(self, program: Path, folder: Path, log: Path, check_s: float = _CHECK_S) -> None:
        """Start nothing yet.

        Args:
            program: HAProxy's.
            folder: Holds haproxy.cfg and HAProxy's sockets.
            log: File that its output is appended to.
            check_s: Longest time that a check of a configuration may take.
        """
        self._check_s = check_s
        self.folder = folder
        self.master_socket, self.worker_socket = folder / "master.sock", folder / "worker.sock"
        self._program = program
        self._log = log
        self._process: ChildProcess | None = None
        self._pinged_at, self._missed = 0.0, 0

    @property
    def process(self) -> ChildProcess:
        """The master process. Raises SetupError before the start."""
        if self._process is None:
            raise SetupError("this front door was not started")
        return self._process

    @property
    def running(self) -> bool:
        """Whether the master process runs."""
        return self._process is not None and self._process.exit_status is None

    def check(self, config: Path) -> None:
        """Raise SetupError with HAProxy's own words where it refuses a configuration."""
        check = _run([str(self._program), "-c", "-f", str(config)], self._check_s)
        if check.returncode:
            cause = check.stderr.strip() or f"exit status {check.returncode}"
            raise SetupError(f"HAProxy refuses the front door's configuration:\n{cause}")

    def start(self) -> None:
        """Start, and wait until it answers. Raises SetupError or StartError."""
        arguments = [str(self._program), "-W", "-S", f"{self.master_socket},mode,600", "-f", str(self.folder / CONFIG)]
        self._process = ChildProcess(arguments, os.environ, self._log)
        self._missed = 0
        deadline = time.monotonic() + _START_S
        while not self.answers(0.5):
            if self._process.exit_status is not None or time.monotonic() > deadline:
                raise StartError(f"HAProxy did not start:\n{self._process.log_tail()}")
            time.sleep(0.02)

    def reload(self) -> None:
        """Load the configuration again; requests in flight finish as they began. Raises ControlError."""
        answer = ask(self.master_socket, "reload", _RELOAD_S)
        if "Success=1" not in answer:
            raise ControlError(f"HAProxy did not reload:\n{answer}")

    def workers(self, timeout_s: float = 3.0) -> list[int]:
        """Return the ids of the workers: the current one, and older ones that finish requests. Raises ControlError."""
        shown = ask(self.master_socket, "show proc", timeout_s)
        return [int(pid) for pid in re.findall(r"^(\d+)\s+worker", shown, re.MULTILINE)]

    def answers(self, timeout_s: float) -> bool:
        """Whether the worker answers, and the master: without that one no token could be revoked."""
        try:
            return "Uptime" in ask(self.worker_socket, "show info", timeout_s) and bool(self.workers(timeout_s))
        except ControlError:
            return False

    def trouble(self) -> str:
        """Return why HAProxy must be started again, if it must. A hang is two pings without an answer."""
        status = self.process.exit_status
        if status is not None:
            return f"HAProxy ended with status {status}"
        if self._missed or time.monotonic() - self._pinged_at > _PING_EVERY_S:
            self._missed = 0 if self.answers(_PING_S) else self._missed + 1
            self._pinged_at = time.monotonic()
        return "HAProxy does not answer" if self._missed >= _MISSED_PINGS else ""

    def replace_tokens(self, lines: str) -> None:
        """Replace the tokens in every worker, in each of them all at once. Raises ControlError."""
        for worker in self.workers():
            try:
                self._replace_tokens(worker, lines)
            except ControlError:
                if worker in self.workers():  # else it has ended meanwhile
                    raise

    def stop(self, patience_s: float) -> None:
        """Let requests in flight finish, then end whatever is left."""
        try:
            deadline, signalled_at = time.monotonic() + patience_s, -_STOP_AGAIN_S
            while self.running and time.monotonic() < deadline:
                # Repeatedly: a master that has just started or reloaded executes itself again and may miss one.
                if time.monotonic() - signalled_at >= _STOP_AGAIN_S:
                    os.kill(self.process.pid, signal.SIGUSR1)
                    signalled_at = time.monotonic()
                time.sleep(0.02)
        finally:
            self.kill()

    def kill(self) -> None:
        """End all processes at once."""
        if self._process:
            self._process.kill()

    def _replace_tokens(self, worker: int, lines: str) -> None:
        def send(command: str) -> str:
            return ask(self.master_socket, f"@!{worker} {command}")

        file = str(self.folder / TOKENS_MAP).replace("\\", "\\\\").replace(" ", "\\ ")
        answer = send(f"prepare map {file}")
        version = re.search(r"New version created: (\d+)", answer)
        if version is None:
            raise ControlError(f"HAProxy did not prepare a list of tokens: {answer}")
        prepared = f"@{version[1]} {file}"
        try:
            for chunk in _chunks(lines):
                _expect_silence(send(f"add map {prepared} <<\n{chunk}"))
            entries = [entry.partition(" ")[2] for entry in send(f"show map {prepared}").splitlines()]
            if sorted(entries) != sorted(lines.splitlines()):
                raise ControlError(f"HAProxy took {len(entries)} tokens of {len(lines.splitlines())}, or others")
            _expect_silence(send(f"commit map {prepared}"))
        except ControlError:
            with contextlib.suppress(ControlError):
                send(f"clear map {prepared}")
            raise


def _expect_silence(answer: str) -> None:
    if answer:
        raise ControlError(f"HAProxy did not take the tokens: {answer[:200]}")


def _chunks(lines: str) -> Iterator[str]:
    """Yield whole lines, as many together as one command may carry."""
    chunk = ""
    for line in lines.splitlines(keepends=True):
        if len(chunk) + len(line) > _CHUNK_BYTES and chunk:
            yield chunk
            chunk = ""
        chunk += line
    if chunk:
        yield chunk


def _run(command: list[str], timeout_s: float = _CHECK_S) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"{command[0]} {command[1]} did not end within {timeout_s:g} s") from error
