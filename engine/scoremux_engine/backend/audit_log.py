"""The audit log's file: lines are whole, and survive their writer."""

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from scoremux_client.audit_lines import (
    ALARMS,
    BEGINNING_BYTES,
    ChainEnd,
    begins_one,
    chained,
    event_line,
    line_digest,
    log_files,
)
from scoremux_engine.errors import AuditError
from scoremux_files.locks import open_lock

UNWRITABLE = "the audit log cannot be written"
"""How the message of a batch that could not be logged begins; the watcher recognises it by that."""

ROTATE_BYTES = 256 << 20

_FOREIGN = (
    "it does not end in lines of an audit log of format 1, so it may be another file and was left as it is; "
    "name another file, or move this one away"
)
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK_BYTES = 1 << 16
_LOCK_TIMEOUT_S = 5.0


class AppendLog:
    """A file of lines with one writer. Nothing is ever deleted.

    Each line that `add` writes has its number and the digest of the line before, which may be another process's.
    Each `write` is one write(2): once it has returned, its lines survive the writer's death. A line that a death cut
    short is removed at the next open; a file that ends in anything else is not touched. The lock `path.lock` keeps a
    second writer away. A file that would grow beyond `rotate_bytes` is renamed to `path.TIME`, and a new one is begun.
    Raises AuditError where the file cannot be opened, or does not end as an audit log does.
    """

    def __init__(self, path: Path, rotate_bytes: int) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._file = -1
        self._end = ChainEnd()
        self._whole: int | None = None  # where the last whole line ends, while a failed write's rest may follow it
        try:
            # A writer that has just been killed may not be quite gone.
            self._lock = open_lock(path.with_name(f"{path.name}.lock"), timeout_s=_LOCK_TIMEOUT_S, mode=0o600)
            self._open()
            self._end = ChainEnd(0, _last_digest(path))
        except OSError as error:
            self.close()
            raise AuditError(f"the audit log {path} cannot be opened: {error.strerror or error}") from error

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records as lines of the chain, all of them or none. Raises AuditError."""
        lines, end = chained(records, self._end)
        self.write(lines)
        self._end = end

    def write(self, lines: bytes) -> None:
        """Append whole lines, all of them or none."""
        try:
            self._make_ready(len(lines))
            self._whole = os.fstat(self._file).st_size
            if os.write(self._file, lines) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._whole = None
        except OSError as error:
            with contextlib.suppress(OSError):
                self._cut()
            raise AuditError(f"{UNWRITABLE}: {self._path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the file and let another writer have it."""
        for file in (self._file, getattr(self, "_lock", -1)):
            if file >= 0:
                os.close(file)
        self._file = self._lock = -1

    def _make_ready(self, more_bytes: int) -> None:
        self._cut()
        if not self._is_in_place():  # another program rotated it
            self._open()
        size = os.fstat(self._file).st_size
        if size and size + more_bytes > self._rotate_bytes:
            now = datetime.now(timezone.utc)
            self._path.rename(self._path.with_name(f"{self._path.name}.{now:%Y%m%dT%H%M%S.%fZ}"))
            self._open()

    def _cut(self) -> None:
        """Remove the rest of a failed write."""
        if self._whole is not None:
            os.ftruncate(self._file, self._whole)
            self._whole = None

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _open(self) -> None:
        file = os.open(self._path, _FLAGS, 0o600)
        try:
            _repair(file)
        except OSError:
            os.close(file)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file = file


def log_alarm(log: str, cause: str, **facts: Any) -> None:
    """Write an alarm of a server into a log of its own beside the audit log, which another process has open.

    Raises AuditError.
    """
    path = Path(log).resolve()
    alarms = AppendLog(path.with_name(f"{ALARMS}{path.name}"), ROTATE_BYTES)
    try:
        alarms.add([event_line("alarm", cause=cause, **facts)])
    finally:
        alarms.close()


def _repair(file: int) -> None:
    """Remove a line that was cut short. Raises OSError for a file whose end is not an audit log's."""
    size = os.fstat(file).st_size
    whole = _end_of_last_line(file, size)
    if whole:
        start = os.pread(file, BEGINNING_BYTES, _end_of_last_line(file, whole - 1))
        if not begins_one(start):
            raise OSError(errno.EEXIST, _FOREIGN)
    if whole < size:
        # A power cut may leave zeros where data was to come; after whole lines they are no other file's.
        start = os.pread(file, BEGINNING_BYTES, whole).rstrip(b"\0")
        if not (begins_one(start) or (whole and not start)):
            raise OSError(errno.EEXIST, _FOREIGN)
        os.ftruncate(file, whole)


def _last_digest(path: Path) -> str:
    """Return the digest of a log's last whole line, in whichever of its files; empty for an empty log."""
    for name in reversed(log_files(path)):
        with name.open("rb") as file:
            handle = file.fileno()
            if end := _end_of_last_line(handle, os.fstat(handle).st_size):
                start = _end_of_last_line(handle, end - 1)
                return line_digest(os.pread(handle, end - start, start))
    return ""


def _end_of_last_line(file: int, size: int) -> int:
    end = size
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        last = os.pread(file, end - start, start).rfind(b"\n")
        if last >= 0:
            return start + last + 1
        end = start
    return 0
