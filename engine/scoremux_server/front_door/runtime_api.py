"""HAProxy's Runtime API: commands to a running one, over its sockets."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from scoremux_server.errors import ControlError

CHUNK_BYTES = 12 << 10
"""What a command may bring: HAProxy reads it into one buffer of 16 KiB, its own reserve in it, and what is too large
for that is lost without a word."""

_SAID = 200


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


def workers(master: Path, timeout_s: float = 3.0) -> list[int]:
    """Return the ids of the workers, the current one and those that finish what they have. Raises ControlError."""
    shown = ask(master, "show proc", timeout_s)
    return [int(pid) for pid in re.findall(r"^(\d+)\s+worker", shown, re.MULTILINE)]


def replace_map(master: Path, path: Path, lines: str) -> None:
    """Replace a map in every worker, atomically in each. Raises ControlError, and leaves a map whole then."""
    for worker in workers(master):
        try:
            _replace_map(partial(_ask_worker, master, worker), path, lines)
        except ControlError:
            if worker in workers(master):  # else it had finished what it had
                raise


def move(worker: Path, server: str, address: str) -> None:
    """Give a server (``proxy/name``) another address, or its first one. Raises ControlError."""
    said = ask(worker, f"set server {server} addr {address}")
    if "changed" not in said:
        raise ControlError(f"HAProxy did not take the address {address} of {server}: {said}")
    if said := ask(worker, f"set server {server} state ready"):
        raise ControlError(f"HAProxy did not take {server} into service: {said}")


def _ask_worker(master: Path, worker: int, command: str) -> str:
    return ask(master, f"@!{worker} {command}")


def _replace_map(tell: Callable[[str], str], path: Path, lines: str) -> None:
    where = str(path).replace("\\", "\\\\").replace(" ", "\\ ")
    made = tell(f"prepare map {where}")
    version = re.search(r"New version created: (\d+)", made)
    if version is None:
        raise ControlError(f"HAProxy did not prepare its tokens: {made}")
    prepared = f"@{version[1]} {where}"
    try:
        for chunk in _chunks(lines):
            _take(tell(f"add map {prepared} <<\n{chunk}"))
        taken = [entry.partition(" ")[2] for entry in tell(f"show map {prepared}").splitlines()]
        if sorted(taken) != sorted(lines.splitlines()):
            raise ControlError(f"HAProxy took {len(taken)} tokens of {len(lines.splitlines())}, or others")
        _take(tell(f"commit map {prepared}"))
    except ControlError:
        with contextlib.suppress(ControlError):
            tell(f"clear map {prepared}")
        raise


def _take(said: str) -> None:
    if said:
        raise ControlError(f"HAProxy did not take its tokens: {said[:_SAID]}")


def _chunks(lines: str) -> Iterator[str]:
    """Yield whole lines, as many at once as a command may bring."""
    chunk = ""
    for line in lines.splitlines(keepends=True):
        if len(chunk) + len(line) > CHUNK_BYTES and chunk:
            yield chunk
            chunk = ""
        chunk += line
    if chunk:
        yield chunk
