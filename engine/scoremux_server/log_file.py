"""The file that a program's output goes to."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from itertools import count
from pathlib import Path
from typing import BinaryIO

from scoremux_server.errors import SetupError

_READ_BYTES = 4096
_INHERITED = {"/dev/stdout": 1, "/dev/stderr": 2}


class LogFile:
    """A log, and the one before it in `PATH.1`. Written in append mode, so that others may cut it too.

    `PATH.lock` is held from the making to `close`, whatever becomes of the program: two would rename each other's log.
    Only a regular file is ever locked, read or renamed: a pipe or a terminal keeps nothing, and reading it would wait
    for ever; a link may be anybody's.
    """

    def __init__(self, path: Path) -> None:
        """Raises SetupError where it cannot be written or is somebody's already."""
        self.path = path
        self.kept = keeps(path)
        self._held = -1
        if not self.kept:
            return
        self._hold()

    @classmethod
    def beside(cls, path: Path) -> LogFile:
        """Return the log at `path`, or where a program that runs logs there, at `NAME-2`, `NAME-3` … beside it."""
        numbers, chosen = count(2), path
        while True:
            try:
                return cls(chosen)
            except _Taken:
                chosen = path.with_stem(f"{path.stem}-{next(numbers)}")

    def begin(self) -> BinaryIO:
        """Open it, what it holds set aside. Raises SetupError where it cannot be written."""
        try:
            if str(self.path) in _INHERITED:
                # Opened anew it would have a place of its own in the file, and each write over the other's.
                return os.fdopen(os.dup(_INHERITED[str(self.path)]), "ab")
            if self.kept and not self._lock.exists():  # the folder was removed meanwhile, or all that is in it
                self.close()
                self._hold()
            if self.kept and self.path.exists():
                self.path.replace(self._before)
            return os.fdopen(_open(self.path), "ab")
        except OSError as error:
            raise self._unwritable(error) from error

    def head(self) -> bytes:
        """Return the first bytes; nothing where nothing is kept."""
        return self._read(0)

    def tail(self) -> bytes:
        """Return the last bytes; nothing where nothing is kept."""
        return self._read(max(0, self._size() - _READ_BYTES))

    def bound(self, most_bytes: int) -> None:
        """Where it is larger, keep a copy in `PATH.1` and empty it. Lines written at that very moment are lost."""
        if self._size() <= most_bytes:
            return
        with contextlib.suppress(OSError):  # no room for a copy is one more reason
            self._before.unlink(missing_ok=True)
            shutil.copy(self.path, self._before)
        with contextlib.suppress(OSError):
            os.truncate(self.path, 0)

    def close(self) -> None:
        """Let go of it."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    @property
    def _before(self) -> Path:
        return self.path.with_name(f"{self.path.name}.1")

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f"{self.path.name}.lock")

    def _hold(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._held = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            taken = f"{self.path} is the log of a program that runs: give this one another with --log FILE"
            raise _Taken(taken) from error
        except OSError as error:
            # A file system without locks has none to respect.
            if self._held < 0:
                raise self._unwritable(error) from error

    def _size(self) -> int:
        try:
            return self.path.stat().st_size if self.kept else 0
        except OSError:
            return 0

    def _read(self, start: int) -> bytes:
        try:
            if self._size():
                with self.path.open("rb") as file:
                    file.seek(start)
                    return file.read(_READ_BYTES)
        except OSError:
            pass
        return b""

    def _unwritable(self, error: OSError) -> SetupError:
        cause = "nobody reads that pipe" if error.errno == errno.ENXIO else error.strerror
        return SetupError(f"the log {self.path} cannot be written: {cause}; name another: --log FILE")


class _Taken(SetupError):
    """It is another program's."""


def keeps(path: Path) -> bool:
    """Whether what is written to `path` stays there: a regular file, or where one will be."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return True


def _open(path: Path) -> int:
    # A pipe without a reader would be waited for, by a program that no signal ends.
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)
    os.set_blocking(file, True)
    return file
