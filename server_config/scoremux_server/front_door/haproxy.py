"""The program HAProxy: where it is, whether it takes a configuration, and its command sockets."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

from scoremux_server.errors import ControlError, SetupError
from scoremux_server.front_door.complaints import sentences
from scoremux_server.processes import PROXY

NEEDED = (3, 0)
_INSTALL = "apt-get install haproxy (3.0 or newer; Debian 13 has it, older releases at haproxy.debian.net)"


class Haproxy:
    """One haproxy on disk; path: folders to look in. Raises SetupError where there is none, or none that will do."""

    def __init__(self, path: str | None = None) -> None:
        # Debian puts it where only root looks.
        found = shutil.which(PROXY, path=path or os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
        if found is None:
            raise SetupError(f"the front door needs HAProxy, which is not installed: {_INSTALL}")
        self.program = Path(found)
        about = self._run("-vv").stdout
        version = re.search(r"version (\d+)\.(\d+)", about)
        if version is None or (int(version[1]), int(version[2])) < NEEDED:
            raise SetupError(f"{found} is {version[0] if version else 'of no known version'}: {_INSTALL}")
        for feature in ("OPENSSL", "LUA"):
            if f"+{feature}" not in about:
                raise SetupError(f"{found} was built without {feature}: {_INSTALL}")

    def complaints(self, config: Path) -> list[str]:
        """Return what HAProxy refuses a configuration for: nothing, where it takes it."""
        checked = self._run("-c", "-f", str(config))
        if checked.returncode == 0:
            return []
        return sentences(checked.stderr) or [f"exit status {checked.returncode}"]

    def arguments(self, config: Path, master: Path) -> list[str]:
        """Return the argument vector of a master that takes commands at the socket `master`."""
        return [str(self.program), "-W", "-S", f"{master},mode,600", "-f", str(config)]

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *arguments], capture_output=True, text=True, errors="replace", check=False, timeout=30
        )


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
        raise ControlError(f"HAProxy does not answer: {error or type(error).__name__}") from error
    return b"".join(parts).decode("utf-8", "replace").strip()


def workers(master: Path) -> list[int]:
    """Return the ids of the workers, the current one and those that finish what they have. Raises ControlError."""
    return [int(pid) for pid in re.findall(r"^(\d+)\s+worker", ask(master, "show proc"), re.MULTILINE)]


def replace_map(master: Path, path: Path, lines: str) -> None:
    """Replace a map in every worker, atomically in each. Raises ControlError."""
    for worker in workers(master):
        made = ask(master, f"@!{worker} prepare map {path}")
        version = re.search(r"New version created: (\d+)", made)
        if version is None:
            raise ControlError(f"HAProxy did not prepare its tokens: {made}")
        commands = [f"add map @{version[1]} {path} <<\n{lines}\n"] if lines else []
        for command in [*commands, f"commit map @{version[1]} {path}"]:
            if said := ask(master, f"@!{worker} {command}"):
                raise ControlError(f"HAProxy did not take its tokens: {said}")


def move(worker: Path, server: str, address: str) -> None:
    """Give a server (``proxy/name``) another address, or its first one. Raises ControlError."""
    said = ask(worker, f"set server {server} addr {address}")
    if "changed" not in said:
        raise ControlError(f"HAProxy did not take the address {address} of {server}: {said}")
    if said := ask(worker, f"set server {server} state ready"):
        raise ControlError(f"HAProxy did not take {server} into service: {said}")
