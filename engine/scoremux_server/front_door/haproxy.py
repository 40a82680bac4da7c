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

from scoremux_server.errors import ControlError, SetupError
from scoremux_server.triton.process import ChildProcess

NEEDED = (3, 0)
CONFIG, TOKENS_MAP = "haproxy.cfg", "tokens.map"
_INSTALL = "apt-get install haproxy (3.0 or newer; Debian 13 has it, older releases at haproxy.debian.net)"
_RELOAD_S = 30.0
_CHUNK_BYTES = 12 << 10
"""Most that one command carries: HAProxy reads a command into one buffer of 16 KiB and drops a larger one silently."""


def find_program(path: str | None = None) -> Path:
    """Return the program in the folders of `path`. Raises SetupError where it is missing or will not do."""
    # Debian puts it where only root's PATH leads.
    program = shutil.which("haproxy", path=path or os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    if program is None:
        raise SetupError(f"the front door needs HAProxy, which is not installed: {_INSTALL}")
    about = subprocess.run([program, "-vv"], stdout=subprocess.PIPE, text=True, errors="replace", check=False).stdout
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
    """HAProxy in master-worker mode, with the configuration in a folder. It ends with the thread that starts it."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet. The folder holds haproxy.cfg, and HAProxy's sockets."""
        self.folder = folder
        self.master_socket, self.worker_socket = folder / "master.sock", folder / "worker.sock"

    def start(self, program: Path, log: Path) -> None:
        """Start the program; its output is appended to `log`. Raises SetupError."""
        arguments = [str(program), "-W", "-S", f"{self.master_socket},mode,600", "-f", str(self.folder / CONFIG)]
        self.process = ChildProcess(arguments, os.environ, log)

    def reload(self) -> None:
        """Load the configuration again; requests in flight finish as they began. Raises ControlError."""
        answer = ask(self.master_socket, "reload", _RELOAD_S)
        if "Success=1" not in answer:
            raise ControlError("HAProxy refuses the new configuration; its own messages say why")

    def workers(self) -> list[int]:
        """Return the ids of the workers: the current one, and older ones that finish requests. Raises ControlError."""
        return [int(pid) for pid in re.findall(r"^(\d+)\s+worker", ask(self.master_socket, "show proc"), re.MULTILINE)]

    def stop(self, patience_s: float) -> None:
        """Let requests in flight finish."""
        deadline = time.monotonic() + patience_s
        while self.process.exit_status is None and time.monotonic() < deadline:
            # Repeatedly: a master that has just started or reloaded executes itself again and may miss one.
            os.kill(self.process.pid, signal.SIGUSR1)
            time.sleep(0.2)

    def replace_tokens(self, lines: str) -> None:
        """Replace the tokens in every worker, in each of them all at once. Raises ControlError."""
        for worker in self.workers():
            try:
                self._replace_tokens(worker, lines)
            except ControlError:
                if worker in self.workers():  # else it has ended meanwhile
                    raise

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
